"""Words about code that a GPU lacks: in torch, in an extension, in NVRTC, in what Triton writes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, KernelModule, NvidiaSmi
from envdoctor.facts.host import Environment, Host
from envdoctor.facts.packages import Packages
from envdoctor.facts.text import ErrorText, Pasted
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.knowledge.cuda import dotted
from envdoctor.knowledge.ecosystem import Statement, stated
from envdoctor.knowledge.gpus import capability, compilers
from envdoctor.knowledge.torch import wheel_code
from envdoctor.remedy.machine import BLACKWELL
from envdoctor.remedy.repair import compiled_again
from envdoctor.remedy.variables import export, look, unset
from envdoctor.rule import Witness, cross_examined, witness
from envdoctor.rules.arch import other_wheel, runs_here
from envdoctor.rules.cards import Card, cards
from envdoctor.rules.driver_level import Driver, raise_driver
from envdoctor.rules.owners import owner, owner_above
from envdoctor.rules.said import Heard, built_with, hear, lead, listed, said

NO_IMAGE = "no-kernel-image"
WITH_KERNELS = ("vllm", "flashinfer-python", "flashinfer", "flash-attn", "sgl-kernel", "xformers", "bitsandbytes")
CAME_WITH = {(10, 3): (12, 1)}  # in one CUDA, of which the table names the newest GPU alone
FIRST_OF_MANY = (8, 0)  # kernels beside torch's own are mostly written for Ampere and newer


def _evidence(found: tuple[Card, ...]) -> tuple[Evidence, ...]:
    return tuple(each.evidence for each in found[:4])


@cross_examined
def gpu_arch_not_in_build(
    words: ErrorText | None,
    pasted: Pasted | None,
    build: TorchBuild | None,
    smi: NvidiaSmi | None,
    module: KernelModule | None,
    packages: Packages | None,
    host: Host | None,
    environment: Environment | None,
) -> Iterator[Finding]:
    """Torch names the GPU itself; else a kernel was missing, and nothing says that torch has code for this GPU."""
    found = cards(None, smi, None)
    heard = hear(words, "gpu-arch-not-in-build")
    if heard is None:
        if pasted and build is None and found:
            yield from _no_wheel_at_all(found)
        return
    own = heard.message.id != NO_IMAGE
    if own or not _another_lacks_it(heard, build, found, host, environment):
        fixes = other_wheel(Driver(None, None, smi, module, host=host), packages, build) if build else ()
        yield lead(
            heard,
            "This PyTorch has no code for a GPU of this machine, as it says itself"
            if own
            else "A kernel has no code for this GPU: most likely PyTorch's own build lacks it",
            *(fixes or (_list_of_code(),)),
            also=_evidence(found),
            confirmed=_lacks(build, found, host),
        )


def _another_lacks_it(
    heard: Heard, build: TorchBuild | None, found: tuple[Card, ...], host: Host | None, environment: Environment | None
) -> bool:
    """Tell whether it is code of an extension that lacks: it is named, torch has code, or a list leaves the GPU out."""
    has_code = bool(build and runs_here(build, _known(found, heard), host))
    return bool(owner(heard.text)) or has_code or _left_out(environment, found, named=True) is not None


def _lacks(build: TorchBuild | None, found: tuple[Card, ...], host: Host | None) -> bool | None:
    """Tell whether the build is known to lack code for one of these GPUs."""
    return True if build and runs_here(build, found, host) is False else None


def _no_wheel_at_all(found: tuple[Card, ...]) -> Iterator[Finding]:
    """Say of a GPU that no wheel of the newest release has code for it, where nobody says which torch is meant."""
    newest = max(row.torch for row in wheel_code())
    for card in found:
        if card.capability and not any(row.runs_on(card.capability) for row in wheel_code() if row.torch == newest):
            yield Finding(
                f"No wheel of the newest PyTorch has code for the {card.name} (compute capability {card.capability})",
                evidence=(card.evidence,),
                fixes=(_list_of_code(),),
                severity=Severity.INFO,
                confidence=Confidence.POSSIBLE,
            )
            return


def _list_of_code() -> Fix:
    return look(
        "Compare the GPU with the code that torch has",
        "python -c 'import torch; print(torch.cuda.get_device_capability(), torch.cuda.get_arch_list())'",
    )


@witness
def extension_arch_missing(
    words: ErrorText | None,
    build: TorchBuild | None,
    smi: NvidiaSmi | None,
    packages: Packages | None,
    host: Host | None,
    environment: Environment | None,
) -> Iterator[Finding]:
    """A kernel was missing although torch has code for this GPU, or an extension's own name stands beside it."""
    found = cards(None, smi, None)
    heard = said(words, NO_IMAGE)
    if heard is None:
        left_out = _left_out(environment, found, named=False)
        yield from (left_out,) if left_out else ()
        return
    left_out = _left_out(environment, found, named=True)
    name = owner(heard.text) or owner_above(words)
    has_code = runs_here(build, _known(found, heard), host) if build else None
    if (name and not _below(name, found)) or has_code or left_out:
        also = (*_evidence(found), *(left_out.evidence[:1] if left_out else ()))
        yield lead(
            heard,
            f"{name or 'A compiled extension'} has no code for this GPU{', although torch has' if has_code else ''}",
            *_compiled_for(packages, name, found),
            also=also,
            confirmed=True if (name and has_code) or left_out else None,
        )


