"""[payload] The NVIDIA driver: kernel module, user-space files, and what its libraries answer."""

from __future__ import annotations

from typing import Optional, Tuple

from envdoctor.facts import Fact, read_from
from envdoctor.facts.dataclass import dataclass


@dataclass(frozen=True)
class KernelModule(Fact):
    """The kernel side: which module is loaded, and which one lies on disk."""

    loaded: Optional[bool] = read_from("/proc/modules, /sys/module/nvidia")
    version: Optional[str] = read_from("/proc/driver/nvidia/version, /sys/module/nvidia/version")
    flavor: Optional[str] = read_from("/proc/driver/nvidia/version")  # "open" or "proprietary"
    uvm_loaded: Optional[bool] = read_from("/proc/modules")
    nouveau_loaded: Optional[bool] = read_from("/proc/modules")
    peermem_loaded: Optional[bool] = read_from("/proc/modules")
    on_disk_version: Optional[str] = read_from("/lib/modules/RELEASE: version= of nvidia.ko")
    fabric_manager_running: Optional[bool] = read_from("/run/nvidia-fabricmanager, /proc/*/comm")
    fabric_manager_version: Optional[str] = read_from("nvidia-fabricmanager version by package files")


@dataclass(frozen=True)
class DriverLibrary:
    """A driver library by file name: ``/usr/lib/x86_64-linux-gnu/libcuda.so.535.183.01`` -> 535.183.01."""

    path: str = ""
    soname: str = ""
    version: Optional[str] = None
    compat: bool = False  # part of a cuda-compat package, not of the driver
    stub: bool = False  # the toolkit's link-time stub
    size_bytes: Optional[int] = None


@dataclass(frozen=True)
class DriverFiles(Fact):
    """User-space driver libraries on disk, in the order in which the loader would find them."""

    libcuda: Tuple[DriverLibrary, ...] = read_from("library directories", ())
    nvml: Tuple[DriverLibrary, ...] = read_from("library directories", ())
    nvidia_smi: Optional[str] = read_from("PATH")
    first_libcuda: Optional[DriverLibrary] = read_from("loader's search order")
    makes_nodes: Optional[bool] = read_from("/usr/bin/nvidia-modprobe")  # setuid: creates device nodes for any user


@dataclass(frozen=True)
class SmiGpu:
    """One row of nvidia-smi's query."""

    index: Optional[int] = None
    name: str = ""
    memory_total_mib: Optional[int] = None
    compute_capability: Optional[str] = None


@dataclass(frozen=True)
class NvidiaSmi(Fact):
    """What nvidia-smi said: a second source, with its exit code and its own words kept."""

    path: Optional[str] = read_from("PATH")
    exit_code: Optional[int] = read_from("nvidia-smi")
    driver_version: Optional[str] = read_from("nvidia-smi")
    cuda_version: Optional[str] = read_from("nvidia-smi header")
    gpus: Tuple[SmiGpu, ...] = read_from("nvidia-smi --query-gpu", ())
    words: str = read_from("nvidia-smi, first 2000 characters of what it printed", "")


@dataclass(frozen=True)
class CudaDevice:
    """One device as a CUDA library reports it. ``compute_capability`` as ``8.0``."""

    index: int = 0
    name: str = ""
    compute_capability: Optional[str] = None
    memory_total_mib: Optional[int] = None


@dataclass(frozen=True)
class CudaDriver(Fact):
    """libcuda's own answer, asked in a child: cuInit, the CUDA level it supports, and its devices."""

    libcuda: Optional[str] = read_from("/proc/self/maps")
    cuda_version: Optional[str] = read_from("cuDriverGetVersion")  # "12.2"
    init_code: Optional[int] = read_from("cuInit")
    init_name: Optional[str] = read_from("cuGetErrorName")  # "CUDA_ERROR_NO_DEVICE"
    init_words: Optional[str] = read_from("cuGetErrorString")
    device_count: Optional[int] = read_from("cuDeviceGetCount")
    devices: Tuple[CudaDevice, ...] = read_from("cuDeviceGet", ())
    init_seconds: Optional[float] = read_from("cuInit")


@dataclass(frozen=True)
class CudaRuntime(Fact):
    """The verdict of the very libcudart that torch would load, asked in a child."""

    library: Optional[str] = read_from("loader's search order for torch")
    linked_statically: Optional[bool] = read_from("torch/lib")
    runtime_version: Optional[str] = read_from("cudaRuntimeGetVersion")  # "13.0"
    driver_version: Optional[str] = read_from("cudaDriverGetVersion")  # the CUDA level of the driver, "12.2"
    code: Optional[int] = read_from("cudaGetDeviceCount")
    name: Optional[str] = read_from("cudaGetErrorName")  # "cudaErrorInsufficientDriver"
    words: Optional[str] = read_from("cudaGetErrorString")
    device_count: Optional[int] = read_from("cudaGetDeviceCount")
    seconds: Optional[float] = read_from("cudaGetDeviceCount")
