"""One measurement with everything that is said of it: rate, bounds, reference, verdict, and the clocks it ran at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from envdoctor.bench.clocks import Window
from envdoctor.bench.limits import Limit
from envdoctor.bench.rates import Rate, rate_of
from envdoctor.bench.verdict import Doubt, Expected, Judged, Verdict, judge

if TYPE_CHECKING:
    from envdoctor.bench.machine import Machine
    from envdoctor.facts.bench import Measured

MEASURED = "measured"
# A product in one of these rounds: against a higher precision it differs, unless its inputs were no random numbers.
ROUNDS = frozenset({"fp32", "tf32", "fp16", "bf16", "fp8"})


@dataclass(frozen=True)
class Judgement:
    """A measurement, judged. ``name`` and ``config`` are those of the measurement, or of the best of a set."""

    name: str
    measured: Measured
    rate: Rate
    judged: Judged
    limit: Limit = field(default_factory=Limit)
    expected: Expected | None = None
    window: Window = field(default_factory=Window)
    config: dict[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """Give the verdict."""
        return self.judged.verdict

    @property
    def value(self) -> float | None:
        """Give the median in the measurement's unit."""
        return self.rate.value

    @property
    def share_of_reference(self) -> float | None:
        """Give the value over the reference, or None."""
        return self.value / self.expected.value if self.value and self.expected else None


def judged(
    machine: Machine,
    measured: Measured,
    *,
    limit: Limit | None = None,
    expected: Expected | None = None,
    untrue: str = "",
    without: str = "",
) -> Judgement:
    """Judge one measurement. ``untrue``: what shows that something else was measured than is claimed."""
    rate, window = rate_of(measured), machine.window(measured)
    limit = limit or Limit()
    said = Judged(Verdict.UNKNOWN, _not_measured(measured))
    if measured.state == MEASURED:
        bounds = Limit() if rate.less_is_better else limit
        doubt = Doubt(_wrong(measured), untrue or _too_exact(measured), machine.shared_with, _moved(window))
        reason = machine.why_no_spec or without or "no reference for this device and precision"
        said = judge(rate.summary, bounds, expected, doubt, without=reason)
    return Judgement(
        measured.name, measured, rate, said, limit, expected, window, {k: str(v) for k, v in measured.config.items()}
    )


def _not_measured(measured: Measured) -> str:
    state = measured.state.replace("-", " ")
    return f"{state}: {measured.reason}" if measured.reason else state


def _wrong(measured: Measured) -> str:
    if measured.correct is not False:
        return ""
    error = f" (rms error {measured.rms_error:.2g})" if measured.rms_error is not None else ""
    return f"the result is wrong{error}: its speed means nothing"


def _too_exact(measured: Measured) -> str:
    if measured.suite == "gemm" and measured.rms_error == 0 and measured.precision in ROUNDS:
        return (
            "the product has no rounding error at all, so its inputs were no random numbers; zeros take less power, "
            "and a GPU is faster on them"
        )
    return ""


def _moved(window: Window) -> str:
    if not window.unsteady:
        return ""
    return f"the clock moved between {window.sm_lowest_mhz:.0f} and {window.sm_highest_mhz:.0f} MHz"