def _known(found: tuple[Card, ...], heard: Heard) -> tuple[Card, ...]:
    """Give the GPUs; where none is known, the one whose architecture the line names: ``no kernel image (sm_120)``."""
    if any(each.capability for each in found):
        return found
    match = re.search(r"\bsm_(\d{1,2})(\d)[af]?\b", heard.text)
    return (Card("", f"{match[1]}.{match[2]}", 1, heard.evidence),) if match else found


def _compiled_for(packages: Packages | None, name: str | None, found: tuple[Card, ...]) -> tuple[Fix, ...]:
    version = packages.version(name) if packages and name else None
    if packages is None or name is None or version is None:
        return (_list_of_code(),)
    arches = ";".join(dict.fromkeys(each.capability for each in found if each.capability))
    return compiled_again(packages, name, version, arches=arches)


def _left_out(environment: Environment | None, found: tuple[Card, ...], *, named: bool) -> Finding | None:
    """Compare TORCH_CUDA_ARCH_LIST with the GPU: what is compiled under it lacks code that the list leaves out.

    ``named``: the GPU's own architecture must be in the list; else one that it runs the code of is enough.
    """
    value = (environment.get("TORCH_CUDA_ARCH_LIST") if environment else None) or ""
    arches = [capability(each) for each in re.findall(r"\d{1,2}\.\d", value)]
    for card in found:
        gpu = capability(card.capability)
        fit = [each for each in arches if each and gpu and each[0] == gpu[0] and each <= gpu]
        runs = gpu in fit if named else bool(fit)
        if environment and gpu and arches and not runs:
            return Finding(
                f"TORCH_CUDA_ARCH_LIST leaves out the {card.name}: what is compiled under it has no code for it",
                evidence=(see(environment, "variables", "TORCH_CUDA_ARCH_LIST", value), card.evidence),
                fixes=(unset("TORCH_CUDA_ARCH_LIST"),),
                severity=Severity.INFO,
                confidence=Confidence.LIKELY,
            )
    return None


def _below(name: str, found: tuple[Card, ...]) -> Statement | None:
    """Give the row by which a GPU is below what a project states for every release of it that the table knows."""
    floors = [(capability(row.value), row) for row in stated(name, "gpu_min")]
    least = min((each for each in floors if each[0]), default=None, key=lambda each: each[0] or ())
    old = least and any((gpu := capability(each.capability)) and gpu < (least[0] or ()) for each in found)
    return least[1] if least and old else None


@witness
def gpu_too_old_for_package(
    words: ErrorText | None, pasted: Pasted | None, smi: NvidiaSmi | None, packages: Packages | None
) -> Iterator[Finding]:
    """A package refuses the GPU, or misses a kernel on one that is below what its project supports."""
    found = cards(None, smi, None)
    heard = hear(words, "gpu-too-old-for-package")
    if heard is None:
        if pasted and not (packages and packages.distributions):
            yield from _if_it_is_used("flash-attn", found)
    elif heard.message.id != NO_IMAGE:
        yield lead(
            heard,
            "A package says that this GPU is older than it supports",
            look("See the GPU's compute capability", "nvidia-smi --query-gpu=name,compute_cap --format=csv"),
            also=_evidence(found),
        )
    else:
        yield from _kernels_for_newer(heard, owner(heard.text) or owner_above(words) or _kernels_of(packages), found)


