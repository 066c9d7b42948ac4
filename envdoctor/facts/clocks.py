"""[payload] Clocks, power, temperature and link of GPUs at work, as the benchmark's sampler saw them."""

from __future__ import annotations

from dataclasses import field
from typing import Dict, Optional, Tuple

from envdoctor.facts import Fact, read_from
from envdoctor.facts.dataclass import dataclass


@dataclass(frozen=True)
class ClockTrack:
    """What NVML said of one GPU while it worked: columns of equal length, one entry a look. Bits as NVML's.

    Event reasons: idle 0x1, application clocks 0x2, software power cap 0x4, hardware slowdown 0x8, sync boost 0x10,
    software thermal 0x20, hardware thermal 0x40, power brake 0x80, display 0x100.
    ``violations_*`` are the driver's counters in nanoseconds: power, thermal, sync-boost, board-limit,
    low-utilization, reliability.
    """

    index: int = 0
    name: Optional[str] = None
    uuid: Optional[str] = read_from("nvmlDeviceGetUUID", private=True)
    pci_address: Optional[str] = None
    seconds: Tuple[float, ...] = ()
    sm_mhz: Tuple[Optional[int], ...] = ()
    memory_mhz: Tuple[Optional[int], ...] = ()
    power_watts: Tuple[Optional[float], ...] = ()
    temperature_celsius: Tuple[Optional[int], ...] = ()
    event_reasons: Tuple[Optional[int], ...] = ()
    pcie_generation: Tuple[Optional[int], ...] = ()
    pcie_width: Tuple[Optional[int], ...] = ()
    utilization_percent: Tuple[Optional[int], ...] = ()
    sm_max_mhz: Optional[int] = None
    memory_max_mhz: Optional[int] = None
    pcie_generation_max: Optional[int] = None
    pcie_width_max: Optional[int] = None
    power_limit_watts: Optional[float] = None  # enforced
    power_limit_default_watts: Optional[float] = None
    violations_before: Dict[str, int] = field(default_factory=dict)
    violations_after: Dict[str, int] = field(default_factory=dict)
    pcie_replays_before: Optional[int] = None
    pcie_replays_after: Optional[int] = None
    unknown: Dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BenchClocks(Fact):
    """Clocks, power, temperature and link of the GPUs, looked at from before the first measurement to the last."""

    gpus: Tuple[ClockTrack, ...] = read_from("NVML", ())
    period_seconds: Optional[float] = read_from("NVML")  # between two looks
