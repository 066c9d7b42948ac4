"""From members to one report: what each rule says of all of them, and what they differ in."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from envdoctor.diagnose import in_reading_order, run_rule, verdict_of, with_causes
from envdoctor.facts import key_of
from envdoctor.facts.fleet import FleetStages, RankDifferences, Ranks
from envdoctor.facts.rendezvous import Rendezvous
from envdoctor.finding import Check, Evidence, Finding, Report, Severity, Status
from envdoctor.fleet.differences import compare
from envdoctor.fleet.judging import Judge, Judged
from envdoctor.fleet.member import Member, Members
from envdoctor.fleet.pool import Pool
from envdoctor.fleet.ranges import in_words, names_in_words
from envdoctor.snapshot import Snapshot, Target, now

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from envdoctor.facts import Fact
    from envdoctor.rule import Rule
    from envdoctor.selection import Selection

ABOUT_ALL = frozenset((Ranks, RankDifferences, FleetStages))
ABOUT_ONE = frozenset((Rendezvous,))  # facts of the fleet that each member has for itself
NODES_NAMED = 3
# The status of a rule over all members is the first of these that any of them has.
STATUSES = (Status.FIRED, Status.UNKNOWN, Status.IGNORED, Status.PASSED, Status.NOT_APPLICABLE, Status.SKIPPED)


@dataclass(frozen=True, slots=True)
class On:
    """Which members a finding is about, in words and in number."""

    ranks: str
    count: int
    nodes: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is no snapshot, and why it is none."""

    name: str
    why: str


@dataclass(frozen=True)
class FleetReport:
    """Everything about many members. ``report`` is what any format can show: findings and checks over all of them.

    Its snapshot is that of a member that has of everything what most have (``usual`` says which those are), with the
    facts about all of them. ``on`` says by a
    finding's key which members it is about; findings about the fleet itself are not in it.
    """

    report: Report
    noun: str
    members: int
    on: Mapping[str, On]
    ranks: Ranks
    differences: RankDifferences
    usual: On
    stages: FleetStages | None = None
    skipped: tuple[Skipped, ...] = ()

    @property
    def fleet_keys(self) -> frozenset[str]:
        """Name the findings about the fleet itself."""
        return frozenset(each.key for each in self.report.findings if each.key not in self.on)


@dataclass(slots=True)
class Fleet:
    """Takes members one after the other. What is needed of each is kept, which is little where they are alike."""

    kinds: Mapping[str, type[Fact]]
    rules: Sequence[Rule]
    selection: Selection
    noun: str = "rank"
    more: dict[str, Fact] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    _members: list[Member] = field(default_factory=list)
    _judged: dict[int, tuple[Judged, int]] = field(default_factory=dict)
    _reader: Members | None = None
    _judge: Judge | None = None

    def add(self, data: bytes, name: str, node: str = "", private: Mapping[str, str] | None = None) -> None:
        """Take what one member sent or saved. Raises ``SnapshotError`` for what is no snapshot.

        ``private``: the keyed hashes of its values that are not shown, by variable.
        """
        if self._reader is None or self._judge is None:
            about_one = [each for each in self.rules if about_each(each)]
            self._reader = Members(Pool(self.kinds), together=self.noun == "rank")
            self._judge = Judge(about_one, self.selection, self.more)
        for member in self._reader.read(data, name, node):
            judged = self._judge.judge(member)
            bits = self._judged.get(id(judged), (judged, 0))[1]
            self._judged[id(judged)] = judged, bits | 1 << len(self._members)
            member.own.clear()  # nothing asks for it any more
            self._members.append(replace(member, private=private))

    @property
    def names(self) -> tuple[str, ...]:
        """Name the members that were taken."""
        return tuple(each.name for each in self._members)

    def report(self, ranks: Ranks, *others: Fact, interrupted: bool = False) -> FleetReport:
        """Give the report. ``others`` are facts about the whole: how the ranks met, what the stages measured."""
        differences, usual = compare(self._members, self.noun)
        whole: dict[str, Fact] = {key_of(type(each)): each for each in (ranks, differences, *others)}
        alike, example = self._on(usual), self._example(usual)
        target = Target(f"{len(self._members)} {self.noun}s", example.target.kind, example.target.python)
        own = {key_of(each) for each in ABOUT_ONE}
        whole = {key: fact for key, fact in example.facts.items() if key not in own} | whole
        snapshot = replace(
            example, target=target, created=now(), facts=whole, interrupted=interrupted,
            elapsed_seconds=time.monotonic() - self.began, overhead_seconds=time.monotonic() - self.began,
        )  # fmt: skip
        findings, checks, on = self._over_all(snapshot)
        ordered = in_reading_order(findings)
        first = next((f.key for f in ordered if f.ignored is None and f.severity is not Severity.INFO), None)
        report = Report(snapshot, ordered, checks, first, verdict_of(ordered, checks), interrupted)
        stages = next((each for each in others if isinstance(each, FleetStages)), None)
        count = len(self._members)
        return FleetReport(report, self.noun, count, on, ranks, differences, alike, stages, tuple(self.skipped))

    def _example(self, usual: Sequence[Member]) -> Snapshot:
        """Give the snapshot of a member that stands for most of them."""
        standing = (*usual, *self._members)
        return standing[0].snapshot() if standing else Snapshot(level="standard", created=now())

    def _on(self, members: Sequence[Member]) -> On:
        nodes = names_in_words(dict.fromkeys(each.node for each in members if each.node), NODES_NAMED)
        return On(in_words([each.name for each in members]), len(members), nodes if self.noun == "rank" else "")

    def _over_all(self, snapshot: Snapshot) -> tuple[tuple[Finding, ...], tuple[Check, ...], dict[str, On]]:
        """Put together what is said of each member with what is said of all."""
        having = _by_key(self._judged.values())
        on = {key: self._on([self._members[n] for n in _places(bits)]) for key, (_, bits) in having.items()}
        found = [_about(each, on[key], self) for key, (each, _) in having.items()]
        checks = _checks([(judged, bits.bit_count()) for judged, bits in self._judged.values()])
        for each in filter(about_all, self.rules):
            check, findings = run_rule(each, snapshot, self.selection)
            if check.id not in checks or checks[check.id].status is not Status.FIRED:
                checks[check.id] = check
            found += [_provable(finding, snapshot.get(Ranks)) for finding in findings]
        caused = with_causes(tuple(found), filter(about_all, self.rules))
        findings = tuple(old if old.key in on else new for old, new in zip(found, caused, strict=True))
        return findings, tuple(checks[each.id] for each in self.rules if each.id in checks), on


