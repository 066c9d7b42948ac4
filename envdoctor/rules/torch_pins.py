"""Are the wheels that torch pins the ones that are installed: NVIDIA's libraries and Triton?"""

from __future__ import annotations

import re
from collections.abc import Iterator

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import Pin, TorchBuild, TorchImport, TorchSettings
from envdoctor.finding import Confidence, Evidence, Finding, Severity, see
from envdoctor.knowledge.torch import release
from envdoctor.remedy import repair
from envdoctor.rule import NotApplicable, rule
from envdoctor.rules.versions import is_source_build, parsed, satisfies, specifiers, torch_version

# Wheels whose soname carries the major of the wheel's own version: libcudnn.so.9 comes with cuDNN 9.x.
SONAME_IS_MAJOR = frozenset({
    "cublas", "cudnn", "cuda-runtime", "cuda-nvrtc", "cuda-cupti", "cufft", "cusolver", "cusparse", "curand", "nccl",
    "nvjitlink",
})  # fmt: skip
IN_WORDS = {
    "cusparse": "cusparse(?!lt)",
    "cuda-runtime": "cudart",
    "cuda-nvrtc": "nvrtc",
    "cuda-cupti": "cupti",
    "nvtx": "nvtoolsext",
}
# Drift is the lowest word on a library: what shows the harm itself is read first.
HIGHER = (
    "cudnn-version-mismatch", "cudnn-not-found", "nvjitlink-mismatch", "cublas-mismatch", "nccl-mixed",
    "nvidia-wheel-lib-not-found", "library-not-the-declared-one", "mixed-cuda-major-wheels", "conda-pip-mix",
)  # fmt: skip
PYTORCH_TRITON_UNTIL = Version("2.9.dev0")  # nightlies before it are known to have brought pytorch-triton
TRITON_NAMES = ("triton", "pytorch-triton")


@rule(
    severity=Severity.INFO,
    group="libraries",
    explained_by=HIGHER,
)
def wheel_pin_drift(
    build: TorchBuild, packages: Packages, torch: TorchImport | None, settings: TorchSettings | None
) -> Iterator[Finding]:
    """An nvidia-* wheel has another version than the one this torch pins.

    ## What it means
    torch's metadata asks for exact versions of cuDNN, NCCL, cuBLAS and the others, the ones it was tested with.
    Another package, or a hand, has brought another one.

    ## Why it matters
    A newer minor mostly works, which is why this is only info. It is an error when the major differs, because the
    file that torch asks for (libcudnn.so.9) is then not there; when cuDNN is older than the one torch was compiled
    with, because torch refuses that at first use; and when the import failed with words that name the library.

    ## How it is detected
    Requires-Dist of torch, followed through the cuda-toolkit extras, against the installed distributions. Versions are
    compared as versions. Where torch itself could open cuDNN, its version is no error.

    ## What to do
    Install the version that torch asks for. Where another package needs the newer one, leave it: it is info.

    ## Sources
    https://docs.nvidia.com/deeplearning/cudnn/backend/latest/developer/forward-compatibility.html
    torch/backends/cudnn/__init__.py, _init(): the check of major and minor
    """
    drifted = tuple(_drifted(build, packages))
    if not any(pin.name.startswith("nvidia-") for pin in build.pins):
        raise NotApplicable("this torch pins no nvidia-* wheel")
    harmless: list[tuple[Pin, Distribution]] = []
    for pin, have in drifted:
        why = _breaks(pin, have, torch, settings)
        if not why:
            harmless.append((pin, have))
            continue
        yield Finding(
            f"{have.name} {have.version} is installed, torch pins {pin.specifier}: {why}",
            evidence=(_pinned(build, pin), _have(packages, have), *_words(torch, pin)),
            fixes=repair.to_pins(packages, (f"{pin.name}{pin.specifier}",)),
            subject=pin.name,
            severity=Severity.ERROR,
            confidence=Confidence.LIKELY,
        )
    if harmless:
        yield _harmless(build, packages, tuple(harmless))


