"""Required GPUs: how many a program here sees, their memory and what they can compute; and room in /dev/shm."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from envdoctor.finding import Evidence, see
from envdoctor.knowledge.gpus import capability, capability_of
from envdoctor.remedy.container import more_shm
from envdoctor.remedy.variables import look
from envdoctor.requirements import ANY, conditions, holds
from envdoctor.rule import Unknown
from envdoctor.rules.required_values import Around, Held, spoken
from envdoctor.rules.versions import parsed, satisfies, specifiers

MIB_IN_GIB = 1024
SHM = "/dev/shm"  # noqa: S108 - named, not written to
NEARLY = 0.9  # cards are sold by round sizes that the driver does not show in full
BF16, FP8 = (8, 0), (8, 9)
CAUSES = (
    "nvidia-driver-missing", "container-gpu-not-passed", "container-gpu-detached", "device-nodes-missing",
    "device-nodes-no-permission", "driver-library-mismatch", "driver-too-old-for-cuda-build",
    "forward-compat-unsupported", "fabric-manager-missing", "uvm-broken-after-suspend", "wsl-driver-missing",
    "libcuda-stub-or-stale-on-path", "gpu-lost", "gpu-hardware-fault", "cuda-visible-devices-wrong", "cuda-unavailable",
)  # fmt: skip


class Device(msgspec.Struct, frozen=True):
    """One GPU that a program here sees; None where a value is not known."""

    name: str
    capability: str | None
    memory_mib: int | None


def gpus(around: Around, wanted: str) -> Held:
    """Hold the number of GPUs that CUDA shows to a program here."""
    count, shown = _count(around)
    said = f"{count} GPU{' is' if count == 1 else 's are'} visible, {spoken(wanted)} {_are(wanted)} required"
    fixes = (look("See which GPUs there are, and which this process may see", *_LOOK),)
    return Held(holds(count, wanted), said, shown, fixes, CAUSES)


_LOOK = ("nvidia-smi -L", "env | grep -E 'VISIBLE_DEVICES|SLURM_.*GPU'")


def _are(wanted: str) -> str:
    return "is" if wanted in {">=1", "==1"} else "are"


def _count(around: Around) -> tuple[int, tuple[Evidence, ...]]:
    """Count the GPUs: CUDA's own word first. Where CUDA cannot start, a program here sees none."""
    runtime, driver, cuda, nodes = around.runtime, around.driver, around.cuda, around.nodes
    answers = ((runtime, runtime and runtime.code == 0), (driver, driver and driver.init_code == 0), (cuda, cuda))
    for fact, worked in answers:
        if fact and worked and fact.device_count is not None:
            return fact.device_count, (see(fact, "device_count", "GPUs that CUDA shows"),)
    if runtime and runtime.code is not None:
        return 0, (see(runtime, "code", "libcudart answers", f"{runtime.code} {runtime.name or ''}".strip()),)
    if driver and driver.init_code is not None:
        return 0, (see(driver, "init_code", "cuInit answers", f"{driver.init_code} {driver.init_name or ''}".strip()),)
    if nodes is not None and not nodes.may_ask_driver:
        return 0, (see(nodes, "nvidiactl", "NVIDIA device nodes", "none"),)
    return _told(around)


def _told(around: Around) -> tuple[int, tuple[Evidence, ...]]:
    """Take the word of a pasted text, or say why nobody knows."""
    if around.smi and around.smi.gpus:
        return len(around.smi.gpus), (see(around.smi, "gpus", "GPUs", len(around.smi.gpus)),)
    ends = (around.run.end_of(name) for name in ("cuda-runtime", "cuda-driver"))
    said = "; ".join(f"probe {each.name} {each.outcome}: {each.reason}" for each in ends if each.outcome)
    raise Unknown(f"how many GPUs a program here sees is not known{': ' if said else ''}{said}")


def gpu_memory_gib(around: Around, wanted: str) -> Held:
    """Hold the memory of the smallest visible GPU."""
    devices, shown = _devices(around)
    if not devices:
        return _without(f"{spoken(wanted)} GiB", shown)
    sizes = [each.memory_mib for each in devices if each.memory_mib]
    if len(sizes) < len(devices):
        raise Unknown("the memory of the GPUs is not known")
    least = min(sizes) / MIB_IN_GIB
    name = next(each.name for each in devices if each.memory_mib == min(sizes))
    said = f"The {name or 'GPU'} has {least:.1f} GiB, {spoken(wanted)} are required of each GPU"
    seen = Evidence(shown[0].fact, f"{least:.1f} GiB", shown[0].source, "", "memory of the smallest GPU")
    near = not holds(least, wanted) and holds(least / NEARLY, wanted)
    detail = "A driver shows less than the size that a card is sold by: ask for what it shows." if near else ""
    fixes = (look("See each GPU's memory", "nvidia-smi --query-gpu=index,name,memory.total --format=csv"),)
    return Held(holds(least, wanted), said, (seen,), fixes, ("mig-limitation", "vgpu-limitation"), detail)


