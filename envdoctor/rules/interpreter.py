"""Does this Python suit torch?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from packaging.version import Version

from envdoctor.facts.packages import Packages
from envdoctor.facts.text import Unresolved, Wanted
from envdoctor.facts.torch import TorchBuild, TorchPath
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.knowledge.torch import numbers, python_support, releases
from envdoctor.remedy import repair
from envdoctor.remedy.install import another_python
from envdoctor.remedy.pair import fit_torch
from envdoctor.rule import NotApplicable, Unknown, known, rule
from envdoctor.rules.versions import parsed, satisfies, torch_version

FIRST_TORCH_WITH_COMPILE = Version("2.0")


@rule(severity=Severity.ERROR, group="packages")
def python_unsupported(
    packages: Packages, build: TorchBuild | None, path: TorchPath | None, wanted: Wanted | None
) -> Iterator[Finding]:
    """This Python is not one that this torch supports.

    ## What it means
    torch's wheels are made for one minor of Python each, and a release knows the Pythons of its day. Either no wheel
    exists for this Python, or the torch on the path was made for another one, or torch.compile refuses this Python.

    ## Why it matters
    "No matching distribution found for torch", "No module named 'torch._C'", or "Dynamo is not supported on Python
    3.12+" at the first torch.compile.

    ## How it is detected
    The Python tag of torch's wheel against this interpreter; where torch is missing, the releases that have wheels for
    it; and the first release that supports it without reserve. A Python that is supported as an experiment only is a
    warning: plain training works. Of a requirements file the releases that it allows are held against the Python.

    ## What to do
    Take a Python that the release supports, or a release that supports this Python.

    ## Sources
    https://github.com/pytorch/pytorch/blob/main/RELEASE.md
    """
    python = str(known(packages, "python_version"))
    if lacking := [each for each in (wanted.unresolved if wanted else ()) if each.lack == "python"]:
        yield from (_asked_for(each, packages) for each in lacking)
        return
    if path and not [each for each in path.found if each not in path.namespaces]:
        yield from _no_wheel(packages, python)
        return
    have = packages.find("torch")
    made_for = re.match(r"cp3(\d+)-cp3\d+", have.wheel_tag) if have else None
    if have and made_for and f"3.{made_for[1]}" != ".".join(python.split(".")[:2]):
        tag = see(packages, "distributions", "torch's wheel", have.wheel_tag)
        title = f"The torch on the path was made for Python 3.{made_for[1]}, this is {python}"
        yield Finding(title, evidence=(tag, _python(packages)), fixes=repair.again(packages, ("torch",)))
        return
    yield from _experiment(packages, build, python)


def _python(packages: Packages) -> Evidence:
    return see(packages, "python_version", "this Python")


def _asked_for(each: Unresolved, packages: Packages) -> Finding:
    """Say of a file that it asks for a torch that was never made for the Python it would be installed into."""
    asked = Evidence("wanted.requirements", f"{each.name}{each.asked}", each.source, "file", "asked for")
    offered = Evidence("knowledge.torch_releases", each.offered, each.known_by, "", "there is")
    release = re.search(r"torch (\d[\d.]*\d)", each.offered)
    fixes = (another_python(packages, release[1] if release else None),)
    return Finding(each.words[:1].upper() + each.words[1:], evidence=(asked, _python(packages), offered), fixes=fixes)


def _no_wheel(packages: Packages, python: str) -> Iterator[Finding]:
    oldest, newest = releases()[-1].python_min, releases()[0].python_max
    if any(each.supports(numbers(python)) for each in releases()):
        raise NotApplicable("torch is not installed")
    if numbers(python) > newest:
        raise Unknown(f"Python {python} is newer than the tables of torch releases")
    words = ".".join(str(part) for part in oldest)
    yield Finding(
        f"No torch from 1.12 on has wheels for Python {python}: the oldest is {words}",
        evidence=(_python(packages),),
        fixes=(another_python(packages),),
    )


def _experiment(packages: Packages, build: TorchBuild | None, python: str) -> Iterator[Finding]:
    torch = torch_version(build, packages)
    row = python_support(python)
    if row is None or row.torch is None or torch < FIRST_TORCH_WITH_COMPILE or satisfies(torch, row.torch):
        return
    yield Finding(
        f"torch {torch} does not support Python {python} fully: torch.compile needs torch {row.torch}",
        "Plain training works.",
        (
            see(packages, "distributions", "torch", str(torch)),
            _python(packages),
            Evidence("knowledge.ecosystem", f"torch{row.torch}", row.source, label=f"Python {row.version} needs"),
        ),
        (*_first(fit_torch(packages, row.torch, build)), another_python(packages, str(parsed(str(torch), "torch")))),
        severity=Severity.WARNING,
        confidence=Confidence.LIKELY,
    )


def _first(fixes: tuple[Fix, ...]) -> tuple[Fix, ...]:
    """Word what is elsewhere the second way out as the first one."""
    return tuple(replace(each, title=each.title.replace("Or install", "Install", 1)) for each in fixes)


RULES = (python_unsupported,)
