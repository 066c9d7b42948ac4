"""[payload] The state of each card as NVML reports it, and what the kernel log says of it."""

from __future__ import annotations

from dataclasses import field
from typing import Dict, Optional, Tuple

from envdoctor.facts import Fact, read_from
from envdoctor.facts.dataclass import dataclass


@dataclass(frozen=True)
class NvLink:
    """One NVLink of a GPU. ``remote`` is the PCI address at its other end, or ``nvswitch``."""

    link: int = 0
    active: Optional[bool] = None
    version: Optional[int] = None
    remote: Optional[str] = None
    replay_errors: Optional[int] = None
    recovery_errors: Optional[int] = None
    crc_errors: Optional[int] = None


@dataclass(frozen=True)
class GpuProcess:
    """A process that holds a context on a GPU, as far as this namespace shows it."""

    pid: int = 0
    memory_mib: Optional[int] = None
    kind: str = "compute"  # compute or graphics
    name: Optional[str] = None  # read of NVIDIA's own service for sharing a card alone (MPS)
    own: bool = False  # of the program that asks, of its job, or of the job that was asked about


@dataclass(frozen=True)
class MigDevice:
    """One MIG slice: its profile name and memory."""

    name: str = ""
    uuid: str = read_from("nvmlDeviceGetUUID", "", private=True)
    memory_total_mib: Optional[int] = None


@dataclass(frozen=True)
class Gpu:
    """One card. Temperatures in degrees Celsius, power in watts, clocks in MHz, memory in MiB.

    ``unknown`` says, by field, what NVML answered instead of a value ("Not Supported", "Function Not Found");
    ``lost`` is true when NVML says that the GPU is lost, ``hung`` when it did not answer in time.
    """

    index: int = 0
    name: Optional[str] = None
    uuid: Optional[str] = read_from("nvmlDeviceGetUUID", private=True)
    serial: Optional[str] = read_from("nvmlDeviceGetSerial", private=True)
    pci_address: Optional[str] = None
    compute_capability: Optional[str] = None
    architecture: Optional[str] = None
    memory_total_mib: Optional[int] = None
    memory_used_mib: Optional[int] = None
    memory_free_mib: Optional[int] = None
    memory_reserved_mib: Optional[int] = None  # the driver's own; drivers before 510 count it as used
    utilization_percent: Optional[int] = None
    sm_clock_mhz: Optional[int] = None
    sm_clock_max_mhz: Optional[int] = None
    sm_clock_application_mhz: Optional[int] = None
    sm_clock_default_mhz: Optional[int] = None
    memory_clock_mhz: Optional[int] = None
    memory_clock_max_mhz: Optional[int] = None
    event_reasons: Optional[Tuple[str, ...]] = None  # "sw_power_cap", "hw_thermal_slowdown", …
    temperature_celsius: Optional[int] = None
    slowdown_celsius: Optional[int] = None
    shutdown_celsius: Optional[int] = None
    power_watts: Optional[float] = None
    power_limit_watts: Optional[float] = None
    power_limit_enforced_watts: Optional[float] = None
    power_limit_default_watts: Optional[float] = None
    power_limit_max_watts: Optional[float] = None
    ecc_enabled: Optional[bool] = None
    ecc_enabled_after_reboot: Optional[bool] = None
    ecc_corrected_volatile: Optional[int] = None
    ecc_uncorrected_volatile: Optional[int] = None
    ecc_uncorrected_aggregate: Optional[int] = None
    remapped_rows_correctable: Optional[int] = None
    remapped_rows_uncorrectable: Optional[int] = None
    remap_pending: Optional[bool] = None
    remap_failed: Optional[bool] = None
    retired_pages_pending: Optional[bool] = None
    pcie_generation: Optional[int] = None
    pcie_generation_max: Optional[int] = None
    pcie_width: Optional[int] = None
    pcie_width_max: Optional[int] = None
    pcie_replays: Optional[int] = None
    mig_enabled: Optional[bool] = None
    mig_enabled_after_reset: Optional[bool] = None
    mig_devices: Tuple[MigDevice, ...] = ()
    compute_mode: Optional[str] = None  # default, exclusive-process, prohibited
    persistence: Optional[bool] = None
    virtualization: Optional[str] = None  # none, passthrough, vgpu, …
    recovery_action: Optional[str] = None  # none, gpu-reset, reboot, drain-p2p, …
    processes: Tuple[GpuProcess, ...] = ()
    lost: bool = False
    hung: bool = False
    unknown: Dict[str, str] = field(default_factory=dict)

    @property
    def starting(self) -> bool:
        """Tell whether not even its handle came in time: the first question to a card that nothing uses starts it."""
        return self.hung and "handle" in self.unknown


@dataclass(frozen=True)
class PeerLink:
    """How two GPUs of this machine are connected: ``path`` as NVML's topology level (nvlink, pix, phb, node, sys)."""

    first: int = 0
    second: int = 0
    path: Optional[str] = None
    peer_to_peer_read: Optional[str] = None  # ok, chipset-not-supported, …


@dataclass(frozen=True)
class GpuState(Fact):
    """What NVML reports, card by card; a card that did not answer is there with what is known of it."""

    driver_version: Optional[str] = read_from("nvmlSystemGetDriverVersion")
    nvml_version: Optional[str] = read_from("nvmlSystemGetNVMLVersion")
    cuda_version: Optional[str] = read_from("nvmlSystemGetCudaDriverVersion_v2")
    library: Optional[str] = read_from("/proc/self/maps")
    init_code: Optional[int] = read_from("nvmlInit_v2")
    init_words: Optional[str] = read_from("nvmlInit_v2")
    count: Optional[int] = read_from("nvmlDeviceGetCount_v2")
    gpus: Tuple[Gpu, ...] = read_from("nvmlDeviceGet*", ())
    seconds: Optional[float] = read_from("nvmlInit_v2 … nvmlShutdown")


@dataclass(frozen=True)
class GpuFabric(Fact):
    """Topology, NVLinks and fabric state: asked last, with a deadline of their own."""

    links: Tuple[PeerLink, ...] = read_from("nvmlDeviceGetTopologyCommonAncestor, nvmlDeviceGetP2PStatus", ())
    nvlinks: Tuple[Tuple[NvLink, ...], ...] = read_from("nvmlDeviceGetNvLinkState", ())  # by GPU index
    fabric_states: Tuple[Optional[str], ...] = read_from("nvmlDeviceGetGpuFabricInfoV", ())  # not-started, completed
    fabric_statuses: Tuple[Optional[str], ...] = read_from("nvmlDeviceGetGpuFabricInfoV", ())


@dataclass(frozen=True)
class XidEvent:
    """One Xid line of the kernel log."""

    code: int = 0
    pci_address: str = ""
    words: str = ""
    seconds_ago: Optional[float] = None


@dataclass(frozen=True)
class KernelLog(Fact):
    """NVIDIA's lines in the kernel log, where it may be read."""

    readable: Optional[bool] = read_from("/dev/kmsg, /var/log/kern.log")
    xids: Tuple[XidEvent, ...] = read_from("/dev/kmsg, /var/log/kern.log", ())
    nvrm_lines: Tuple[str, ...] = read_from("/dev/kmsg, /var/log/kern.log", ())
