"""examine(): what each missing fact, broken rule and cause makes of a report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from envdoctor.diagnose import Selection, examine
from envdoctor.facts.gpu import PciBus
from envdoctor.facts.host import Host, Resources
from envdoctor.facts.job import ANOTHER_ASKED_FOR, Job
from envdoctor.facts.torch import TorchCuda
from envdoctor.finding import Check, Confidence, Evidence, Finding, Fix, Ignored, Report, Severity, Status, Verdict, see
from envdoctor.outcome import Absent, Crashed, Failed, Got, TimedOut
from envdoctor.rule import NotApplicable, Rule, Unknown, known, rule
from envdoctor.snapshot import ProbeResult, Snapshot, Target, of


@rule(severity=Severity.WARNING, group="system")
def shared_memory_tiny(resources: Resources) -> Iterator[Finding]:
    """Shared memory is tiny."""
    if known(resources, "shm_total_mib") < 100:
        yield Finding("tiny", evidence=(see(resources, "shm_total_mib", "/dev/shm"),))


@rule(severity=Severity.ERROR, group="system", explained_by=("shared-memory-tiny", "host-odd"))
def workers_die(resources: Resources, host: Host | None) -> Iterator[Finding]:
    """Workers die."""
    if known(resources, "shm_total_mib") < 100:
        yield Finding("dead")


@rule(severity=Severity.INFO, group="torch", essential=True)
def needs_cuda(cuda: TorchCuda) -> Iterator[Finding]:
    """CUDA is looked at."""
    yield from ()


def outcome_of(rule: Rule, snapshot: Snapshot) -> tuple[Status, str]:
    """Give status and reason of one rule."""
    (check,) = examine(snapshot, (rule,)).checks
    return check.status, check.reason


def with_probe(outcome: object, level: str = "standard") -> Snapshot:
    """Make a snapshot whose torch-cuda probe ended so."""
    return Snapshot(level=level, probes=(ProbeResult("torch-cuda", "torch_cuda", outcome),))  # type: ignore[arg-type]


def test_fired_finding_is_completed_from_the_rule() -> None:
    """A finding gets its rule's id and severity, evidence its freshness, and the report its verdict."""
    report = examine(of(Resources(shm_total_mib=64)), (shared_memory_tiny,))
    (finding,) = report.findings
    assert ("shared-memory-tiny", Severity.WARNING, Verdict.WARNINGS) == (finding.id, finding.severity, report.verdict)
    assert ("resources.shm_total_mib", 64, "statvfs /dev/shm", "file") == (
        finding.evidence[0].fact,
        finding.evidence[0].value,
        finding.evidence[0].source,
        finding.evidence[0].freshness,
    )


def test_silent_rule_has_passed() -> None:
    """A rule that yields nothing passed, and the verdict is ok."""
    report = examine(of(Resources(shm_total_mib=9000)), (shared_memory_tiny,))
    assert (Check("shared-memory-tiny", "system", False, Status.PASSED), Verdict.OK) == (
        report.checks[0],
        report.verdict,
    )


def test_unknown_field_makes_the_check_unknown_with_the_recorded_reason() -> None:
    """A field without a value ends the rule as unknown, in the probe's words."""
    fact = Resources(unknown={"shm_total_mib": "statvfs refused"})
    assert (Status.UNKNOWN, "statvfs refused") == outcome_of(shared_memory_tiny, of(fact))


def test_optional_fact_may_be_missing() -> None:
    """A rule with an optional input runs without it."""
    assert Status.FIRED is outcome_of(workers_die, of(Resources(shm_total_mib=1)))[0]


@pytest.mark.parametrize(
    ("outcome", "status", "words"),
    [
        (Absent("no torch on the path"), Status.NOT_APPLICABLE, "no torch on the path"),
        (Failed("OSError: gone"), Status.UNKNOWN, "probe torch-cuda failed: OSError: gone"),
        (Crashed("SIGSEGV in import torch"), Status.UNKNOWN, "probe torch-cuda crashed: SIGSEGV in import torch"),
        (TimedOut("no answer in 2 s"), Status.UNKNOWN, "probe torch-cuda timed-out: no answer in 2 s"),
        (Got(), Status.UNKNOWN, "torch_cuda was not collected"),
    ],
)
def test_missing_fact_takes_its_probes_outcome(outcome: object, status: Status, words: str) -> None:
    """Absent means not applicable; failed, crashed and timed out mean unknown, each with the reason."""
    assert (status, words) == outcome_of(needs_cuda, with_probe(outcome))