def _drifted(build: TorchBuild, packages: Packages) -> Iterator[tuple[Pin, Distribution]]:
    for pin in build.pins:
        have = packages.find(pin.name)
        if not pin.name.startswith("nvidia-") or have is None or not pin.specifier:
            continue
        if not specifiers(pin.specifier, "torch").contains(parsed(have.version, have.name), prereleases=True):
            yield pin, have


def _breaks(pin: Pin, have: Distribution, torch: TorchImport | None, settings: TorchSettings | None) -> str:
    """Say why this drift breaks torch; empty when nothing shows that it does."""
    stem = _stem(pin.name)
    wanted, found = _pinned_version(pin), parsed(have.version, have.name)
    if _words(torch, pin):
        return "the import failed over this library"
    if torch and torch.imported and stem != "cudnn":
        return ""  # what is loaded at import was there, so the soname was
    if wanted is None or (settings and settings.cudnn_version):
        return ""
    if stem in SONAME_IS_MAJOR and wanted.major != found.major:
        return f"the library of its major, .so.{wanted.major}, is not there"
    if stem == "cudnn" and (found.major, found.minor) < (wanted.major, wanted.minor):
        return "torch refuses a cuDNN older than the one it was compiled with"
    return ""


def _stem(name: str) -> str:
    return re.sub(r"^nvidia-|-cu\d+$", "", name)


def _pinned_version(pin: Pin) -> Version | None:
    exact = [each for each in specifiers(pin.specifier, "torch") if each.operator in {"==", "~="}]
    return parsed(exact[0].version.removesuffix(".*"), "torch's pin") if exact else None


def _words(torch: TorchImport | None, pin: Pin) -> tuple[Evidence, ...]:
    said = " ".join((torch.error or "", *torch.earlier_errors)) if torch else ""
    if torch is None or not named_in(said, pin.name):
        return ()
    return (see(torch, "error", "import torch says", torch.error or said),)


def named_in(words: str, wheel: str) -> bool:
    """Tell whether a loader's words name the library of a wheel: ``libnvJitLink.so.12``, ``ncclCommInit``."""
    stem = _stem(wheel)
    return bool(re.search(rf"(?:(?<![a-z])|lib){IN_WORDS.get(stem, stem)}", words, re.IGNORECASE))


def _pinned(build: TorchBuild, pin: Pin) -> Evidence:
    return see(build, "pins", f"torch {build.version or ''} pins".replace("  ", " "), f"{pin.name}{pin.specifier}")


def _have(packages: Packages, have: Distribution) -> Evidence:
    return see(packages, "distributions", "installed", f"{have.name} {have.version}")


def _harmless(build: TorchBuild, packages: Packages, drifted: tuple[tuple[Pin, Distribution], ...]) -> Finding:
    first = drifted[0][1]
    more = f" and {len(drifted) - 1} more" if len(drifted) > 1 else ""
    return Finding(
        f"{first.name} {first.version}{more}: not the version that torch pins",
        "Nothing shows that it does harm.",
        tuple(
            see(build, "pins", f"{have.name} {have.version}", f"torch pins {pin.specifier}") for pin, have in drifted
        ),
        repair.to_pins(packages, tuple(f"{pin.name}{pin.specifier}" for pin, _ in drifted)),
    )


