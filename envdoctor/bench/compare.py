"""Two benchmarks side by side: host against container, yesterday against today; and the facts that may explain it.

A difference counts when it was measured: ambiguous is said to be ambiguous. Facts that differ are ranked by what the
ladder measured them to be worth, and those that no row measured come after them, as leads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from envdoctor.bench.rates import rate_of
from envdoctor.bench.statistics import Change, Comparison
from envdoctor.bench.statistics import compare as compare_seconds
from envdoctor.bench.worth import Worth, worth

if TYPE_CHECKING:
    from envdoctor.bench.machine import Machine
    from envdoctor.bench.result import Result
    from envdoctor.facts.bench import Measured

ABSENT = None
NOISE = ("bench_", "probe.")  # measurements are compared by themselves
WORDS = frozenset({"best_of"})
LEADS = ("torch_build.", "torch_settings.", "variable.", "package.torch", "package.nvidia-", "gpu.", "kernel_module.",
         "resources.", "torch_cuda.", "cuda_driver.", "libraries.", "library.")  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """One measurement, or one row of the ladder, in both results. Values in ``unit``; None: not measured there."""

    kind: str  # measurement or ladder
    name: str
    precision: str
    config: dict[str, str]
    unit: str
    before: float | None
    after: float | None
    found: Comparison


@dataclass(frozen=True)
class Differing:
    """A fact that differs, its two values (None: not there), and what that was measured to be worth."""

    key: str
    before: Any
    after: Any
    worth: Worth | None


@dataclass(frozen=True)
class Difference:
    """What differs between two benchmarks."""

    before: Result
    after: Result
    pairs: tuple[Pair, ...]
    facts: tuple[Differing, ...]

    @property
    def changed(self) -> tuple[Pair, ...]:
        """Give what was measured to be faster or slower, the largest difference first."""
        found = [each for each in self.pairs if each.found.differs]
        return tuple(sorted(found, key=lambda each: -_size(each.found.speedup)))

    @property
    def slower(self) -> tuple[Pair, ...]:
        """Give what became slower."""
        return tuple(each for each in self.changed if each.found.change is Change.SLOWER)

    def count(self, change: Change) -> int:
        """Count the pairs of which this may be said."""
        return sum(each.found.change is change for each in self.pairs)


def _size(speedup: float | None) -> float:
    return max(speedup, 1 / speedup) if speedup else 1.0


def compare(before: Result, after: Result) -> Difference:
    """Compare two results measurement by measurement, and their facts key by key."""
    return Difference(before, after, (*_ladders(before, after), *_measurements(before, after)), _facts(before, after))


Key = tuple[str, str, str, tuple[tuple[str, str], ...]]


def _measurements(before: Result, after: Result) -> list[Pair]:
    first, second = _by_key(before), _by_key(after)
    return [_pair(key, first[key], second[key], before, after) for key in first if key in second]


def _by_key(result: Result) -> dict[Key, Measured]:
    found: dict[Key, Measured] = {}
    for each in result.judgements:
        if each.measured.seconds and each.name == each.measured.name:
            config = tuple(sorted((k, v) for k, v in each.config.items() if k not in WORDS))
            found.setdefault((each.measured.suite, each.name, each.measured.precision, config), each.measured)
    return found


def _pair(key: Key, first: Measured, second: Measured, before: Result, after: Result) -> Pair:
    _suite, name, precision, config = key
    found = compare_seconds(
        first.seconds, second.seconds, clock_before=_clock(before, first), clock_after=_clock(after, second)
    )
    if first.label != second.label:  # a card that was heated before has another clock by that alone
        found = replace(found, by_clock=None)
    rates = rate_of(first), rate_of(second)
    return Pair("measurement", name, precision, dict(config), rates[0].unit, rates[0].value, rates[1].value, found)


def _ladders(before: Result, after: Result) -> list[Pair]:
    """Compare the ladders row by row, by the seconds of one image: the batches may differ."""
    ladders = [{each.step: each for each in result.run.rungs} if result.run else {} for result in (before, after)]
    pairs = []
    for step, first in ladders[0].items():
        second = ladders[1].get(step)
        if second is None or not (first.images_per_second and second.images_per_second):
            continue
        one, other = first.row.measured, second.row.measured
        found = compare_seconds(
            _each(one), _each(other), clock_before=_clock(before, one), clock_after=_clock(after, other)
        )
        values = first.images_per_second, second.images_per_second
        pairs.append(Pair("ladder", step, one.precision, {}, f"{one.work_unit}s/s", *values, found))
    return pairs


def _each(measured: Measured) -> tuple[float, ...]:
    return tuple(seconds / measured.work for seconds in measured.seconds) if measured.work else ()


def _clock(result: Result, measured: Measured) -> float | None:
    machine: Machine | None = result.run.machine if result.run else None
    return machine.window(measured).sm_mhz if machine else None


def _facts(before: Result, after: Result) -> tuple[Differing, ...]:
    """Give the facts that differ: first what the ladder measured, by size, then what often matters, then the rest."""
    from envdoctor.compare import flatten

    first, second = flatten(before.report.snapshot), flatten(after.report.snapshot)
    ladders = tuple(result.run.rungs for result in (before, after) if result.run)
    found = [
        Differing(key, first.get(key), second.get(key), worth(key, *ladders))
        for key in sorted({*first, *second})
        if not key.startswith(NOISE) and first.get(key) != second.get(key)
    ]
    return tuple(sorted(found, key=_rank))


def _rank(each: Differing) -> tuple[bool, float, int, str]:
    lead = next((place for place, begin in enumerate(LEADS) if each.key.startswith(begin)), len(LEADS))
    return (each.worth is None, -(each.worth.size if each.worth else 0.0), lead, each.key)
