"""Why a rate of the card itself is low: what was sampled beside it, and never a flag that changed nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from envdoctor.bench import clocks

if TYPE_CHECKING:
    from envdoctor.bench.clocks import Window
    from envdoctor.bench.judgement import Judgement

OFTEN = 0.2  # of the looks
FULL_CLOCK = 0.9  # of the maximum: NVIDIA's cards do not hold their maximum under a product
AS_GOOD_AS_EVER = 0.93  # of the clock-normalised share that the reference stands for


@dataclass(frozen=True)
class Cause:
    """What holds a card back; ``kind`` is heat, hardware, power-limit, locked-clock or low-clock."""

    kind: str
    words: str


def of(found: Judgement) -> Cause | None:
    """Name what held the clock down while this was measured; None when the clock was as it should be, or is unknown."""
    window = found.window
    if window.sm_mhz is None:
        return None
    if window.share(*clocks.HEAT) >= OFTEN:
        heat = f" at {window.celsius:.0f} °C" if window.celsius is not None else ""
        return Cause("heat", f"the GPU slowed down for heat{heat}: {_clock(window)}")
    if window.share(*clocks.HARDWARE) >= OFTEN:
        reasons = " and ".join(window.held_back_by) or "a hardware slowdown"
        return Cause("hardware", f"{reasons} held the clock down: {_clock(window)}")
    return _of_low_clock(window) if _is_low(window) else None


def _of_low_clock(window: Window) -> Cause:
    if window.limit_lowered:
        limits = f"{window.limit_watts:.0f} W, and the card's default is {window.default_limit_watts:.0f} W"
        return Cause("power-limit", f"the power limit is set to {limits}: {_clock(window)}")
    if window.share(clocks.APPLICATION) >= OFTEN:
        return Cause("locked-clock", f"the clock is set by hand: {_clock(window)}")
    return Cause("low-clock", f"{_clock(window)}{_power(window)}")


def _is_low(window: Window) -> bool:
    return bool(window.sm_mhz and window.sm_max_mhz and window.sm_mhz < FULL_CLOCK * window.sm_max_mhz)


def _clock(window: Window) -> str:
    most = f" of {window.sm_max_mhz}" if window.sm_max_mhz else ""
    return f"{window.sm_mhz:.0f}{most} MHz"


def _power(window: Window) -> str:
    if window.watts is None or window.share(clocks.POWER_CAP) < OFTEN:
        return ""
    return f", at its power limit ({window.watts:.0f} W)"


def clock_explains(found: Judgement) -> bool:
    """Tell whether the rate is as good as the reference once both are taken at their clocks: only the clock is low.

    The reference is taken to have run at the clock that the data sheet's peak stands for.
    """
    here, expected = found.limit.percent_of_clock_peak(found.value), found.expected
    there = found.limit.percent_of_peak(expected.value) if expected else None
    return bool(here and there and here >= AS_GOOD_AS_EVER * there)


def in_words(found: Judgement) -> str:
    """Say why a card is slow as far as its clocks tell: the cause, how much of it, or that the clock was normal."""
    window, cause = found.window, of(found)
    if window.sm_mhz is None:
        return "Its clocks could not be read meanwhile, so heat and power are not excluded."
    if cause is None:
        return f"Its clock was normal meanwhile ({_clock(window)}): neither heat nor power explains it."
    share = found.limit.percent_of_clock_peak(found.value)
    at_clock = f" Of what that clock allows it reached {share:.0f} %." if share else ""
    whole = (
        " The clock explains all of it."
        if clock_explains(found)
        else " The clock does not explain it."
        if share
        else ""
    )
    return f"{cause.words[0].upper()}{cause.words[1:]}.{at_clock}{whole}"
