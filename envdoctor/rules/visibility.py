"""Does CUDA_VISIBLE_DEVICES hide or misname the GPUs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from envdoctor.facts.driver import CudaDriver, CudaRuntime, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Environment
from envdoctor.facts.nvml import GpuState
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Command, Confidence, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.rule import Unknown, rule
from envdoctor.rules.presence import need_gpu, seen_working

NAME = "CUDA_VISIBLE_DEVICES"
ON_PURPOSE = frozenset({"", "-1", "nodevfiles", "none", "void"})
UUID = re.compile(r"GPU-.|MIG-.")  # a prefix is enough for CUDA; which GPU it names only the driver knows
NUMBER = re.compile(r"[+-]?\d+")


class Mask(msgspec.Struct, frozen=True):
    """What CUDA makes of a value: the entries it takes, and what is wrong with the first that it does not."""

    taken: tuple[str, ...]
    problem: str = ""


def read_mask(value: str, count: int | None) -> Mask:
    """Read a value as CUDA does: it stops at the first entry that is wrong, and a repeated entry hides everything.

    ``count`` None: the number of GPUs is not known, and indices are not held against it.
    """
    entries = [each.strip() for each in value.rstrip(" ,").split(",")]
    entries = entries[:-1] if len(entries) > 1 and entries[-1] == "-1" else entries
    by_name = bool(UUID.match(entries[0]))
    taken: list[str] = []
    for entry in entries:
        problem = _problem(entry, count, by_name=by_name)
        if problem:
            return Mask(tuple(taken), problem)
        plain = entry if by_name else str(int(NUMBER.match(entry)[0]))  # type: ignore[index]
        if plain in taken:
            return Mask((), f"{entry} is there twice, which hides every GPU")
        taken.append(plain)
    return Mask(tuple(taken))


def _problem(entry: str, count: int | None, *, by_name: bool) -> str:
    if by_name:
        return "" if UUID.match(entry) else f"{entry!r} is no GPU or MIG name, as the entries before it are"
    number = NUMBER.match(entry)
    if number is None:
        return f"{entry!r} is neither an index nor a GPU or MIG name"
    index = int(number[0])
    if index < 0:
        return f"{entry} ends the list"
    if count is not None and index >= count:
        return f"index {index} is beyond the last GPU, {count - 1}"
    return ""


def visible_gpus(
    driver: CudaDriver | None, smi: NvidiaSmi | None, state: GpuState | None, environment: Environment | None
) -> tuple[int, Evidence] | None:
    """Count the GPUs that a program here sees: CUDA's own count, else NVML's or nvidia-smi's under the mask."""
    if driver and driver.device_count:
        return driver.device_count, see(driver, "device_count", "GPUs that CUDA shows")
    if state and state.gpus:
        found = len(state.gpus), see(state, "gpus", "GPUs", len(state.gpus))
    elif smi and smi.gpus:
        found = len(smi.gpus), see(smi, "gpus", "GPUs", len(smi.gpus))
    else:
        return None
    value = environment.get("CUDA_VISIBLE_DEVICES") if environment else None
    count = len(read_mask(value, found[0]).taken) if value else found[0]
    return (count, found[1]) if count else None


@rule(severity=Severity.WARNING, group="environment")
def cuda_visible_devices_wrong(
    environment: Environment,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    smi: NvidiaSmi | None,
    driver: CudaDriver | None,
    runtime: CudaRuntime | None,
    cuda: TorchCuda | None,
    build: TorchBuild | None,
) -> Iterator[Finding]:
    """CUDA_VISIBLE_DEVICES hides GPUs that are there, or names some that are not.

    ## What it means
    CUDA reads this variable once, when it starts. It stops at the first entry that it does not understand or that does
    not exist, and every GPU named after it is hidden. An entry that is there twice hides all of them.

    ## Why it matters
    The program sees fewer GPUs than meant, or none: "No CUDA GPUs are available".

    ## How it is detected
    The value is read as CUDA reads it, against the number of GPUs that nvidia-smi, the device nodes or the PCI bus
    show; none of these is subject to the variable. An empty value or -1 is a choice: it is reported as info, and as a
    warning when torch then cannot use CUDA. Which GPU a UUID names is not checked.

    ## What to do
    Unset the variable, or name existing GPUs. "nvidia-smi -L" lists them.

    ## Sources
    https://docs.nvidia.com/cuda/cuda-programming-guide/05-appendices/environment-variables.html
    """
    value = environment.get(NAME)
    if value is None:
        return
    need_gpu(bus, nodes, module, smi, driver)
    shown = _count(smi, nodes, bus)
    if value.strip().lower() in ON_PURPOSE:
        harms = not (build and build.is_cpu_only) and _refused(cuda, runtime)
        yield _hidden_on_purpose(environment, value, shown, harms=harms)
        return
    mask = read_mask(value, shown[0] if shown else None)
    if not mask.problem and shown is None and not UUID.match(value):
        raise Unknown(f"{NAME}={value}, but how many GPUs there are is not known")
    if mask.problem:
        doubtful = bool(seen_working(cuda, runtime)) and not mask.taken
        yield _misread(mask, environment, shown, doubtful=doubtful)


def _misread(mask: Mask, environment: Environment, shown: tuple[int, Evidence] | None, *, doubtful: bool) -> Finding:
    value = environment.get(NAME) or ""
    hidden = "every GPU is hidden" if not mask.taken else f"only {', '.join(mask.taken)} can be seen"
    return Finding(
        f"{NAME}={value}: {mask.problem}; {hidden}",
        evidence=(_shown_value(environment, value), *((shown[1],) if shown else ())),
        fixes=_fixes(),
        confidence=Confidence.LIKELY if doubtful else Confidence.CERTAIN,
    )


def _refused(cuda: TorchCuda | None, runtime: CudaRuntime | None) -> bool:
    """Tell whether CUDA was seen not to start: by torch where it was asked, else by libcudart."""
    if cuda and cuda.available is not None:
        return not cuda.available
    return bool(runtime and runtime.code)


def _count(smi: NvidiaSmi | None, nodes: DeviceNodes | None, bus: PciBus | None) -> tuple[int, Evidence] | None:
    """Count the GPUs this process could reach: by nvidia-smi, else by the nodes, else by the bus."""
    if smi and smi.gpus:
        return len(smi.gpus), see(smi, "gpus", "GPUs", len(smi.gpus))
    there = sum(each.exists for each in nodes.gpus) if nodes else 0
    if nodes and there:
        return there, see(nodes, "gpus", "GPU device nodes", there)
    return (len(bus.gpus), see(bus, "gpus", "GPUs on the PCI bus", len(bus.gpus))) if bus and bus.gpus else None


def _hidden_on_purpose(
    environment: Environment, value: str, shown: tuple[int, Evidence] | None, *, harms: bool
) -> Finding:
    return Finding(
        f"{NAME} hides every GPU, chosen by the environment",
        evidence=(_shown_value(environment, value), *((shown[1],) if shown else ())),
        fixes=_fixes(),
        severity=None if harms else Severity.INFO,
    )


def _shown_value(environment: Environment, value: str) -> Evidence:
    return see(environment, "variables", NAME, f'"{value}"')


def _fixes() -> tuple[Fix, ...]:
    unset = Fix("Let CUDA see every GPU", (Command(None, f"unset {NAME}"),), Safety.SAFE, "this shell only")
    listed = Fix("Or name GPUs that exist", (Command(None, "nvidia-smi -L"),), Safety.SAFE, "nothing: it only lists")
    return (unset, listed)


RULES = (cuda_visible_devices_wrong,)
