"""The verdict of a single rate: physics first, then steadiness, then the reference; without one it is unknown."""

from __future__ import annotations

import pytest

from envdoctor.bench.limits import Limit, of_link, of_memory, of_product
from envdoctor.bench.statistics import Summary, summarize
from envdoctor.bench.verdict import Doubt, Expected, Verdict, judge
from envdoctor.knowledge.specs import match

A100 = match("NVIDIA A100-SXM4-80GB").spec
REFERENCE = Expected(264.5, "somebody@1", floor=200.0)
AT_BOOST = of_product(A100, "bf16", clock_mhz=1380, highest_mhz=1410)


def rate(value: float, spread: float = 0.002) -> Summary:
    """Make the summary of a steady rate, or of one that spreads."""
    found = summarize([value * (1 + spread * (n - 10) / 10) for n in range(21)])
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (262.0, Verdict.OK),
        (251.3, Verdict.OK),
        (251.2, Verdict.LOW),
        (225.0, Verdict.LOW),
        (224.7, Verdict.BAD),
        (100.0, Verdict.BAD),
        (311.0, Verdict.OK),
        (327.0, Verdict.OK),
        (328.0, Verdict.IMPOSSIBLE),
        (620.0, Verdict.IMPOSSIBLE),
    ],
)
def test_bounds(value: float, verdict: Verdict) -> None:
    """Healthy from 95 %, low from 85 %, bad below; impossible above 1.05 of the peak at the highest clock, 312."""
    assert verdict is judge(rate(value), AT_BOOST, REFERENCE).verdict


def test_without_a_reference_it_is_unknown_and_physics_still_holds() -> None:
    """No reference is no guess; a rate that no clock allows is impossible all the same."""
    assert Verdict.UNKNOWN is judge(rate(50.0), AT_BOOST, None).verdict
    assert Verdict.IMPOSSIBLE is judge(rate(400.0), AT_BOOST, None).verdict
    assert "this is a CPU" == judge(rate(0.1), Limit(), None, without="this is a CPU").reason


def test_without_known_clocks_the_reference_bounds() -> None:
    """Where the clock is not known, more than 1.2 of the reference is not believed."""
    assert Verdict.OK is judge(rate(310.0), Limit(peak=312.0), REFERENCE).verdict
    assert Verdict.IMPOSSIBLE is judge(rate(320.0), Limit(peak=312.0), REFERENCE).verdict


def test_a_noisy_run_is_ambiguous() -> None:
    """More than 2 % between the quartiles cannot be judged; no noise explains half the speed."""
    noisy = judge(rate(250.0, spread=0.08), AT_BOOST, REFERENCE)
    assert Verdict.AMBIGUOUS is noisy.verdict
    assert "spread by 8.0%" in noisy.reason
    assert Verdict.BAD is judge(rate(130.0, spread=0.08), AT_BOOST, REFERENCE).verdict


def test_moving_clocks_are_ambiguous() -> None:
    """A clock that fell while it was measured makes a low rate ambiguous, and the words say what moved."""
    found = judge(rate(230.0), AT_BOOST, REFERENCE, Doubt(unsteady="the clock moved between 900 and 1410 MHz"))
    assert (Verdict.AMBIGUOUS, True) == (found.verdict, "900 and 1410 MHz" in found.reason)


def test_a_shared_gpu_is_not_blamed() -> None:
    """Somebody else's program explains any loss: half the speed is ambiguous then, and full speed is still ok."""
    shared = Doubt(shared="another program was on the GPU (process 7)")
    assert Verdict.AMBIGUOUS is judge(rate(130.0), AT_BOOST, REFERENCE, shared).verdict
    assert Verdict.OK is judge(rate(262.0), AT_BOOST, REFERENCE, shared).verdict


def test_a_wrong_result_has_no_speed() -> None:
    """A product that is wrong is not judged by its rate."""
    found = judge(rate(262.0), AT_BOOST, REFERENCE, Doubt(wrong="the result is wrong"))
    assert (Verdict.IMPOSSIBLE, "the result is wrong") == (found.verdict, found.reason)


def test_the_vendors_floor_is_bad() -> None:
    """Below the vendor's own floor is bad, even where other people's runs would allow it."""
    expected = Expected(200.0, "somebody@1", floor=195.0)
    assert Verdict.BAD is judge(rate(194.0), Limit(), expected).verdict
    assert Verdict.OK is judge(rate(196.0), Limit(), expected).verdict


def test_nothing_measured() -> None:
    """No samples give unknown."""
    assert Verdict.UNKNOWN is judge(None, AT_BOOST, REFERENCE).verdict


def test_product_limits() -> None:
    """Peak of the data sheet, at the measured clock and at the highest one: 108 SMs x 2048 x MHz."""
    assert 312.0 == AT_BOOST.peak
    assert (305.2, 311.9) == (round(AT_BOOST.clock_peak or 0, 1), round(AT_BOOST.most or 0, 1))
    assert 84.8 == round(AT_BOOST.percent_of_peak(264.5) or 0, 1)
    assert Limit() == of_product(None, "bf16", clock_mhz=1410)
    assert 44.2 == round(of_product(A100, "bf16", sms=14, clock_mhz=1540).clock_peak or 0, 1)


def test_memory_and_link_limits() -> None:
    """An A100's memory by its own clock and bus width, and a PCIe link by generation and width."""
    found = of_memory(A100, memory_clock_mhz=1593, bus_bits=5120)
    assert (2039.0, 2039.04) == (found.peak, round(found.clock_peak or 0, 2))
    assert (31.5, 15.8) == (round(of_link(4, 16).most or 0, 1), round(of_link(4, 8).most or 0, 1))
    assert Limit() == of_link(None, 16)
