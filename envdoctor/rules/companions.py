"""Do compiled packages belong to this torch: xformers, flash-attn, vllm and others; is onnxruntime the GPU one?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Confidence, Evidence, Finding, Severity, see
from envdoctor.knowledge.cuda import cuda_minor
from envdoctor.knowledge.torch import pairing
from envdoctor.remedy import repair
from envdoctor.remedy.pair import fit_torch, published_with
from envdoctor.rule import NotApplicable, rule
from envdoctor.rules.versions import is_source_build, parsed, requirement, satisfies, told_cuda, torch_version

STABLE_ABI_SINCE = Version("0.0.34")  # xformers: what was built for torch 2.10 works with later ones
# Compiled against one torch, which they name: by an exact pin, or by a tag such as +cu123torch2.3cxx11abiFALSE.
COMPILED = re.compile(
    r"(flash-attn(-3)?|vllm|torchtext|torch-(scatter|sparse|cluster|spline-conv|tensorrt)|pyg-lib|mamba-ssm|causal-conv1d|"
    r"sgl-kernel|detectron2|mmcv|mmcv-full|pytorch3d|apex|sageattention)$"
)


@dataclass(frozen=True, slots=True)
class Built:
    """What a compiled package was made for: a specifier of torch, in words, and where that was read."""

    torch: SpecifierSet
    words: str
    evidence: Evidence


@rule(
    severity=Severity.ERROR,
    group="packages",
    explained_by=("torch-cpu-only-on-gpu-machine", "duplicate-torch-installs", "conda-pip-mix"),
)
def xformers_torch_mismatch(packages: Packages, build: TorchBuild | None) -> Iterator[Finding]:
    """This xformers was built for another torch, or for another CUDA.

    ## What it means
    xformers' kernels are compiled against one torch and one CUDA major. Another torch was installed since.

    ## Why it matters
    "xFormers can't load C++/CUDA extensions", and then "No operator found for memory_efficient_attention_forward".

    ## How it is detected
    What xformers recorded when it was built (cpp_lib.json), then the torch that its metadata asks for, then the table.
    From 0.0.34 on it is built on torch's stable interface, and what was built for 2.10 works with later ones.

    ## What to do
    Install the torch that this xformers was built for, or the xformers that belongs to this torch.

    ## Sources
    https://github.com/facebookresearch/xformers/blob/main/CHANGELOG.md
    """
    have = packages.find("xformers")
    if have is None:
        raise NotApplicable("xformers is not installed")
    torch = torch_version(build, packages)
    stable = parsed(have.version, have.name) >= STABLE_ABI_SINCE
    made = _recorded(have, packages, stable=stable) or _declared(have, packages) or _published(have, torch)
    if made and not satisfies(torch, made.torch):
        yield _mismatch(have, torch, made, packages, build)
    elif wrong := _other_cuda(have, build):
        words = f"{have.name} {have.version} is built for {wrong}, torch {torch} for {_ours(build)}"
        yield Finding(words, evidence=(_shown(packages, have),), fixes=repair.again(packages, ("xformers",)))


@rule(
    severity=Severity.ERROR,
    group="packages",
    explained_by=("duplicate-torch-installs", "conda-pip-mix", "cxx11-abi-mismatch", "torch-cpu-only-on-gpu-machine"),
)
def extension_built_for_other_torch(packages: Packages, build: TorchBuild | None) -> Iterator[Finding]:
    """A compiled package was built for another torch.

    ## What it means
    flash-attn, vllm, torch-scatter and their like are compiled against one release of torch, and do not work with
    another.

    ## Why it matters
    The import ends with "undefined symbol: _ZN3c10...", or the process crashes in the first kernel.

    ## How it is detected
    The exact torch that the package's metadata asks for, or the torch and the C++ ABI that its version names
    (`+cu123torch2.3cxx11abiFALSE`, `+pt24cu121`). A package that declares a range, or nothing, is not accused.

    ## What to do
    Install the package again, built for this torch, or the torch that it was built for.

    ## Sources
    https://github.com/Dao-AILab/flash-attention/releases
    """
    found = tuple(each for each in packages.distributions if COMPILED.match(each.name))
    if not found:
        raise NotApplicable("no package that is compiled against torch is installed")
    torch = torch_version(build, packages)
    new = _new_abi(build, torch, packages)
    for have in found:
        made = _tagged(have, packages) or _declared(have, packages) or _published(have, torch)
        if made and _exact(made.torch) and not satisfies(torch, made.torch):
            yield _mismatch(have, torch, made, packages, build, subject=have.name)
        elif new is not None and _other_abi(have, new):
            yield _abi(have, torch, packages, new=new)


def _recorded(have: Distribution, packages: Packages, *, stable: bool) -> Built | None:
    """Read ``torch 2.4.1+cu121`` out of the build's own record."""
    said = re.search(r"\btorch (\d+(?:\.\d+)+)", have.built_for)
    if not said:
        return None
    sign = ">=" if stable else "=="
    return Built(SpecifierSet(f"{sign}{said[1]}"), f"it was built for torch {said[1]}", _shown(packages, have))


def _tagged(have: Distribution, packages: Packages) -> Built | None:
    """Read the torch that a version's tag names: its minor, or more."""
    text = f"{have.version} {have.built_for}"
    long = re.search(r"torch ?(\d+\.\d+(?:\.\d+)?)", text)
    short = re.search(r"\+pt(\d)(\d{1,2})cu", text)
    named = long[1] if long else f"{short[1]}.{short[2]}" if short else None
    if named is None:
        return None
    wanted = f"=={named}" if named.count(".") > 1 else f"=={named}.*"
    return Built(SpecifierSet(wanted), f"it was built for torch {named}", _shown(packages, have))


