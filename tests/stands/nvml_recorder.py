"""Turns what NVML said of a machine into a scenario for the fake NVML, which then says the same.

``scenario_of(state, fabric)`` takes the two facts of any snapshot: a user's saved report is enough. What NVML refused
becomes the same refusal, and a card that hung hangs again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from envdoctor_probes.nvml_fabric import FABRIC, PEER, TOPOLOGY
from envdoctor_probes.nvml_questions import COMPUTE_MODES, EVENT_REASONS, RECOVERY, VIRTUALIZATION

from envdoctor.facts.nvml import Gpu, GpuFabric, GpuState, NvLink

Values = dict[str, str]

NOT_SUPPORTED, FUNCTION_NOT_FOUND, UNKNOWN = 3, 13, 999
CODES = {
    "Uninitialized": 1, "Invalid Argument": 2, "Not Supported": NOT_SUPPORTED, "Insufficient Permissions": 4,
    "Not Found": 6, "Insufficient Size": 7, "Driver Not Loaded": 9, "Timeout": 10, "Interrupt Request Issue": 11,
    "NVML Shared Library Not Found": 12, "Function Not Found": FUNCTION_NOT_FOUND, "Corrupted infoROM": 14,
    "GPU is lost": 15, "GPU requires reset": 16, "RM has detected an NVML/RM version mismatch.": 18,
    "In use by another client": 19, "Insufficient Memory": 20, "No data": 21, "Not Ready": 27, "Unknown Error": UNKNOWN,
}  # fmt: skip
GET = "nvmlDeviceGet"
# The calls behind the fields; what is left out cannot be refused by itself.
CALLS: dict[str, tuple[str, ...]] = {
    "handle": ("HandleByIndex_v2",), "name": ("Name",), "uuid": ("UUID",), "pci_address": ("PciInfo_v3",),
    "compute_capability": ("CudaComputeCapability",), "architecture": ("Architecture",),
    "memory_total_mib": ("MemoryInfo", "MemoryInfo_v2"), "memory_reserved_mib": ("MemoryInfo_v2",),
    "utilization_percent": ("UtilizationRates",), "sm_clock_mhz": ("ClockInfo",), "sm_clock_max_mhz": ("MaxClockInfo",),
    "sm_clock_application_mhz": ("ApplicationsClock",), "sm_clock_default_mhz": ("DefaultApplicationsClock",),
    "event_reasons": ("CurrentClocksEventReasons", "CurrentClocksThrottleReasons"),
    "temperature_celsius": ("Temperature", "TemperatureV"), "power_watts": ("PowerUsage",),
    "power_limit_watts": ("PowerManagementLimit",), "power_limit_enforced_watts": ("EnforcedPowerLimit",),
    "power_limit_default_watts": ("PowerManagementDefaultLimit",),
    "power_limit_max_watts": ("PowerManagementLimitConstraints",), "ecc_enabled": ("EccMode",),
    "ecc_corrected_volatile": ("TotalEccErrors",), "remap_pending": ("RemappedRows",),
    "retired_pages_pending": ("RetiredPagesPendingStatus",), "pcie_generation": ("CurrPcieLinkGeneration",),
    "pcie_generation_max": ("MaxPcieLinkGeneration",), "pcie_width": ("CurrPcieLinkWidth",),
    "pcie_width_max": ("MaxPcieLinkWidth",), "pcie_replays": ("PcieReplayCounter",), "mig_enabled": ("MigMode",),
    "mig_devices": ("MaxMigDeviceCount",), "compute_mode": ("ComputeMode",), "persistence": ("PersistenceMode",),
    "virtualization": ("VirtualizationMode",), "serial": ("Serial",), "recovery_action": ("FieldValues",),
    "processes": tuple(f"{k}RunningProcesses{v}" for k in ("Compute", "Graphics") for v in ("", "_v2", "_v3")),
}  # fmt: skip
# Without a value the fake answers these all the same, or with another field's value.
ANSWERED_ANYWAY = {
    "uuid", "pci_address", "power_limit_enforced_watts", "power_limit_default_watts", "compute_mode", "mig_devices",
    "processes",
}  # fmt: skip


def scenario_of(
    state: GpuState,
    fabric: GpuFabric | None = None,
    *,
    identity: bool = False,
    more: Mapping[int, Values] | None = None,
) -> str:
    """Write the scenario. ``identity`` keeps UUIDs and serial numbers; ``more`` adds values by GPU number."""
    lines = ["# recorded by scripts/record-nvml", "[system]"]
    system = (("driver_version", state.driver_version), ("nvml_version", state.nvml_version))
    system += (("cuda_version", state.cuda_version), ("count", str(state.count or len(state.gpus))))
    lines += [f"{key} = {value}" for key, value in system if value is not None]
    cards = [{**_values(gpu, identity=identity), **(more or {}).get(gpu.index, {})} for gpu in state.gpus]
    for gpu, values in zip(state.gpus, cards, strict=True):
        values.update(_links(fabric, gpu.index, len(state.gpus)) if fabric else {})
    shared = _shared(cards)
    lines += ["[gpu]", *(f"{key} = {value}" for key, value in shared.items())]
    for gpu, values in zip(state.gpus, cards, strict=True):
        lines += [f"[gpu {gpu.index}]", *(f"{k} = {v}" for k, v in values.items() if k not in shared)]
        lines += _slices(gpu)
    return "\n".join([*lines, "[inject]", *_refusals(state, fabric), ""])


def _shared(cards: list[Values]) -> Values:
    """Give the values that every card has."""
    first = cards[0] if cards else {}
    return {key: value for key, value in first.items() if all(each.get(key) == value for each in cards)}


def _list(*values: float | None) -> str | None:
    """Write numbers as the fake reads them, up to the first that is not known."""
    known = []
    for each in values:
        if each is None:
            break
        known.append(str(round(each)))
    return ",".join(known) or None


def _values(gpu: Gpu, *, identity: bool) -> Values:
    found: dict[str, str | None] = {
        "name": gpu.name, "bus_id": gpu.pci_address, "compute_capability": gpu.compute_capability,
        **({"uuid": gpu.uuid, "serial": gpu.serial} if identity else {"serial": gpu.serial and "1650000000000"}),
        "memory_total_mib": _list(gpu.memory_total_mib), "memory_used_mib": _list(gpu.memory_used_mib),
        "memory_reserved_mib": _list(gpu.memory_reserved_mib), "utilization": _list(gpu.utilization_percent, 0),
        "clocks": _list(gpu.sm_clock_mhz, gpu.sm_clock_mhz, gpu.memory_clock_mhz),
        "clocks_max": _list(gpu.sm_clock_max_mhz, gpu.sm_clock_max_mhz, gpu.memory_clock_max_mhz),
        "clocks_app": _list(gpu.sm_clock_application_mhz, gpu.sm_clock_application_mhz),
        "clocks_app_default": _list(gpu.sm_clock_default_mhz, gpu.sm_clock_default_mhz),
        "throttle": None if gpu.event_reasons is None else hex(_bits(gpu.event_reasons)),
        "temperature": _list(gpu.temperature_celsius),
        "temperature_thresholds": _list(gpu.shutdown_celsius or 0, gpu.slowdown_celsius or 0),
        "pcie_gen": _list(gpu.pcie_generation, gpu.pcie_generation_max),
        "pcie_width": _list(gpu.pcie_width, gpu.pcie_width_max), "pcie_replays": _list(gpu.pcie_replays),
        "mig": _list(gpu.mig_enabled, gpu.mig_enabled_after_reset),
        "mig_devices": _list(len(gpu.mig_devices) or None),
        "persistence_mode": _list(gpu.persistence), "compute_mode": _place(COMPUTE_MODES, gpu.compute_mode),
        "virtualization": _place(VIRTUALIZATION, gpu.virtualization),
        "field.230": _place(RECOVERY, gpu.recovery_action),  # NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
        **_power(gpu), **_errors(gpu), **_processes(gpu),
    }  # fmt: skip
    return {key: value for key, value in found.items() if value}


def _power(gpu: Gpu) -> dict[str, str | None]:
    enforced, limit = gpu.power_limit_enforced_watts, gpu.power_limit_watts
    return {
        "power_mw": _milli(gpu.power_watts), "power_limit_mw": _milli(limit),
        "power_enforced_mw": _milli(enforced) if enforced != limit else None,
        "power_default_mw": _milli(gpu.power_limit_default_watts),
        "power_constraints_mw": gpu.power_limit_max_watts and f"0,{_milli(gpu.power_limit_max_watts)}",
    }  # fmt: skip


def _milli(watts: float | None) -> str | None:
    return None if watts is None else str(round(watts * 1000))


def _errors(gpu: Gpu) -> dict[str, str | None]:
    rows = (gpu.remapped_rows_correctable, gpu.remapped_rows_uncorrectable, gpu.remap_pending, gpu.remap_failed)
    return {
        "ecc": _list(gpu.ecc_enabled, gpu.ecc_enabled_after_reboot),
        "ecc_errors": _list(gpu.ecc_corrected_volatile, gpu.ecc_uncorrected_volatile, 0, gpu.ecc_uncorrected_aggregate),
        "remapped_rows": _list(*rows),
        "retired_pages": None if gpu.retired_pages_pending is None else f"0,0,{int(gpu.retired_pages_pending)}",
    }  # fmt: skip


def _processes(gpu: Gpu) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for key, kind in (("procs", "compute"), ("procs_graphics", "graphics")):
        mine = [each for each in gpu.processes if each.kind == kind]
        found[key] = ",".join(f"{p.pid}:{'?' if p.memory_mib is None else p.memory_mib}" for p in mine) or None
    return found


def _bits(reasons: Iterable[str]) -> int:
    numbers = {name: bit for bit, name in EVENT_REASONS}
    return sum(numbers[each] if each in numbers else int(each, 16) for each in reasons)


def _place(names: tuple[str, ...], name: str | None) -> str | None:
    if name is None:
        return None
    return str(names.index(name)) if name in names else name


def _slices(gpu: Gpu) -> Iterator[str]:
    for number, each in enumerate(gpu.mig_devices):
        yield from (f"[mig {gpu.index}.{number}]", f"name = {each.name}")
        yield f"memory_total_mib = {each.memory_total_mib}"


def _links(fabric: GpuFabric, gpu: int, count: int) -> Values:
    """Give what connects one card: levels and peer access to each other card, NVLinks, the fabric's state."""
    to = {(link.second if link.first == gpu else link.first): link for link in fabric.links if gpu in
          (link.first, link.second)}  # fmt: skip
    levels = {name: str(level) for level, name in TOPOLOGY.items()}
    found: dict[str, str | None] = {}
    if any(link.path for link in to.values()):
        found["topology"] = ",".join(levels.get((to[n].path if n in to else None) or "internal", "0")
                                     for n in range(count))  # fmt: skip
    if any(link.peer_to_peer_read for link in to.values()):
        found["p2p"] = ",".join(_place(PEER, to[n].peer_to_peer_read if n in to else "ok") or "0" for n in range(count))
    state = fabric.fabric_states[gpu] if gpu < len(fabric.fabric_states) else None
    if state is not None:
        said = fabric.fabric_statuses[gpu] or ""
        found["fabric"] = f"{_place(FABRIC, state)},{0 if said == 'success' else said.rpartition(' ')[2]},0,0"
    links = fabric.nvlinks[gpu] if gpu < len(fabric.nvlinks) else ()
    return {key: value for key, value in (found | _nvlinks(links)).items() if value}


