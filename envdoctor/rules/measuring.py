"""What the rules about measurements share: whom they judge, and how a measurement becomes evidence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from envdoctor.facts import Fact
from envdoctor.facts.bench import BenchClocks, BenchDevice
from envdoctor.finding import Evidence, see
from envdoctor.rule import NotApplicable, Unknown

if TYPE_CHECKING:
    from envdoctor.bench.judgement import Judgement
    from envdoctor.bench.machine import Machine


def measured_gpu(device: BenchDevice, clocks: BenchClocks | None) -> Machine:
    """Give the GPU that was measured; on a CPU the rule does not apply."""
    if device.kind != "cuda":
        raise NotApplicable("a CPU was measured: there is no reference for it")
    from envdoctor.bench.machine import machine_of

    return machine_of(device, clocks)


def again(*suites: str, device: BenchDevice | None = None) -> str:
    """Give the command that measures again."""
    where = f" --device cuda:{device.index}" if device and device.index else ""
    return f"envdoctor bench --suite {','.join(suites)}{where}"


def amount(value: float | None, unit: str = "") -> str:
    """Put a measured value in words with as many digits as it deserves."""
    if value is None:
        return "not measured"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f} {unit}".rstrip()


def spoken(found: Judgement) -> str:
    """Put a judged rate in words: the median and the quartiles, never a bare number; and what it is held against."""
    summary, unit = found.rate.summary, found.rate.unit
    if summary is None:
        return found.judged.reason
    said = f"{amount(summary.median, unit)} ({amount(summary.q1)} to {amount(summary.q3)}, n {summary.n})"
    return f"{said}; reference {amount(found.expected.value, unit)}" if found.expected else said


def shown(fact: Fact, found: Judgement, label: str = "") -> Evidence:
    """Make a judged measurement evidence."""
    words = label or " ".join(filter(None, (found.measured.precision, found.name)))
    return see(fact, "measured", words, spoken(found))


def at_clock(clocks: BenchClocks | None, found: Judgement) -> tuple[Evidence, ...]:
    """Make the clock, power and temperature beside a measurement evidence."""
    window = found.window
    if clocks is None or window.sm_mhz is None:
        return ()
    said = [f"{window.sm_mhz:.0f} of {window.sm_max_mhz or '?'} MHz"]
    if window.watts is not None:
        said.append(f"{window.watts:.0f} of {window.limit_watts or 0:.0f} W")
    if window.celsius is not None:
        said.append(f"{window.celsius:.0f} °C")
    said += window.held_back_by
    return (see(clocks, "gpus", "clock, power, heat meanwhile", ", ".join(said)),)


def need_judged(found: Iterable[Judgement]) -> None:
    """End the rule as unknown when not one of these measurements could be held against a reference, and say why."""
    from envdoctor.bench.verdict import Verdict

    found = tuple(found)
    open_ends = {Verdict.UNKNOWN, Verdict.AMBIGUOUS, Verdict.IMPOSSIBLE}
    if not found:
        raise Unknown("nothing of it was measured")
    if all(each.verdict in open_ends for each in found):
        raise Unknown(found[0].judged.reason)
