"""What the hardware itself allows: the vendor's dense peak, and the peak at the clock that was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envdoctor.knowledge.specs import Spec

TERA, GIGA = 1e12, 1e9
PER_MHZ = 1e6
BITS_PER_BYTE = 8
DOUBLE_DATA_RATE = 2
# Of one lane in one direction after line coding (PCI Express base specification, generations 1 to 6).
PCIE_LANE_GBS = {1: 0.25, 2: 0.5, 3: 0.985, 4: 1.969, 5: 3.938, 6: 7.563}


@dataclass(frozen=True, slots=True)
class Limit:
    """Bounds of one measurement in its own unit; None: not known.

    ``peak``: the data sheet's, dense, FP32 accumulate. ``clock_peak``: at the median clock while it ran.
    ``most``: at the highest clock seen, beyond which no honest measurement lies.
    """

    peak: float | None = None
    clock_peak: float | None = None
    most: float | None = None

    def percent_of_peak(self, value: float | None) -> float | None:
        """Give a value as percent of the data sheet's peak."""
        return _percent(value, self.peak)

    def percent_of_clock_peak(self, value: float | None) -> float | None:
        """Give a value as percent of the peak at the measured clock."""
        return _percent(value, self.clock_peak)


def _percent(value: float | None, limit: float | None) -> float | None:
    return 100.0 * value / limit if value is not None and limit else None


def of_product(
    spec: Spec | None,
    precision: str,
    *,
    sms: int | None = None,
    clock_mhz: float | None = None,
    highest_mhz: float | None = None,
) -> Limit:
    """Give the bounds of a matrix product in TFLOPS (int8: TOPS). ``sms``: as the device reports them."""
    if spec is None:
        return Limit()
    per_clock, count = spec.flop_per_clock(precision), sms or spec.sms

    def at(mhz: float | None) -> float | None:
        return count * per_clock * mhz * PER_MHZ / TERA if count and per_clock and mhz else None

    return Limit(spec.peaks.get(precision), at(clock_mhz), at(highest_mhz or clock_mhz))


def of_link(generation: int | None, width: int | None) -> Limit:
    """Give the bounds of a PCIe link in one direction, in GB/s, before any protocol."""
    lane = PCIE_LANE_GBS.get(generation) if generation else None
    peak = lane * width if lane and width else None
    return Limit(peak, None, peak)


def of_memory(spec: Spec | None, *, memory_clock_mhz: float | None = None, bus_bits: int | None = None) -> Limit:
    """Give the bounds of a device's own memory in GB/s: the data sheet's, and from its clock and bus width."""
    own = None
    if memory_clock_mhz and bus_bits:
        own = memory_clock_mhz * PER_MHZ * bus_bits / BITS_PER_BYTE * DOUBLE_DATA_RATE / GIGA
    listed = spec.bandwidth_gbs if spec else None
    known = [each for each in (own, listed) if each]
    return Limit(listed, own, max(known, default=None))