def test_essential_unknown_makes_the_verdict_undetermined() -> None:
    """Unknown is not healthy: with an essential rule unknown and no error the verdict is never ok."""
    assert Verdict.UNDETERMINED is examine(with_probe(Failed("x")), (needs_cuda,)).verdict


def test_fact_of_a_higher_level_is_skipped_not_unknown() -> None:
    """At quick level a rule that needs torch's own answer is skipped and says which level asks it."""
    assert (Status.SKIPPED, "needs --level standard") == outcome_of(needs_cuda, Snapshot(level="quick"))


def test_text_that_never_carries_a_fact_skips_the_rule() -> None:
    """A pasted text without the fact skips the rule, so that a healthy paste can end well."""
    pasted = replace(of(Resources(shm_total_mib=9000)), target=Target("paste", "text"))
    report = examine(pasted, (needs_cuda, shared_memory_tiny))
    assert (Status.SKIPPED, Verdict.OK) == (report.checks[0].status, report.verdict)


def test_nothing_judged_is_undetermined() -> None:
    """A selection that leaves nothing to judge is undetermined."""
    report = examine(of(Resources()), (shared_memory_tiny,), Selection(only=frozenset({"torch"})))
    assert (Status.SKIPPED, Verdict.UNDETERMINED) == (report.checks[0].status, report.verdict)


def test_cause_leads_and_consequence_names_it() -> None:
    """The finding that explains another is read first, even when the consequence is worse."""
    report = examine(of(Resources(shm_total_mib=64)), (workers_die, shared_memory_tiny))
    assert ["shared-memory-tiny", "workers-die"] == [f.id for f in report.findings]
    assert ("shared-memory-tiny",) == report.findings[1].caused_by
    assert "shared-memory-tiny" == report.primary


def test_ignored_finding_is_kept_and_does_not_count() -> None:
    """An ignored finding stays in the report with its reason and moves neither verdict nor primary."""
    ignore = {"shared-memory-tiny": Ignored("known", "option")}
    report = examine(of(Resources(shm_total_mib=64)), (shared_memory_tiny,), Selection(ignore=ignore))
    assert (Verdict.OK, None, "known") == (report.verdict, report.primary, report.findings[0].ignored.reason)  # type: ignore[union-attr]
    assert Status.IGNORED is report.checks[0].status


def test_broken_rule_is_an_answer() -> None:
    """A rule that raises makes its own check unknown and lets the others run."""

    @rule(severity=Severity.ERROR, group="system")
    def breaks(resources: Resources) -> Iterator[Finding]:
        """Break."""
        raise ZeroDivisionError("by zero")
        yield

    report = examine(of(Resources(shm_total_mib=64)), (breaks, shared_memory_tiny))
    assert [Status.UNKNOWN, Status.FIRED] == [c.status for c in report.checks]
    assert "the rule itself failed: ZeroDivisionError: by zero" == report.checks[0].reason


def test_rules_can_say_not_applicable_and_unknown() -> None:
    """The two answers that are not judgements keep their words."""

    @rule(severity=Severity.ERROR, group="gpus")
    def no_gpu(bus: PciBus) -> Iterator[Finding]:
        """Say nothing."""
        if not bus.gpus:
            raise NotApplicable("no GPU")
        raise Unknown("cannot tell")
        yield

    assert (Status.NOT_APPLICABLE, "no GPU") == outcome_of(no_gpu, of(PciBus()))


def test_rule_with_a_parameter_that_is_no_fact_is_refused() -> None:
    """A wrong annotation is an error when the inputs are resolved, not a silent miss."""

    @rule(severity=Severity.ERROR, group="gpus")
    def odd(number: int) -> Iterator[Finding]:
        """Be odd."""
        yield Finding(str(number), confidence=Confidence.CERTAIN)

    with pytest.raises(TypeError, match="parameter 'number' must be a fact"):
        _ = odd.inputs


