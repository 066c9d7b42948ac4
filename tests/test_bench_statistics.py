"""Medians, quartiles, and the comparison of two series: faster and slower only when it was measured."""

from __future__ import annotations

import random
import statistics

import pytest

from envdoctor.bench.statistics import Change, compare, summarize


def series(centre: float, spread: float = 0.002, n: int = 30, seed: int = 1) -> tuple[float, ...]:
    """Make samples around a centre, skewed to the slow side as durations are."""
    dice = random.Random(seed)
    return tuple(centre * (1 + abs(dice.gauss(0, spread))) for _ in range(n))


def test_quartiles_are_those_of_the_standard_library() -> None:
    """Median and quartiles agree with the inclusive method, which interpolates as numpy does."""
    samples = [random.Random(3).uniform(1, 9) for _ in range(37)]
    found = summarize(samples)
    assert found is not None
    assert statistics.quantiles(samples, n=4, method="inclusive") == pytest.approx([found.q1, found.median, found.q3])
    assert (37, min(samples), max(samples)) == (found.n, found.minimum, found.maximum)


def test_few_samples() -> None:
    """One sample is its own median; none have no summary."""
    found = summarize([2.5])
    assert found is not None
    assert (2.5, 2.5, 2.5, 0.0) == (found.q1, found.median, found.q3, found.spread)
    assert summarize([]) is None


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        (series(1.0), series(0.8), Change.FASTER),
        (series(1.0), series(1.3), Change.SLOWER),
        (series(1.0), series(1.0, seed=2), Change.SAME),
        (series(1.0), series(1.0005, seed=2), Change.SAME),
        (series(1.0), series(1.004, seed=2), Change.AMBIGUOUS),
        (series(1.0, spread=0.3), series(1.0, spread=0.3, seed=2), Change.AMBIGUOUS),
        (series(1.0, spread=0.3), series(0.9, spread=0.3, seed=2), Change.AMBIGUOUS),
        (series(1.0, spread=0.3), series(0.4, spread=0.3, seed=2), Change.FASTER),
        (series(1.0, n=4), series(0.5, n=4), Change.AMBIGUOUS),
        ((), series(0.5), Change.AMBIGUOUS),
        ((0.0,) * 9, series(0.5), Change.AMBIGUOUS),
    ],
)
def test_what_may_be_said(before: tuple[float, ...], after: tuple[float, ...], change: Change) -> None:
    """Apart is faster or slower, together and steady is the same, and anything else is ambiguous."""
    assert change is compare(before, after).change


def test_the_speedup_comes_with_its_bounds() -> None:
    """The speedup is that of the medians, within what the intervals allow; ambiguous has a reason."""
    found = compare(series(1.0), series(0.5))
    assert found.speedup == pytest.approx(2.0, rel=0.01)
    assert found.lowest is not None
    assert found.highest is not None
    assert found.lowest < found.speedup < found.highest
    unclear = compare(series(1.0, spread=0.3), series(0.9, spread=0.3, seed=2))
    assert "spread" in unclear.reason


def test_what_the_clock_explains_is_not_the_softwares() -> None:
    """Ten percent more time at a clock that is ten percent lower is the same number of cycles: ambiguous."""
    found = compare(series(1.0), series(1.1), clock_before=1410, clock_after=1282)
    assert found.change is Change.AMBIGUOUS
    assert "1410 MHz against 1282 MHz" in found.reason
    assert compare(series(1.0), series(1.5), clock_before=1410, clock_after=1282).change is Change.SLOWER


def test_both_directions_agree() -> None:
    """What is faster one way is slower the other way, and the same both ways."""
    turned = {Change.FASTER: Change.SLOWER, Change.SLOWER: Change.FASTER}
    for seed in range(40):
        dice = random.Random(seed)
        first = series(1.0, dice.choice([0.001, 0.02, 0.2]), seed=seed)
        second = series(dice.choice([0.7, 0.99, 1.0, 1.01, 1.4]), dice.choice([0.001, 0.02, 0.2]), seed=seed + 99)
        change = compare(first, second).change
        assert turned.get(change, change) is compare(second, first).change


def test_noise_alone_is_never_a_difference() -> None:
    """Two series from one distribution are practically never called different, however noisy they are."""
    wrong = 0
    for seed in range(300):
        spread = (0.001, 0.01, 0.1)[seed % 3]
        wrong += compare(series(1.0, spread, 20, seed), series(1.0, spread, 20, seed + 1000)).differs
    assert 0 == wrong
