"""Companions of torch that need a newer GPU than there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from envdoctor.facts.driver import CudaDriver, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.libraries import Libraries
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchCuda
from envdoctor.finding import Finding, Fix, Severity
from envdoctor.knowledge.cuda import dotted, numbers
from envdoctor.knowledge.ecosystem import Statement, stated
from envdoctor.knowledge.gpus import capability
from envdoctor.knowledge.libraries import cudnn_release, cudnn_releases
from envdoctor.remedy import repair
from envdoctor.remedy.install import install
from envdoctor.remedy.variables import look
from envdoctor.rule import Missing, NotApplicable, Rule, rule
from envdoctor.rules.cards import Card, cards
from envdoctor.rules.needs import installed, shown, stated_for
from envdoctor.rules.presence import need_gpu

CUDNN = re.compile(r"nvidia-cudnn-cu(?P<major>1\d)$")


@rule(severity=Severity.WARNING, group="packages", explained_by=("gpu-arch-not-in-build",))
def gpu_too_old_for_package(
    packages: Packages,
    driver: CudaDriver | None,
    smi: NvidiaSmi | None,
    cuda: TorchCuda | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    libraries: Libraries | None,
) -> Iterator[Finding]:
    """A GPU is older than the oldest that an installed package serves.

    ## What it means
    The project behind the package states a lowest compute capability, and a GPU here is below it. torch itself may
    serve the GPU well.

    ## Why it matters
    "FlashAttention only supports Ampere GPUs or newer", or "no kernel image is available for execution on the device",
    as soon as the package's kernels are called. It is info where only one feature of the package needs more.

    ## How it is detected
    The minimum that the project's own documentation states for this release, against the compute capability that
    libcuda, nvidia-smi or torch names, else NVIDIA's list by full model name. So is the cuDNN that would be loaded:
    from 9.11 on it serves Turing and newer. A package without a stated minimum is not judged: see
    `extension-arch-missing` for what its files hold.

    ## What to do
    Use torch's own scaled_dot_product_attention in place of flash-attn, a release that serves the GPU, or a newer GPU.

    ## Sources
    https://github.com/Dao-AILab/flash-attention#installation-and-features
    https://docs.vllm.ai/en/v0.14.0/getting_started/installation/gpu/
    https://huggingface.co/docs/bitsandbytes/v0.50.0/installation
    https://docs.nvidia.com/deeplearning/cudnn/backend/latest/reference/support-matrix.html
    """
    kinds = ("gpu_min", "gpu_min_feature")
    known = [(have, kind, row) for have in packages.distributions for kind in kinds for row in stated_for(have, kind)]
    known += [(have, "gpu_min", row) for have, row in _cudnn(packages, libraries)]
    if not known:
        raise NotApplicable("no package with a stated minimum is installed")
    need_gpu(bus, nodes, module, smi, driver)
    found = cards(driver, smi, cuda)
    if not any(each.capability for each in found):
        raise Missing(CudaDriver)
    accused: set[str] = set()
    for have, kind, row in known:
        old = [card for card in found if _below(card, row)]
        if old and have.name not in accused:
            accused.add(have.name)
            yield _too_old(packages, have, row, old, some=len(old) < len(found), feature=kind != "gpu_min")


def _cudnn(packages: Packages, libraries: Libraries | None) -> Iterator[tuple[Distribution, Statement]]:
    """Give the cuDNN that would be loaded, and the oldest GPU that it serves, where that is documented."""
    wheel = next((each for each in packages.distributions if CUDNN.match(each.name)), None)
    row = libraries.row("cudnn") if libraries else None
    version = (row.first.version if row and row.first else None) or (wheel.version if wheel else None)
    match = CUDNN.match(wheel.name) if wheel else None
    found = cudnn_release(numbers(version) or (0,), int(match["major"]) if match else None)
    if found and version and found.oldest_gpu:
        have = replace(wheel or Distribution("cudnn"), version=version)
        yield have, Statement(have.name, version, "", "gpu_min", dotted(found.oldest_gpu), "", found.note, found.source)


def _cudnn_for(packages: Packages, have: Distribution, old: list[Card]) -> tuple[Fix, ...]:
    """Go back to the last cuDNN of this CUDA major that is known to serve these GPUs."""
    least = min((found for each in old if (found := capability(each.capability))), default=(0, 0))
    fit = [
        each for each in cudnn_releases() if each.package == have.name and each.oldest_gpu and each.oldest_gpu <= least
    ]
    if not fit:
        return ()
    spec = f"{have.name}=={dotted(fit[-1].version)}"
    return (install(packages, (spec,), title=f"Go back to the last cuDNN that serves it: {spec}", alone=True),)


def _below(card: Card, row: Statement) -> bool:
    gpu, least = capability(card.capability), capability(row.value)
    return gpu is not None and least is not None and gpu < least


def _too_old(
    packages: Packages, have: Distribution, row: Statement, old: list[Card], *, some: bool, feature: bool
) -> Finding:
    what = f"{row.note} of {have.name} {have.version}" if feature else f"{have.name} {have.version}"
    name = old[0].name or "GPU"
    minimum = replace(shown(row, have), value=f"compute capability {row.value} or higher ({row.note})")
    return Finding(
        f"The {name} (compute capability {old[0].capability}) is older than {what} serves, {row.value}",
        "The rest of the package works." if feature else "",
        evidence=(*(card.evidence for card in old), installed(packages, have), minimum),
        fixes=_around_old(packages, have, old, some=some, feature=feature),
        subject=have.name,
        severity=Severity.INFO if feature else None,
        affects=(have.name,),
    )


def _around_old(
    packages: Packages, have: Distribution, old: list[Card], *, some: bool, feature: bool
) -> tuple[Fix, ...]:
    indices = (look("See the indices, then show only the newer GPUs (CUDA_VISIBLE_DEVICES)", "nvidia-smi -L"),)
    if feature:
        return indices if some else (look("See what this bitsandbytes can do here", "python -m bitsandbytes"),)
    if have.name == "cudnn" or CUDNN.match(have.name):
        return (*_cudnn_for(packages, have, old), *(indices if some else ()))
    later = next((each for each in stated(have.name, "gpu_min") if not any(_below(card, each) for card in old)), None)
    if later and all(each.operator == ">=" for each in later.specifier):
        return (install(packages, (f"{have.name}{later.specifier}",), title=f"Install {have.name}{later.specifier}"),)
    return (*(indices if some else ()), *repair.without(packages, (have.name,), ()))


RULES: tuple[Rule, ...] = (gpu_too_old_for_package,)
