"""The ladder: from a bare default to a tuned step, one change a row, each compared with the row it builds on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from envdoctor.bench.judgement import MEASURED
from envdoctor.bench.rates import median
from envdoctor.bench.statistics import Change, Comparison, compare

if TYPE_CHECKING:
    from envdoctor.bench.machine import Machine
    from envdoctor.facts.bench import BenchLadder, LadderRow, Measured

MILLI = 1e-3
START = "start"


@dataclass(frozen=True)
class Rung:
    """One row, compared. ``comparison`` is None for the first row, which has nothing below it."""

    row: LadderRow
    images_per_second: float | None
    step_seconds: float | None
    comparison: Comparison | None
    reason: str = ""

    @property
    def step(self) -> str:
        """Give the row's name."""
        return self.row.step

    @property
    def verdict(self) -> str:
        """Say what was measured against the row before: start, faster, slower, same, ambiguous or unknown."""
        if self.images_per_second is None:
            return "unknown"
        return START if self.comparison is None else self.comparison.change.value

    @property
    def speedup(self) -> float | None:
        """Give the speed over that of the row before; None where there is none."""
        return self.comparison.speedup if self.comparison else None


def rungs(machine: Machine, ladder: BenchLadder) -> tuple[Rung, ...]:
    """Compare each row with the one that it names as ``previous``."""
    by_name = {each.step: each for each in ladder.rows}
    return tuple(_rung(machine, each, by_name.get(each.previous)) for each in ladder.rows)


def _rung(machine: Machine, row: LadderRow, below: LadderRow | None) -> Rung:
    measured = row.measured
    seconds = median(measured.seconds) if measured.state == MEASURED else None
    if not seconds:
        state = measured.state.replace("-", " ")
        return Rung(row, None, None, None, f"{state}: {measured.reason}" if measured.reason else state)
    speed = measured.work / seconds if measured.work else None
    if below is None:
        return Rung(row, speed, seconds, None)
    found = _compared(machine, below.measured, measured)
    return Rung(row, speed, seconds, found, found.reason)


def _compared(machine: Machine, below: Measured, measured: Measured) -> Comparison:
    """Compare the seconds of an image: a row may have another batch than the one below.

    On a GPU the difference must show in clock cycles too, on a CPU in the time that other programs left.
    """
    if measured.waited_seconds is not None and below.waited_seconds is not None:
        return _besides_waiting(below, measured)
    return compare(
        _each(below),
        _each(measured),
        clock_before=machine.window(below).sm_mhz,
        clock_after=machine.window(measured).sm_mhz,
    )


def _besides_waiting(below: Measured, measured: Measured) -> Comparison:
    plain = compare(_each(below), _each(measured))
    before, after = running(below), running(measured)
    found = compare(_each(below), _each(measured), clock_before=before, clock_after=after)
    if found.change is plain.change:
        return found
    waits = f"{1 - before:.0%} of the row before and {1 - after:.0%} of this one"
    return replace(found, reason=f"other programs had the CPU for {waits}: that explains it")


def running(measured: Measured) -> float:
    """Give the share of the samples' time in which this process had its CPUs, 0.01 at the least; 1 where unknown."""
    took = sum(measured.seconds) * measured.repeats
    if not took or measured.waited_seconds is None:
        return 1.0
    return max(0.01, 1.0 - measured.waited_seconds / took)


def _each(measured: Measured) -> tuple[float, ...]:
    """Give the seconds of one image, sample by sample."""
    return tuple(seconds / measured.work for seconds in measured.seconds) if measured.work else ()


def climbed(found: tuple[Rung, ...]) -> tuple[Rung, ...]:
    """Give the rows of the climb that were measured, without those beside it."""
    return tuple(each for each in found if not each.row.beside and each.images_per_second)


def fastest(found: tuple[Rung, ...]) -> Rung | None:
    """Give the fastest row of the climb that was measured to be faster than its first one, else that one.

    Rows beside the climb show what is lost, or trade speed for memory.
    """
    start = first(found)
    better = [each for each in climbed(found) if start and _is_faster(start, each)]
    return max(better, key=lambda each: each.images_per_second or 0.0, default=start)


def _is_faster(start: Rung, rung: Rung) -> bool:
    """Tell whether the samples part; against the first row of all no clock is asked: precisions differ in power."""
    below, measured = start.row.measured, rung.row.measured
    waited = below.waited_seconds is not None and measured.waited_seconds is not None
    found = _besides_waiting(below, measured) if waited else compare(_each(below), _each(measured))
    return found.change is Change.FASTER


def first(found: tuple[Rung, ...]) -> Rung | None:
    """Give the row that the climb starts from: what a bare script gets here."""
    return next(iter(climbed(found)), None)


def worth_most(found: tuple[Rung, ...]) -> Rung | None:
    """Give the single change of the climb that was measured to bring most; None when none brought anything."""
    better = [each for each in climbed(found) if each.verdict == Change.FASTER.value and each.speedup]
    return max(better, key=lambda each: each.speedup or 0.0, default=None)


def named(found: tuple[Rung, ...], *words: str) -> Rung | None:
    """Give the first measured row whose name holds one of these words."""
    return next((each for each in found if each.images_per_second and any(word in each.step for word in words)), None)