def _declared(have: Distribution, packages: Packages) -> Built | None:
    wanted = requirement(have, "torch")
    if wanted is None:
        return None
    shown = see(packages, "distributions", f"{have.name} {have.version} asks for", f"torch{wanted}")
    return Built(wanted, f"it asks for torch{wanted}", shown)


def _published(have: Distribution, torch: Version) -> Built | None:
    """Give what the table says of this release; a source build on either side is not judged by it."""
    version = parsed(have.version, have.name)
    row = None if is_source_build(version) or is_source_build(torch) else pairing(have.name, version)
    if row is None or row.torch is None:
        return None
    shown = Evidence(
        "knowledge.ecosystem", f"torch{row.torch}", row.source, label=f"{have.name} {have.version} asks for"
    )
    return Built(row.torch, f"it asks for torch{row.torch}", shown)


def _exact(wanted: SpecifierSet) -> bool:
    return any(each.operator in {"==", "==="} for each in wanted)


def _shown(packages: Packages, have: Distribution) -> Evidence:
    return see(packages, "distributions", f"{have.name} {have.version} is built for", have.built_for or have.version)


def _mismatch(
    have: Distribution, torch: Version, made: Built, packages: Packages, build: TorchBuild | None, *, subject: str = ""
) -> Finding:
    there = see(build, "version", "torch") if build and build.version else None
    return Finding(
        f"{have.name} {have.version} does not belong to torch {torch}: {made.words}",
        evidence=(made.evidence, there or see(packages, "distributions", "torch", str(torch))),
        fixes=(*published_with(packages, have.name, torch, build), *fit_torch(packages, made.torch, build)),
        subject=subject,
        affects=(have.name,),
    )


def _other_cuda(have: Distribution, build: TorchBuild | None) -> str:
    """Say which other CUDA major a package was built for; empty when it is torch's, or not known."""
    theirs, ours = told_cuda(have.built_for), build.cuda if build else None
    if theirs is None or build is None or (ours is None and not build.is_cpu_only):
        return ""
    if theirs == "cpu":
        return "" if build.is_cpu_only else "the CPU"
    same = ours is not None and (cuda_minor(theirs) or ())[:1] == (cuda_minor(ours) or ())[:1]
    return "" if same else f"CUDA {theirs}"


def _ours(build: TorchBuild | None) -> str:
    return f"CUDA {build.cuda}" if build and build.cuda else "the CPU"


def _other_abi(have: Distribution, new: bool) -> bool:
    said = re.search(r"cxx11abi(TRUE|FALSE)", have.version, re.IGNORECASE)
    return said is not None and (said[1].upper() == "TRUE") is not new


def _new_abi(build: TorchBuild | None, torch: Version, packages: Packages) -> bool | None:
    """Tell whether torch uses the new C++ ABI: as its library shows, else as the published wheels of its release do."""
    if build and build.cxx11_abi is not None:
        return build.cxx11_abi
    have = packages.find("torch")
    if have is None or have.source != "pip" or is_source_build(torch):
        return None
    if torch.release[:2] == (2, 6):  # Dao-AILab/flash-attention#1644: of 2.6 the CUDA 12.6 wheel alone
        return build.cuda == "12.6" if build and build.cuda else None
    return torch >= Version("2.7")


def _abi(have: Distribution, torch: Version, packages: Packages, *, new: bool) -> Finding:
    return Finding(
        f"{have.name} {have.version} is built for another C++ ABI than torch {torch}",
        f"This torch uses the {'new' if new else 'old'} one.",
        (_shown(packages, have), see(packages, "distributions", "torch", str(torch))),
        repair.compiled_again(packages, have.name, have.version),
        subject=have.name,
    )


@rule(severity=Severity.WARNING, group="packages")
def onnxruntime_cpu_shadows_gpu(packages: Packages) -> Iterator[Finding]:
    """Onnxruntime and onnxruntime-gpu are installed together, and fill one directory.

    ## What it means
    Both distributions bring the package `onnxruntime`. The files are those of the one that was installed last.

    ## Why it matters
    After the CPU one was installed last, "CUDAExecutionProvider is not in available provider names", and everything
    runs on the CPU.

    ## How it is detected
    Both names among the installed distributions, in one directory.

    ## What to do
    Remove both, then install onnxruntime-gpu alone.

    ## Sources
    https://onnxruntime.ai/docs/install/
    """
    cpu, gpu = packages.find("onnxruntime"), packages.find("onnxruntime-gpu")
    if gpu is None:
        raise NotApplicable("onnxruntime-gpu is not installed")
    if cpu is None or cpu.location != gpu.location:
        return
    yield Finding(
        "onnxruntime and onnxruntime-gpu fill one directory: the last one installed wins",
        evidence=tuple(see(packages, "distributions", each.name, each.version) for each in (cpu, gpu)),
        fixes=repair.only(packages, (cpu.name, gpu.name), f"{gpu.name}=={gpu.version}"),
        confidence=Confidence.LIKELY,
    )


RULES = (xformers_torch_mismatch, extension_built_for_other_torch, onnxruntime_cpu_shadows_gpu)
