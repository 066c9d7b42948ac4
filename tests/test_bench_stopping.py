"""When enough is measured: arithmetic over samples, and options that cannot be used."""

from __future__ import annotations

import statistics

import pytest
from envdoctor_probes.bench.stopping import CPU_RULE, GPU_RULE, Rule, quartiles, spread
from envdoctor_probes.bench.stopwatch import in_turn, repeats_for
from envdoctor_probes.bench.wanted import Deadline, Wanted
from hypothesis import given
from hypothesis import strategies as some

from envdoctor import plan

STEADY = (0.1,) * 20
NOISY = (0.1, 0.2) * 10


@given(some.lists(some.floats(1e-6, 1e3), min_size=2, max_size=50))
def test_quartiles_are_those_of_the_standard_library(samples: list[float]) -> None:
    """q1, median and q3 are interpolated between neighbours, as everybody's inclusive method does."""
    assert quartiles(samples) == pytest.approx(statistics.quantiles(samples, n=4, method="inclusive"))


def test_there_are_no_quartiles_of_nothing() -> None:
    """No samples have no median, and not zero."""
    with pytest.raises(ValueError, match="no samples"):
        quartiles(())


def test_spread_is_the_middle_half_over_the_median() -> None:
    """IQR / median; one wild sample does not count."""
    assert (0.0, 0.5) == (spread((1.0, 1.0, 1.0, 1.0, 99.0)), spread((3.0, 4.0, 5.0)) * 2)


@pytest.mark.parametrize(
    ("samples", "elapsed", "left", "exhausted", "said"),
    [
        (STEADY, 2.0, 9.0, False, "steady"),
        (STEADY[:19], 2.0, 9.0, False, ""),
        (NOISY, 3.0, 9.0, False, ""),
        (NOISY, 10.0, 9.0, False, "noisy"),
        (NOISY, 3.0, 0.0, False, "noisy"),
        (STEADY[:6], 0.6, 0.0, False, "budget"),
        (STEADY[:4], 0.4, 0.0, False, ""),
        (STEADY[:1], 0.4, 0.0, True, "budget"),
    ],
)
def test_the_rule_of_a_gpu(samples: tuple[float, ...], elapsed: float, left: float, exhausted: bool, said: str) -> None:
    """20 samples and half a second with a spread of 1 %; a few samples may overdraw a share of the time."""
    assert said == GPU_RULE.verdict(samples, elapsed, left, exhausted=exhausted)


def test_a_cpu_has_no_gate_for_its_spread() -> None:
    """On a CPU five samples are enough, however far apart they lie."""
    found = [CPU_RULE.verdict(NOISY[:number], 1.0, 9.0, exhausted=False) for number in (4, 5)]
    assert ["", "fixed-count"] == found


def test_samples_are_never_without_end() -> None:
    """An operation that never becomes steady stops by number as well."""
    assert "noisy" == Rule(most_seconds=1e9).verdict(NOISY * 1000, 1.0, 9.0, exhausted=False)


def test_short_operations_are_timed_together() -> None:
    """A sample is long enough for the clock; a long operation is timed by itself."""
    assert (1, 11) == (repeats_for(2e-3, 1e-3), repeats_for(1e-4, 1e-3))


def test_operations_take_turns() -> None:
    """Each call runs the next one, and after the last the first."""
    called: list[int] = []
    operation = in_turn([lambda: called.append(1), lambda: called.append(2), lambda: called.append(3)])
    for _ in range(4):
        operation()
    assert [1, 2, 3, 1] == called


def test_a_part_of_the_time_may_be_overdrawn_and_the_whole_may_not() -> None:
    """A part is exhausted when the whole is, or when it was overdrawn by far."""
    assert (False, True) == (Deadline(60.0).part(10).exhausted, Deadline(0.0).part(10).exhausted)
    assert (True, True) == (Deadline(0.0).exhausted, Deadline(60.0, Deadline(0.0)).exhausted)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"budget": "fast"}, "budget is 'fast', expected one of quick, default, full"),
        ({"batch": 0}, "batch is 0, expected 1 or more"),
        ({"memory_fraction": 1.5}, "memory_fraction is 1.5"),
        ({"modle": "vit_b16"}, r"options\['bench'\] has no modle"),
    ],
)
def test_options_that_cannot_be_used_are_named(options: dict[str, object], words: str) -> None:
    """The words name the value and what was expected."""
    with pytest.raises(ValueError, match=words):
        Wanted.of({"bench": options})


def test_options_that_are_not_given_have_their_defaults() -> None:
    """None is the same as not given."""
    assert Wanted() == Wanted.of({}) == Wanted.of({"bench": {"batch": None, "model": None}})


def test_suites_share_the_time_of_a_budget() -> None:
    """The shares of the chosen suites together are the budget, whichever they are."""
    for chosen in (plan.DEFAULT_SUITES, plan.SUITES, ("gemm",)):
        assert plan.BUDGETS["quick"] == pytest.approx(sum(plan.shares(chosen, "quick").values()))


def test_a_benchmark_measures_the_suites_in_their_order() -> None:
    """The clocks run beside, the device comes first, then one suite after the other, alone."""
    planned = plan.bench(("memory", "gemm"))
    assert ["bench-clocks", "bench-device", "bench-memory", "bench-gemm"] == [each.name for each in planned]
    assert [True, False, False, False] == [each.beside for each in planned]
    assert [False, True, True, True] == [each.alone for each in planned]


def test_models_are_the_same_on_both_sides() -> None:
    """The doctor lists the models that the patient's side knows."""
    from envdoctor_probes.bench.recipes import NAMES

    assert tuple(plan.MODELS) == NAMES
