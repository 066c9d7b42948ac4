"""examine(snapshot) -> Report: run the rules, say why some could not judge, find the cause to read first."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from envdoctor import testimony
from envdoctor.facts import Fact, key_of
from envdoctor.facts.job import ANOTHER_ASKED_FOR, Job
from envdoctor.facts.packages import Packages
from envdoctor.facts.run import ProbeEnd, ProbeRun
from envdoctor.facts.text import NOT_CARRIED, ErrorText
from envdoctor.finding import Check, Confidence, Finding, Report, Severity, Status, Verdict
from envdoctor.outcome import Absent, Crashed, Failed, Got, TimedOut
from envdoctor.plan import BENCH, LEVELS, level_of
from envdoctor.rule import Input, Missing, NotApplicable, Rule, Unknown, Witness
from envdoctor.selection import Selection

TEXTS = {"error_text", "pasted"}
BROKEN = "the rule itself failed"
OURS = "envdoctor"  # the home of every rule that is no plug-in's

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envdoctor.snapshot import ProbeResult, Snapshot

ASKS_SOMEBODY = (" --pid ", " --python ", " --via ")  # options that name whom to ask
ANEW = " --pid PID  # the job, started anew"
PYTHON = "python3"  # what is started behind a command unless another one is named

BY_TABLE = "knowledge."  # how the evidence that rests on a shipped table begins


class NotSupplied(Exception):  # noqa: N818 - becomes a status
    """A rule's input is missing: which status that makes, and the reason."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def examine(snapshot: Snapshot, rules: Iterable[Rule] | None = None, selection: Selection | None = None) -> Report:
    """Judge a snapshot: run every rule that its facts allow and put the findings in the order to read them.

    Pure: the same snapshot and rules give the same report. A rule that raises makes its own check unknown and
    nothing else. ``rules`` default to the built-in ones.
    """
    chosen = tuple(rules) if rules is not None else _built_in()
    selection = selection or Selection()
    checks: list[Check] = []
    findings: list[Finding] = []
    for rule in chosen:
        check, found = run_rule(rule, snapshot, selection)
        checks.append(check)
        findings.extend(found)
    ordered = in_reading_order(with_causes(tuple(findings), chosen))
    primary = next((f.key for f in ordered if f.ignored is None and f.severity is not Severity.INFO), None)
    return Report(snapshot, ordered, tuple(checks), primary, verdict_of(ordered, checks))


def _built_in() -> tuple[Rule, ...]:
    from envdoctor.rules import RULES

    return RULES


def run_rule(rule: Rule, snapshot: Snapshot, selection: Selection) -> tuple[Check, tuple[Finding, ...]]:
    """Put one rule's question to a snapshot: what became of it, and what it found, causes not yet named."""
    left_out = selection.reason_to_skip(rule)
    if left_out is not None:
        return Check(rule.id, rule.group, rule.essential, Status.SKIPPED, left_out), ()
    status, reason, found = _judge(rule, snapshot)
    ignored = selection.ignore.get(rule.id)
    if found and ignored is not None:
        status, reason = Status.IGNORED, ignored.reason
        found = tuple(replace(each, ignored=ignored) for each in found)
    return Check(rule.id, rule.group, rule.essential, status, reason), found


def _judge(rule: Rule, snapshot: Snapshot) -> tuple[Status, str, tuple[Finding, ...]]:
    """Judge by the facts, and where there is a text by its words too; what both say is one finding."""
    status, reason, found = _answer(rule, rule, snapshot)
    witness = _witness(rule.id) if TEXTS & snapshot.facts.keys() else None
    if witness is None:
        return status, reason, found
    _, why, heard = _answer(rule, witness, snapshot)
    if not heard:
        return (Status.UNKNOWN, why, found) if why.startswith(BROKEN) else (status, reason, found)
    doubt = testimony.doubts(
        snapshot.get(ErrorText), snapshot.get(Packages), passed=witness.cross_examined and status is Status.PASSED
    )
    heard = tuple(testimony.doubted(each, doubt) for each in heard) if doubt else heard
    return Status.FIRED, "", testimony.joined(found, heard)


def _witness(rule_id: str) -> Witness | None:
    from envdoctor.rules import WITNESSES

    return WITNESSES.get(rule_id)


