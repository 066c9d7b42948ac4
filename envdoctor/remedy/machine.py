"""What a torch wheel must fit, put together from whatever facts there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from envdoctor.knowledge.cuda import dotted, level_of, numbers
from envdoctor.knowledge.gpus import capability, capability_of
from envdoctor.remedy.wheels import Wheel, cpu_wheel, torch_wheel

if TYPE_CHECKING:
    from envdoctor.facts.driver import CudaDevice, CudaDriver, CudaRuntime, KernelModule, NvidiaSmi, SmiGpu
    from envdoctor.facts.gpu import PciDevice
    from envdoctor.facts.host import Host
    from envdoctor.facts.packages import Packages

BLACKWELL = (10, 0)
FIRST_BLACKWELL_ID = 0x2900  # device ids grow with the generations: Ada's end at 0x28ff
GRACE_HOPPER_IDS = frozenset({0x2342, 0x2345, 0x2348})


@dataclass(frozen=True, slots=True)
class Machine:
    """What a wheel must fit. ``python`` None: not known. ``driver_cuda`` None: no driver, or not known."""

    python: str | None = None
    architecture: str | None = None
    system: str | None = None
    driver_cuda: str | None = None
    capabilities: tuple[str, ...] = ()
    no_wheels: str = ""
    open_modules: bool = False

    def cuda_wheel(self, installed: str | None = None) -> Wheel | None:
        """Choose the CUDA wheel for this machine; None when none is known to fit."""
        if self.python is None or self.no_wheels:
            return None
        return torch_wheel(
            self.python, self.architecture, self.driver_cuda, self.capabilities, installed, system=self.system
        )

    def cpu_wheel(self, installed: str | None = None) -> Wheel | None:
        """Choose the CPU wheel for this machine; None when none is known to fit."""
        return None if self.python is None or self.no_wheels else cpu_wheel(self.python, installed)

    def no_gpu_has_code(self) -> bool:
        """Tell whether the GPUs are known and no published wheel for this Python has code for any of them."""
        if self.python is None or self.no_wheels or not self.capabilities:
            return False
        every = ((each,) for each in self.capabilities)
        return all(
            torch_wheel(self.python, self.architecture, None, each, system=self.system) is None for each in every
        )


def machine_of(
    packages: Packages | None,
    host: Host | None,
    *,
    driver: CudaDriver | None = None,
    runtime: CudaRuntime | None = None,
    smi: NvidiaSmi | None = None,
    module: KernelModule | None = None,
) -> Machine:
    """Put together what is known of Python, platform, driver and GPUs."""
    return Machine(
        packages.python_version if packages else None,
        host.machine if host else None,
        host.system if host else None,
        driver_cuda_of(host, driver, runtime, smi, module),
        capabilities_of(driver, smi),
        _no_wheels(host),
        needs_open_modules(module, driver, smi),
    )


def needs_open_modules(
    module: KernelModule | None,
    driver: CudaDriver | None,
    smi: NvidiaSmi | None,
    devices: tuple[PciDevice, ...] = (),
) -> bool:
    """Tell whether a driver must come with the open kernel modules: they run here, or a GPU is driven by them alone.

    Those are Blackwell and newer, and Grace Hopper. Older ones than Turing are driven by the proprietary ones alone.
    """
    cards: tuple[CudaDevice | SmiGpu, ...] = (*(driver.devices if driver else ()), *(smi.gpus if smi else ()))
    known = (capability(each) or () for each in capabilities_of(driver, smi))
    ids = [int(each.device_id, 16) for each in devices if each.device_id]
    return (
        bool(module and module.flavor == "open")
        or any(each >= BLACKWELL for each in known)
        or any("GH200" in each.name for each in cards)
        or any(each >= FIRST_BLACKWELL_ID or each in GRACE_HOPPER_IDS for each in ids)
    )


def driver_cuda_of(
    host: Host | None,
    driver: CudaDriver | None,
    runtime: CudaRuntime | None,
    smi: NvidiaSmi | None,
    module: KernelModule | None,
) -> str | None:
    """Give the CUDA level of the driver: its libraries' word first, the tables' for its version last."""
    told = (
        driver.cuda_version if driver else None,
        runtime.driver_version if runtime else None,
        smi.cuda_version if smi else None,
    )
    version = (module.version if module else None) or (smi.driver_version if smi else None)
    windows = bool(host and (host.wsl or host.system == "Windows"))
    level = level_of(numbers(version) or (), "windows" if windows else "linux") if version else None
    return next((each for each in told if each), dotted(level) if level else None)


def capabilities_of(driver: CudaDriver | None, smi: NvidiaSmi | None) -> tuple[str, ...]:
    """Give the compute capabilities of the GPUs, each once: what was told, else what their full names stand for."""
    cards: tuple[CudaDevice | SmiGpu, ...] = (*(driver.devices if driver else ()), *(smi.gpus if smi else ()))
    told = [card.compute_capability or capability_of(card.name) for card in cards]
    return tuple(dict.fromkeys(each for each in told if each))


def _no_wheels(host: Host | None) -> str:
    """Say why the PyTorch index has no CUDA wheels for this machine; empty when it may have."""
    if host and host.libc and host.libc.startswith("musl"):
        return "torch publishes no wheels for musl"
    if host and host.jetson:
        return "Jetson takes NVIDIA's own wheels, made for its JetPack"
    return "macOS has no CUDA" if host and host.system == "Darwin" else ""
