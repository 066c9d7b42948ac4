"""Cards as NVML shows them: idle, in order, with the clocks, limits and links of their kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from envdoctor.facts.nvml import Gpu, GpuFabric, GpuState, KernelLog, NvLink, PeerLink


@dataclass(frozen=True)
class Kind:
    """What every card of one kind has in common."""

    name: str
    capability: str
    architecture: str
    memory_mib: int
    watts: tuple[float, float]  # idle, limit
    sm_mhz: tuple[int, int]  # idle, most
    memory_mhz: tuple[int, int]
    pcie: int
    ecc: bool = True


H100 = Kind("NVIDIA H100 80GB HBM3", "9.0", "Hopper", 81559, (71.4, 700.0), (345, 1980), (2619, 2619), 5)
A100 = Kind("NVIDIA A100-SXM4-80GB", "8.0", "Ampere", 81251, (58.9, 400.0), (210, 1410), (1593, 1593), 4)
L4 = Kind("NVIDIA L4", "8.9", "Ada", 23034, (16.7, 72.0), (210, 2040), (405, 6251), 4)
RTX_4090 = Kind("NVIDIA GeForce RTX 4090", "8.9", "Ada", 24564, (21.8, 450.0), (210, 3105), (405, 10501), 4, ecc=False)
REFUSED_BY_GEFORCE = (
    "serial", "sm_clock_application_mhz", "sm_clock_default_mhz", "ecc_enabled", "ecc_enabled_after_reboot",
    "ecc_corrected_volatile", "ecc_uncorrected_volatile", "ecc_uncorrected_aggregate", "remapped_rows_correctable",
    "remapped_rows_uncorrectable", "remap_pending", "remap_failed", "mig_enabled", "mig_enabled_after_reset",
)  # fmt: skip
MIG = ("mig_enabled", "mig_enabled_after_reset")


def state(kind: Kind, addresses: tuple[str, ...], driver: str, cuda: str) -> GpuState:
    """Give what NVML reports of a machine whose cards are all in order."""
    library = f"/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.{driver}"
    gpus = tuple(card(kind, number, address, driver) for number, address in enumerate(addresses))
    return GpuState(
        driver_version=driver, nvml_version=f"{cuda.partition('.')[0]}.{driver}", cuda_version=cuda, library=library,
        init_code=0, count=len(gpus), gpus=gpus, seconds=round(0.02 + 0.011 * len(gpus), 3),
    )  # fmt: skip


def card(kind: Kind, number: int, address: str, driver: str) -> Gpu:
    """Give one idle card; what its kind or its driver cannot tell is unknown in NVML's words."""
    refused = dict.fromkeys(
        (*MIG, "retired_pages_pending") if kind is L4 else ("retired_pages_pending",), "Not Supported"
    )
    refused |= dict.fromkeys(() if kind.ecc else REFUSED_BY_GEFORCE, "Not Supported")
    refused |= {"recovery_action": "Function Not Found"} if int(driver.partition(".")[0]) < 560 else {}
    refused |= {"memory_reserved_mib": "Function Not Found"} if int(driver.partition(".")[0]) < 510 else {}
    values = {**_rates(kind, number), **_health(kind, number, address)}
    return Gpu(index=number, unknown=refused, **{name: each for name, each in values.items() if name not in refused})


def _rates(kind: Kind, number: int) -> dict[str, Any]:
    used = 4 if kind.ecc else 312 * (number == 0) + 12
    return {
        "memory_total_mib": kind.memory_mib, "memory_used_mib": used, "memory_free_mib": kind.memory_mib - used - 480,
        "memory_reserved_mib": 480,
        "utilization_percent": 0, "sm_clock_mhz": kind.sm_mhz[0], "sm_clock_max_mhz": kind.sm_mhz[1],
        "sm_clock_application_mhz": kind.sm_mhz[1], "sm_clock_default_mhz": kind.sm_mhz[1],
        "memory_clock_mhz": kind.memory_mhz[0], "memory_clock_max_mhz": kind.memory_mhz[1],
        "event_reasons": ("gpu_idle",), "temperature_celsius": 31 + number % 4, "slowdown_celsius": 90,
        "shutdown_celsius": 95, "power_watts": kind.watts[0], "power_limit_watts": kind.watts[1],
        "power_limit_enforced_watts": kind.watts[1], "power_limit_default_watts": kind.watts[1],
        "power_limit_max_watts": kind.watts[1],
    }  # fmt: skip


def _health(kind: Kind, number: int, address: str) -> dict[str, Any]:
    return {
        "name": kind.name, "uuid": f"GPU-5f0c7a1e-0000-4000-8000-{number:012d}", "serial": f"165292300000{number}",
        "pci_address": f"00000000:{address}:00.0", "compute_capability": kind.capability,
        "architecture": kind.architecture, "ecc_enabled": True, "ecc_enabled_after_reboot": True,
        "ecc_corrected_volatile": 0, "ecc_uncorrected_volatile": 0, "ecc_uncorrected_aggregate": 0,
        "remapped_rows_correctable": 0, "remapped_rows_uncorrectable": 0, "remap_pending": False,
        "remap_failed": False, "pcie_generation": kind.pcie if kind.watts[1] > 300 and kind.ecc else 1,
        "pcie_generation_max": kind.pcie, "pcie_width": 16, "pcie_width_max": 16, "pcie_replays": 0,
        "mig_enabled": False, "mig_enabled_after_reset": False, "compute_mode": "default",
        "persistence": kind.ecc, "virtualization": "passthrough" if kind is L4 else "none",
        "recovery_action": "none",
    }  # fmt: skip


def fabric(
    count: int, *, links: int = 0, switch: bool = False, version: int = 4, old_driver: bool = False
) -> GpuFabric:
    """Give how cards are connected: ``links`` NVLinks a card, to switches or shared among the other cards."""
    pairs = [(first, second) for first in range(count) for second in range(first + 1, count)]
    answers = "completed" if switch else "not-supported"
    states = (None,) * count if old_driver else (answers,) * count
    said = {} if links else {"nvlinks": "Not Supported"}
    return GpuFabric(
        links=tuple(PeerLink(a, b, _path(a, b, count), "ok" if links else "chipset-not-supported") for a, b in pairs),
        nvlinks=tuple(_links(number, count, links, version, switch=switch) for number in range(count)),
        fabric_states=states, fabric_statuses=(None,) * count if old_driver else ("success",) * count,
        unknown={**said, "fabric_states": "Function Not Found"} if old_driver else said,
    )  # fmt: skip


def _path(first: int, second: int, count: int) -> str:
    return "node" if (first < count / 2) == (second < count / 2) else "sys"


def _links(number: int, count: int, links: int, version: int, *, switch: bool) -> tuple[NvLink, ...]:
    others = [f"00000000:{each:02x}:00.0" for each in ((7, 8, 9, 10) if switch else (1, 65, 129, 193))]
    peers = others if switch else others[:number] + others[number + 1 : count]
    return tuple(NvLink(n, True, version, peers[n % len(peers)], 0, 0, 0) for n in range(links))


QUIET_LOG = KernelLog(readable=True, sources={"xids": "/var/log/kern.log", "nvrm_lines": "/var/log/kern.log"})
CLOSED_LOG = KernelLog(
    readable=False,
    unknown={
        "xids": "/dev/kmsg: Operation not permitted; /var/log/kern.log: Permission denied (as root: dmesg | grep NVRM)"
    },
)
