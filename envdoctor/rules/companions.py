"""Do compiled packages belong to this torch: xformers, flash-attn, vllm and others; is onnxruntime the GPU one?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import msgspec
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from envdoctor.facts.libraries import Extension, Extensions
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Confidence, Evidence, Finding, Severity, see
from envdoctor.knowledge.torch import pairing
from envdoctor.remedy import repair
from envdoctor.remedy.pair import fit_torch, newest_xformers, published_with
from envdoctor.rule import NotApplicable, rule
from envdoctor.rules import unfit
from envdoctor.rules.abi import new_abi, other_abi
from envdoctor.rules.companion_builds import in_torchs_cuda, other_cuda
from envdoctor.rules.versions import is_source_build, parsed, requirement, satisfies, torch_version
from envdoctor.rules.wheel_matrix import by_matrix

STABLE_ABI_SINCE = Version("0.0.34")  # xformers: what was built for torch 2.10 works with later ones
# Compiled against one torch, which they name: by an exact pin, or by a tag such as +cu123torch2.3cxx11abiFALSE.
COMPILED = re.compile(
    r"(flash-attn(-3)?|vllm|torchtext|torch-(scatter|sparse|cluster|spline-conv|tensorrt)|pyg-lib|mamba-ssm|"
    r"causal-conv1d|"
    r"sgl-kernel|detectron2|mmcv|mmcv-full|pytorch3d|apex|sageattention|transformer-engine-(torch|cu1\d))$"
)

# torch's own neighbours have rules of their own; torchao goes on without its compiled part.
JUDGED_ELSEWHERE = {"torch", "torchvision", "torchaudio", "xformers", "torchao"}


class Built(msgspec.Struct, frozen=True):
    """What a compiled package was made for: a specifier of torch, in words, and where that was read."""

    torch: SpecifierSet
    words: str
    evidence: Evidence


@rule(
    severity=Severity.ERROR,
    group="packages",
    explained_by=("torch-cpu-only-on-gpu-machine", "duplicate-torch-installs", "conda-pip-mix"),
)
def xformers_torch_mismatch(
    packages: Packages, build: TorchBuild | None, extensions: Extensions | None
) -> Iterator[Finding]:
    """This xformers was built for another torch, or for another CUDA.

    ## What it means
    xformers' kernels are compiled against one torch and one CUDA major. Another torch was installed since.

    ## Why it matters
    "xFormers can't load C++/CUDA extensions", and then "No operator found for memory_efficient_attention_forward".

    ## How it is detected
    What xformers recorded when it was built (cpp_lib.json), then the torch that its metadata asks for, then the table.
    From 0.0.34 on it is built on torch's stable interface, and what was built for 2.10 works with later ones. And the
    symbols and libraries that its compiled file asks for against those that this torch has.

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
        yield _with_symbols(_mismatch(have, torch, made, packages, build), extensions, have)
    elif wrong := other_cuda(have, build):
        yield _wrong_cuda(have, torch, wrong, packages, build)
    elif files := unfit.of_package(extensions, have.name):
        yield _unfit(have, torch, files, packages, build)


@rule(
    severity=Severity.ERROR,
    group="packages",
    explained_by=("duplicate-torch-installs", "conda-pip-mix", "cxx11-abi-mismatch", "torch-cpu-only-on-gpu-machine"),
)
def extension_built_for_other_torch(
    packages: Packages, build: TorchBuild | None, extensions: Extensions | None
) -> Iterator[Finding]:
    """A compiled package was built for another torch.

    ## What it means
    flash-attn, vllm, torch-scatter and their like are compiled against one release of torch, and do not work with
    another. So it is with the CUDA major that they are built for.

    ## Why it matters
    The import ends with "undefined symbol: _ZN3c10...", or the process crashes in the first kernel.

    ## How it is detected
    The exact torch that the package's metadata asks for, or the torch and the C++ ABI that its version names
    (`+cu123torch2.3cxx11abiFALSE`, `+pt24cu121`), and the CUDA major in its tag, its name (transformer-engine-cu12) or
    its compiled file against torch's. DeepSpeed is judged by its own record where it carries compiled operators. A
    package that declares a range, or nothing, is judged by its compiled files alone: by the symbols they ask torch for
    and torch does not export, and by the libraries of torch and of CUDA that they need and nothing provides. Where the
    files cannot be looked at: by the torch releases that its project built wheels for. One for a nightly of this torch
    alone is a warning, none for this torch is info, because it may have been compiled here.

    ## What to do
    Install the package again, built for this torch, or the torch that it was built for.

    ## Sources
    https://github.com/Dao-AILab/flash-attention/releases
    """
    found = compiled(packages, extensions)
    if not found:
        raise NotApplicable("no package that is compiled against torch is installed")
    torch = torch_version(build, packages)
    new = new_abi(build, torch, packages)
    for have in found:
        made = _tagged(have, packages) or _declared(have, packages) or _published(have, torch)
        if have.name == "deepspeed":
            made = _recorded(have, packages, stable=False, minor=True)
        if made and _exact(made.torch) and not satisfies(torch, made.torch):
            finding = _mismatch(have, torch, made, packages, build, subject=have.name)
            yield _with_symbols(finding, extensions, have)
        elif wrong := other_cuda(have, build):
            yield _with_symbols(_wrong_cuda(have, torch, wrong, packages, build, have.name), extensions, have)
        elif apart := _other_part(have, packages):
            yield apart
        elif files := unfit.misfits(extensions, have.name):
            yield _unfit(have, torch, files, packages, build, subject=have.name)
        elif new is not None and other_abi(have, new=new):
            yield _abi(have, torch, packages, new=new)
        elif extensions is None and not is_source_build(torch):
            yield from by_matrix(have, torch, packages)


