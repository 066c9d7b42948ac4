"""Does this Python suit torch?"""

from __future__ import annotations

import re
from collections.abc import Iterator

from packaging.version import Version

from envdoctor.facts.packages import Packages
from envdoctor.facts.torch import TorchBuild, TorchPath
from envdoctor.finding import Confidence, Evidence, Finding, Severity, see
from envdoctor.knowledge.torch import numbers, python_support, releases
from envdoctor.remedy import repair
from envdoctor.remedy.install import another_python
from envdoctor.remedy.pair import fit_torch
from envdoctor.rule import NotApplicable, Unknown, known, rule
from envdoctor.rules.versions import parsed, satisfies, torch_version

FIRST_TORCH_WITH_COMPILE = Version("2.0")


@rule(severity=Severity.ERROR, group="packages")
def python_unsupported(packages: Packages, build: TorchBuild | None, path: TorchPath | None) -> Iterator[Finding]:
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
    warning: plain training works.

    ## What to do
    Take a Python that the release supports, or a release that supports this Python.

    ## Sources
    https://github.com/pytorch/pytorch/blob/main/RELEASE.md
    """
    python = str(known(packages, "python_version"))
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
        (*fit_torch(packages, row.torch, build), another_python(packages, str(parsed(str(torch), "torch")))),
        severity=Severity.WARNING,
        confidence=Confidence.LIKELY,
    )


RULES = (python_unsupported,)
