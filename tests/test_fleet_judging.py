"""Many members are judged as each alone would be, though a rule is run once for all that it cannot tell apart."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from envdoctor import demo, snapshot
from envdoctor.diagnose import examine
from envdoctor.facts import Fact
from envdoctor.facts.host import Environment, Host, Resources
from envdoctor.facts.nvml import Gpu, GpuState
from envdoctor.finding import Check, Finding, Severity
from envdoctor.fleet.judging import Judge
from envdoctor.fleet.member import Member, Members
from envdoctor.fleet.pool import Pool
from envdoctor.fleet.settled import MOMENTARY
from envdoctor.fleet.watching import Watch
from envdoctor.outcome import Crashed
from envdoctor.rule import Rule, rule
from envdoctor.rules import RULES
from envdoctor.selection import Selection
from envdoctor.snapshot import BY_KEY, ProbeResult, SnapshotError, of, save
from tests.fleet_members import document, variables


def members(*documents: bytes) -> list[Member]:
    """Read documents into members of one pool."""
    reader = Members(Pool(BY_KEY))
    return [member for number, each in enumerate(documents) for member in reader.read(each, str(number))]


def of_moment(plain: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """Change what is new at each look, so that rules about use, heat and speed have something to say now and then."""
    facts = plain["facts"]
    for gpu in facts.get("gpu_state", {}).get("gpus", ()):
        gpu["memory_used_mib"] = chance.choice([1, 500, 80000])
        gpu["memory_free_mib"] = 81559 - gpu["memory_used_mib"]
        gpu["temperature_celsius"] = chance.choice([30, 60, 95])
        gpu["utilization_percent"] = chance.choice([0, 50, 100])
        gpu["event_reasons"] = chance.choice([[], ["gpu_idle"], ["hw_thermal_slowdown"], ["sw_power_cap"]])
        gpu["processes"] = chance.choice([[], [{"pid": 7, "memory_mib": 4000, "kind": "compute"}]])
    if "resources" in facts:
        facts["resources"]["memory_available_mib"] = chance.choice([100, 500000])
    told = [("SLURM_PROCID", str(chance.randrange(9))), ("CUDA_VISIBLE_DEVICES", chance.choice(["0", "0,1", "77", ""]))]
    told += [("SLURM_NTASKS", "8"), ("SLURM_LOCALID", str(chance.randrange(4))), ("SLURM_STEP_ID", "0")]
    rows = [{"name": name, "value": value, "redacted": False} for name, value in told if chance.random() < 0.6]
    facts.setdefault("environment", {"sources": {}, "unknown": {}, "variables": []})["variables"] += rows
    facts["host"]["hostname"] = f"node{chance.randrange(99)}"
    return plain


def said(findings: tuple[Finding, ...], checks: tuple[Check, ...]) -> object:
    """Give what a person would read of it, in no order."""
    told = [(f.key, f.severity, f.title, f.caused_by, f.confidence) for f in findings]
    return sorted(told, key=str), sorted((c.id, c.status.value, c.reason) for c in checks)


@pytest.mark.parametrize("name", demo.ABOUT)
def test_each_member_is_judged_as_it_would_be_alone(name: str) -> None:
    """Twelve machines that differ in values of the moment get what ``check`` says of each."""
    chance = random.Random(name)
    text = save(demo.load(name))
    documents = [msgspec.json.encode(of_moment(msgspec.json.decode(text), chance)) for _ in range(12)]
    judge = Judge(RULES, Selection())
    for each, member in zip(documents, members(*documents), strict=True):
        alone = examine(snapshot.load(each), RULES)
        judged = judge.judge(member)
        assert said(alone.findings, alone.checks) == said(judged.findings, judged.checks)


def counted(body: Any) -> tuple[Rule, list[int]]:
    """Make a rule of a function, and count how often it is run."""
    runs: list[int] = []

    def wrapped(*facts: Fact) -> Iterator[Finding]:
        runs.append(1)
        yield from body(*facts)

    made = rule(severity=Severity.WARNING, group="system")(body)
    object.__setattr__(made, "body", _same_inputs(wrapped, body))
    return made, runs


def _same_inputs(wrapped: Any, body: Any) -> Any:
    names = body.__code__.co_varnames[: body.__code__.co_argcount]
    scope: dict[str, Any] = {"wrapped": wrapped, **body.__globals__}
    exec(f"def {body.__name__}({', '.join(names)}):\n    return wrapped({', '.join(names)})", scope)
    made = scope[body.__name__]
    made.__annotations__ = body.__annotations__
    return made


def reads_total(resources: Resources) -> Iterator[Finding]:
    """Read a settled value."""
    if resources.memory_total_mib == 1:
        yield Finding("little")


def reads_available(resources: Resources) -> Iterator[Finding]:
    """Read a value of the moment."""
    if resources.memory_available_mib == 1:
        yield Finding("little")


def reads_a_gpu(state: GpuState) -> Iterator[Finding]:
    """Read a value of the moment deep inside."""
    if any(gpu.temperature_celsius == 95 for gpu in state.gpus):
        yield Finding("hot")


def asks_for_own_rank(environment: Environment) -> Iterator[Finding]:
    """Ask for a variable that differs from rank to rank."""
    if environment.get("SLURM_PROCID") == "1":
        yield Finding("one")


def goes_through_all(environment: Environment) -> Iterator[Finding]:
    """Look at every variable."""
    if any(each.value == "1" for each in environment.variables):
        yield Finding("one")


def asks_for_what_is_not_set(environment: Environment) -> Iterator[Finding]:
    """Ask for a variable that no rank has."""
    if environment.get("SLURM_LOCALID") == "1":
        yield Finding("one")


@pytest.mark.parametrize(
    ("body", "runs"),
    [
        (reads_total, 1),
        (reads_available, 1 + 6),
        (reads_a_gpu, 1 + 6),
        (asks_for_own_rank, 1 + 6),
        (goes_through_all, 1 + 6),
        (asks_for_what_is_not_set, 1),
    ],
)
def test_a_rule_is_run_again_only_if_it_reads_what_differs(body: Any, runs: int) -> None:
    """Six members alike but for values of the moment: one run tells what the rule reads, and often is enough."""
    made, counter = counted(body)
    documents = [
        document(
            Resources(memory_total_mib=2, memory_available_mib=number),
            GpuState(gpus=(Gpu(0, temperature_celsius=90 + number), Gpu(1))),
            variables(SLURM_PROCID=str(number)),
        )
        for number in range(6)
    ]
    judge = Judge((made,), Selection())
    found = [len(judge.judge(member).findings) for member in members(*documents)]
    assert runs == len(counter)
    one_is_odd = body in {reads_available, reads_a_gpu, asks_for_own_rank, goes_through_all}
    assert ([0] * 6 if not one_is_odd else [int(n == (5 if body is reads_a_gpu else 1)) for n in range(6)]) == found


def test_what_differs_in_settled_values_is_judged_apart() -> None:
    """A rule that reads a settled value is run for each of its values."""
    made, counter = counted(reads_total)
    documents = [document(Resources(memory_total_mib=number % 2)) for number in range(6)]
    judge = Judge((made,), Selection())
    assert [0, 1] * 3 == [len(judge.judge(member).findings) for member in members(*documents)]
    assert 2 == len(counter)


def test_how_the_probes_ended_counts() -> None:
    """Members with the same facts and other ends of their probes are not alike."""
    crashed = ProbeResult("gpu-state", "gpu_state", Crashed("SIGSEGV in nvmlInit_v2", "SIGSEGV"))
    documents = [document(), save(of(Host(hostname="node2"), probes=(crashed,)))]
    judge = Judge(RULES, Selection())
    found = [{f.id for f in judge.judge(member).findings} for member in members(*documents)]
    assert [False, True] == ["probe-crashed" in each for each in found]


def test_every_momentary_field_is_watched() -> None:
    """A copy to be judged notes the read of each field that its settled content leaves out, wherever it lies."""
    for key, names in MOMENTARY.items():
        for kind in [BY_KEY[key], *_inside(BY_KEY[key])]:
            for name in names & {each.name for each in dataclasses.fields(kind)}:
                watch = Watch()
                part = kind()
                fact = watch.over(key, part if kind is BY_KEY[key] else _holding(BY_KEY[key], part))
                inside = fact if kind is BY_KEY[key] else _find(fact, kind)
                watch.read = False
                _ = getattr(inside, name)
                assert watch.read, (key, name)


def _inside(kind: type) -> list[type]:
    import typing

    found = []
    for hint in typing.get_type_hints(kind).values():
        found += [each for each in typing.get_args(hint) if dataclasses.is_dataclass(each)]
    return found  # type: ignore[return-value]


def _holding(kind: type, part: Any) -> Any:
    import typing

    for name, hint in typing.get_type_hints(kind).items():
        if type(part) in typing.get_args(hint):
            return kind(**{name: (part,)})
    raise AssertionError(kind)


def _find(fact: Any, kind: type) -> Any:
    for each in dataclasses.fields(fact):
        value = getattr(fact, each.name)
        if isinstance(value, tuple) and value and isinstance(value[0], kind):
            return value[0]
    raise AssertionError(kind)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "not JSON of ours"),
        (b"{}", "its schema is ''"),
        (b'{"schema": "somebody.else/1"}', "its schema is 'somebody.else/1'"),
        (b'{"schema": "envdoctor.snapshot/1", "facts": {"host": 3}}', "host"),
        (b'{"schema": "envdoctor.snapshot/1", "facts": {"host": {"hostname": 3}}}', "hostname"),
        (b'{"schema": "envdoctor.snapshot/1", "facts": {"torch_build": []}}', "torch_build: expected an object"),
        (b'{"schema": "envdoctor.snapshot/1", "facts": {"packages": {"distributions": 3}}}', "packages"),
        (b'{"schema": "envdoctor.snapshot/1", "facts": {"environment": {"variables": 3}}}', "environment"),
        (b'{"schema": "envdoctor.snapshot/1", "facts": {"gpu_state": {"gpus": [3]}}}', "gpu_state"),
        (b'{"schema": "envdoctor.snapshot/1", "facts": {}, "level": "slow"}', "level is 'slow'"),
        (b'{"schema": "envdoctor.snapshot/1", "facts": {}, "probes": [{"outcome": "fine"}]}', "'fine'"),
        (b'{"schema": "envdoctor.snapshot/1", "facts": {}, "probes": {}}', "not JSON of ours"),
    ],
)
def test_what_is_no_snapshot_is_refused_in_words(text: bytes, words: str) -> None:
    """A broken or foreign document says what is wrong with it, and raises nothing else."""
    with pytest.raises(SnapshotError, match=words):
        members(text)


def test_a_report_and_several_reports_hold_members_too() -> None:
    """A report is taken by its snapshot, and a document of several reports gives a member for each."""
    from envdoctor.render.json import render

    one = render(examine(snapshot.load(document(hostname="node5")), RULES)).encode()
    several = msgspec.json.encode({"schema": "envdoctor.reports/1", "reports": [msgspec.Raw(one), msgspec.Raw(one)]})
    read = [(each.name, each.node) for each in members(one, several)]
    assert [("0", "node5"), ("1#this", "node5"), ("1#this", "node5")] == read
