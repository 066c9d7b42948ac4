"""[payload] What surrounds the process: container, fabric, storage and, when asked, a job that already runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Tuple

from envdoctor.facts import Fact, read_from
from envdoctor.facts.dataclass import dataclass

if TYPE_CHECKING:
    from envdoctor.facts.job import Job
    from envdoctor.facts.storage import Mount, Storage

__all__ = ["Container", "Fabric", "InfinibandPort", "Job", "Mount", "Nic", "Storage"]


@dataclass(frozen=True)
class Container(Fact):
    """The container this process is in, what it was promised, and what is there."""

    kind: Optional[str] = read_from("marker files, cgroup, environment")  # docker, podman, kubernetes, …, none
    visible_devices: Optional[str] = read_from("NVIDIA_VISIBLE_DEVICES")
    driver_capabilities: Optional[str] = read_from("NVIDIA_DRIVER_CAPABILITIES")
    require_cuda: Optional[str] = read_from("NVIDIA_REQUIRE_CUDA")
    nvidia_image: Optional[str] = read_from("NVIDIA_PRODUCT_NAME, /opt/nvidia")  # "PyTorch", None when no NVIDIA image
    nvidia_image_tag: Optional[str] = read_from("NVIDIA_PYTORCH_VERSION")
    nvidia_build_id: Optional[str] = read_from("NVIDIA_BUILD_ID")
    image_versions: Tuple[Tuple[str, str], ...] = read_from("PYTORCH_BUILD_VERSION, CUDNN_VERSION, NCCL_VERSION, …", ())
    toolkit_mounts: Tuple[str, ...] = read_from("/proc/self/mountinfo", ())  # driver files mounted into the container
    uses_cdi: Optional[bool] = read_from("NVIDIA_VISIBLE_DEVICES void, device nodes present, /etc/ld.so.conf.d")


@dataclass(frozen=True)
class InfinibandPort:
    """One RDMA port; ``state``, ``physical_state`` and ``link_layer`` as the kernel prints them."""

    device: str = ""
    port: int = 1
    state: Optional[str] = None
    physical_state: Optional[str] = None
    rate: Optional[str] = None
    link_layer: Optional[str] = None
    numa_node: Optional[int] = None
    pci_address: Optional[str] = None


@dataclass(frozen=True)
class Nic:
    """One network interface; ``speed_mbit`` is None where it has none (no link, or made of software)."""

    name: str = ""
    up: Optional[bool] = None
    speed_mbit: Optional[int] = None
    mtu: Optional[int] = None
    numa_node: Optional[int] = None
    virtual: Optional[bool] = None  # no device behind it: lo, docker0, veth
    pci_address: Optional[str] = None


@dataclass(frozen=True)
class Fabric(Fact):
    """What several GPUs and several machines talk over, as sysfs shows it."""

    infiniband: Tuple[InfinibandPort, ...] = read_from("/sys/class/infiniband", ())
    nics: Tuple[Nic, ...] = read_from("/sys/class/net", ())
    peermem_loaded: Optional[bool] = read_from("/proc/modules")
    dmabuf_supported: Optional[bool] = read_from("kernel release and open kernel module")
    iommu: Optional[str] = read_from("/sys/kernel/iommu_groups, /proc/cmdline")  # off, passthrough, on
    acs_enabled_bridges: Tuple[str, ...] = read_from("/sys/bus/pci/devices/*/config", ())  # above GPUs, redirect on
    numa_nodes: Optional[int] = read_from("/sys/devices/system/node")
    process_numa_nodes: Tuple[int, ...] = read_from("sched_getaffinity against /sys/devices/system/node", ())
    memory_policy_nodes: Tuple[int, ...] = read_from("/proc/self/status Mems_allowed_list", ())
    memory_policy: Optional[str] = read_from("/proc/self/numa_maps")  # default, bind:0, interleave:0-1, prefer:1


def __getattr__(name: str) -> Any:
    """Give the two facts that have a module of their own, so that a process that asks for neither does without."""
    if name in ("Job", "Mount", "Storage"):
        from importlib import import_module

        return getattr(import_module("envdoctor.facts." + ("job" if name == "Job" else "storage")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
