"""Medians, quartiles and the comparison of two series of samples: what may be said, and when nothing may be said.

Two runs are compared as NVIDIA's nvbench does (docs/nvbench_compare_robust.md): by intervals, not by medians alone,
and a difference that the clock explains is none of the software's.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SAME_WITHIN = 0.005  # of the centre
APART_BY = 0.005  # between two intervals
OVERLAP = 0.5  # of the shorter interval
STEADY = 0.02  # interquartile range over median
FEWEST = 5


@dataclass(frozen=True, slots=True)
class Summary:
    """A series of samples, in the unit of the samples."""

    n: int
    minimum: float
    q1: float
    median: float
    q3: float
    maximum: float

    @property
    def spread(self) -> float:
        """The interquartile range over the median: 0.01 is one percent."""
        return (self.q3 - self.q1) / self.median if self.median else 0.0


def summarize(samples: Sequence[float]) -> Summary | None:
    """Give median, quartiles and extremes; None when there is no sample.

    Quartiles are interpolated between order statistics, as numpy's default is.
    """
    if not samples:
        return None
    ordered = sorted(samples)
    q1, median, q3 = (_quantile(ordered, share) for share in (0.25, 0.5, 0.75))
    return Summary(len(ordered), ordered[0], q1, median, q3, ordered[-1])


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


class Change(str, enum.Enum):
    """What may be said of a second series against a first."""

    SAME = "same"
    FASTER = "faster"
    SLOWER = "slower"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a second series of seconds stands against a first: ``speedup`` above 1 means that the second is faster.

    ``lowest`` and ``highest`` bound the speedup by the ends of both intervals. ``by_clock``: what the samples say by
    themselves, where the clock explains it.
    """

    change: Change
    speedup: float | None
    lowest: float | None = None
    highest: float | None = None
    reason: str = ""
    by_clock: Change | None = None

    @property
    def differs(self) -> bool:
        """Tell whether a difference was measured."""
        return self.change in {Change.FASTER, Change.SLOWER}


def compare(
    before: Sequence[float],
    after: Sequence[float],
    *,
    clock_before: float | None = None,
    clock_after: float | None = None,
) -> Comparison:
    """Compare two series of seconds for the same work; clocks in MHz, where they were measured beside.

    faster or slower: the intervals from minimum to third quartile lie at least 0.5 % apart, in time and, where the
    clocks are known, in clock cycles. same: centres within 0.5 %, half of the shorter interval shared, both steady.
    Anything else is ambiguous.
    """
    first, second = summarize(before), summarize(after)
    if first is None or second is None:
        return Comparison(Change.AMBIGUOUS, None, reason="one of the two was not measured")
    if min(first.median, second.median) <= 0 or min(first.minimum, second.minimum) <= 0:
        return Comparison(Change.AMBIGUOUS, None, reason="a sample of no duration cannot be compared")
    change, reason = _change(first, second)
    by_clock = None
    clocks = (clock_before, clock_after) if clock_before and clock_after else (1.0, 1.0)
    if change in {Change.FASTER, Change.SLOWER} and _apart(first, second, clocks[1] / clocks[0]) is not change:
        said = "{:.0f} MHz against {:.0f} MHz".format(*clocks)
        change, reason, by_clock = Change.AMBIGUOUS, f"the clock explains the difference: {said}", change
    bounds = first.minimum / second.q3, first.q3 / second.minimum
    return Comparison(change, first.median / second.median, *bounds, reason, by_clock)


def _change(first: Summary, second: Summary) -> tuple[Change, str]:
    if min(first.n, second.n) < FEWEST:
        return Change.AMBIGUOUS, f"fewer than {FEWEST} samples"
    in_time = _apart(first, second, 1.0)
    if in_time is not None:
        return in_time, ""
    if _same(first, second):
        return Change.SAME, ""
    worst = max(first.spread, second.spread)
    if worst > STEADY:
        return Change.AMBIGUOUS, f"the samples spread by {worst:.1%}, more than the difference"
    return Change.AMBIGUOUS, "the samples neither part nor agree"


def _apart(first: Summary, second: Summary, cycles: float) -> Change | None:
    """Tell on which side the second interval lies when both are far enough apart; ``cycles`` scales the second."""
    begins, ends = second.minimum * cycles, second.q3 * cycles
    if ends * (1 + APART_BY) < first.minimum:
        return Change.FASTER
    if begins > first.q3 * (1 + APART_BY):
        return Change.SLOWER
    return None


def _same(first: Summary, second: Summary) -> bool:
    centre = abs(first.median - second.median) / max(first.median, second.median) <= SAME_WITHIN
    shared = min(first.q3, second.q3) - max(first.minimum, second.minimum)
    shorter = min(first.q3 - first.minimum, second.q3 - second.minimum)
    return centre and max(first.spread, second.spread) <= STEADY and shared >= OVERLAP * shorter
