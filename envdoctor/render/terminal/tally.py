"""The end of the report: groups, counts, the verdict, and where to read on."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from envdoctor.finding import Check, Report, Severity, Status, Verdict
from envdoctor.render.terminal.findings import consequences
from envdoctor.render.terminal.layout import flow, paragraph

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.render.terminal.look import Line, Look

COUNTED = (Status.PASSED, Status.NOT_APPLICABLE, Status.UNKNOWN, Status.SKIPPED, Status.IGNORED)


def groups(report: Report, look: Look) -> Iterator[Line]:
    """Give each group in which nothing fired: how much passed, or what is unknown."""
    members: dict[str, list[Check]] = defaultdict(list)
    for check in report.checks:
        members[check.group].append(check)
    items = [item for name, checks in members.items() if (item := _group(name, checks, look))]
    yield from flow(items, look.width, between="   ")


def _group(name: str, checks: list[Check], look: Look) -> Line | None:
    statuses = [check.status for check in checks]
    passed, unknown = statuses.count(Status.PASSED), statuses.count(Status.UNKNOWN)
    name = look.clean(name)
    if unknown:
        of = f" of {len(checks)}" if passed else ""
        return ((look.glyph("unknown"), "unknown"), (f" {name} {unknown}{of} unknown", ""))
    if not passed or Status.FIRED in statuses:
        return None
    return ((look.glyph("ok"), "ok"), (f" {name} {passed}", ""))


def counts(report: Report, look: Look) -> Iterator[Line]:
    """Count the checks by what became of them; the numbers add up to all of them."""
    fired = [worst(check, report) for check in report.checks if check.status is Status.FIRED]
    parts = [many(fired.count(each), each.value) for each in Severity if each in fired]
    parts += [f"{n} {each.value.replace('-', ' ')}" for each in COUNTED if (n := report.count(each))]
    said = many(len(report.checks), "check")
    items: list[Line] = [((f"{said}: {parts[0]}" if parts else said, ""),), *(((each, ""),) for each in parts[1:])]
    yield from flow(items, look.width, between=f" {look.dot} ")


def worst(check: Check, report: Report) -> Severity:
    """Give the worst severity of what a check found."""
    found = [f.severity for f in report.findings if f.id == check.id and f.severity]
    return min(found, key=lambda each: each.rank, default=Severity.INFO)


def many(number: int, noun: str) -> str:
    """Count a thing in words that fit: 1 error, 2 errors."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def verdict(report: Report, look: Look) -> Iterator[Line]:
    """Say the one thing to take home, and for what is undetermined, which command would tell."""
    kind = {Verdict.OK: "ok", Verdict.WARNINGS: "warning", Verdict.ERRORS: "error"}.get(report.verdict, "unknown")
    first = ((look.glyph(kind), kind), (" ", ""))
    yield from paragraph(look.clean(_sentence(report)), look.width, style="strong", first=first, indent=2)
    if report.verdict is Verdict.UNDETERMINED:
        yield from _undecided(report, look)


def _sentence(report: Report) -> str:
    if report.verdict is Verdict.UNDETERMINED:
        return _undetermined(report)
    unknown = report.count(Status.UNKNOWN)
    also = f" {many(unknown, 'check')} could not be judged." if unknown else ""
    if report.verdict is Verdict.OK:
        return f"Everything that could be checked is healthy.{also}"
    return f"{_found(report)}. {_start(report)}{also}"


def _found(report: Report) -> str:
    found = [worst(check, report) for check in report.checks if check.status is Status.FIRED]
    return ", ".join(many(n, each.value) for each in (Severity.ERROR, Severity.WARNING) if (n := found.count(each)))


def _start(report: Report) -> str:
    primary = report.finding(report.primary or "")
    if primary is None:
        return ""
    follows = len(consequences(primary, report))
    more = f"; {follows} more follow{'s' if follows == 1 else ''} from it" if follows else ""
    return f"Start with {primary.key}{more}."


def _undetermined(report: Report) -> str:
    undecided = essential_unknown(report)
    if not undecided:
        return "Undetermined: no check could be judged."
    begin = _found(report) or "nothing wrong was found"
    number = many(len(undecided), "essential check")
    return f"Undetermined: {begin}, but {number} could not be judged. {_start(report)}"


def essential_unknown(report: Report) -> list[Check]:
    """Give the checks that keep the verdict open."""
    return [check for check in report.checks if check.essential and check.status is Status.UNKNOWN]


def _undecided(report: Report, look: Look) -> Iterator[Line]:
    by_reason: dict[str, list[str]] = defaultdict(list)
    for check in essential_unknown(report):
        by_reason[check.reason].append(check.id)
    for reason, ids in by_reason.items():
        yield from paragraph(look.clean(", ".join(ids)), look.width, indent=4)
        yield from paragraph(look.clean(reason or "no reason was recorded"), look.width, style="quiet", indent=6)
        yield (("      ", ""), (look.command(would_tell(reason, ids[0], report)), "command"))


def would_tell(reason: str, check: str, report: Report) -> str:
    """Give the command most likely to decide an open check."""
    if report.snapshot.target.kind == "text":
        return "envdoctor check"
    if "timed-out" in reason or report.interrupted:
        return f"envdoctor check --only {check} --timeout 600"
    return f"envdoctor explain {check}"


def more(report: Report, look: Look, *, everything: bool) -> Iterator[Line]:
    """Say how to see more, and which deeper level has not been asked."""
    deeper = sorted({c.reason for c in report.checks if c.status is Status.SKIPPED and c.reason.startswith("needs ")})
    hints = [] if everything else ["--show all", "--format json"]
    hints += [each.removeprefix("needs ") for each in deeper]
    hints += ["envdoctor explain ID"]
    items: list[Line] = [((look.clean(each), "quiet"),) for each in hints]
    command = "" if everything and not deeper else "envdoctor check "
    items[0] = ((f"More: {command}{items[0][0][0]}", "quiet"),)
    yield from flow(items, look.width, between=f" {look.dot} ")