def _answer(rule: Rule, asked: Rule | Witness, snapshot: Snapshot) -> tuple[Status, str, tuple[Finding, ...]]:
    """Run one body. What it found before it said that the rest is unknown stays found."""
    found: tuple[Finding, ...] = ()
    try:
        supplied = [supply(each, snapshot) for each in asked.inputs]
        for each in asked.body(*supplied):
            found = (*found, _complete(each, rule, snapshot))
    except NotSupplied as missing:
        return missing.status, str(missing), ()
    except Missing as gap:
        lack = _missing(key_of(gap.fact), snapshot.probe_for(key_of(gap.fact)), snapshot)
        return lack.status, str(lack), ()
    except NotApplicable as why:
        return Status.NOT_APPLICABLE, str(why), ()
    except Unknown as why:
        return (Status.FIRED, str(why), found) if found else (*_unknown(str(why), snapshot), ())
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a broken rule is an answer, never an early exit
        return Status.UNKNOWN, f"{BROKEN}: {type(error).__name__}: {error}", ()
    return (Status.FIRED, "", found) if found else (Status.PASSED, "", ())


def _unknown(why: str, snapshot: Snapshot) -> tuple[Status, str]:
    """Tell what nobody could find out from what a text does not carry: of a text, only its own words make unknown."""
    if snapshot.target.kind != "text":
        return Status.UNKNOWN, why
    reasons = {reason for fact in snapshot.facts.values() for reason in fact.unknown.values()} - {NOT_CARRIED}
    if any(reason in why for reason in reasons):
        return Status.UNKNOWN, why
    return Status.SKIPPED, why if NOT_CARRIED in why else f"{why}, and {NOT_CARRIED}"


def supply(wanted: Input, snapshot: Snapshot) -> Fact | None:
    """Give the fact a rule asks for; raises ``NotSupplied`` with the reason when a needed one is missing."""
    fact = run_of(snapshot) if wanted.fact is ProbeRun else snapshot.get(wanted.fact)
    if fact is not None or wanted.optional:
        return fact
    key = key_of(wanted.fact)
    raise _missing(key, snapshot.probe_for(key), snapshot)


def run_of(snapshot: Snapshot) -> ProbeRun:
    """Give the run itself as a fact: how each probe ended, and which plug-ins broke."""
    target = snapshot.target
    return ProbeRun(
        probes=tuple(_end_of(each) for each in snapshot.probes),
        plugin_errors=snapshot.plugin_errors,
        interrupted=snapshot.interrupted,
        made_by=snapshot.tool_version,
        left_out=snapshot.left_out,
        lost=snapshot.lost,
        python=target.python,
        via=target.via,
        ours=target.key == "this",
    )


def _end_of(result: ProbeResult) -> ProbeEnd:
    end = ProbeEnd(result.name, result.fact, result.outcome.name, result.outcome.reason, seconds=result.seconds)
    match result.outcome:
        case Failed(detail=detail):
            return replace(end, detail=detail)
        case Crashed(signal=signal, exit_code=code, detail=detail):
            return replace(end, signal=signal, exit_code=code, detail=detail)
        case TimedOut(hung=hung, unkillable=unkillable, detail=detail):
            return replace(end, hung=hung, unkillable=unkillable, detail=detail)
        case _:
            return end


def _missing(key: str, result: ProbeResult | None, snapshot: Snapshot) -> NotSupplied:
    if result is None and level_of(key) == BENCH:
        return NotSupplied(Status.SKIPPED, _not_measured(key, snapshot))
    if result is None and LEVELS.index(level_of(key)) > LEVELS.index(snapshot.level):
        return NotSupplied(Status.SKIPPED, f"needs --level {level_of(key)}")
    if result is None and snapshot.target.kind == "text":
        return NotSupplied(Status.SKIPPED, f"this kind of text does not carry {key}")
    if result is None or isinstance(result.outcome, Got):
        return NotSupplied(Status.UNKNOWN, f"{key} was not collected")
    if isinstance(result.outcome, Absent):
        return NotSupplied(Status.NOT_APPLICABLE, result.outcome.reason)
    return NotSupplied(Status.UNKNOWN, f"probe {result.name} {result.outcome.name}: {result.outcome.reason}")


def _not_measured(key: str, snapshot: Snapshot) -> str:
    suite = key.partition("_")[2]
    if f"{BENCH}_device" in snapshot.facts and suite != "device":
        return f"needs envdoctor bench --suite {suite}"
    return "needs envdoctor bench"


def _sound(finding: Finding) -> Finding:
    """Give a third party's finding with the types that every format counts on; raises where it has others."""
    import msgspec

    checked = msgspec.convert(msgspec.to_builtins(finding), Finding)
    return replace(finding, severity=checked.severity, confidence=checked.confidence, fixes=checked.fixes)