def _nvlinks(links: tuple[NvLink, ...]) -> dict[str, str | None]:
    if not links:
        return {}
    first = links[0]
    return {
        "nvlinks": str(len(links)), "nvlinks_down": ",".join(str(each.link) for each in links if not each.active),
        "nvlink_version": _list(first.version),
        "nvlink_errors": _list(first.replay_errors, first.recovery_errors, first.crc_errors),
        "nvlink_remotes": ",".join(each.remote for each in links if each.remote),
    }  # fmt: skip


def _refusals(state: GpuState, fabric: GpuFabric | None) -> Iterator[str]:
    if state.init_code:
        yield f"nvmlInit_v2 = error {state.init_code}"
    for gpu in state.gpus:
        for field, words in gpu.unknown.items():
            how = _how(words)
            if how != f"error {NOT_SUPPORTED}" or field in ANSWERED_ANYWAY:
                yield from (f"{GET}{call}@{gpu.index} = {how}" for call in CALLS.get(field, ()))
    if fabric and "fabric_states" in fabric.unknown and not any(fabric.fabric_states):
        yield f"{GET}GpuFabricInfoV = {_how(fabric.unknown['fabric_states'])}"


def _how(words: str) -> str:
    if words.startswith("no answer"):
        return "hang"
    code = FUNCTION_NOT_FOUND if "LibraryMismatchError" in words else CODES.get(words, UNKNOWN)
    return f"error {code}"


