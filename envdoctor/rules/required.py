"""What the caller requires of this machine, held against what was found."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace

from envdoctor.facts.driver import CudaDriver, CudaRuntime, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes
from envdoctor.facts.host import Host, Resources
from envdoctor.facts.libraries import Libraries, MappedLibraries
from envdoctor.facts.nvml import GpuState
from envdoctor.facts.packages import Packages
from envdoctor.facts.required import Need, Required
from envdoctor.facts.run import ProbeRun
from envdoctor.facts.surroundings import Container
from envdoctor.facts.torch import TorchBuild, TorchCuda, TorchImport, TorchSettings
from envdoctor.finding import Finding, Severity, see
from envdoctor.rule import NotApplicable, Rule, Unknown, rule
from envdoctor.rules import required_gpus, required_versions
from envdoctor.rules.required_values import Around, Held

JUDGES: dict[str, Callable[[Around, str], Held]] = {
    "torch": required_versions.torch,
    "cuda": required_versions.cuda,
    "cudnn": required_versions.cudnn,
    "nccl": required_versions.nccl,
    "driver": required_versions.driver,
    "gpus": required_gpus.gpus,
    "gpu_memory_gib": required_gpus.gpu_memory_gib,
    "compute_capability": required_gpus.compute_capability,
    "bf16": required_gpus.bf16,
    "fp8": required_gpus.fp8,
    "shm_gib": required_gpus.shm_gib,
    "python": required_versions.python,
    "ngc": required_versions.ngc,
}


@rule(severity=Severity.ERROR, group="environment", essential=True)
def requirement_not_met(
    required: Required | None,
    run: ProbeRun,
    host: Host | None,
    build: TorchBuild | None,
    imported: TorchImport | None,
    packages: Packages | None,
    libraries: Libraries | None,
    settings: TorchSettings | None,
    mapped: MappedLibraries | None,
    module: KernelModule | None,
    driver: CudaDriver | None,
    runtime: CudaRuntime | None,
    cuda: TorchCuda | None,
    state: GpuState | None,
    smi: NvidiaSmi | None,
    nodes: DeviceNodes | None,
    resources: Resources | None,
    container: Container | None,
) -> Iterator[Finding]:
    """Something that was required of this machine is not so.

    ## What it means
    preflight(require=...), the table "require" of the configuration, or --require asked for a version, a number of
    GPUs or an ability, and this machine does not have it.

    ## Why it matters
    Whoever wrote it down knows that the program fails, is too slow or gives other results without it.

    ## How it is detected
    Each requirement is held against what was found. A number means at least so many. Local tags (+cu126) and
    pre-release marks do not count. GPUs are those that CUDA shows to a program here, and each of them must suffice.
    "bf16" and "fp8" are asked of Tensor Cores: from compute capability 8.0 and 8.9 on. "cuda" is what torch was built
    with, "driver" the NVIDIA driver's own version. What could not be found out is unknown, and never counts as met.

    ## What to do
    Change the machine, or the requirement. Where another finding is its cause, begin there.

    ## Sources
    https://packaging.python.org/en/latest/specifications/version-specifiers/
    """
    if required is None or not required.needs:
        raise NotApplicable("nothing is required")
    around = Around(
        run, host, build, imported, packages, libraries, settings, mapped, module, driver, runtime, cuda, state, smi,
        nodes, resources, container,
    )  # fmt: skip
    open_ends = []
    for need in required.needs:
        try:
            held = _held(around, need)
        except Unknown as why:
            open_ends.append(f"whether {need.name} is {need.wanted} is not known: {why}")
            continue
        if not held.met:
            yield _finding(required, need, held)
    if open_ends:
        raise Unknown("; ".join(open_ends))


def _held(around: Around, need: Need) -> Held:
    if need.name.startswith("packages."):
        return required_versions.package(around, need.name.partition(".")[2], need.wanted)
    if need.name not in JUDGES:  # a snapshot of a later version
        raise Unknown("this version does not know it")
    return JUDGES[need.name](around, need.wanted)


def _finding(required: Required, need: Need, held: Held) -> Finding:
    asked = see(required, "needs", f"required {need.name}", need.wanted)
    fixes = tuple(replace(each, verify=_proof(required, need)) for each in held.fixes)
    return Finding(held.said, held.detail, (*held.evidence, asked), fixes, subject=need.name, caused_by=held.causes)


def _proof(required: Required, need: Need) -> str:
    """Give the command that asks for the same again; empty where the configuration asks for it anyway."""
    source = required.sources.get("needs", "")
    if source.endswith(".toml") and ", " not in source:
        return ""
    sign = "" if not need.wanted or need.wanted[0] in "=<>!~" else "="
    return f"envdoctor check --only requirement-not-met --require {shlex.quote(f'{need.name}{sign}{need.wanted}')}"


RULES: tuple[Rule, ...] = (requirement_not_met,)