def _complete(finding: Finding, rule: Rule, snapshot: Snapshot) -> Finding:
    finding = finding if rule.home == OURS else _sound(finding)
    evidence = tuple(
        replace(each, freshness=each.freshness or snapshot.freshness(each.fact.partition(".")[0]))
        for each in finding.evidence
    )
    verify, elsewhere = f"envdoctor check --only {rule.id}", _elsewhere(snapshot)
    fixes = tuple(replace(each, verify=_proof(each.verify or verify, elsewhere)) for each in finding.fixes)
    severity, confidence = finding.severity or rule.severity, finding.confidence
    if confidence is Confidence.CERTAIN and any(each.fact.startswith(BY_TABLE) for each in evidence):
        confidence = Confidence.LIKELY  # certain is the fact itself; what a table says of it is a known rule
    return replace(finding, id=rule.id, severity=severity, confidence=confidence, evidence=evidence, fixes=fixes)


def _proof(verify: str, elsewhere: str) -> str:
    """Say whom to ask, unless the rule has said so itself."""
    return verify if any(each in verify for each in ASKS_SOMEBODY) else f"{verify}{elsewhere}"


def _elsewhere(snapshot: Snapshot) -> str:
    """Give the options that have the same one asked again; of a job, whose old self keeps its variables, the next."""
    import shlex

    target, job = snapshot.target, snapshot.get(Job)
    running = "" if job is None else ANEW
    if target.via:
        named = "" if target.python in {"", PYTHON} else f" --python {shlex.quote(target.python)}"
        return f" --via {shlex.quote(target.via)}{named}{running}"
    ours = target.key == "this" or not target.python or (job is not None and job.another_python != ANOTHER_ASKED_FOR)
    return running if ours else f" --python {shlex.quote(target.python)}{running}"


def with_causes(findings: tuple[Finding, ...], rules: Iterable[Rule]) -> tuple[Finding, ...]:
    """Name, in each finding, the fired findings that explain it, the likeliest first.

    The candidates are the ids that the finding itself names, which go first, and those that its rule declares.
    """
    declared = {rule.id: rule.explained_by for rule in rules}
    fired = [f for f in findings if f.ignored is None and f.severity is not Severity.INFO]
    return tuple(
        replace(each, caused_by=_causes(each, each.caused_by, declared.get(each.id, ()), fired)) for each in findings
    )


def _causes(
    finding: Finding, named: tuple[str, ...], declared: tuple[str, ...], fired: list[Finding]
) -> tuple[str, ...]:
    candidates, certainty = (*named, *declared), list(Confidence)

    def likeliest(f: Finding) -> tuple[bool, int, int, int]:
        rank = f.severity.rank if f.severity else 9
        return (f.id not in named, rank, certainty.index(f.confidence), candidates.index(f.id))

    ranked = sorted((f for f in fired if f.id in candidates and f.key != finding.key), key=likeliest)
    return tuple(each.key for each in ranked)


def in_reading_order(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Sort findings as a person should read them: causes before consequences, errors first, surest first.

    A cause is ranked by the worst of what follows from it. Of several that may explain one finding, the likeliest goes
    before the others, and one from which something follows before one that stands alone: the one to fix first leads.
    """
    roots, certainty = _roots(findings), list(Confidence)
    counted = [f for f in findings if f.ignored is None]
    follows = {f.key: [each for each in counted if each is not f and roots[each.key] == f.key] for f in findings}
    rivals = {roots[key] for f in counted for key in f.caused_by if roots.get(key, roots[f.key]) != roots[f.key]}

    def place(f: Finding) -> tuple[bool, bool, int, bool, bool, int, int]:
        worst = min((each.severity.rank for each in (f, *follows[f.key]) if each.severity), default=9)
        told = (not follows[f.key], certainty.index(f.confidence), -len(follows[f.key]))
        return (f.ignored is not None, bool(f.caused_by), worst, f.key in rivals, *told)

    return tuple(sorted(findings, key=place))


def _roots(findings: tuple[Finding, ...]) -> dict[str, str]:
    """Give for each finding the one that its first causes end in; one in a circle ends in itself."""
    first = {f.key: next(iter(f.caused_by), "") for f in findings}
    found: dict[str, str] = {}
    for key in first:
        seen = [key]
        while first[seen[-1]] in first and first[seen[-1]] not in seen:
            seen.append(first[seen[-1]])
        found[key] = key if first[seen[-1]] in seen else seen[-1]
    return found


def verdict_of(findings: Iterable[Finding], checks: Iterable[Check]) -> Verdict:
    """Give the one word: errors, else undetermined while an essential rule is unknown, else warnings, else ok."""
    severities = {f.severity for f in findings if f.ignored is None}
    if Severity.ERROR in severities:
        return Verdict.ERRORS
    checks = tuple(checks)
    judged = any(c.status in {Status.PASSED, Status.FIRED, Status.IGNORED, Status.NOT_APPLICABLE} for c in checks)
    if not judged or any(c.essential and c.status is Status.UNKNOWN for c in checks):
        return Verdict.UNDETERMINED
    return Verdict.WARNINGS if Severity.WARNING in severities else Verdict.OK
