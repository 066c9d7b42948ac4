"""Which torch conda would choose, as far as the file alone says it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from envdoctor.knowledge.torch import releases
from envdoctor.whatif.torch_choice import Choice, Chosen

if TYPE_CHECKING:
    from envdoctor.facts.text import Requirement, Wanted

TORCH = ("pytorch", "pytorch-gpu", "pytorch-cpu")
LAST_ON_ITS_CHANNEL = Version("2.5.1")
_BUILD_CUDA = re.compile(r"cuda_?(\d{2,3}|\d{1,2}\.\d)")
UNSAID = "conda chooses the build by the driver that it finds when the environment is made"


def choose(rows: tuple[Requirement, ...], wanted: Wanted) -> Choice:
    """Choose by name, build string and the packages that stand for a CUDA; what conda's solver decides is not known."""
    named = {each.name: each for each in rows if each.kind == "conda"}
    row = next((named[name] for name in TORCH if name in named), None)
    if row is None:
        return Choice()
    cuda, cpu, told = _build(row, named)
    version = _version(named, row, wanted)
    return Choice(Chosen(version, cuda, None, cpu, row.source, told) if version else None)


def _version(named: dict[str, Requirement], row: Requirement, wanted: Wanted) -> str:
    asked = ",".join(named[name].specifier for name in TORCH if name in named and named[name].specifier)
    try:
        allowed = [each.version for each in releases() if SpecifierSet(asked).contains(each.version)]
    except InvalidSpecifier:
        return ""
    own = "pytorch" in wanted.channels[:1] or row.marker.startswith("channel pytorch")
    fit = [each for each in allowed if each <= LAST_ON_ITS_CHANNEL] if own else allowed
    exact = re.fullmatch(r"==(\d[\d.]*\d)", asked)
    return str(fit[0]) if fit else exact.group(1) if exact else ""


def _build(row: Requirement, named: dict[str, Requirement]) -> tuple[str | None, bool | None, str]:
    build = row.marker.partition("build ")[2]
    if row.name == "pytorch-cpu" or "cpuonly" in named or "cpu" in build:
        return None, True, f"{'cpuonly' if 'cpuonly' in named else build or row.name} asks for the CPU's build"
    if found := _BUILD_CUDA.search(build):
        digits = found.group(1)
        return (digits if "." in digits else f"{digits[:-1]}.{digits[-1]}"), False, f"build {build}"
    for name in ("pytorch-cuda", "cudatoolkit"):
        found = re.match(r"==(\d{1,2}\.\d{1,2})", named[name].specifier) if name in named else None
        if found:
            return found.group(1), False, f"{name} {named[name].specifier}"
    return None, None, UNSAID
