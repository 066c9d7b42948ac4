"""Make torch and a companion a pair again: by the companion that belongs to this torch, or the other way round."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envdoctor.knowledge.torch import (
    companions_for,
    cuda_of,
    made_for,
    made_for_many,
    numbers,
    release,
    releases,
    variant_of,
)
from envdoctor.remedy.install import change_torch, install
from envdoctor.remedy.installer import AGAIN
from envdoctor.remedy.wheels import Wheel, same_build

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

    from envdoctor.facts.packages import Packages
    from envdoctor.facts.torch import TorchBuild
    from envdoctor.finding import Fix


XFORMERS_FROM = {12: "cu128", 13: "cu130"}  # by torch's CUDA major: PyTorch's index that has its newest wheels
ROCM = re.compile(r"rocm\d(\.\d{1,2}){1,2}")  # of PyTorch's own index; AMD's builds say more


def variant_in_use(build: TorchBuild | None) -> str:
    """Name the variant of the installed torch (``cu124``, ``cpu``); empty where it is not known."""
    if build is None:
        return ""
    if build.is_cpu_only:
        return "cpu"
    return variant_of(build.cuda) if build.cuda else ""


def fit_companion(packages: Packages, name: str, torch: Version, build: TorchBuild | None) -> tuple[Fix, ...]:
    """Install the companion that was published with this torch, and leave torch alone."""
    pair = companions_for(torch).get(name)
    if pair is None or torch.is_prerelease:
        return ()
    variant = _published_variant(packages, torch, build)
    if build and build.hip and not variant:
        return ()  # PyPI's is for CUDA
    have = packages.version(name) or ""
    # Over the same release in another variant only the tagged version makes an installer act.
    tag = f"+{variant}" if variant and have.partition("+")[0] == pair else ""
    title = f"Install the {name} that belongs to torch {torch}"
    there = AGAIN * (have == f"{pair}{tag}")  # by its name it is the right one, and yet it does not fit
    return (install(packages, (f"{name}=={pair}{tag}",), variant, title=title, again=there, alone=True),)


def published_with(packages: Packages, name: str, torch: Version, build: TorchBuild | None) -> tuple[Fix, ...]:
    """Install the release of a package that pins this torch; only for torch's default build is one known to exist."""
    version, row = made_for(name, torch), release(torch)
    if version is None or row is None or variant_in_use(build) != variant_of(row.default_cuda):
        return ()
    title = f"Install the {name} that belongs to torch {row.version}"
    return (install(packages, (f"{name}=={version}",), title=title, alone=name == "xformers"),)


def newest_xformers(packages: Packages, torch: Version, build: TorchBuild | None) -> tuple[Fix, ...]:
    """Install the xformers that works with this torch and later ones, for torch's CUDA major."""
    version = made_for_many("xformers", torch)
    index = XFORMERS_FROM.get((cuda_of(variant_in_use(build)) or (0,))[0])
    if version is None or index is None or torch.is_prerelease:
        return ()
    title = f"Install the xformers that works with torch {torch.public}"
    return (install(packages, (f"xformers=={version}",), index, title=title, alone=True),)


def _published_variant(packages: Packages, torch: Version, build: TorchBuild | None) -> str:
    if build and build.hip:
        return torch.local if torch.local and ROCM.fullmatch(torch.local) else ""
    cuda = build.cuda if build else None
    wheel = same_build(packages.python_version or "", str(torch), cuda, cpu=variant_in_use(build) == "cpu")
    return wheel.variant if wheel else ""


def fit_torch(packages: Packages, wanted: SpecifierSet | None, build: TorchBuild | None) -> tuple[Fix, ...]:
    """Install the torch that a companion wants, in the variant that is in use or another one of its CUDA major."""
    if wanted is None or packages.python_version is None:
        return ()
    python = numbers(packages.python_version)
    variant = variant_in_use(build)
    for each in reversed([one for one in releases() if one.version in wanted and one.supports(python)]):
        same = (variant,) if variant == "cpu" else _of_one_major(each.variants, variant)
        if same:
            return change_torch(packages, Wheel(each.version, same[0]), title=f"Or install torch {each.version}")
    return ()


def _of_one_major(offered: tuple[str, ...], variant: str) -> tuple[str, ...]:
    """Give the variants of the same CUDA major, which the same driver starts; the very same one first."""
    same = (each for each in offered if cuda_of(each)[:1] == cuda_of(variant)[:1])
    return tuple(sorted(same, key=lambda each: each != variant))
