"""Machines without their Python: hosts, buses, device nodes and drivers, with the values such machines show."""

from __future__ import annotations

from envdoctor.facts.driver import (
    CudaDevice,
    CudaDriver,
    CudaRuntime,
    DriverFiles,
    DriverLibrary,
    KernelModule,
    NvidiaSmi,
    SmiGpu,
)
from envdoctor.facts.gpu import DeviceNode, DeviceNodes, PciBus, PciDevice
from envdoctor.facts.host import Environment, Host, Resources, Variable

LIBRARIES = "/usr/lib/x86_64-linux-gnu"


def ubuntu(hostname: str, version: str, kernel: str, libc: str, **more: object) -> Host:
    """Give an Ubuntu machine; ``version`` as in 22.04.5."""
    host = {
        "hostname": hostname, "system": "Linux", "os_id": "ubuntu", "os_version": version[:5],
        "os_name": f"Ubuntu {version} LTS", "kernel": kernel, "machine": "x86_64", "libc": f"glibc {libc}",
        "virtualization": "none", "wsl": False, "jetson": False, "container": "none", "is_root": False,
    }  # fmt: skip
    return Host(**{**host, **more})  # type: ignore[arg-type]


def resources(cpu: str, cpus: int, memory_mib: int, **more: object) -> Resources:
    """Give the limits of a login shell on a machine of this size: half of the memory is /dev/shm."""
    limits = {
        "cpu_model": cpu, "cpus_online": cpus, "cpus_affinity": cpus, "cgroup_version": 2,
        "memory_total_mib": memory_mib, "memory_available_mib": memory_mib * 9 // 10, "swap_total_mib": 8191,
        "shm_total_mib": memory_mib // 2, "shm_free_mib": memory_mib // 2 - 3, "open_files_soft": 1048576,
        "open_files_hard": 1048576, "locked_memory_soft_kib": -1, "locked_memory_hard_kib": -1,
        "stack_soft_kib": 8192, "processes_soft": 4 * memory_mib,
    }  # fmt: skip
    return Resources(**{**limits, **more})  # type: ignore[arg-type]


def environment(**variables: str) -> Environment:
    """Give the environment variables that matter, of a shell with some forty others."""
    collected = tuple(Variable(name, value) for name, value in sorted(variables.items()))
    return Environment(variables=collected, names_not_collected=41)


def bus(device_id: str, addresses: tuple[str, ...], *, nvswitches: tuple[str, ...] = (), driver: str | None = "nvidia",
        class_code: str = "030200") -> PciBus:  # fmt: skip
    """Give a bus with NVIDIA GPUs of one kind, half of them on each of two NUMA nodes when there are many."""
    half = (len(addresses) + 1) // 2
    return PciBus(
        gpus=tuple(
            PciDevice(f"0000:{each}:00.0", "10de", device_id, class_code, driver, int(n >= half))
            for n, each in enumerate(addresses)
        ),
        nvswitches=tuple(PciDevice(f"0000:{each}:00.0", "10de", "22a3", "068000", "nvidia", 0) for each in nvswitches),
        readable=True,
    )


def node(path: str, major: int, minor: int) -> DeviceNode:
    """Give a device node that everyone may use, as the driver makes them."""
    return DeviceNode(path, True, "0666", 0, 0, major, minor, readable=True, writable=True)


def nodes(gpus: int, *, nvswitches: int = 0) -> DeviceNodes:
    """Give the device nodes of a machine whose driver is loaded."""
    return DeviceNodes(
        nvidiactl=node("/dev/nvidiactl", 195, 255),
        uvm=node("/dev/nvidia-uvm", 510, 0),
        gpus=tuple(node(f"/dev/nvidia{n}", 195, n) for n in range(gpus)),
        nvswitches=tuple(node(f"/dev/nvidia-nvswitch{n}", 508, n) for n in range(nvswitches)),
        dxg=DeviceNode("/dev/dxg"),
        groups=(1000,),
    )


NO_NODES = DeviceNodes(
    nvidiactl=DeviceNode("/dev/nvidiactl"), uvm=DeviceNode("/dev/nvidia-uvm"), dxg=DeviceNode("/dev/dxg"), groups=(0,)
)


def module(version: str, *, flavor: str = "proprietary", fabric_manager: bool = False) -> KernelModule:
    """Give a loaded driver whose module on disk is the same."""
    return KernelModule(
        loaded=True, version=version, flavor=flavor, uvm_loaded=True, nouveau_loaded=False, peermem_loaded=False,
        on_disk_version=version, fabric_manager_running=fabric_manager,
        fabric_manager_version=version if fabric_manager else None,
        unknown={} if fabric_manager else {"fabric_manager_version": "no fabric manager is installed"},
    )  # fmt: skip


def driver_files(version: str) -> DriverFiles:
    """Give the user-space files of a driver from the distribution's packages."""
    cuda = DriverLibrary(f"{LIBRARIES}/libcuda.so.{version}", "libcuda.so.1", version, size_bytes=31_250_000)
    nvml = DriverLibrary(f"{LIBRARIES}/libnvidia-ml.so.{version}", "libnvidia-ml.so.1", version, size_bytes=2_082_000)
    return DriverFiles(libcuda=(cuda,), nvml=(nvml,), nvidia_smi="/usr/bin/nvidia-smi", first_libcuda=cuda)


def smi(version: str, cuda: str, name: str, count: int, memory_mib: int, capability: str) -> NvidiaSmi:
    """Give what nvidia-smi says on a machine where it works."""
    gpus = tuple(SmiGpu(n, name, memory_mib, capability) for n in range(count))
    return NvidiaSmi(
        path="/usr/bin/nvidia-smi", exit_code=0, driver_version=version, cuda_version=cuda, gpus=gpus,
        words=f"NVIDIA-SMI {version}  Driver Version: {version}  CUDA Version: {cuda}",
    )  # fmt: skip


def libcuda(version: str, cuda: str, name: str, count: int, memory_mib: int, capability: str) -> CudaDriver:
    """Give a libcuda that starts and shows its devices."""
    return CudaDriver(
        libcuda=f"{LIBRARIES}/libcuda.so.{version}", cuda_version=cuda, init_code=0, init_name="CUDA_SUCCESS",
        init_words="no error", device_count=count, init_seconds=round(0.31 + 0.06 * count, 2),
        devices=tuple(CudaDevice(n, name, capability, memory_mib) for n in range(count)),
    )  # fmt: skip


def cudart(library: str, runtime: str, driver: str, count: int) -> CudaRuntime:
    """Give a runtime library that finds every device."""
    return CudaRuntime(
        library=library, linked_statically=False, runtime_version=runtime, driver_version=driver, code=0,
        name="cudaSuccess", words="no error", device_count=count, seconds=0.42,
    )  # fmt: skip
