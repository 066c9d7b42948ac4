"""Two snapshots side by side: what differs, what changes by itself anyhow, and which findings that explains."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from envdoctor.compare.flat import flatten
from envdoctor.compare.subjects import facts_of, rank_of, row_of, story_of, subject_of
from envdoctor.compare.traits import OWN, PAIRS, ROWS, SETTLED, VOLATILE, alike, slack_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envdoctor.compare.flat import Flat, Value
    from envdoctor.finding import Finding, Report
    from envdoctor.snapshot import Snapshot

_FIELD_OF = {rows.name: key for key, rows in ROWS.items()} | {name: key for key, name in PAIRS.items()}
_ROW = re.compile(r"(\w+\.\w+)\[([^\]]+)\]((?:\.\w+)*)")
_FEW = 3  # changed rows that explain a finding when none of them is named in it


@dataclass(frozen=True, slots=True)
class Change:
    """One key that differs. None: it is not there. ``trait``: settled, own or volatile."""

    key: str
    about: str
    before: Value | None
    after: Value | None
    trait: str = SETTLED


@dataclass(frozen=True, slots=True)
class Explained:
    """A finding that is new or gone, and the keys of the changes that it rests on."""

    finding: Finding
    because: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """What differs between two reports.

    ``changes`` are settled facts and, on one and the same machine, its own ones; ``volatile`` is set apart.
    ``one_sided`` names facts that one of the two did not collect: nothing is said of those.
    """

    before: Report
    after: Report
    changes: tuple[Change, ...]
    volatile: tuple[Change, ...] = ()
    one_sided: tuple[str, ...] = ()
    new: tuple[Explained, ...] = ()
    gone: tuple[Explained, ...] = ()
    same_machine: bool = False
    stories: tuple[tuple[Change, ...], ...] = field(default=())

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing differs but what changes by itself."""
        return not (self.changes or self.new or self.gone)


def compare(before: Report, after: Report) -> Difference:
    """Say what differs between two reports, and which findings came or went with it."""
    first, second = before.snapshot, after.snapshot
    same = same_machine(first, second)
    traits = (SETTLED, OWN) if same else (SETTLED,)
    changes = tuple(each for trait in traits for each in changed(first, second, trait))
    changes = tuple(sorted(changes, key=lambda each: rank_of(each.key)))
    new, gone = _explained(after, before, changes), _explained(before, after, changes)
    one_sided = tuple(sorted(set(first.facts) ^ set(second.facts)))
    volatile = changed(first, second, VOLATILE)
    return Difference(before, after, changes, volatile, one_sided, new, gone, same, in_stories(changes))


def same_machine(first: Snapshot, second: Snapshot) -> bool:
    """Tell whether both are of one machine, by its name; of redacted ones nobody can know."""
    names = [getattr(each.facts.get("host"), "hostname", None) for each in (first, second)]
    return bool(names[0]) and names[0] == names[1] and not str(names[0]).startswith("host-")


def changed(first: Snapshot, second: Snapshot, trait: str) -> tuple[Change, ...]:
    """Give the keys of one trait that differ. A fact that one side did not collect differs in nothing."""
    one, other = (flatten(each, (trait,)) for each in (first, second))
    both = first.facts.keys() & second.facts.keys()
    return tuple(
        Change(key, subject_of(key), one.get(key), other.get(key), trait)
        for key in sorted({*one, *other})
        if facts_of(key) <= both and _differs(key, one, other)
    )


def _differs(key: str, one: Flat, other: Flat) -> bool:
    if key.startswith("probe.") and (key not in one or key not in other):
        return False  # another level asks more questions
    return not alike(one.get(key), other.get(key), slack_of(key))


def in_stories(changes: Iterable[Change]) -> tuple[tuple[Change, ...], ...]:
    """Group what tells one and the same story; the first of each group says it best.

    A row that came or went as a whole is one story as well, led by a change of the row itself.
    """
    found: dict[str, list[Change]] = {}
    for each in changes:
        found.setdefault(story_of(each.key) or row_of(each.key) or each.key, []).append(each)
    return tuple(story for name, each in found.items() for story in _told(name, each))


def _told(name: str, changes: list[Change]) -> list[tuple[Change, ...]]:
    first = changes[0]
    if not row_of(first.key) or (len(changes) == 1 and story_of(first.key)):
        return [tuple(changes)]
    for gone, came in (("there", None), (None, "there")):
        whole = all((each.after if gone else each.before) is None for each in changes)
        if len(changes) > 1 and whole:
            return [(Change(f"{row_of(first.key)}.", first.about, gone, came, first.trait), *changes)]  # no field of it
    if name == story_of(first.key):
        return [tuple(changes)]
    other = [each for each in changes if each.key.endswith(".name")]  # another GPU in its place: all else follows
    return [(*other, *(each for each in changes if each not in other))] if other else [(each,) for each in changes]


def _explained(having: Report, lacking: Report, changes: tuple[Change, ...]) -> tuple[Explained, ...]:
    """Give the findings of one report that the other does not have, the worst first."""
    known = {each.key for each in lacking.active}
    found = [Explained(each, because(each, changes)) for each in having.active if each.key not in known]
    return tuple(sorted(found, key=lambda each: each.finding.severity.rank if each.finding.severity else 9))


def because(finding: Finding, changes: tuple[Change, ...]) -> tuple[str, ...]:
    """Name the changes that a finding rests on: its evidence is one of them, or a row of the list that changed."""
    words = " ".join((finding.subject, finding.title, *(f"{each.label} {each.value}" for each in finding.evidence)))
    facts = {_key_of(each.fact) for each in finding.evidence}
    exact = [each.key for each in changes if any(each.key == key or each.key.startswith(f"{key}.") for key in facts)]
    rows = [each.key for each in changes if _field_of(each.key) in facts and each.key not in exact]
    named = [key for key in rows if key.split(".")[1] in words]
    return (*exact, *(named or (rows if len(rows) <= _FEW else ())))


def _key_of(evidence: str) -> str:
    """Give the key that a finding's evidence names: ``gpu_state.gpus[0].name`` -> ``gpu.0.name``."""
    match = _ROW.fullmatch(evidence)
    rows = ROWS.get(match.group(1)) if match else None
    return f"{rows.name}.{match.group(2)}{match.group(3)}" if match and rows else evidence


def _field_of(key: str) -> str:
    """Give the field of a fact that a row belongs to: ``package.numpy`` -> ``packages.distributions``."""
    return _FIELD_OF.get(key.partition(".")[0], "")
