"""[payload] bench-clocks: looks at the GPUs, many times a second, for as long as the suites beside it measure.

It runs in a process of its own: a look costs the measurements nothing, and a suite that dies leaves the clocks known.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from envdoctor.facts.bench import BenchClocks, ClockTrack
from envdoctor.probe import Context, NotThere, probe
from envdoctor_probes.nvml import open_nvml
from envdoctor_probes.nvml_questions import words

__all__ = ["Track", "bench_clocks"]

PERIOD = 0.04
_TELL_EVERY = 5.0
_MOST_LOOKS = 20_000  # then every second one is dropped, and the period doubled
_ONE_GPU = 0.15  # of the period may be spent on looking; with many GPUs it grows
Ask = Callable[[Any, Any], Any]


def event_bits(nv: Any, gpu: Any) -> int:
    """Ask for the event reasons by the newer name, or by the one that drivers before 535 know."""
    newer = getattr(nv, "nvmlDeviceGetCurrentClocksEventReasons", None)
    try:
        return int((newer or nv.nvmlDeviceGetCurrentClocksThrottleReasons)(gpu))
    except nv.NVMLError_FunctionNotFound:
        return int(nv.nvmlDeviceGetCurrentClocksThrottleReasons(gpu))


# Columns of a track, and how NVML is asked.
COLUMNS: Tuple[Tuple[str, Ask], ...] = (
    ("sm_mhz", lambda nv, gpu: nv.nvmlDeviceGetClockInfo(gpu, nv.NVML_CLOCK_SM)),
    ("memory_mhz", lambda nv, gpu: nv.nvmlDeviceGetClockInfo(gpu, nv.NVML_CLOCK_MEM)),
    ("power_watts", lambda nv, gpu: nv.nvmlDeviceGetPowerUsage(gpu) / 1000),
    ("temperature_celsius", lambda nv, gpu: nv.nvmlDeviceGetTemperature(gpu, nv.NVML_TEMPERATURE_GPU)),
    ("event_reasons", event_bits),
    ("pcie_generation", lambda nv, gpu: nv.nvmlDeviceGetCurrPcieLinkGeneration(gpu)),
    ("pcie_width", lambda nv, gpu: nv.nvmlDeviceGetCurrPcieLinkWidth(gpu)),
    ("utilization_percent", lambda nv, gpu: nv.nvmlDeviceGetUtilizationRates(gpu).gpu),
)
ONCE: Tuple[Tuple[str, Ask], ...] = (
    ("name", lambda nv, gpu: _text(nv.nvmlDeviceGetName(gpu))),
    ("uuid", lambda nv, gpu: _text(nv.nvmlDeviceGetUUID(gpu))),
    ("pci_address", lambda nv, gpu: _text(nv.nvmlDeviceGetPciInfo(gpu).busId).lower()),
    ("sm_max_mhz", lambda nv, gpu: nv.nvmlDeviceGetMaxClockInfo(gpu, nv.NVML_CLOCK_SM)),
    ("memory_max_mhz", lambda nv, gpu: nv.nvmlDeviceGetMaxClockInfo(gpu, nv.NVML_CLOCK_MEM)),
    ("pcie_generation_max", lambda nv, gpu: nv.nvmlDeviceGetMaxPcieLinkGeneration(gpu)),
    ("pcie_width_max", lambda nv, gpu: nv.nvmlDeviceGetMaxPcieLinkWidth(gpu)),
    ("power_limit_watts", lambda nv, gpu: nv.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000),
    ("power_limit_default_watts", lambda nv, gpu: nv.nvmlDeviceGetPowerManagementDefaultLimit(gpu) / 1000),
)
VIOLATIONS = (
    ("power", "NVML_PERF_POLICY_POWER"), ("thermal", "NVML_PERF_POLICY_THERMAL"),
    ("sync-boost", "NVML_PERF_POLICY_SYNC_BOOST"), ("board-limit", "NVML_PERF_POLICY_BOARD_LIMIT"),
    ("low-utilization", "NVML_PERF_POLICY_LOW_UTILIZATION"), ("reliability", "NVML_PERF_POLICY_RELIABILITY"),
)  # fmt: skip


@probe(level="deep", child="bench-clocks", seconds=600.0)
def bench_clocks(context: Context) -> BenchClocks:
    """Look until the run says that nothing is measured any more."""
    nv = open_nvml(context)
    try:
        nv.nvmlInit()
        tracks = [Track(nv, index) for index in range(nv.nvmlDeviceGetCount())]
    except Exception as error:
        raise NotThere(f"NVML does not start: {words(error)}") from error
    if not tracks:
        raise NotThere("NVML sees no GPU")
    return Watch(context, tracks).until_over()


class Watch:
    """Looks at all tracks in turn, as often as that does not burden the machine."""

    def __init__(self, context: Context, tracks: List[Track]) -> None:
        self._context, self._tracks, self._period = context, tracks, PERIOD
        self._told = time.monotonic()

    def until_over(self) -> BenchClocks:
        """Look, and answer every few seconds with what is known by then."""
        while True:
            began = time.monotonic()
            for each in self._tracks:
                each.look()
            if max(len(each.seconds) for each in self._tracks) > _MOST_LOOKS:
                self._thin_out()
            took = time.monotonic() - began
            if began - self._told > _TELL_EVERY:
                self._told = began
                self._context.so_far(self.fact(), self._tracks[0].note())
            if self._context.over(max(self._period - took, took / _ONE_GPU - took)):
                break
        for each in self._tracks:
            each.end()
        return self.fact()

    def _thin_out(self) -> None:
        self._period *= 2
        for each in self._tracks:
            each.thin_out()

    def fact(self) -> BenchClocks:
        """Give what was seen by now."""
        return BenchClocks(gpus=tuple(each.track() for each in self._tracks), period_seconds=self._period)


class Track:
    """One GPU under watch: columns that grow by one entry a look. What NVML refuses is asked no more."""

    def __init__(self, nv: Any, index: int) -> None:
        self._nv, self._index = nv, index
        self._once: Dict[str, Any] = {}
        self._unknown: Dict[str, str] = {}
        self.seconds: List[float] = []
        self._columns: Dict[str, List[Any]] = {name: [] for name, _ in COLUMNS}
        self._gpu = self._ask("handle", lambda nv, number: nv.nvmlDeviceGetHandleByIndex(number), index)
        for name, ask in ONCE:
            self._once[name] = self._ask(name, ask)
        self._before, self._replays_before = self._violations("before"), self._replays("before")
        self._after: Dict[str, int] = {}
        self._replays_after: Optional[int] = None

    def _ask(self, name: str, ask: Ask, about: Any = None) -> Any:
        if name in self._unknown or (about is None and self._gpu is None):
            return None
        try:
            return ask(self._nv, self._gpu if about is None else about)
        except Exception as error:
            self._unknown[name] = words(error)
            return None

    def _violations(self, when: str) -> Dict[str, int]:
        """Read the driver's counters of the time spent below the clocks that were asked for, in nanoseconds."""
        found: Dict[str, int] = {}
        for name, policy in VIOLATIONS:
            number = getattr(self._nv, policy, None)
            value = None if number is None else self._ask(f"violations_{when}.{name}", _violation_of(number))
            if value is not None:
                found[name] = int(value)
        return found

    def _replays(self, when: str) -> Optional[int]:
        found = self._ask(f"pcie_replays_{when}", lambda nv, gpu: nv.nvmlDeviceGetPcieReplayCounter(gpu))
        return None if found is None else int(found)

    def look(self) -> None:
        """Add one entry to each column."""
        self.seconds.append(round(time.monotonic(), 4))
        for name, ask in COLUMNS:
            self._columns[name].append(self._ask(name, ask))

    def thin_out(self) -> None:
        """Drop every second entry."""
        self.seconds = self.seconds[::2]
        self._columns = {name: values[::2] for name, values in self._columns.items()}

    def end(self) -> None:
        """Read the counters once more."""
        self._after, self._replays_after = self._violations("after"), self._replays("after")

    def note(self) -> str:
        """Say in a few words how the GPU stands."""
        names = (("sm_mhz", "MHz"), ("power_watts", "W"), ("temperature_celsius", "C"))
        last = [(self._columns[name][-1:] or [None], unit) for name, unit in names]
        return " ".join(f"{values[0]:.0f} {unit}" for values, unit in last if values[0] is not None)

    def track(self) -> ClockTrack:
        """Give what was seen by now."""
        return ClockTrack(
            index=self._index,
            seconds=tuple(self.seconds),
            violations_before=self._before,
            violations_after=self._after,
            pcie_replays_before=self._replays_before,
            pcie_replays_after=self._replays_after,
            unknown=dict(self._unknown),
            **{**self._once, **{name: tuple(values) for name, values in self._columns.items()}},
        )


def _violation_of(policy: int) -> Ask:
    return lambda nv, gpu: nv.nvmlDeviceGetViolationStatus(gpu, policy).violationTime


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
