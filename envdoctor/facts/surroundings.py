"""[payload] What surrounds the process: container, fabric, storage and, when asked, a job that already runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

from envdoctor.facts import Fact, read_from


@dataclass(frozen=True)
class Container(Fact):
    """The container this process is in, what it was promised, and what is there."""

    kind: Optional[str] = read_from("marker files, cgroup, environment")  # docker, podman, kubernetes, …, none
    visible_devices: Optional[str] = read_from("NVIDIA_VISIBLE_DEVICES")
    driver_capabilities: Optional[str] = read_from("NVIDIA_DRIVER_CAPABILITIES")
    require_cuda: Optional[str] = read_from("NVIDIA_REQUIRE_CUDA")
    nvidia_image: Optional[str] = read_from("NVIDIA_PRODUCT_NAME, /opt/nvidia")  # "PyTorch", None when no NVIDIA image
    nvidia_image_tag: Optional[str] = read_from("NVIDIA_PYTORCH_VERSION")
    image_versions: Tuple[Tuple[str, str], ...] = read_from("PYTORCH_BUILD_VERSION, CUDNN_VERSION, NCCL_VERSION, …", ())
    toolkit_mounts: Tuple[str, ...] = read_from("/proc/self/mountinfo", ())  # driver files mounted into the container
    uses_cdi: Optional[bool] = read_from("NVIDIA_VISIBLE_DEVICES void, device nodes present")


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


@dataclass(frozen=True)
class Nic:
    """One network interface."""

    name: str = ""
    up: Optional[bool] = None
    speed_mbit: Optional[int] = None
    mtu: Optional[int] = None
    numa_node: Optional[int] = None


@dataclass(frozen=True)
class Fabric(Fact):
    """What several GPUs and several machines talk over, as sysfs shows it."""

    infiniband: Tuple[InfinibandPort, ...] = read_from("/sys/class/infiniband", ())
    nics: Tuple[Nic, ...] = read_from("/sys/class/net", ())
    peermem_loaded: Optional[bool] = read_from("/proc/modules")
    dmabuf_supported: Optional[bool] = read_from("kernel release and open kernel module")
    iommu: Optional[str] = read_from("/proc/cmdline, /sys/kernel/iommu_groups")  # off, passthrough, on
    acs_enabled_bridges: Tuple[str, ...] = read_from("/sys/bus/pci/devices/*/config", ())
    numa_nodes: Optional[int] = read_from("/sys/devices/system/node")
    process_numa_nodes: Tuple[int, ...] = read_from("sched_getaffinity against /sys/devices/system/node", ())
    memory_policy_nodes: Tuple[int, ...] = read_from("/proc/self/status Mems_allowed_list", ())


@dataclass(frozen=True)
class Mount:
    """A mount that matters to training: where temporary and package files live."""

    path: str = ""
    filesystem: str = ""
    options: str = ""
    free_mib: Optional[int] = None


@dataclass(frozen=True)
class Storage(Fact):
    """File systems under /tmp, the environment, the caches and the working directory."""

    mounts: Tuple[Mount, ...] = read_from("/proc/self/mountinfo, statvfs", ())


@dataclass(frozen=True)
class Job(Fact):
    """A process that runs now (``--pid``): what it really loaded and what limits it."""

    pid: Optional[int] = read_from("--pid")
    command: Optional[str] = read_from("/proc/PID/cmdline", private=True)
    executable: Optional[str] = read_from("/proc/PID/exe", private=True)
    libraries: Tuple[str, ...] = read_from("/proc/PID/maps", ())
    deleted_libraries: Tuple[str, ...] = read_from("/proc/PID/maps", ())  # replaced on disk since they were mapped
    cgroup: Optional[str] = read_from("/proc/PID/cgroup")
    open_files_soft: Optional[int] = read_from("/proc/PID/limits")
    locked_memory_soft_kib: Optional[int] = read_from("/proc/PID/limits")
    threads: Optional[int] = read_from("/proc/PID/status")
    ended: Optional[bool] = read_from("/proc/PID")
