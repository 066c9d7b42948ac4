"""Compiled extensions of torch: the C++ ABI they were built with, and the GPUs they have code for."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, NvidiaSmi
from envdoctor.facts.libraries import Extensions
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.knowledge.cuda import numbers
from envdoctor.knowledge.gpus import Capability, Code, capability, code_of, has_cubin, has_ptx
from envdoctor.remedy import repair
from envdoctor.remedy.pair import fit_companion
from envdoctor.rule import Missing, NotApplicable, Unknown, rule
from envdoctor.rules import unfit
from envdoctor.rules.abi import new_abi, other_abi
from envdoctor.rules.cards import Card, cards
from envdoctor.rules.companions import compiled
from envdoctor.rules.versions import torch_version

# Below these the project itself has no code: another finding than one build that left a GPU out.
OLDEST_GPU: dict[str, Capability] = {
    "flash-attn": (8, 0), "flash-attn-3": (9, 0), "sageattention": (8, 0), "sgl-kernel": (7, 5), "vllm": (7, 0),
    "transformer-engine-torch": (7, 0),
}  # fmt: skip
WITH_TORCH = ("torchvision", "torchaudio")
OPTIONAL = {"torchao"}  # its kernels for one GPU are left out on others, by itself


@rule(
    severity=Severity.ERROR,
    group="packages",
    explained_by=("duplicate-torch-installs", "conda-pip-mix", "conda-channel-mix"),
)
def cxx11_abi_mismatch(
    packages: Packages, build: TorchBuild | None, extensions: Extensions | None
) -> Iterator[Finding]:
    """A compiled package uses another C++ ABI than torch.

    ## What it means
    C++ has two forms of std::string: the old one, and the one since GCC 5 (`__cxx11`). torch and all that is compiled
    against it must use the same one. torch's own wheels use the new one since 2.7, NVIDIA's and conda's for longer.

    ## Why it matters
    The import of the package ends with an undefined symbol that speaks of a string: "...RKSs" or
    "...NSt7__cxx1112basic_string...".

    ## How it is detected
    The symbols that its compiled files ask torch for: torch has the same function with the other string. Or the ABI
    that its version names (`cxx11abiFALSE`) against that of torch's own library.

    ## What to do
    Install the package's wheel for the other ABI, or compile it against this torch.

    ## Sources
    https://gcc.gnu.org/onlinedocs/libstdc++/manual/using_dual_abi.html
    https://github.com/pytorch/pytorch/issues/149044
    """
    found = compiled(packages, extensions)
    if not found:
        raise NotApplicable("no package that is compiled against torch is installed")
    torch = torch_version(build, packages)
    new = new_abi(build, torch, packages)
    if new is None and extensions is None:
        raise Unknown("which C++ ABI this torch uses is not known")
    for have in found:
        files = unfit.of_other_abi(extensions, have.name)
        if files or (new is not None and other_abi(have, new=new)):
            # A name without a string is missing only where torch returns the new one: the package is of the old ABI.
            theirs = (files[0].cxx11_abi is True) if files else new is False
            yield Finding(
                f"{have.name} {have.version} is compiled with the {'new' if theirs else 'old'} C++ ABI,"
                f" torch {torch} with the {'old' if theirs else 'new'} one",
                evidence=(*unfit.shown(files), *_told(have, packages, build)),
                fixes=repair.compiled_again(packages, have.name, have.version),
                subject=have.name,
                affects=(have.name,),
            )


def _told(have: Distribution, packages: Packages, build: TorchBuild | None) -> tuple[Evidence, ...]:
    """Give what the package's version says, and what torch's library shows."""
    mine = see(packages, "distributions", "installed", f"{have.name} {have.version}")
    if build is None or build.cxx11_abi is None:
        return (mine,)
    return (mine, see(build, "cxx11_abi", "torch uses the new C++ ABI", "yes" if build.cxx11_abi else "no"))


@rule(severity=Severity.WARNING, group="packages", explained_by=("gpu-arch-not-in-build",))
def extension_arch_missing(
    extensions: Extensions,
    packages: Packages,
    build: TorchBuild,
    driver: CudaDriver | None,
    smi: NvidiaSmi | None,
    cuda: TorchCuda | None,
) -> Iterator[Finding]:
    """A compiled package has no code for a GPU of this machine, although torch has it.

    ## What it means
    The package was compiled for certain GPUs, and this machine's is not among them. That depends on who compiled it:
    on the machine it was built on, or on TORCH_CUDA_ARCH_LIST.

    ## Why it matters
    torch itself works, and the package's first kernel fails: "no kernel image is available for execution on the
    device".

    ## How it is detected
    The device code in the package's compiled files (the headers of their .nv_fatbin), all files of a package taken
    together, against the compute capability of each GPU. Code for X.y runs on X.z where z is not smaller, and PTX on
    newer GPUs. GPUs that torch has no code for either, and those below what the project supports, are left out.

    ## What to do
    Install a newer release of the package, or compile it for this GPU.

    ## Sources
    https://docs.pytorch.org/docs/stable/cpp_extension.html
    https://docs.nvidia.com/cuda/cuda-compiler-driver-nvcc/index.html#gpu-compilation
    """
    carried = _carried(extensions)
    if not carried:
        raise NotApplicable("no installed package brings compiled device code of its own")
    found = cards(driver, smi, cuda)
    if not found:
        raise Missing(CudaDriver)
    ours = code_of(build.arch_list or (cuda.arch_list if cuda else ()))
    if ours.empty:
        raise Unknown("which GPUs this torch has code for is not known")
    for name, arches in carried.items():
        left_out = tuple(each for each in found if _left_out(each, name, code_of(arches), ours, build))
        if left_out:
            yield _without_code(name, arches, left_out, extensions, packages, build)


def _carried(extensions: Extensions) -> dict[str, tuple[str, ...]]:
    """Give each package's device code: one file may be for some GPUs, the next one for others."""
    found: dict[str, tuple[str, ...]] = {}
    for each in extensions.extensions:
        if each.arches and each.distribution not in OPTIONAL:
            found[each.distribution] = tuple(dict.fromkeys((*found.get(each.distribution, ()), *each.arches)))
    return found


