"""Does what a file asks for exist for this machine? Judged before anything is installed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts import source_of
from envdoctor.facts.driver import CudaDriver, KernelModule, NvidiaSmi
from envdoctor.facts.host import Host
from envdoctor.facts.packages import Packages
from envdoctor.facts.text import Unresolved, Wanted
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.knowledge.prebuilt import prebuilt
from envdoctor.knowledge.torch import cuda_of, numbers, releases
from envdoctor.remedy.install import change_torch, ways_to_cuda
from envdoctor.remedy.machine import Machine, machine_of
from envdoctor.rule import NotApplicable, rule


@rule(severity=Severity.ERROR, group="packages", explained_by=("python-unsupported",))
def wheel_unavailable(
    wanted: Wanted | None,
    packages: Packages | None,
    build: TorchBuild | None,
    host: Host | None,
    driver: CudaDriver | None,
    smi: NvidiaSmi | None,
    module: KernelModule | None,
) -> Iterator[Finding]:
    """A file asks for a package that has no wheel for this system, for that torch, or on that index.

    ## What it means
    The requirements, lock file or Dockerfile names a release for which no ready-made file exists here: torch was not
    published for that CUDA, a lock was made for other systems, or a package that is compiled against torch has no
    wheel for the torch that is asked for.

    ## Why it matters
    "No matching distribution found", or pip compiles the package for an hour, with the nvcc that happens to be there.

    ## How it is detected
    torch by the table of its releases; a lock by the wheels that it names itself; flash-attn by the matrix of the
    wheels that its releases were published with. Nothing is downloaded.

    ## What to do
    Ask for a torch that the package has wheels for, or for a variant that torch was published for.

    ## Sources
    https://github.com/Dao-AILab/flash-attention/releases
    https://pytorch.org/get-started/previous-versions/
    """
    if wanted is None or not wanted.requirements:
        raise NotApplicable("no file of what would be installed is given")
    lacking = [each for each in wanted.unresolved if each.lack != "python"]
    fit = machine_of(packages, host, driver=driver, smi=smi, module=module)
    for each in lacking:
        compiles = each.lack == "prebuilt"
        yield Finding(
            each.words,
            "pip would compile it, which needs nvcc of torch's CUDA, and time." if compiles else "",
            (_asked(wanted, each), *_torch(build if compiles else None), _known(each)),
            _fixes(packages, host, fit, each) if packages else (),
            subject=each.name,
            severity=Severity.WARNING if compiles else Severity.ERROR,
            confidence=Confidence.LIKELY,
        )


def _fixes(packages: Packages, host: Host | None, fit: Machine, each: Unresolved) -> tuple[Fix, ...]:
    if each.name == "torch":
        near = re.match(r"==(\d[\d.]*\d)", each.asked)
        return ways_to_cuda(packages, host, fit, near[1] if near else None)
    return _another_torch(packages, each, fit) if each.lack == "prebuilt" else ()


def _asked(wanted: Wanted, each: Unresolved) -> Evidence:
    words = f"{each.name}{each.asked if each.asked[:1] in '=<>~!' else ''}"
    return Evidence("wanted.requirements", words, each.source or source_of(wanted, "requirements"), "file", "asked for")


def _torch(build: TorchBuild | None) -> tuple[Evidence, ...]:
    return (see(build, "version", "torch would be"),) if build and build.version else ()


def _known(each: Unresolved) -> Evidence:
    return Evidence("wanted.unresolved", each.offered, each.known_by, "", "there is")


def _another_torch(packages: Packages, each: Unresolved, fit: Machine) -> tuple[Fix, ...]:
    """Give the newest torch that the package has wheels for, in a variant of a CUDA major that it was built for."""
    rows = [row for row in prebuilt(each.name) if f"{each.name} {row.version} " in each.words]
    for row in rows if fit.python else ():
        for one in releases():
            wheel = fit.cuda_wheel(str(one.version))
            fits = row.fits(numbers(str(one.version)), None, numbers(fit.python or ""))
            if fits and wheel and wheel.torch == one.version and cuda_of(wheel.variant)[0] in row.cuda:
                title = f"Ask for torch {wheel.torch}, which {each.name} {row.version} has wheels for"
                return change_torch(packages, wheel, title=title)
    return ()


RULES = (wheel_unavailable,)