def test_examine_is_pure() -> None:
    """The same snapshot and rules give the same report."""
    snapshot = of(Resources(shm_total_mib=64))

    def once() -> Report:
        return examine(snapshot, (shared_memory_tiny, workers_die))

    assert once() == once()


@rule(severity=Severity.WARNING, group="system")
def host_has_a_fix(host: Host) -> Iterator[Finding]:
    """Every host has a fix."""
    yield Finding("x", fixes=(Fix("y"),))


def no_python_of(pid: int, why: str) -> Job:
    """Give a job whose own Python was not the one that was asked."""
    return Job(pid=pid, same_python=False, unknown={"same_python": why})


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target(python="/usr/bin/python"), ""),
        (
            Target("/srv/my env/bin/python", "interpreter", "/srv/my env/bin/python"),
            " --python '/srv/my env/bin/python'",
        ),
    ],
    ids=("ours", "another"),
)
def test_proof_asks_the_interpreter_that_was_asked(target: Target, expected: str) -> None:
    """The command that proves a fix names the interpreter where another one than the doctor's own was examined."""
    (finding,) = examine(replace(of(Host()), target=target), (host_has_a_fix,)).findings
    assert f"envdoctor check --only host-has-a-fix{expected}" == finding.fixes[0].verify


@pytest.mark.parametrize(
    ("target", "job", "expected"),
    [
        (Target("process 7", "interpreter", "/srv/python"), Job(pid=7, same_python=True), ""),
        (Target("process 7", "interpreter", "/ours"), no_python_of(7, "it runs in a container"), ""),
        (Target("process 7", "interpreter", "/srv/x"), no_python_of(7, ANOTHER_ASKED_FOR), " --python /srv/x"),
        (Target("ssh a process 7", "command", "/x", "ssh a"), no_python_of(7, "not looked for"),
         " --via 'ssh a' --python /x"),
    ],
    ids=("its own", "not reached", "named", "behind a command"),
)  # fmt: skip
def test_proof_asks_the_job_that_was_started_anew(target: Target, job: Job, expected: str) -> None:
    """This shell's variables and limits are not the job's, and the old job keeps what it was started with."""
    (finding,) = examine(replace(of(Host(), job), target=target), (host_has_a_fix,)).findings
    said = f"envdoctor check --only host-has-a-fix{expected} --pid PID  # the job, started anew"
    assert said == finding.fixes[0].verify


@rule(severity=Severity.INFO, group="system")
def table_says_so(host: Host) -> Iterator[Finding]:
    """What the kernel is, as a fact and by a table."""
    shown, by_table = see(host, "kernel", "kernel"), Evidence("knowledge.kernels", "5.5", "a table", "", "wanted")
    yield Finding("fact", evidence=(shown,), subject="fact")
    yield Finding("table", evidence=(shown, by_table), subject="table")
    yield Finding("lead", evidence=(by_table,), subject="lead", confidence=Confidence.POSSIBLE)


def test_what_rests_on_a_table_is_never_certain() -> None:
    """Certain is the fact itself; a finding that a table backs is likely, and a lead stays a lead."""
    found = {f.subject: f.confidence for f in examine(of(Host(kernel="5.4")), (table_says_so,)).findings}
    expected = {"fact": Confidence.CERTAIN, "table": Confidence.LIKELY, "lead": Confidence.POSSIBLE}
    assert expected == found


@rule(severity=Severity.WARNING, group="system")
def host_odd(host: Host) -> Iterator[Finding]:
    """The host is odd."""
    yield Finding("odd", confidence=Confidence.LIKELY)


@rule(severity=Severity.WARNING, group="system", explained_by=("shared-memory-tiny",))
def prefers_the_host(resources: Resources) -> Iterator[Finding]:
    """Names the host as its cause, though the memory is the surer one."""
    yield Finding("x", caused_by=("host-odd",))


def test_cause_that_a_finding_names_goes_before_those_its_rule_declares() -> None:
    """Named by the finding first, then declared by the rule; and of two roots the one named first is read first."""
    rules = (shared_memory_tiny, host_odd, prefers_the_host)
    report = examine(of(Host(), Resources(shm_total_mib=64)), rules)
    assert ["host-odd", "shared-memory-tiny", "prefers-the-host"] == [f.key for f in report.findings]
    assert ("host-odd", "shared-memory-tiny") == report.findings[2].caused_by
