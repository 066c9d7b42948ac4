"""Do torch's companions belong to this torch: torchvision, torchaudio, NumPy?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import msgspec
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from envdoctor.facts.libraries import Extensions
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild, TorchImport
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.knowledge.cuda import cuda_minor
from envdoctor.knowledge.torch import pairing
from envdoctor.remedy.install import install_plain
from envdoctor.remedy.pair import fit_companion, fit_torch
from envdoctor.rule import NotApplicable, Unknown, rule
from envdoctor.rules import unfit
from envdoctor.rules.versions import (
    cuda_of_distribution,
    is_rocm,
    is_source_build,
    parsed,
    requirement,
    satisfies,
    torch_version,
)

FIRST_TORCH_FOR_NUMPY_2 = Version("2.3")
FIRST_TORCHVISION_WITHOUT_CUDA_MINOR_CHECK = Version("0.16")
LAST_TORCHAUDIO_WITH_CUDA_CHECK = Version("2.8")
NUMPY_1_WORDS = re.compile(r"compiled using NumPy 1\.|_ARRAY_API not found|Failed to initialize NumPy")


@rule(
    severity=Severity.ERROR,
    group="packages",
    explained_by=("duplicate-torch-installs", "conda-pip-mix", "conda-channel-mix", "torch-cpu-only-on-gpu-machine"),
)
def torchvision_torch_mismatch(
    packages: Packages, build: TorchBuild | None, extensions: Extensions | None
) -> Iterator[Finding]:
    """This torchvision was not built for this torch.

    ## What it means
    torchvision carries compiled operators (nms, roi_align, image decoding), which are built against one release and one
    CUDA variant of torch. Another torch was installed since, or torchvision came from another index.

    ## Why it matters
    The operators do not load. "operator torchvision::nms does not exist", "Couldn't load custom C++ ops", or an
    undefined symbol at import.

    ## How it is detected
    The `torch==` in torchvision's own metadata; where it has none, the release it was published with. Then the CUDA
    that torchvision/version.py or its tag names against torch's: up to 0.15 torchvision itself compares major and
    minor, from 0.16 on the major alone. A source build is judged by what it declares, and by its compiled files: the
    symbols and libraries that they ask for and this torch does not have are shown for any torchvision.

    ## What to do
    Install the torchvision that belongs to this torch, from the same index.

    ## Sources
    https://github.com/pytorch/vision#installation
    torchvision/extension.py, _check_cuda_version() of 0.15.2 and 0.16.0
    """
    have = _installed(packages, "torchvision")
    torch = torch_version(build, packages)
    wrong = _wrong_release(have, torch, packages) or _wrong_cuda(have, build, packages, strict=_strict_vision(have))
    yield from _judged(have, torch, build, packages, wrong, extensions)


@rule(
    severity=Severity.WARNING,
    group="packages",
    explained_by=("duplicate-torch-installs", "conda-pip-mix", "conda-channel-mix", "torch-cpu-only-on-gpu-machine"),
)
def torchaudio_torch_mismatch(
    packages: Packages, build: TorchBuild | None, extensions: Extensions | None
) -> Iterator[Finding]:
    """This torchaudio was not built for this torch.

    ## What it means
    torchaudio's compiled part is built against one release and one CUDA version of torch. From 2.11 on torchaudio
    declares no torch, and runs with any.

    ## Why it matters
    Its extension does not load: an undefined symbol at import, or "PyTorch and TorchAudio were compiled with different
    CUDA versions".

    ## How it is detected
    The `torch==` in torchaudio's own metadata; where it has none, the release it was published with. Then its CUDA
    against torch's: torchaudio 2.0 to 2.8 compares major and minor itself. Then the symbols and libraries that its
    compiled files ask for and this torch does not have.

    ## What to do
    Install the torchaudio that belongs to this torch, from the same index.

    ## Sources
    https://docs.pytorch.org/audio/stable/installation.html
    torchaudio/_extension/utils.py, _check_cuda_version() of 2.8.0
    """
    have = _installed(packages, "torchaudio")
    torch = torch_version(build, packages)
    version = parsed(have.version, have.name)
    wrong = _wrong_release(have, torch, packages)
    if wrong is None and version.release[:2] <= LAST_TORCHAUDIO_WITH_CUDA_CHECK.release[:2]:
        wrong = _wrong_cuda(have, build, packages, strict=True)
    yield from _judged(have, torch, build, packages, wrong, extensions)


def _installed(packages: Packages, name: str) -> Distribution:
    found = packages.find(name)
    if found is None:
        raise NotApplicable(f"{name} is not installed")
    return found


class Wrong(msgspec.Struct, frozen=True):
    """What speaks against a companion. ``wants``: the torch it was made for; None when only its CUDA is wrong."""

    wants: SpecifierSet | None
    words: str
    evidence: Evidence


def _wrong_release(have: Distribution, torch: Version, packages: Packages) -> Wrong | None:
    declared = requirement(have, "torch")
    if declared is not None:
        shown = see(packages, "distributions", f"{have.name} {have.version} asks for", f"torch{declared}")
        return None if satisfies(torch, declared) else Wrong(declared, f"it asks for torch{declared}", shown)
    version = parsed(have.version, have.name)
    if is_source_build(version) or is_source_build(torch) or version.is_prerelease or torch.is_prerelease:
        return None
    row = pairing(have.name, version)
    if row is None:
        raise Unknown(f"{have.name} {have.version} declares no torch, and no table knows it")
    if row.torch is None or satisfies(torch, row.torch):
        return None
    label = f"{have.name} {have.version} was published for"
    return Wrong(
        row.torch,
        f"it was published for torch{row.torch}",
        Evidence("knowledge.ecosystem", f"torch{row.torch}", row.source, label=label),
    )


def _strict_vision(have: Distribution) -> bool:
    return parsed(have.version, have.name) < FIRST_TORCHVISION_WITHOUT_CUDA_MINOR_CHECK


def _wrong_cuda(have: Distribution, build: TorchBuild | None, packages: Packages, *, strict: bool) -> Wrong | None:
    """Compare the CUDA of both; ``strict``: the companion itself insists on the same minor."""
    theirs = cuda_of_distribution(have)
    rocm = is_rocm(have)
    if build is None or (theirs is None and not rocm) or _agree(theirs, build, strict=strict):
        return None
    words = "for ROCm" if rocm else "for the CPU" if theirs == "cpu" else f"for CUDA {theirs}"
    ours = f"CUDA {build.cuda}" if build.cuda else "ROCm" if build.hip else "the CPU"
    shown = see(packages, "distributions", f"{have.name} {have.version} is built", have.built_for or words)
    return Wrong(None, f"it is built {words}, torch for {ours}", shown)


def _agree(theirs: str | None, build: TorchBuild, *, strict: bool) -> bool:
    """Tell whether a companion for this CUDA (``cpu``; None: for ROCm) fits torch, or that is not known."""
    if theirs is None or build.hip:
        known = bool(build.hip or build.cuda or build.is_cpu_only)
        return not known or (theirs is None and bool(build.hip))
    ours = "cpu" if build.is_cpu_only else build.cuda
    mine, other = cuda_minor(ours) if ours != "cpu" else (), cuda_minor(theirs) if theirs != "cpu" else ()
    if ours is None or mine is None or other is None:
        return True
    return mine == other if strict and "." in theirs else mine[:1] == other[:1]


def _judged(
    have: Distribution,
    torch: Version,
    build: TorchBuild | None,
    packages: Packages,
    wrong: Wrong | None,
    extensions: Extensions | None,
) -> Iterator[Finding]:
    """Give the mismatch that is declared, with what the compiled files show; or the one that they alone show."""
    files = unfit.of_package(extensions, have.name)
    seen = tuple(unfit.shown(files))
    if wrong is None and files:
        wrong = Wrong(None, unfit.words(files), seen[0])
        seen = seen[1:]
    if wrong:
        finding = _mismatch(have, torch, build, packages, wrong)
        yield replace(finding, evidence=(*finding.evidence, *seen))


def _mismatch(
    have: Distribution, torch: Version, build: TorchBuild | None, packages: Packages, wrong: Wrong
) -> Finding:
    where = see(build, "version", "torch") if build and build.version else None
    fixes = (*fit_companion(packages, have.name, torch, build), *fit_torch(packages, wrong.wants, build))
    return Finding(
        f"{have.name} {have.version} does not belong to torch {torch}: {wrong.words}",
        evidence=(wrong.evidence, where or see(packages, "distributions", "torch", str(torch))),
        fixes=fixes,
        affects=(have.name,),
    )


@rule(severity=Severity.ERROR, group="packages")
def numpy2_abi(packages: Packages, build: TorchBuild | None, torch: TorchImport | None) -> Iterator[Finding]:
    """NumPy 2 is installed beside a module that was compiled for NumPy 1.x.

    ## What it means
    NumPy 2 changed its binary interface. A module compiled with the headers of NumPy 1.x cannot exchange arrays with
    it. torch's own wheels are compiled for NumPy 2 from 2.3 on.

    ## Why it matters
    `torch.from_numpy` and `.numpy()` raise "Numpy is not available", and every DataLoader that converts images or
    labels with them. Some modules crash.

    ## How it is detected
    The major of the NumPy headers that torch's library was compiled with; where it does not show, torch's version.
    And the warning that NumPy prints when such a module is loaded: "A module that was compiled using NumPy 1.x".

    ## What to do
    Install NumPy below 2, or a torch (and the module that the warning names) that is compiled for NumPy 2.

    ## Sources
    https://numpy.org/doc/stable/numpy_2_0_migration_guide.html
    https://github.com/pytorch/pytorch/issues/107302
    """
    numpy = packages.find("numpy")
    if numpy is None:
        raise NotApplicable("NumPy is not installed")
    if parsed(numpy.version, "NumPy").major < 2:
        return
    said = _numpy_words(torch)
    old, sure = _built_for_numpy_1(build, packages, torch)
    if not said and not old:
        return
    shown = see(packages, "distributions", "NumPy", numpy.version)
    yield Finding(
        f"NumPy {numpy.version} is installed, but {'torch' if old else 'a module'} was compiled for NumPy 1.x",
        evidence=(shown, *said, *_torch_evidence(build, packages, old)),
        fixes=_numpy_fixes(packages, build, upgrade_torch=old),
        confidence=Confidence.CERTAIN if said or sure else Confidence.LIKELY,
    )


def _numpy_words(torch: TorchImport | None) -> tuple[Evidence, ...]:
    if torch is None:
        return ()
    for text in torch.warnings:
        if NUMPY_1_WORDS.search(text):
            return (see(torch, "warnings", "import torch warns", text),)
    if torch.printed and NUMPY_1_WORDS.search(torch.printed):
        return (see(torch, "printed", "import torch prints", _around(torch.printed)),)
    if torch.error and NUMPY_1_WORDS.search(torch.error):
        return (see(torch, "error", "import torch says", torch.error),)
    return ()


def _around(text: str) -> str:
    """Give the line that says it, out of a page."""
    return next((line.strip() for line in text.splitlines() if NUMPY_1_WORDS.search(line)), text)


def _built_for_numpy_1(build: TorchBuild | None, packages: Packages, torch: TorchImport | None) -> tuple[bool, bool]:
    """Tell whether torch was compiled for NumPy 1.x, and whether that is certain."""
    if build and build.numpy_headers_major is not None:
        return build.numpy_headers_major < 2, True
    have = packages.find("torch")
    if have is None and (build is None or build.version is None):
        return False, False
    version = torch_version(build, packages)
    if Version(version.base_version) >= FIRST_TORCH_FOR_NUMPY_2:
        return False, False
    published = have is not None and have.source == "pip" and not is_source_build(version)
    if not published and torch and torch.imported:
        return False, False  # somebody's own build, and it was imported without the warning
    return True, published


def _torch_evidence(build: TorchBuild | None, packages: Packages, old: bool) -> tuple[Evidence, ...]:
    if not old:
        return ()
    if build and build.numpy_headers_major is not None:
        return (
            see(build, "numpy_headers_major", "torch compiled with the headers of NumPy", build.numpy_headers_major),
        )
    words = f"{torch_version(build, packages)}, before 2.3"
    return (see(build, "version", "torch", words) if build else see(packages, "distributions", "torch", words),)


def _numpy_fixes(packages: Packages, build: TorchBuild | None, *, upgrade_torch: bool) -> tuple[Fix, ...]:
    python = Version(packages.python_version) if packages.python_version else Version("3.11")
    # NumPy 1.26, the last before 2, has wheels up to Python 3.12.
    older = (install_plain(packages, "numpy<2", title="Install NumPy below 2"),) if python < Version("3.13") else ()
    newer = fit_torch(packages, SpecifierSet(">=2.3"), build) if upgrade_torch else ()
    return (*older, *newer)


RULES = (torchvision_torch_mismatch, torchaudio_torch_mismatch, numpy2_abi)