def _left_out(card: Card, name: str, theirs: Code, ours: Code, build: TorchBuild) -> bool:
    gpu = capability(card.capability)
    if gpu is None or gpu < OLDEST_GPU.get(name, (0, 0)):
        return False
    version = numbers(build.cuda)
    torch_runs = has_cubin(ours, gpu, version) or has_ptx(ours, gpu)
    return torch_runs and not (has_cubin(theirs, gpu, version) or has_ptx(theirs, gpu))


def _without_code(
    name: str,
    arches: tuple[str, ...],
    left_out: tuple[Card, ...],
    extensions: Extensions,
    packages: Packages,
    build: TorchBuild,
) -> Finding:
    have = packages.find(name)
    version = have.version if have else ""
    spoken = ", ".join(f"{each.name or 'GPU'} (compute capability {each.capability})" for each in left_out)
    return Finding(
        f"{name} {version} has no code for the {spoken}".replace("  ", " "),
        evidence=(see(extensions, "extensions", f"{name} has code for", ", ".join(arches)), left_out[0].evidence),
        fixes=_fixes(name, version, left_out, packages, build),
        subject=name,
        confidence=Confidence.LIKELY,
        affects=(name,),
    )


def _fixes(
    name: str, version: str, left_out: tuple[Card, ...], packages: Packages, build: TorchBuild
) -> tuple[Fix, ...]:
    if name in WITH_TORCH:
        return fit_companion(packages, name, torch_version(build, packages), build)
    arches = ";".join(dict.fromkeys(each.capability or "" for each in left_out))
    return repair.compiled_again(packages, name, version, arches=arches)


RULES = (cxx11_abi_mismatch, extension_arch_missing)
