"""The CUDA that a compiled companion was built for, against torch's: by its tag, its name, or its file."""

from __future__ import annotations

import re

from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Fix
from envdoctor.knowledge.cuda import cuda_minor
from envdoctor.remedy import repair
from envdoctor.remedy.install import install
from envdoctor.rules.versions import told_cuda

# Their wheels are for the CPU whatever torch is built with: they have no kernels of their own.
WITHOUT_KERNELS = {"torchtext", "torchdata"}
BY_NAME = re.compile(r"(?P<stem>.+-cu)(?P<major>1\d)$")


def other_cuda(have: Distribution, build: TorchBuild | None) -> str:
    """Say which other CUDA major a package was built for; empty when it is torch's, or not known."""
    name = BY_NAME.match(have.name)
    theirs = name["major"] if name else told_cuda(have.built_for)
    ours = build.cuda if build else None
    if theirs is None or build is None or (ours is None and not build.is_cpu_only) or have.name in WITHOUT_KERNELS:
        return ""
    if theirs == "cpu":
        return "" if build.is_cpu_only else "the CPU"
    same = ours is not None and (cuda_minor(theirs) or ())[:1] == (cuda_minor(ours) or ())[:1]
    return "" if same else f"CUDA {theirs}"


def in_torchs_cuda(packages: Packages, have: Distribution, build: TorchBuild | None) -> tuple[Fix, ...]:
    """Put the package in again for torch's CUDA: under the name of that major where its name tells it."""
    name, major = BY_NAME.match(have.name), (cuda_minor(build.cuda) or ())[:1] if build else ()
    if name and major:
        spec = f"{name['stem']}{major[0]}=={have.version}"
        return (install(packages, (spec,), title=f"Install {spec}, for torch's CUDA"),)
    if have.name == "xformers":
        return repair.again(packages, (have.name,))
    return repair.compiled_again(packages, have.name, have.version.partition("+")[0])
