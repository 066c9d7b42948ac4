"""Many targets side by side: which value each has where they are not all alike, the majority first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envdoctor.compare.flat import flatten
from envdoctor.compare.subjects import facts_of, rank_of, subject_of
from envdoctor.compare.traits import alike, slack_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from envdoctor.compare.flat import Flat, Value
    from envdoctor.finding import Finding, Report
    from envdoctor.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Group:
    """One value, and the targets that have it. None: it is not there."""

    value: Value | None
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Apart:
    """One key in which the targets are not alike; the largest group comes first."""

    key: str
    about: str
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """One finding, and the targets on which it fired."""

    finding: Finding
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Several reports compared. ``left_out`` says which targets could not be compared, and why."""

    targets: tuple[str, ...]
    apart: tuple[Apart, ...]
    findings: tuple[Seen, ...]
    left_out: tuple[tuple[str, str], ...]


def side_by_side(reports: Sequence[Report]) -> SideBySide:
    """Compare the facts and the findings of several targets."""
    there = [each.snapshot for each in reports if each.snapshot.facts]
    empty = [each.snapshot for each in reports if not each.snapshot.facts]
    flats = {each.target.key: flatten(each) for each in there}
    left_out = tuple((each.target.key, _why(each)) for each in empty)
    names = tuple(each.snapshot.target.key for each in reports)
    differs = apart(flats, {each.target.key: set(each.facts) for each in there})
    return SideBySide(names, differs, _seen(reports), left_out)


def _why(snapshot: Snapshot) -> str:
    reasons = [each.outcome.reason for each in snapshot.probes if each.outcome.reason]
    return reasons[0] if reasons else "nothing was collected there"


def apart(flats: Mapping[str, Flat], collected: Mapping[str, set[str]]) -> tuple[Apart, ...]:
    """Give every key in which targets differ. Only those count that collected the fact that the key belongs to."""
    found = []
    for key in {key for flat in flats.values() for key in flat}:
        asked = [name for name in flats if facts_of(key) <= collected[name]]
        groups = _groups(key, {name: flats[name].get(key) for name in asked})
        if len(groups) > 1:
            found.append(Apart(key, subject_of(key), groups))
    return tuple(sorted(found, key=lambda each: rank_of(each.key)))


def _groups(key: str, values: Mapping[str, Value | None]) -> tuple[Group, ...]:
    slack = slack_of(key)
    members: dict[Any, list[str]] = {}
    for name, value in values.items():
        same = next((each for each in members if alike(each, value, slack)), value) if slack else value
        members.setdefault(same, []).append(name)
    groups = (Group(value, tuple(names)) for value, names in members.items())
    return tuple(sorted(groups, key=lambda each: -len(each.targets)))


def _seen(reports: Sequence[Report]) -> tuple[Seen, ...]:
    """Give every finding that does not fire everywhere alike, worst first."""
    where: dict[str, list[str]] = {}
    first: dict[str, Finding] = {}
    for report in reports:
        for each in report.active:
            where.setdefault(each.key, []).append(report.snapshot.target.key)
            first.setdefault(each.key, each)
    found = [Seen(first[key], tuple(names)) for key, names in where.items() if len(names) < len(reports)]
    return tuple(sorted(found, key=lambda each: each.finding.severity.rank if each.finding.severity else 9))