def compute_capability(around: Around, wanted: str) -> Held:
    """Hold the compute capability of every visible GPU."""
    asked = specifiers(wanted, "require")
    return _capabilities(
        around,
        lambda found: satisfies(parsed(f"{found[0]}.{found[1]}", "the GPU"), asked),
        f"compute capability {wanted}",
    )


def bf16(around: Around, wanted: str) -> Held:
    """Hold bf16 on Tensor Cores, from compute capability 8.0 on; emulated, any GPU has it."""
    if wanted == ANY:
        return gpus(around, ">=1")
    held = _capabilities(around, lambda found: found >= BF16, "bf16 on Tensor Cores (compute capability 8.0)")
    return Held(held.met, held.said, held.evidence, held.fixes, ("bf16-emulated", *held.causes))


def fp8(around: Around, _wanted: str) -> Held:
    """Hold fp8 on Tensor Cores, from compute capability 8.9 on."""
    return _capabilities(around, lambda found: found >= FP8, "fp8 on Tensor Cores (compute capability 8.9)")


def _capabilities(around: Around, suffices: Callable[[tuple[int, ...]], bool], what: str) -> Held:
    devices, shown = _devices(around)
    if not devices:
        return _without(what, shown)
    for each in devices:
        found = capability(each.capability or capability_of(each.name))
        if found is None:
            raise Unknown(f"the compute capability of {each.name or 'the GPU'} is not known")
        if not suffices(found):
            label = f"{found[0]}.{found[1]}"
            seen = Evidence(shown[0].fact, f"{each.name or 'GPU'}, {label}", shown[0].source, "", "compute capability")
            said = f"The {each.name or 'GPU'} has compute capability {label}, {what} is required"
            query = "nvidia-smi --query-gpu=index,name,compute_cap --format=csv"
            return Held(False, said, (seen,), (look("See each GPU's compute capability", query),))
    return Held(True, "", shown)


def _without(what: str, shown: tuple[Evidence, ...]) -> Held:
    fixes = (look("See which GPUs there are, and which this process may see", *_LOOK),)
    return Held(False, f"No GPU is visible, {what} is required", shown, fixes, CAUSES)


def _devices(around: Around) -> tuple[list[Device], tuple[Evidence, ...]]:
    """Give the visible GPUs, from whoever describes as many as are visible, and what they were read from."""
    driver, state, smi, cuda = around.driver, around.state, around.smi, around.cuda
    if driver and driver.devices:
        found = [Device(each.name, each.compute_capability, each.memory_total_mib) for each in driver.devices]
        return found, (see(driver, "devices", "GPUs", _listed(found)),)
    count, shown = _count(around)
    if count == 0:
        return [], shown
    if state and len(state.gpus) == count:
        found = [Device(each.name or "", each.compute_capability, each.memory_total_mib) for each in state.gpus]
        return found, (see(state, "gpus", "GPUs", _listed(found)),)
    if smi and len(smi.gpus) == count:
        found = [Device(each.name, each.compute_capability, each.memory_total_mib) for each in smi.gpus]
        return found, (see(smi, "gpus", "GPUs", _listed(found)),)
    if cuda and cuda.capabilities:
        names = cuda.device_names or ("",) * count
        found = [Device(name, each, None) for name, each in zip(names, cuda.capabilities, strict=False)]
        return found, (see(cuda, "capabilities", "GPUs", _listed(found)),)
    raise Unknown("which GPUs a program here sees is not known")


def _listed(devices: list[Device]) -> str:
    counted = {each.name: sum(other.name == each.name for other in devices) for each in devices}
    return ", ".join(f"{number} x {name or 'GPU'}" for name, number in counted.items())


def shm_gib(around: Around, wanted: str) -> Held:
    """Hold the size of /dev/shm."""
    resources = around.resources
    if resources is None or resources.shm_total_mib is None:
        raise Unknown("the size of /dev/shm is not known")
    size = resources.shm_total_mib / MIB_IN_GIB
    shown = see(resources, "shm_total_mib", SHM, f"{resources.shm_total_mib} MiB")
    said = f"{SHM} has {size:.3g} GiB, {spoken(wanted)} are required"
    return Held(holds(size, wanted), said, (shown,), more_shm(around.host, _room(wanted)), ("shm-too-small",))


def _room(wanted: str) -> int:
    """Give a size in whole GiB that suffices, as far as the conditions name one."""
    return max([math.ceil(limit) for sign, limit in conditions(wanted) if sign in {">=", ">", "=="}], default=8)