def raw_reads(nv: Any, index: int) -> Values:
    """Read what the facts do not hold, for other clients of NVML: from a real card, and only reading."""
    gpu = nv.nvmlDeviceGetHandleByIndex(index)

    def numbers(ask: Any, *kinds: int) -> str:
        return ",".join(str(ask(gpu, kind)) for kind in kinds)

    def both(rates: Any) -> str:
        return f"{rates.gpu},{rates.memory}"

    asked = {
        "vbios": lambda: nv.nvmlDeviceGetVbiosVersion(gpu), "part_number": lambda: nv.nvmlDeviceGetBoardPartNumber(gpu),
        "gsp_version": lambda: nv.nvmlDeviceGetGspFirmwareVersion(gpu), "brand": lambda: nv.nvmlDeviceGetBrand(gpu),
        "pci_device_id": lambda: hex(nv.nvmlDeviceGetPciInfo(gpu).pciDeviceId),
        "pstate": lambda: nv.nvmlDeviceGetPerformanceState(gpu),
        "clocks": lambda: numbers(nv.nvmlDeviceGetClockInfo, 0, 1, 2, 3),
        "clocks_max": lambda: numbers(nv.nvmlDeviceGetMaxClockInfo, 0, 1, 2, 3),
        "utilization": lambda: both(nv.nvmlDeviceGetUtilizationRates(gpu)),
    }  # fmt: skip
    found: Values = {}
    for key, ask in asked.items():
        try:
            found[key] = str(ask())
        except (nv.NVMLError, nv.NVMLLibraryMismatchError):
            continue  # the fake refuses what has no value
    return found
