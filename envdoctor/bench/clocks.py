"""What a GPU's clocks, power and link were while one measurement ran, out of the columns that the sampler wrote."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envdoctor.facts.bench import BenchDevice
    from envdoctor.facts.clocks import BenchClocks, ClockTrack

# NVML's bits, in words; the first two slow nothing down by themselves.
REASONS = {
    0x1: "idle", 0x2: "application clocks", 0x4: "software power cap", 0x8: "hardware slowdown", 0x10: "sync boost",
    0x20: "software thermal slowdown", 0x40: "hardware thermal slowdown", 0x80: "power brake", 0x100: "display clocks",
}  # fmt: skip
POWER_CAP, APPLICATION = 0x4, 0x2
HEAT = (0x20, 0x40)
HARDWARE = (0x8, 0x80)
UNSTEADY_CLOCK = 0.05  # 10th to 90th percentile over the median
MOST_OF_THE_TIME = 0.5
N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True)
class Window:
    """A GPU between two moments. Clocks in MHz; ``shares``: of the looks, how many had each event reason (0 to 1).

    None, or an empty table: not known.
    """

    looks: int = 0
    sm_mhz: float | None = None
    sm_lowest_mhz: float | None = None
    sm_highest_mhz: float | None = None
    sm_max_mhz: int | None = None
    unsteady: bool = False
    watts: float | None = None
    limit_watts: float | None = None
    default_limit_watts: float | None = None
    celsius: float | None = None
    shares: tuple[tuple[int, float], ...] = ()
    pcie_generation: int | None = None
    pcie_width: int | None = None

    def share(self, *bits: int) -> float:
        """Give the largest share of the looks in which one of these event reasons was there."""
        return max((share for bit, share in self.shares if bit in bits), default=0.0)

    @property
    def held_back_by(self) -> tuple[str, ...]:
        """Name the reasons that held the clock down most of the time, in NVML's words."""
        return tuple(REASONS[bit] for bit, share in self.shares if bit > APPLICATION and share >= MOST_OF_THE_TIME)

    @property
    def limit_lowered(self) -> bool:
        """Tell whether the power limit is below the card's default."""
        return bool(self.limit_watts and self.default_limit_watts and self.limit_watts < self.default_limit_watts)


def track_of(clocks: BenchClocks | None, device: BenchDevice | None) -> ClockTrack | None:
    """Find the columns of the GPU that was measured: by UUID, by PCI address, else the only one there is."""
    if clocks is None or device is None:
        return None
    for each in clocks.gpus:
        same_uuid = each.uuid and device.uuid and device.uuid.removeprefix("GPU-") in each.uuid
        if same_uuid or (each.pci_address and _address(each.pci_address) == _address(device.pci_address or "")):
            return each
    return clocks.gpus[0] if len(clocks.gpus) == 1 else None


def _address(text: str) -> str:
    """Give a PCI address without its domain, which NVML writes with eight digits and others with four."""
    return text.lower().partition(":")[2]


def during(track: ClockTrack | None, began: float, ended: float) -> Window:
    """Sum up the looks between two moments; where the measurement was shorter than a period, the nearest look."""
    if track is None or not track.seconds:
        return Window()
    first, behind = bisect_left(track.seconds, began), bisect_right(track.seconds, ended)
    if first < behind:
        return _sum_up(track, range(first, behind))
    beside = [place for place in (first - 1, first) if 0 <= place < len(track.seconds)]
    middle = (began + ended) / 2
    return _sum_up(track, [min(beside, key=lambda place: abs(track.seconds[place] - middle))])


def whole(track: ClockTrack | None) -> Window:
    """Sum up every look."""
    return _sum_up(track, range(len(track.seconds))) if track and track.seconds else Window()


def _sum_up(track: ClockTrack, places: Sequence[int]) -> Window:
    import statistics

    sm = _values(track.sm_mhz, places)
    watts, heat = _values(track.power_watts, places), _values(track.temperature_celsius, places)
    return Window(
        looks=len(places),
        sm_mhz=statistics.median(sm) if sm else None,
        sm_lowest_mhz=min(sm, default=None),
        sm_highest_mhz=max(sm, default=None),
        sm_max_mhz=track.sm_max_mhz,
        unsteady=_unsteady(sm),
        watts=statistics.median(watts) if watts else None,
        limit_watts=track.power_limit_watts,
        default_limit_watts=track.power_limit_default_watts,
        celsius=max(heat, default=None),
        shares=_shares(_values(track.event_reasons, places)),
        pcie_generation=max(_values(track.pcie_generation, places), default=None),
        pcie_width=max(_values(track.pcie_width, places), default=None),
    )


def _values(column: Sequence[N | None], places: Sequence[int]) -> list[N]:
    return [value for n in places if n < len(column) and (value := column[n]) is not None]


def _unsteady(sm: list[int]) -> bool:
    """Tell whether the clock moved: most looks lie further apart than a governor's usual step."""
    import statistics

    if len(sm) < 2:
        return False
    ordered = sorted(sm)
    low, high = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
    return (high - low) / statistics.median(ordered) > UNSTEADY_CLOCK


def _shares(reasons: list[int]) -> tuple[tuple[int, float], ...]:
    counted = Counter(bit for each in reasons for bit in REASONS if each & bit)
    return tuple((bit, counted[bit] / len(reasons)) for bit in REASONS if counted[bit])
