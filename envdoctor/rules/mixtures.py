"""Is one environment filled from two sources: conda and pip, or two majors of CUDA?"""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.host import Host
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.knowledge.cuda import cuda_minor
from envdoctor.remedy import repair
from envdoctor.remedy.image import image_like
from envdoctor.rule import NotApplicable, rule
from envdoctor.rules.versions import parsed

CONDA_NAMES = {"torch": ("pytorch", "libtorch"), "triton": ("torchtriton", "triton")}
# The libraries of CUDA itself. What other products bring (nvimgcodec, nvcomp) shares no file with them.
SUFFIX = re.compile(
    r"nvidia-(?P<part>cublas|cudnn|cufft|cufile|curand|cusolver|cusparse|cusparselt|nccl|nvjitlink|nvshmem|nvtx|"
    r"cuda-(cupti|nvcc|nvrtc|runtime))-cu(?P<major>1\d)$"
)


@rule(severity=Severity.WARNING, group="packages")
def conda_pip_mix(packages: Packages, build: TorchBuild | None, host: Host | None) -> Iterator[Finding]:
    """Conda and pip both brought torch, or parts of it, into one environment.

    ## What it means
    conda's records name a pytorch, and pip installed torch, Triton or NVIDIA's libraries over or beside it. Neither
    tool knows of the other's files.

    ## Why it matters
    Files of two builds end up in one directory, or two copies of a library in one process. The next command of either
    tool undoes what the other did.

    ## How it is detected
    conda's records (conda-meta) against the distributions that pip installed. A torch that both name in the same
    version is conda's alone: its package carries Python's metadata too.

    ## What to do
    Let one tool own torch: a fresh environment with torch from pip alone, or from conda-forge alone. NVIDIA's image
    that is most like this stack is named too.

    ## Sources
    https://docs.conda.io/projects/conda/en/latest/user-guide/tasks/manage-environments.html
    """
    owned = {each.name: each for each in packages.distributions if each.source == "conda"}
    torch = next((owned[name] for name in CONDA_NAMES["torch"] if name in owned), None)
    if torch is None:
        raise NotApplicable("conda did not bring torch")
    brought = tuple(each for each in packages.distributions if _by_pip(each, owned))
    if not brought:
        return
    names = ", ".join(each.name for each in brought[:4])
    yield Finding(
        f"conda brought {torch.name} {torch.version}, pip brought {names}{' and more' if len(brought) > 4 else ''}",
        evidence=(_seen(packages, torch, "conda's"), *(_seen(packages, each, "pip's") for each in brought[:4])),
        fixes=(*repair.fresh_environment(packages), *image_like(host, build)),
        confidence=Confidence.LIKELY,
    )


def _by_pip(each: Distribution, owned: dict[str, Distribution]) -> bool:
    """Tell whether pip brought a part of torch that conda's records name otherwise, or not at all."""
    if each.source != "pip":
        return False
    if SUFFIX.match(each.name):
        return True
    records = [owned[name] for name in CONDA_NAMES.get(each.name, ()) if name in owned]
    return bool(records) and not any(_is_the_same(record, each) for record in records)


def _is_the_same(record: Distribution, each: Distribution) -> bool:
    """Tell whether conda's record and Python's metadata are of one package: 1.0.1 beside 1.0.1.post2, never +cu121."""
    version = parsed(each.version, each.name)
    return version.local is None and version.base_version == parsed(record.version, record.name).base_version


def _seen(packages: Packages, each: Distribution, whose: str) -> Evidence:
    return see(packages, "distributions", f"{whose} {each.name}", each.version)


@rule(severity=Severity.WARNING, group="libraries", explained_by=("conda-pip-mix",))
def mixed_cuda_major_wheels(packages: Packages, build: TorchBuild | None) -> Iterator[Finding]:
    """NVIDIA's wheels of two CUDA majors are installed together.

    ## What it means
    nvidia-*-cu11, -cu12 and -cu13 wheels bring the same libraries for different CUDA majors. Some of them, cuDNN and
    NCCL among them, write files of the same name into the same directory.

    ## Why it matters
    The one that was installed last wins, and torch then finds a library that was built for another CUDA: undefined
    symbols, or wrong answers.

    ## How it is detected
    The names of the installed distributions. It is an error when their records name one file with two contents.
    NCCL alone in two majors is `nccl-mixed`.

    ## What to do
    Remove the wheels of the major that torch does not use, then install those of torch's major again, because the
    removal takes shared files with it.

    ## Sources
    https://github.com/pytorch/pytorch/issues/186591
    """
    by_major: dict[int, list[Distribution]] = {}
    for each in packages.distributions:
        if match := SUFFIX.match(each.name):
            by_major.setdefault(int(match["major"]), []).append(each)
    if not by_major:
        raise NotApplicable("no nvidia-* wheel is installed")
    parts = {major: {_part(each) for each in found} - {"nccl"} for major, found in by_major.items()}
    if sum(bool(each) for each in parts.values()) < 2:
        return
    ours = _major_of(build) or max(by_major, key=lambda major: len(by_major[major]))
    others = tuple(each for major, found in by_major.items() if major != ours for each in found)
    clash = _clash(packages, {each.name for each in others})
    yield Finding(
        f"NVIDIA wheels of CUDA {' and '.join(str(major) for major in sorted(by_major))} are installed together",
        evidence=(*_counts(packages, by_major), *clash),
        fixes=_one_major(packages, others, tuple(by_major.get(ours, ()))),
        severity=Severity.ERROR if clash else Severity.WARNING,
    )


def _part(each: Distribution) -> str:
    match = SUFFIX.match(each.name)
    return match["part"] if match else ""


def _major_of(build: TorchBuild | None) -> int | None:
    found = cuda_minor(build.cuda) if build else None
    return found[0] if found else None


def _counts(packages: Packages, by_major: dict[int, list[Distribution]]) -> tuple[Evidence, ...]:
    return tuple(
        see(
            packages,
            "distributions",
            f"for CUDA {major}",
            ", ".join(f"{each.name} {each.version}" for each in found[:3]),
        )
        for major, found in sorted(by_major.items())
    )


def _clash(packages: Packages, others: set[str]) -> tuple[Evidence, ...]:
    """Give a file that wheels of two majors own with different contents."""
    for each in packages.shared_files:
        if not each.same_content and others.intersection(each.owners) and not others.issuperset(each.owners):
            return (see(packages, "shared_files", each.path, " and ".join(each.owners)),)
    return ()


def _one_major(packages: Packages, others: tuple[Distribution, ...], ours: tuple[Distribution, ...]) -> tuple[Fix, ...]:
    shared = {_part(each) for each in others}
    back = tuple(f"{each.name}=={each.version}" for each in ours if _part(each) in shared)
    return repair.without(packages, tuple(each.name for each in others), back)


RULES = (conda_pip_mix, mixed_cuda_major_wheels)
