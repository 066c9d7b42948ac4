"""[payload] bench-clocks: looks at the GPUs, many times a second, for as long as the suites beside it measure.

It runs in a process of its own: a look costs the measurements nothing, and a suite that dies leaves the clocks known.
"""

from __future__ import annotations

import threading
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
_SHARE = 0.15  # of the time may be spent on looking
_TICK, _END_SECONDS = 0.25, 2.0
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
        count = nv.nvmlDeviceGetCount()
    except Exception as error:
        raise NotThere(f"NVML does not start: {words(error)}") from error
    if not count:
        raise NotThere("NVML sees no GPU")
    return Watch(context, [Track(nv, index) for index in range(count)]).until_over()


class Watch:
    """Looks at each card in a thread of its own: one that hangs costs the others nothing."""

    def __init__(self, context: Context, tracks: List[Track]) -> None:
        self._context, self._tracks = context, tracks
        self._told = time.monotonic()

    def until_over(self) -> BenchClocks:
        """Look, and answer every few seconds with what is known by then."""
        over = threading.Event()
        threads = [threading.Thread(target=each.look_until, args=(over,), daemon=True) for each in self._tracks]
        for each in threads:
            each.start()
        while not self._context.over(_TICK):
            if time.monotonic() - self._told >= _TELL_EVERY:
                self._told = time.monotonic()
                self._context.so_far(self.fact(), self._tracks[0].note())
        over.set()
        end = time.monotonic() + _END_SECONDS
        for each in threads:
            each.join(max(0.0, end - time.monotonic()))
        return self.fact()

    def fact(self) -> BenchClocks:
        """Give what was seen by now."""
        periods = [each.period for each in self._tracks]
        return BenchClocks(gpus=tuple(each.track() for each in self._tracks), period_seconds=max(periods))


class Track:
    """One GPU under watch: a row a look. What NVML refuses is asked no more."""

    def __init__(self, nv: Any, index: int) -> None:
        self._nv, self._index = nv, index
        self.period = PERIOD
        self._gpu: Any = None
        self._once: Dict[str, Any] = {}
        self._unknown: Dict[str, str] = {}
        self._rows: List[Tuple[Any, ...]] = []
        self._before: Dict[str, int] = {}
        self._after: Dict[str, int] = {}
        self._replays: List[Optional[int]] = [None, None]

    def look_until(self, over: threading.Event) -> None:
        """Look again and again; with many cards each is looked at less often."""
        self.begin()
        while self._gpu is not None:
            took = self.look()
            if over.wait(max(self.period - took, took / _SHARE - took)):
                self.end()
                return

    def begin(self) -> None:
        """Read what does not change, and the counters as they are before."""
        self._gpu = self._ask("handle", lambda nv, _: nv.nvmlDeviceGetHandleByIndex(self._index))
        if self._gpu is None:
            return
        self._before, self._replays[0] = self._violations("before"), self._replay("before")
        for name, ask in ONCE:
            self._once[name] = self._ask(name, ask)

    def end(self) -> None:
        """Read the counters once more."""
        self._after, self._replays[1] = self._violations("after"), self._replay("after")

    def _ask(self, name: str, ask: Ask) -> Any:
        if name in self._unknown:
            return None
        try:
            return ask(self._nv, self._gpu)
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

    def _replay(self, when: str) -> Optional[int]:
        found = self._ask(f"pcie_replays_{when}", lambda nv, gpu: nv.nvmlDeviceGetPcieReplayCounter(gpu))
        return None if found is None else int(found)

    def look(self) -> float:
        """Add a row, and give the seconds that it took."""
        began = time.monotonic()
        self._rows.append((round(began, 4), *(self._ask(name, ask) for name, ask in COLUMNS)))
        if len(self._rows) > _MOST_LOOKS:
            self._rows, self.period = self._rows[::2], 2 * self.period
        return time.monotonic() - began

    def note(self) -> str:
        """Say in a few words how the GPU stands."""
        last = dict(zip(("seconds", *(name for name, _ in COLUMNS)), self._rows[-1])) if self._rows else {}  # noqa: B905
        names = (("sm_mhz", "MHz"), ("power_watts", "W"), ("temperature_celsius", "C"))
        return " ".join(f"{last[name]:.0f} {unit}" for name, unit in names if last.get(name) is not None)

    def track(self) -> ClockTrack:
        """Give what was seen by now: rows turned into columns."""
        rows = tuple(self._rows)
        columns = tuple(zip(*rows)) if rows else ((),) * (1 + len(COLUMNS))  # noqa: B905 - strict= is newer than 3.8
        seen = dict(zip(("seconds", *(name for name, _ in COLUMNS)), columns))  # noqa: B905
        return ClockTrack(
            index=self._index,
            violations_before=dict(self._before),
            violations_after=dict(self._after),
            pcie_replays_before=self._replays[0],
            pcie_replays_after=self._replays[1],
            unknown=dict(self._unknown),
            **{**self._once, **seen},
        )


def _violation_of(policy: int) -> Ask:
    return lambda nv, gpu: nv.nvmlDeviceGetViolationStatus(gpu, policy).violationTime


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