def _kernels_for_newer(heard: Heard, name: str | None, found: tuple[Card, ...]) -> Iterator[Finding]:
    row = _below(name, found) if name else None
    old = [each for each in found if (6, 0) <= (capability(each.capability) or (99,)) < FIRST_OF_MANY]
    if row or (old and not (name and stated(name, "gpu_min"))):
        floor = row.value if row else "8.0"
        stating = (Evidence("knowledge.ecosystem", row.note or floor, row.source, "", "asks for"),) if row else ()
        yield lead(
            heard,
            f"{name or 'A package beside torch'} has no kernels for GPUs below compute capability {floor}",
            _list_of_code(),
            also=(*_evidence(found), *stating),
            confirmed=True if row else None,
        )


def _kernels_of(packages: Packages | None) -> str | None:
    """Name an installed package whose kernels run beside torch's."""
    return next((each for each in WITH_KERNELS if packages and packages.find(each)), None)


def _if_it_is_used(name: str, found: tuple[Card, ...]) -> Iterator[Finding]:
    """Say what a text that lists no packages leaves open: torch serves this GPU, this package would not."""
    row = _below(name, found)
    if row and all((capability(each.capability) or (0,)) >= (7, 0) for each in found):
        yield Finding(
            f"{name} asks for compute capability {row.value} or newer: if it is used here, it fails on this GPU",
            evidence=(*_evidence(found), Evidence("knowledge.ecosystem", row.note, row.source, "", "asks for")),
            fixes=(look("See whether it is installed", f"python -m pip show {name}"),),
            severity=Severity.INFO,
            confidence=Confidence.POSSIBLE,
        )


@witness
def gpu_newer_than_bundled_nvrtc(
    words: ErrorText, build: TorchBuild | None, smi: NvidiaSmi | None
) -> Iterator[Finding]:
    """NVRTC or ptxas refuses the GPU's architecture."""
    heard = hear(words, "gpu-newer-than-bundled-nvrtc")
    if heard:
        yield lead(
            heard,
            "The CUDA compiler that PyTorch brings does not know this GPU",
            *(_newer_ptxas(heard) if heard.message.id == "ptxas-gpu-name" else ()),
            look("See which CUDA it brings, and which GPU it is", _cuda_and_gpu()),
            also=(*built_with(build), *_evidence(cards(None, smi, None))),
            severity=Severity.ERROR,
        )


def _newer_ptxas(heard: Heard) -> tuple[Fix, ...]:
    """Let Triton call the ptxas of a toolkit that knows the GPU; newer ones look for Blackwell's by another name."""
    named = re.search(r"\bsm_(\d{1,2})(\d)[af]?\b", heard.text)
    gpu = (int(named[1]), int(named[2])) if named else None
    known = (each.cuda for each in compilers() if gpu and each.newest >= CAME_WITH.get(gpu, gpu))
    first = min(known, default=None)
    which = f"CUDA {dotted(first)} or newer" if first else "a newer CUDA"
    path = "/usr/local/cuda/bin/ptxas"
    fix = export(
        f"Let Triton use the ptxas of a toolkit of {which}, which must be installed",
        f"TRITON_PTXAS_PATH={path}",
        *((f"TRITON_PTXAS_BLACKWELL_PATH={path}",) if gpu is None or gpu >= BLACKWELL else ()),
    )
    return (fix,)


def _cuda_and_gpu() -> str:
    return "python -c 'import torch; print(torch.version.cuda, torch.cuda.get_device_capability())'"


@witness
def triton_ptxas_driver_mismatch(
    words: ErrorText, smi: NvidiaSmi | None, packages: Packages | None, host: Host | None, driver: CudaDriver | None
) -> Iterator[Finding]:
    """What Triton compiled does not load."""
    heard = hear(words, "triton-ptxas-driver-mismatch")
    if heard:
        shown = (see(smi, "driver_version", "driver"),) if smi and smi.driver_version else ()
        level = (see(driver, "cuda_version", "driver supports CUDA"),) if driver and driver.cuda_version else ()
        yield lead(
            heard,
            "What Triton compiled is newer than this driver loads",
            raise_driver(Driver(driver, smi=smi, host=host), (12, 0)),
            also=(*shown, *level, *listed(packages, "triton", "pytorch-triton")),
        )


WITNESSES: tuple[Witness, ...] = (
    gpu_arch_not_in_build, extension_arch_missing, gpu_too_old_for_package, gpu_newer_than_bundled_nvrtc,
    triton_ptxas_driver_mismatch,
)  # fmt: skip