# How a fleet is started again, by who started it.
AGAIN = {
    "files": "envdoctor fleet DIR",
    "srun": "srun envdoctor fleet",
    "mpirun": "mpirun envdoctor fleet",
    "torchrun": "torchrun --nproc-per-node N --no-python envdoctor fleet",
    "accelerate": "accelerate launch --module envdoctor fleet",
}


def _provable(finding: Finding, ranks: Ranks | None) -> Finding:
    """Name the command that looks at all members again: one of them alone cannot tell."""
    staged = any(each.fact.startswith(f"{key_of(FleetStages)}.") for each in finding.evidence)
    again = AGAIN.get(ranks.launcher if ranks else "", "envdoctor fleet")
    verify = f"{again}{' --deep' if staged else ''} --only {finding.id}"
    return replace(finding, fixes=tuple(replace(each, verify=verify) for each in finding.fixes))


def about_all(rule: Rule) -> bool:
    """Tell whether a rule is about the members side by side, not about each of them."""
    return any(each.fact in ABOUT_ALL for each in rule.inputs)


def about_each(rule: Rule) -> bool:
    """Tell whether the rule is about each member for itself; one can be both."""
    return not about_all(rule) or any(each.fact in ABOUT_ONE for each in rule.inputs)


def _places(bits: int) -> Iterable[int]:
    return (place for place in range(bits.bit_length()) if bits >> place & 1)


def _by_key(judged: Iterable[tuple[Judged, int]]) -> dict[str, tuple[Finding, int]]:
    """Give for each finding its most frequent wording, with its worst severity and all causes, and who has it."""
    found: dict[str, tuple[Finding, int]] = {}
    for each, bits in sorted(judged, key=lambda pair: -pair[1].bit_count()):
        for finding in each.findings:
            known, before = found.get(finding.key, (finding, 0))
            found[finding.key] = _joined(known, finding), before | bits
    return found


def _joined(first: Finding, second: Finding) -> Finding:
    severities = [each.severity for each in (first, second) if each.severity]
    severity = min(severities, key=lambda each: each.rank, default=None)
    return replace(first, severity=severity, caused_by=tuple(dict.fromkeys((*first.caused_by, *second.caused_by))))


def _about(finding: Finding, on: On, fleet: Fleet) -> Finding:
    """Say in the finding itself which members it is about, so that every format shows it."""
    total = len(fleet.names)
    if on.count == total > 1:
        where = f"all {total} {fleet.noun}s"
    elif total == 1:
        where = f"{fleet.noun} {on.ranks}"
    else:
        where = f"{fleet.noun}{'s' if on.count > 1 else ''} {on.ranks}, {on.count} of {total}"
    evidence = finding.evidence
    if on.nodes:
        evidence = (Evidence("ranks.nodes", on.nodes, "reports of the ranks", "live", "on"), *evidence)
    return replace(finding, title=f"{finding.title} ({where})", evidence=evidence)


def _checks(judged: Sequence[tuple[Judged, int]]) -> dict[str, Check]:
    """Give what became of each rule over all members."""
    said: dict[str, dict[Status, tuple[Check, int]]] = {}
    for each, count in judged:
        for check in each.checks:
            by_status = said.setdefault(check.id, {})
            known = by_status.get(check.status, (check, 0))
            by_status[check.status] = known[0], known[1] + count
    total = sum(count for _, count in judged)
    return {id_: _one_check(by_status, total) for id_, by_status in said.items()}


def _one_check(by_status: Mapping[Status, tuple[Check, int]], total: int) -> Check:
    check, count = next(by_status[status] for status in STATUSES if status in by_status)
    if count == total or not check.reason:
        return check
    return replace(check, reason=f"{check.reason} (on {count} of {total})")
