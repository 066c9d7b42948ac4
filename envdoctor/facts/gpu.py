"""[payload] GPUs as the bus, the device nodes and the kernel show them, before any driver is asked."""

from __future__ import annotations

from typing import Optional, Tuple

from envdoctor.facts import Fact, read_from
from envdoctor.facts.dataclass import dataclass


@dataclass(frozen=True)
class PciDevice:
    """One device on the PCI bus. ids and class as four and six hex digits (``10de``, ``030200``)."""

    address: str = ""
    vendor_id: str = ""
    device_id: str = ""
    class_code: str = ""
    driver: Optional[str] = None
    numa_node: Optional[int] = None


@dataclass(frozen=True)
class PciBus(Fact):
    """NVIDIA, AMD and Intel accelerators on the bus. ``gpus`` holds PCI class 03 devices of NVIDIA."""

    gpus: Tuple[PciDevice, ...] = read_from("/sys/bus/pci/devices", ())
    nvswitches: Tuple[PciDevice, ...] = read_from("/sys/bus/pci/devices", ())  # NVIDIA bridges, class 0680
    other_gpus: Tuple[PciDevice, ...] = read_from("/sys/bus/pci/devices", ())  # class 03 of other vendors
    readable: Optional[bool] = read_from("/sys/bus/pci/devices")


@dataclass(frozen=True)
class DeviceNode:
    """A device node, looked at with stat and access only: nothing is opened."""

    path: str = ""
    exists: bool = False
    mode: Optional[str] = None  # "0666"
    uid: Optional[int] = None
    gid: Optional[int] = None
    major: Optional[int] = None
    minor: Optional[int] = None
    readable: Optional[bool] = None
    writable: Optional[bool] = None


@dataclass(frozen=True)
class DeviceNodes(Fact):
    """The nodes that user space talks to the driver through."""

    nvidiactl: DeviceNode = read_from("/dev/nvidiactl", DeviceNode())
    uvm: DeviceNode = read_from("/dev/nvidia-uvm", DeviceNode())
    gpus: Tuple[DeviceNode, ...] = read_from("/dev/nvidia*", ())
    nvswitches: Tuple[DeviceNode, ...] = read_from("/dev/nvidia-nvswitch*", ())
    caps: Tuple[str, ...] = read_from("/dev/nvidia-caps", ())
    dxg: DeviceNode = read_from("/dev/dxg", DeviceNode())
    tegra: Tuple[DeviceNode, ...] = read_from("/dev/nvhost-*, /dev/nvgpu, /dev/nvmap", ())
    groups: Tuple[int, ...] = read_from("getgroups", ())

    @property
    def may_ask_driver(self) -> bool:
        """Tell whether NVML and libcuda may be called without creating device nodes (the harm gate)."""
        return self.nvidiactl.exists or self.dxg.exists or any(node.exists for node in self.tegra)

    @property
    def may_start_cuda(self) -> bool:
        """Tell whether CUDA may be started: a native driver needs its UVM node to be there already."""
        return self.dxg.exists or any(n.exists for n in self.tegra) or (self.nvidiactl.exists and self.uvm.exists)
