"""What machine a report is about, in words: the same words in every format."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from envdoctor.facts.driver import CudaDriver, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import PciBus
from envdoctor.facts.host import Host
from envdoctor.facts.nvml import GpuState
from envdoctor.facts.packages import Packages
from envdoctor.facts.surroundings import Container
from envdoctor.facts.torch import TorchBuild, TorchCuda, TorchImport
from envdoctor.outcome import Absent

if TYPE_CHECKING:
    from envdoctor.snapshot import Snapshot

TIMES = "\u00d7"


def machine(snapshot: Snapshot) -> tuple[str, ...]:
    """Name system, Python, torch, GPUs and driver, in this order; what need not be said is left out."""
    told = (system(snapshot), python(snapshot), torch(snapshot), gpus(snapshot), driver(snapshot))
    return tuple(each for each in told if each)


def doctor(snapshot: Snapshot) -> tuple[str, ...]:
    """Say which doctor looked, at whom where it is not this interpreter, how closely, and how long it took."""
    ours = f"{snapshot.elapsed_seconds:.1f} s ({snapshot.overhead_seconds:.1f} s ours)"
    target = () if snapshot.target.key in {"", "this"} else (snapshot.target.key,)
    return (f"envdoctor {snapshot.tool_version}".strip(), *target, snapshot.level, ours)


def system(snapshot: Snapshot) -> str:
    """Name the operating system, and what it runs in."""
    host = snapshot.get(Host)
    if host is None:
        return "OS unknown"
    name = host.os_name or " ".join(filter(None, [host.os_id, host.os_version])) or host.system or "OS unknown"
    inside = [
        host.container if host.container not in {None, "none"} else "",
        image(snapshot),
        "WSL" if host.wsl else "",
    ]
    return " ".join([name, *(f"({each})" for each in inside if each)])


def image(snapshot: Snapshot) -> str:
    """Name NVIDIA's image that this runs in; empty elsewhere."""
    inside = snapshot.get(Container)
    if inside is None or not inside.nvidia_image:
        return ""
    return f"NVIDIA {inside.nvidia_image} {inside.nvidia_image_tag or ''}".strip()


def python(snapshot: Snapshot) -> str:
    """Name the patient's Python."""
    packages = snapshot.get(Packages)
    return f"Python {(packages.python_version if packages else None) or 'unknown'}"


def torch(snapshot: Snapshot) -> str:
    """Name the patient's torch, with the CUDA it was built with where its version does not tell."""
    build, run = snapshot.get(TorchBuild), snapshot.get(TorchImport)
    version = (build.version or build.metadata_version if build else None) or (run.version if run else None)
    if version is None:
        probe = snapshot.probe_for("torch_build")
        return "no torch" if probe and isinstance(probe.outcome, Absent) else "torch unknown"
    if build and build.cuda and "+" not in version:
        return f"torch {version} (CUDA {build.cuda})"
    return f"torch {version}"


def gpus(snapshot: Snapshot) -> str:
    """Name the GPUs as the driver does, else count what is on the bus."""
    names = Counter(each.removeprefix("NVIDIA ") for each in _gpu_names(snapshot))
    if names:
        return ", ".join(name if count == 1 else f"{count} {TIMES} {name}" for name, count in names.items())
    bus = snapshot.get(PciBus)
    if bus is None or (not bus.gpus and bus.readable is False):
        return "GPUs unknown"
    many = f"{len(bus.gpus)} NVIDIA GPU{'s' if len(bus.gpus) > 1 else ''} on the bus"
    return many if bus.gpus else "no NVIDIA GPU"


def _gpu_names(snapshot: Snapshot) -> list[str]:
    """Give the names as told by the source that sees most: NVML and nvidia-smi do not heed CUDA_VISIBLE_DEVICES."""
    nvml, smi = snapshot.get(GpuState), snapshot.get(NvidiaSmi)
    asked, cuda = snapshot.get(CudaDriver), snapshot.get(TorchCuda)
    told = [
        [each.name or "GPU without a name" for each in nvml.gpus] if nvml else [],
        [each.name for each in smi.gpus] if smi else [],
        [each.name for each in asked.devices] if asked else [],
        list(cuda.device_names) if cuda else [],
    ]
    return next((names for names in told if any(names)), [])


def driver(snapshot: Snapshot) -> str:
    """Name the loaded driver; a machine without an NVIDIA GPU needs none, so nothing is said there."""
    module, smi, nvml = snapshot.get(KernelModule), snapshot.get(NvidiaSmi), snapshot.get(GpuState)
    told = (module and module.version, nvml and nvml.driver_version, smi and smi.driver_version)
    version = next(filter(None, told), None)
    if version:
        return f"driver {version}"
    if gpus(snapshot) == "no NVIDIA GPU":
        return ""
    return "no driver loaded" if module and module.loaded is False else "driver unknown"