def compiled(packages: Packages, extensions: Extensions | None) -> tuple[Distribution, ...]:
    """Give the packages that are compiled against torch and have no rule of their own."""
    seen = {each.distribution for each in extensions.extensions} if extensions else set()
    return tuple(
        each
        for each in packages.distributions
        if COMPILED.match(each.name) or (each.name in seen and each.name not in JUDGED_ELSEWHERE)
    )


def _wrong_cuda(
    have: Distribution, torch: Version, wrong: str, packages: Packages, build: TorchBuild | None, subject: str = ""
) -> Finding:
    ours = f"CUDA {build.cuda}" if build and build.cuda else "the CPU"
    there = (see(build, "cuda", "torch was built with", ours),) if build else ()
    return Finding(
        f"{have.name} {have.version} is built for {wrong}, torch {torch} for {ours}",
        evidence=(_shown(packages, have), *there),
        fixes=in_torchs_cuda(packages, have, build),
        subject=subject,
        affects=(have.name,),
    )


def _other_part(have: Distribution, packages: Packages) -> Finding | None:
    """Report a part of Transformer Engine that another part, by its own metadata, wants in another version."""
    if have.name != "transformer-engine-torch":
        return None
    for part in packages.distributions:
        wanted = requirement(have, part.name) if part.name.startswith("transformer-engine-cu") else None
        if wanted is not None and not satisfies(parsed(part.version, part.name), wanted):
            return Finding(
                f"{have.name} {have.version} asks for {part.name}{wanted}, here is {part.version}",
                evidence=(_shown(packages, have), _shown(packages, part)),
                fixes=repair.to_pins(packages, (f"{part.name}{wanted}",)),
                subject=have.name,
                affects=("transformer-engine",),
            )
    return None


def _unfit(
    have: Distribution,
    torch: Version,
    files: tuple[Extension, ...],
    packages: Packages,
    build: TorchBuild | None,
    *,
    subject: str = "",
) -> Finding:
    """Accuse a package by its compiled files, whatever it declares."""
    return Finding(
        f"{have.name} {have.version} does not fit torch {torch}: {unfit.words(files)}",
        evidence=(*unfit.shown(files), _shown(packages, have)),
        fixes=(
            *published_with(packages, have.name, torch, build),
            *repair.compiled_again(packages, have.name, have.version),
        ),
        subject=subject,
        affects=(have.name,),
    )


def _with_symbols(finding: Finding, extensions: Extensions | None, have: Distribution) -> Finding:
    """Add what the compiled files show to a finding that rests on what is declared."""
    seen = unfit.shown(unfit.of_package(extensions, have.name))
    return replace(finding, evidence=(*finding.evidence, *seen))


def _recorded(have: Distribution, packages: Packages, *, stable: bool, minor: bool = False) -> Built | None:
    """Read ``torch 2.4.1+cu121`` out of the build's own record; ``minor``: any patch of it will do."""
    said = re.search(r"\btorch (\d+\.\d+)((?:\.\d+)*)", have.built_for)
    if not said:
        return None
    version = said[1] + said[2]
    wanted = f">={version}" if stable else f"=={said[1]}.*" if minor else f"=={version}"
    return Built(SpecifierSet(wanted), f"it was built for torch {version}", _shown(packages, have))


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
    fitting = published_with(packages, have.name, torch, build)
    if have.name == "xformers" and not fitting:
        fitting = newest_xformers(packages, torch, build)
    return Finding(
        f"{have.name} {have.version} does not belong to torch {torch}: {made.words}",
        evidence=(made.evidence, there or see(packages, "distributions", "torch", str(torch))),
        fixes=(*fitting, *fit_torch(packages, made.torch, build)),
        subject=subject,
        affects=(have.name,),
    )


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
