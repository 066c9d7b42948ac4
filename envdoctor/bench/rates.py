"""From raw seconds to a rate in the unit that people use: TFLOPS, GB/s, images/s, or microseconds a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from envdoctor.bench.statistics import Summary, summarize

if TYPE_CHECKING:
    from envdoctor.facts.bench import Measured

TERA, GIGA, MICRO = 1e12, 1e9, 1e6
UNITS = {
    "flop": ("TFLOPS", TERA), "byte": ("GB/s", GIGA), "image": ("images/s", 1.0), "sequence": ("sequences/s", 1.0),
    "sample": ("samples/s", 1.0),
}  # fmt: skip
INTEGER = "int8"
CALL = "call"  # one operation may be many calls in one go


@dataclass(frozen=True, slots=True)
class Rate:
    """A measurement in its unit: the summary, and every sample. ``less_is_better`` for durations."""

    unit: str
    summary: Summary | None
    samples: tuple[float, ...]
    less_is_better: bool = False

    @property
    def value(self) -> float | None:
        """Give the median, or None when nothing was measured."""
        return self.summary.median if self.summary else None


def rate_of(measured: Measured) -> Rate:
    """Give a measurement's rate: its work over each of its samples; a call has a duration instead."""
    seconds = [each for each in measured.seconds if each > 0]
    unit, scale = UNITS.get(measured.work_unit, ("", 1.0))
    if not unit or measured.work <= 0:
        calls = measured.work if measured.work_unit == CALL and measured.work > 0 else 1.0
        samples = tuple(each * MICRO / calls for each in seconds)
        return Rate("us", summarize(samples), samples, less_is_better=True)
    if measured.precision == INTEGER and measured.work_unit == "flop":
        unit = "TOPS"
    samples = tuple(measured.work / each / scale for each in seconds)
    return Rate(unit, summarize(samples), samples)


def median(seconds: tuple[float, ...]) -> float | None:
    """Give the median of raw seconds, or None."""
    found = summarize(seconds)
    return found.median if found else None
