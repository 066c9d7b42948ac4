"""The ladder's rows on a CPU that others use as well, where waiting explains differences; and what a rate is of."""

from __future__ import annotations

from pathlib import Path

import pytest
from envdoctor_probes.bench.stopwatch import waiting_seconds

from envdoctor.bench.ladder import Rung, fastest, rungs, running, worth_most
from envdoctor.bench.machine import machine_of
from envdoctor.bench.rates import rate_of
from envdoctor.facts.bench import BenchLadder, LadderRow, Measured
from tests.bench_machines import cards


def row(step: str, previous: str, seconds: float, waited: float | None) -> LadderRow:
    """Make a row of ten steady samples; ``waited``: the share of the time in which others had the CPU."""
    samples = tuple(seconds * (1 + 0.002 * (n % 3)) for n in range(10))
    total = None if waited is None else waited * sum(samples)
    measured = Measured("train-step", "ladder", seconds=samples, work=1.0, work_unit="image", waited_seconds=total)
    return LadderRow(step, previous=previous, measured=measured)


def climbed(first: tuple[float, float | None], second: tuple[float, float | None]) -> tuple[Rung, ...]:
    """Compare two rows, each of seconds a step and the share that was waited."""
    made = BenchLadder(rows=(row("default", "", *first), row("fused-optimizer", "default", *second)))
    return rungs(machine_of(cards.cpu().device, None), made)


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ((0.78, 0.7), (0.24, 0.02), "ambiguous"),  # a neighbour had the CPU during the first row
        ((0.24, 0.02), (0.78, 0.7), "ambiguous"),
        ((0.40, 0.5), (0.30, 0.5), "faster"),  # both were disturbed alike
        ((0.40, 0.0), (0.30, 0.0), "faster"),
        ((0.30, 0.05), (0.40, 0.06), "slower"),
        ((0.78, None), (0.24, None), "faster"),  # a kernel that does not tell
    ],
)
def test_what_waiting_explains_is_no_difference(
    first: tuple[float, float | None], second: tuple[float, float | None], verdict: str
) -> None:
    """As a GPU's clocks do, the time that other programs left bears out a difference or explains it."""
    found = climbed(first, second)
    assert verdict == found[1].verdict
    faster = verdict == "faster"
    assert ("fused-optimizer" if faster else "default") == (fastest(found) or found[0]).step
    assert faster is (worth_most(found) is not None)


def test_who_had_the_cpu_is_said() -> None:
    """The row that is not blamed names both shares."""
    said = climbed((0.78, 0.7), (0.24, 0.02))[1].reason
    assert "other programs had the CPU for 70% of the row before and 2% of this one: that explains it" == said


def test_several_threads_may_wait_longer_than_it_took() -> None:
    """Their waiting is added up: the share that is left never falls to nothing."""
    assert [0.01, 1.0] == [running(Measured(seconds=(1.0,), waited_seconds=each)) for each in (1.7, None)]


def test_waiting_is_added_up_over_threads(tmp_path: Path) -> None:
    """Nanoseconds from each thread's schedstat; a kernel without it says nothing."""
    for thread, text in (("11", "5000 250000000 7\n"), ("12", "9 1250000000 3\n")):
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "schedstat").write_text(text)
    assert 1.5 == waiting_seconds(str(tmp_path))
    (tmp_path / "12" / "schedstat").write_text("")
    assert waiting_seconds(str(tmp_path)) is None
    assert waiting_seconds(str(tmp_path / "nothing")) is None


@pytest.mark.parametrize(
    ("unit", "work", "value", "named"),
    [
        ("call", 1.0, 1e6, "us"),
        ("call", 200.0, 5e3, "us"),
        ("sample", 3.0, 3.0, "samples/s"),
        ("image", 2, 2, "images/s"),
    ],
)
def test_a_rate_is_of_one_call_and_of_all_samples(unit: str, work: float, value: float, named: str) -> None:
    """Two hundred launches in one go are two hundred calls; a user's own samples are counted as images are."""
    rate = rate_of(Measured(seconds=(1.0,) * 5, work=work, work_unit=unit))
    assert (value, named) == (rate.value, rate.unit)