@rule(severity=Severity.ERROR, group="packages", explained_by=("conda-pip-mix", "duplicate-torch-installs"))
def triton_torch_mismatch(build: TorchBuild, packages: Packages) -> Iterator[Finding]:
    """Triton is not the version that this torch works with.

    ## What it means
    torch.compile generates Triton code through Triton's private interfaces, which change with each release. Each torch
    therefore pins one Triton. Or: triton and pytorch-triton, which fill the same directory, are both installed.

    ## Why it matters
    torch.compile, flex attention and many kernels fail with "cannot import name ..." or compile wrong code. Plain eager
    training is not touched.

    ## How it is detected
    The pin in torch's own metadata; where it has none, the pin that the published wheel of this release has. A
    difference in a nightly's revision alone is a warning. A CPU build pins no Triton. Nightlies and source builds
    without a pin are not judged, but a triton that somebody built from git in the place of a nightly's pytorch-triton
    is a warning.

    ## What to do
    Install the Triton that torch pins. Of triton and pytorch-triton remove both, then install the one that is pinned.

    ## Sources
    https://github.com/pytorch/pytorch/blob/main/RELEASE.md
    Requires-Dist of torch
    """
    found = tuple(each for name in TRITON_NAMES if (each := packages.find(name)) is not None)
    if not found:
        raise NotApplicable("Triton is not installed")
    yield from _two_tritons(packages, found)
    if build.is_cpu_only or build.hip:
        return
    if own := _of_own_making(build, packages, found):
        yield own
        return
    wanted, source = _wanted_triton(build, packages)
    have = next((each for each in found if each.name == wanted.name), found[0])
    version = parsed(have.version, have.name)
    asked = specifiers(wanted.specifier, "torch")
    revision = satisfies(version, asked)
    if asked.contains(version, prereleases=True) or (revision and not _names_revision(asked, version)):
        return
    close = revision or _differs_in_patch(version, asked)
    yield Finding(
        f"{have.name} {have.version} is installed, but this torch works with {wanted.name}{wanted.specifier}",
        f"Only the {'revision' if revision else 'patch number'} differs: torch.compile may still work."
        if close
        else "",
        (source, _have(packages, have)),
        repair.to_pins(packages, (f"{wanted.name}{wanted.specifier}",)),
        severity=Severity.WARNING if revision else Severity.ERROR,
        confidence=Confidence.LIKELY if close else Confidence.CERTAIN,
    )


def _of_own_making(build: TorchBuild, packages: Packages, found: tuple[Distribution, ...]) -> Finding | None:
    """Tell a triton of somebody's own in the place of the pytorch-triton that a nightly was published with."""
    version, have = torch_version(build, packages), found[0]
    nightly = version.is_devrelease and (version.local or "").startswith("cu") and not build.pins
    own = len(found) == 1 and have.name == "triton" and "+git" in have.version
    if not (nightly and own and version < PYTORCH_TRITON_UNTIL):
        return None
    return Finding(
        f"{have.name} {have.version} is somebody's own build: torch {version} was published with pytorch-triton",
        "Each nightly works with one revision of Triton.",
        (see(build, "version", "torch"), _have(packages, have)),
        repair.again(packages, ("torch",)),
        severity=Severity.WARNING,
        confidence=Confidence.LIKELY,
    )


def _two_tritons(packages: Packages, found: tuple[Distribution, ...]) -> Iterator[Finding]:
    """Give the pair that fills one directory with two versions."""
    owners = {owner for each in packages.shared_files for owner in each.owners}
    if len(found) < 2 or len({parsed(each.version, each.name).base_version for each in found}) < 2:
        return
    if found[0].location != found[1].location and not owners.issuperset(TRITON_NAMES):
        return
    yield Finding(
        "triton and pytorch-triton fill one directory with two versions",
        "The files are those of the one that was installed last, wherever both have a file of that name.",
        tuple(_have(packages, each) for each in found),
        repair.only(packages, TRITON_NAMES, f"{found[0].name}=={found[0].version}"),
        subject="pytorch-triton",
    )


def _wanted_triton(build: TorchBuild, packages: Packages) -> tuple[Pin, Evidence]:
    """Give torch's own pin, or the published wheel's; ends the rule where neither is known."""
    for pin in build.pins:
        if pin.name in TRITON_NAMES and pin.specifier:
            return pin, _pinned(build, pin)
    version = torch_version(build, packages)
    row = None if is_source_build(version) else release(version)
    if row is None or not row.triton:
        raise NotApplicable(f"torch {version} names no Triton of its own")
    pin = Pin("triton", row.triton)
    return pin, Evidence(
        "knowledge.torch_releases", f"triton{row.triton}", row.source, label=f"torch {row.version} pins"
    )


def _differs_in_patch(version: Version, asked: SpecifierSet) -> bool:
    return any(
        parsed(each.version.removesuffix(".*"), "torch's pin").release[:2] == version.release[:2] for each in asked
    )


def _names_revision(asked: SpecifierSet, version: Version) -> bool:
    """Tell whether both sides name a revision (``3.2.0+git0d4682f0``) and so can be told apart."""
    return version.local is not None and any("+" in each.version for each in asked)


RULES = (wheel_pin_drift, triton_torch_mismatch)
