"""[payload] The questions put to NVML about one card: a table of reads. Nothing here changes a card.

Each entry names a field of ``Gpu`` and how to ask for it. What NVML refuses becomes ``Gpu.unknown`` in its own words.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Tuple

from envdoctor.facts.nvml import Gpu, GpuProcess, MigDevice

__all__ = [
    "COMPUTE_MODES", "EVENT_REASONS", "QUESTIONS", "RECOVERY", "VIRTUALIZATION", "Card", "reasons", "words",
]  # fmt: skip

Ask = Callable[[Any, Any], Any]

MIB = 1 << 20
# Bits of nvmlDeviceGetCurrentClocksEventReasons (formerly ThrottleReasons), nvml.h.
EVENT_REASONS: Tuple[Tuple[int, str], ...] = (
    (0x1, "gpu_idle"),
    (0x2, "applications_clocks_setting"),
    (0x4, "sw_power_cap"),
    (0x8, "hw_slowdown"),
    (0x10, "sync_boost"),
    (0x20, "sw_thermal_slowdown"),
    (0x40, "hw_thermal_slowdown"),
    (0x80, "hw_power_brake_slowdown"),
    (0x100, "display_clock_setting"),
)
COMPUTE_MODES = ("default", "exclusive-thread", "prohibited", "exclusive-process")
_ARCHITECTURES = {
    2: "Kepler", 3: "Maxwell", 4: "Pascal", 5: "Volta", 6: "Turing", 7: "Ampere", 8: "Ada", 9: "Hopper",
    10: "Blackwell", 13: "Rubin",
}  # fmt: skip
VIRTUALIZATION = ("none", "passthrough", "vgpu", "host-vgpu", "host-vsga")
RECOVERY = ("none", "gpu-reset", "node-reboot", "drain-p2p", "drain-and-reset", "recover-imex-domain",
             "bus-reset", "system-reboot")  # fmt: skip


def reasons(bits: int) -> Tuple[str, ...]:
    """Name the set bits; an unknown bit is kept as ``0x…``."""
    named = tuple(name for bit, name in EVENT_REASONS if bits & bit)
    rest = bits & ~sum(bit for bit, _ in EVENT_REASONS)
    return (*named, hex(rest)) if rest else named


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _named(names: Tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else str(number)


def _event_reasons(nv: Any, gpu: Any) -> Tuple[str, ...]:
    newer = getattr(nv, "nvmlDeviceGetCurrentClocksEventReasons", None)
    try:
        return reasons((newer or nv.nvmlDeviceGetCurrentClocksThrottleReasons)(gpu))
    except nv.NVMLError_FunctionNotFound:  # drivers before 535 know the old name only
        return reasons(nv.nvmlDeviceGetCurrentClocksThrottleReasons(gpu))


def _processes(nv: Any, gpu: Any) -> Tuple[GpuProcess, ...]:
    found: List[GpuProcess] = []
    for kind, name in (("compute", "Compute"), ("graphics", "Graphics")):
        for each in _running(nv, gpu, f"nvmlDeviceGet{name}RunningProcesses"):
            used = each.usedGpuMemory
            found.append(GpuProcess(int(each.pid), None if used is None else int(used) // MIB, kind))
    return tuple(found)


def _running(nv: Any, gpu: Any, function: str) -> Any:
    """Ask for processes by the newest name; drivers before 510 know the second version of the call only.

    For them pynvml raises an error that is no ``NVMLError``.
    """
    lacking = (nv.NVMLError_FunctionNotFound, getattr(nv, "NVMLLibraryMismatchError", nv.NVMLError_FunctionNotFound))
    try:
        return getattr(nv, function)(gpu)
    except lacking:
        return getattr(nv, function + "_v2")(gpu)


def _mig_devices(nv: Any, gpu: Any) -> Tuple[MigDevice, ...]:
    found = []
    for number in range(nv.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            slice_ = nv.nvmlDeviceGetMigDeviceHandleByIndex(gpu, number)
        except nv.NVMLError_NotFound:  # places are numbered up to the maximum, and most are empty
            continue
        memory = nv.nvmlDeviceGetMemoryInfo(slice_).total // MIB
        found.append(MigDevice(_text(nv.nvmlDeviceGetName(slice_)), _text(nv.nvmlDeviceGetUUID(slice_)), int(memory)))
    return tuple(found)


def _recovery_action(nv: Any, gpu: Any) -> str:
    (answer,) = nv.nvmlDeviceGetFieldValues(gpu, [nv.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])
    nv._nvmlCheckReturn(answer.nvmlReturn)  # noqa: SLF001 - the module's own way from a code to its error
    return _named(RECOVERY, int(answer.value.uiVal))


def _row_remapper(place: int) -> Ask:
    return lambda nv, gpu: nv.nvmlDeviceGetRemappedRows(gpu)[place]


def _ecc(kind: str, counter: str) -> Ask:
    return lambda nv, gpu: nv.nvmlDeviceGetTotalEccErrors(
        gpu, getattr(nv, "NVML_MEMORY_ERROR_TYPE_" + kind), getattr(nv, counter)
    )


def _clock(kind: str, function: str) -> Ask:
    return lambda nv, gpu: getattr(nv, function)(gpu, getattr(nv, "NVML_CLOCK_" + kind))


def _threshold(name: str) -> Ask:
    return lambda nv, gpu: nv.nvmlDeviceGetTemperatureThreshold(gpu, getattr(nv, "NVML_TEMPERATURE_THRESHOLD_" + name))


def _watts(function: str) -> Ask:
    return lambda nv, gpu: getattr(nv, function)(gpu) / 1000


def _plain(function: str, convert: Callable[[Any], Any] = int) -> Ask:
    return lambda nv, gpu: convert(getattr(nv, function)(gpu))


def _memory(part: str) -> Ask:
    return lambda nv, gpu: getattr(_memory_of(nv, gpu), part) // MIB


def _memory_of(nv: Any, gpu: Any) -> Any:
    """Ask for memory as nvidia-smi shows it; drivers before 510 count what they reserve for themselves as used."""
    newer = getattr(nv, "nvmlMemory_v2", None)
    if newer is None:
        return nv.nvmlDeviceGetMemoryInfo(gpu)
    try:
        return nv.nvmlDeviceGetMemoryInfo(gpu, version=newer)
    except (nv.NVMLError_FunctionNotFound, nv.NVMLError_NotSupported):
        return nv.nvmlDeviceGetMemoryInfo(gpu)


QUESTIONS: Tuple[Tuple[str, Ask], ...] = (
    ("name", _plain("nvmlDeviceGetName", _text)),
    ("uuid", _plain("nvmlDeviceGetUUID", _text)),
    ("pci_address", lambda nv, gpu: _text(nv.nvmlDeviceGetPciInfo(gpu).busId).lower()),
    ("compute_capability", lambda nv, gpu: "{}.{}".format(*nv.nvmlDeviceGetCudaComputeCapability(gpu))),
    ("architecture", lambda nv, gpu: _ARCHITECTURES.get(nv.nvmlDeviceGetArchitecture(gpu))),
    ("memory_total_mib", _memory("total")),
    ("memory_used_mib", _memory("used")),
    ("memory_free_mib", _memory("free")),
    ("memory_reserved_mib", lambda nv, gpu: nv.nvmlDeviceGetMemoryInfo(gpu, version=nv.nvmlMemory_v2).reserved // MIB),
    ("utilization_percent", lambda nv, gpu: nv.nvmlDeviceGetUtilizationRates(gpu).gpu),
    ("sm_clock_mhz", _clock("SM", "nvmlDeviceGetClockInfo")),
    ("sm_clock_max_mhz", _clock("SM", "nvmlDeviceGetMaxClockInfo")),
    ("sm_clock_application_mhz", _clock("SM", "nvmlDeviceGetApplicationsClock")),
    ("sm_clock_default_mhz", _clock("SM", "nvmlDeviceGetDefaultApplicationsClock")),
    ("memory_clock_mhz", _clock("MEM", "nvmlDeviceGetClockInfo")),
    ("memory_clock_max_mhz", _clock("MEM", "nvmlDeviceGetMaxClockInfo")),
    ("event_reasons", _event_reasons),
    ("temperature_celsius", lambda nv, gpu: nv.nvmlDeviceGetTemperature(gpu, nv.NVML_TEMPERATURE_GPU)),
    ("slowdown_celsius", _threshold("SLOWDOWN")),
    ("shutdown_celsius", _threshold("SHUTDOWN")),
    ("power_watts", _watts("nvmlDeviceGetPowerUsage")),
    ("power_limit_watts", _watts("nvmlDeviceGetPowerManagementLimit")),
    ("power_limit_enforced_watts", _watts("nvmlDeviceGetEnforcedPowerLimit")),
    ("power_limit_default_watts", _watts("nvmlDeviceGetPowerManagementDefaultLimit")),
    ("power_limit_max_watts", lambda nv, gpu: nv.nvmlDeviceGetPowerManagementLimitConstraints(gpu)[1] / 1000),
    ("ecc_enabled", lambda nv, gpu: bool(nv.nvmlDeviceGetEccMode(gpu)[0])),
    ("ecc_enabled_after_reboot", lambda nv, gpu: bool(nv.nvmlDeviceGetEccMode(gpu)[1])),
    ("ecc_corrected_volatile", _ecc("CORRECTED", "NVML_VOLATILE_ECC")),
    ("ecc_uncorrected_volatile", _ecc("UNCORRECTED", "NVML_VOLATILE_ECC")),
    ("ecc_uncorrected_aggregate", _ecc("UNCORRECTED", "NVML_AGGREGATE_ECC")),
    ("remapped_rows_correctable", _row_remapper(0)),
    ("remapped_rows_uncorrectable", _row_remapper(1)),
    ("remap_pending", lambda nv, gpu: bool(nv.nvmlDeviceGetRemappedRows(gpu)[2])),
    ("remap_failed", lambda nv, gpu: bool(nv.nvmlDeviceGetRemappedRows(gpu)[3])),
    ("retired_pages_pending", _plain("nvmlDeviceGetRetiredPagesPendingStatus", bool)),
    ("pcie_generation", _plain("nvmlDeviceGetCurrPcieLinkGeneration")),
    ("pcie_generation_max", _plain("nvmlDeviceGetMaxPcieLinkGeneration")),
    ("pcie_width", _plain("nvmlDeviceGetCurrPcieLinkWidth")),
    ("pcie_width_max", _plain("nvmlDeviceGetMaxPcieLinkWidth")),
    ("pcie_replays", _plain("nvmlDeviceGetPcieReplayCounter")),
    ("mig_enabled", lambda nv, gpu: bool(nv.nvmlDeviceGetMigMode(gpu)[0])),
    ("mig_enabled_after_reset", lambda nv, gpu: bool(nv.nvmlDeviceGetMigMode(gpu)[1])),
    ("mig_devices", _mig_devices),
    ("compute_mode", _plain("nvmlDeviceGetComputeMode", lambda mode: _named(COMPUTE_MODES, mode))),
    ("persistence", _plain("nvmlDeviceGetPersistenceMode", bool)),
    ("virtualization", _plain("nvmlDeviceGetVirtualizationMode", lambda mode: _named(VIRTUALIZATION, mode))),
    ("serial", _plain("nvmlDeviceGetSerial", _text)),
    ("recovery_action", _recovery_action),
    ("processes", _processes),
)


class Card:
    """One card under questioning. What it answered is kept at once: a card that hangs later has not said nothing."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.asking = "handle"
        self.lost = self.done = False
        self.values: Dict[str, Any] = {}
        self.unknown: Dict[str, str] = {}

    def ask(self, nv: Any) -> None:
        """Ask every question. "GPU is lost" ends them: the card would refuse each of the rest."""
        try:
            gpu = nv.nvmlDeviceGetHandleByIndex(self.index)
        except Exception as error:
            self._refused(nv, error)
        else:
            self._ask_about(nv, gpu)
        self.done = True

    def _ask_about(self, nv: Any, gpu: Any) -> None:
        for self.asking, ask in QUESTIONS:
            try:
                self.values[self.asking] = ask(nv, gpu)
            except Exception as error:
                self._refused(nv, error)
            if self.lost:
                return

    def _refused(self, nv: Any, error: Exception) -> None:
        self.unknown[self.asking] = words(error)
        self.lost = isinstance(error, nv.NVMLError) and getattr(error, "value", None) == nv.NVML_ERROR_GPU_IS_LOST

    def gpu(self, after_seconds: float) -> Gpu:
        """Give what is known now; a card that is still being asked hangs, and the question that it hangs in is said."""
        hung = not self.done
        values, unknown = dict(self.values), dict(self.unknown)
        if hung:
            unknown[self.asking] = f"no answer within {after_seconds:.1f} s"
        return Gpu(index=self.index, lost=self.lost, hung=hung, unknown=unknown, **values)


def words(error: Exception) -> str:
    """Give NVML's own words for an error, or the exception's type and message."""
    text = str(error) or type(error).__name__
    return text if type(error).__name__.startswith("NVMLError") else f"{type(error).__name__}: {text}"
