"""Facts of machines that the rule tests start from: what each one's probes would have found."""

from __future__ import annotations

from envdoctor.facts.driver import CudaDevice, CudaDriver, CudaRuntime, DriverFiles, DriverLibrary, KernelModule
from envdoctor.facts.gpu import DeviceNode, DeviceNodes, PciBus, PciDevice
from envdoctor.facts.host import Host
from envdoctor.facts.torch import TorchBuild

UBUNTU = Host(system="Linux", os_id="ubuntu", os_version="22.04", container="none", wsl=False, jetson=False)
DOCKER = Host(system="Linux", os_id="ubuntu", container="docker", wsl=False, jetson=False)
WSL = Host(system="Linux", os_id="ubuntu", container="none", wsl=True, jetson=False)
JETSON = Host(system="Linux", os_id="ubuntu", container="none", wsl=False, jetson=True)
CARD = PciDevice("0000:17:00.0", "10de", "20b2", "030200", driver="nvidia")
ONE_GPU = PciBus(gpus=(CARD,), readable=True)
NO_GPU = PciBus(readable=True)
CU130 = TorchBuild(version="2.9.0+cu130", cuda="13.0", is_cpu_only=False)
CPU_BUILD = TorchBuild(version="2.13.0+cpu", is_cpu_only=True)


def node(path: str, *, open_to_us: bool = True) -> DeviceNode:
    """Make a device node that exists."""
    return DeviceNode(path, exists=True, mode="0666", uid=0, gid=0, readable=open_to_us, writable=open_to_us)


NODES = DeviceNodes(nvidiactl=node("/dev/nvidiactl"), uvm=node("/dev/nvidia-uvm"), gpus=(node("/dev/nvidia0"),))
NO_NODES = DeviceNodes()


def module(version: str | None = "535.183.01", **more: object) -> KernelModule:
    """Make a loaded kernel module of this version."""
    return KernelModule(loaded=True, version=version, **more)  # type: ignore[arg-type]


def build(cuda: str, version: str = "2.9.0") -> TorchBuild:
    """Make a CUDA build of torch."""
    tag = "cu" + "".join(cuda.split(".")[:2])
    return TorchBuild(version=f"{version}+{tag}", cuda=cuda, is_cpu_only=False)


def libcuda(version: str, *, compat: bool = False) -> DriverFiles:
    """Make user-space files whose first libcuda is of this version."""
    where = "/usr/local/cuda/compat" if compat else "/usr/lib/x86_64-linux-gnu"
    first = DriverLibrary(f"{where}/libcuda.so.{version}", "libcuda.so.1", version, compat=compat)
    return DriverFiles(libcuda=(first,), first_libcuda=first)


def answers(code: int, level: str | None = None, *names: str) -> CudaDriver:
    """Make libcuda's answer: a cuInit code, its CUDA level, and its devices by name."""
    devices = tuple(CudaDevice(index, name) for index, name in enumerate(names))
    return CudaDriver(
        cuda_version=level, init_code=code, device_count=len(devices) if code == 0 else None, devices=devices
    )


def libcudart(code: int, level: str | None = None, name: str = "", words: str = "") -> CudaRuntime:
    """Make libcudart's answer."""
    return CudaRuntime(library="libcudart.so.13", driver_version=level, code=code, name=name, words=words)
