"""Is there an NVIDIA GPU, and was CUDA seen to work: the two questions that most device rules begin with."""

from __future__ import annotations

from envdoctor.facts.driver import CudaDriver, CudaRuntime, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus, PciDevice
from envdoctor.facts.host import Host
from envdoctor.facts.torch import TorchCuda
from envdoctor.finding import Evidence, see
from envdoctor.rule import NotApplicable, Unknown

NO_DEVICE = "no NVIDIA device on this machine"
PASSTHROUGH = frozenset({"vfio-pci", "pci-stub", "pciback", "xen-pciback"})  # the card belongs to a virtual machine


def has_gpu(
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    smi: NvidiaSmi | None = None,
    driver: CudaDriver | None = None,
) -> bool | None:
    """Tell whether an NVIDIA GPU is there; None when nothing that was read can say."""
    if bus and (own_gpus(bus) or (bus.nvswitches and not bus.gpus)):
        return True
    if (module and module.loaded) or (nodes and has_nodes(nodes)):
        return True
    if (smi and (smi.gpus or smi.driver_version)) or (driver and driver.device_count):
        return True
    if nodes and nodes.dxg.exists:
        return None
    # An unreadable bus proves nothing by itself; without a node no program can reach a GPU either way.
    return False if bus and (nodes or bus.readable) else None


def own_gpus(bus: PciBus) -> tuple[PciDevice, ...]:
    """Give the GPUs on the bus that this system keeps for itself, without those handed to virtual machines."""
    return tuple(each for each in bus.gpus if each.driver not in PASSTHROUGH)


def has_nodes(nodes: DeviceNodes) -> bool:
    """Tell whether an NVIDIA device node is there. /dev/dxg serves every vendor's GPU, so it does not count."""
    native = (nodes.nvidiactl, *nodes.gpus, *nodes.tegra)
    return any(each.exists for each in native)


def need_gpu(
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    smi: NvidiaSmi | None = None,
    driver: CudaDriver | None = None,
) -> None:
    """End the rule unless an NVIDIA GPU is there or may be."""
    if has_gpu(bus, nodes, module, smi, driver) is False:
        raise NotApplicable(NO_DEVICE)


def need_native_driver(host: Host | None) -> None:
    """End the rule where the driver is not a Linux kernel module of its own: WSL, Jetson, Windows, macOS."""
    if host is None:
        return
    if host.wsl:
        raise NotApplicable("under WSL the driver is the one of Windows")
    if host.jetson:
        raise NotApplicable("on Jetson the driver is part of the system image")
    if host.system not in {None, "Linux"}:
        raise NotApplicable(f"{host.system} has no Linux kernel driver")


def seen_working(
    cuda: TorchCuda | None, runtime: CudaRuntime | None, driver: CudaDriver | None = None
) -> Evidence | None:
    """Give the observation that CUDA starts, which overrules every table; None when it was not seen."""
    if cuda and cuda.available:
        return see(cuda, "available", "torch can use CUDA")
    if runtime and runtime.code == 0:
        return see(runtime, "code", "libcudart starts")
    if driver and driver.init_code == 0 and driver.device_count:
        return see(driver, "init_code", "cuInit succeeds")
    return None


def in_container(host: Host | None) -> bool:
    """Tell whether this is known to be a container."""
    return bool(host and host.container and host.container != "none")


def windows_driver(host: Host | None) -> bool:
    """Tell whether driver versions here are those of the Windows driver."""
    return bool(host and (host.wsl or host.system == "Windows"))


def unknown_unless(value: object, reason: str) -> None:
    """End the rule as unknown when ``value`` is None."""
    if value is None:
        raise Unknown(reason)
