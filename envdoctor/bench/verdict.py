"""One verdict a measurement, with its reason: ok, low, bad, impossible, unknown or ambiguous.

Three tests, each of its own kind: can it be true at all, is it steady enough to be judged, and how far is it from
what this GPU is known to give. Without a reference the answer is ``unknown``, never a guess.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envdoctor.bench.statistics import STEADY

if TYPE_CHECKING:
    from envdoctor.bench.limits import Limit
    from envdoctor.bench.statistics import Summary

OK_FROM, LOW_FROM = 0.95, 0.85  # of the reference
BEYOND_CLOCK, BEYOND_REFERENCE = 1.05, 1.2


class Verdict(str, enum.Enum):
    """What a measurement is worth."""

    OK = "ok"
    LOW = "low"
    BAD = "bad"
    IMPOSSIBLE = "impossible"
    UNKNOWN = "unknown"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict and why."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class Expected:
    """What this device is known to give: the median of references, where from, and a vendor's floor."""

    value: float
    source: str
    conditions: str = ""
    floor: float | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Doubt:
    """What speaks against a measurement: the first that holds decides.

    ``wrong``: the result itself is wrong. ``untrue``: something shows that what was timed is not what is claimed.
    ``shared``: something else used the device meanwhile, so that a low rate proves nothing.
    ``unsteady``: why the conditions changed while it ran, such as clocks that fell.
    """

    wrong: str = ""
    untrue: str = ""
    shared: str = ""
    unsteady: str = ""


def judge(
    rate: Summary | None,
    limit: Limit,
    expected: Expected | None,
    doubt: Doubt | None = None,
    *,
    without: str = "no reference for this device and precision",
) -> Judged:
    """Judge a rate (more is better) by what speaks against it, by physics, by its steadiness and by its reference.

    ``without`` says why there is no reference, where there is none.
    """
    doubt = doubt or Doubt()
    if rate is None:
        return Judged(Verdict.UNKNOWN, "it was not measured")
    if doubt.wrong or doubt.untrue:
        return Judged(Verdict.IMPOSSIBLE, doubt.wrong or doubt.untrue)
    too_fast = _too_fast(rate.median, limit, expected)
    if too_fast:
        return Judged(Verdict.IMPOSSIBLE, too_fast)
    return _against(rate, expected, doubt, without)


def _too_fast(value: float, limit: Limit, expected: Expected | None) -> str:
    """Say why a value cannot be true. A bound by physics decides where there is one, else other people's runs."""
    if limit.most is not None:
        beyond = value / limit.most
        return f"{beyond - 1:.0%} above what the hardware can do at its clock" if beyond > BEYOND_CLOCK else ""
    if expected is not None and value > BEYOND_REFERENCE * expected.value:
        return f"{value / expected.value:.2f} times the reference: what was timed is not what is claimed"
    return ""


def _against(rate: Summary, expected: Expected | None, doubt: Doubt, without: str) -> Judged:
    unsteady = _unsteady(rate, doubt)
    if expected is None:
        said = "; ".join(filter(None, (without, doubt.shared or unsteady)))
        return Judged(Verdict.UNKNOWN, said)
    share = rate.median / expected.value
    said = f"{share:.0%} of the reference"
    if doubt.shared and share < OK_FROM:
        return Judged(Verdict.AMBIGUOUS, f"{said}, but {doubt.shared}")
    if unsteady and not _certainly_slow(rate, expected):
        return Judged(Verdict.AMBIGUOUS, f"{said}, but {unsteady}")
    if expected.floor is not None and rate.median < expected.floor:
        return Judged(Verdict.BAD, f"{said}, below the vendor's floor of {expected.floor:g}{_behind(unsteady)}")
    if share < LOW_FROM:
        return Judged(Verdict.BAD, f"{said}{_behind(unsteady)}")
    return Judged(Verdict.OK if share >= OK_FROM else Verdict.LOW, said)


def _unsteady(rate: Summary, doubt: Doubt) -> str:
    if rate.spread > STEADY:
        return f"the samples spread by {rate.spread:.1%} (at most {STEADY:.0%} can be judged)"
    return doubt.unsteady


def _certainly_slow(rate: Summary, expected: Expected) -> bool:
    """Tell whether even the fast side of the samples, and the spread once more, stays below what is bad."""
    return rate.q3 * (1 + rate.spread) < LOW_FROM * expected.value


def _behind(unsteady: str) -> str:
    return f"; {unsteady}, which does not explain it" if unsteady else ""
