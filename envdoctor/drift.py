"""drift_from(baseline or lock, snapshot) -> Drift: how far a machine is from what was kept or agreed on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envdoctor.compare import flatten
from envdoctor.compare.pair import Change, changed, in_stories, same_machine
from envdoctor.compare.subjects import facts_of, rank_of, subject_of
from envdoctor.compare.traits import OWN, SETTLED
from envdoctor.facts.drift import Drift, Drifted, Slowed
from envdoctor.lock import EXACT, fits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from envdoctor.bench.compare import Difference
    from envdoctor.lock import Lock
    from envdoctor.snapshot import Snapshot

PUT_TOGETHER = frozenset(("required", "drift"))  # facts that nobody collected
FAR_LOWER = 0.95  # of the speed that was: a clock wanders by less with the temperature of the room
OPEN_TABLES = ("package", "variable")  # tables in which a strict lock allows nothing beyond what it names


def from_baseline(
    then: Snapshot, now: Snapshot, source: str, *, strict: bool = False, speeds: Difference | None = None
) -> Drift:
    """Compare with a snapshot; its own facts (serial numbers, paths) too where it is of the same machine."""
    traits = (SETTLED, OWN) if same_machine(then, now) else (SETTLED,)
    changes = sorted((each for t in traits for each in changed(then, now, t)), key=lambda each: rank_of(each.key))
    both = (set(then.facts) & set(now.facts)) - PUT_TOGETHER
    one_sided = sorted((set(then.facts) ^ set(now.facts)) - PUT_TOGETHER)
    compared = len([key for key in flatten(then, traits) if set() < facts_of(key) <= both])
    rows = tuple(_story(each) for each in in_stories(changes))
    drift = Drift(
        source=source, kind="baseline", saved=then.created, strict=strict, compared=compared, rows=rows,
        not_compared=tuple(one_sided),
    )  # fmt: skip
    return _with_speeds(drift, speeds) if speeds else drift


def _story(changes: Sequence[Change]) -> Drifted:
    lead = changes[0]
    also = tuple(each.key for each in changes if each.key != lead.key)
    key = lead.key.rstrip(".")
    return Drifted(key, lead.about, _words(lead.before), _words(lead.after), EXACT, also)


def from_lock(lock: Lock, now: Snapshot, *, strict: bool = False) -> Drift:
    """Compare with a lock file: what it names, by its tolerances. ``strict``: exactly, and nothing beyond it."""
    flat = flatten(now)
    asked = {key: value for key, value in lock.values.items() if facts_of(key) <= now.facts.keys()}
    rows = [
        Drifted(key, subject_of(key), _words(value), _words(flat.get(key)), tolerance)
        for key, value in asked.items()
        if not fits(key, value, flat.get(key), tolerance := EXACT if strict else lock.tolerance_of(key))
    ]
    if strict:
        rows += [Drifted(key, subject_of(key), None, _words(flat[key])) for key in _beyond(lock, flat)]
    left = sorted({fact for key in lock.values for fact in facts_of(key)} - now.facts.keys())
    return Drift(
        source=lock.source, kind="lock", strict=strict, compared=len(asked), not_compared=tuple(left),
        rows=tuple(sorted(rows, key=lambda each: rank_of(each.key))),
    )  # fmt: skip


def _beyond(lock: Lock, flat: Iterable[str]) -> list[str]:
    tables = {key.partition(".")[0] for key in lock.values} & {*OPEN_TABLES}
    return [key for key in flat if key.partition(".")[0] in tables and key not in lock.values]


def _words(value: Any) -> str | None:
    """Write a value down; a list as its parts."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else f"{value:g}"


def _with_speeds(drift: Drift, speeds: Difference) -> Drift:
    """Add what became slower. What is ambiguous is counted, and is no finding.

    A clock that is far lower than it was explains a speed, and excuses none: this machine gave more.
    """
    from dataclasses import replace

    from envdoctor.bench.statistics import Change as Speed

    at_lower_clock = [
        each for each in speeds.pairs
        if each.found.by_clock is Speed.SLOWER and (each.found.speedup or 1.0) < FAR_LOWER
    ]  # fmt: skip
    slower = tuple(
        Slowed(
            each.name, ", ".join((each.precision, *(f"{k} {v}" for k, v in sorted(each.config.items())))), each.unit,
            each.before, each.after, each.found.speedup, each.found.lowest, each.found.highest, each.found.reason,
        )
        for each in (*speeds.slower, *at_lower_clock)
    )  # fmt: skip
    ambiguous = speeds.count(Speed.AMBIGUOUS) - len(at_lower_clock)
    return replace(drift, measured=len(speeds.pairs), ambiguous=ambiguous, slower=slower)
