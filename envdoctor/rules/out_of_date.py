"""What is newer here than the shipped tables, and what could therefore not be judged by them."""

from __future__ import annotations

from collections.abc import Iterator

from packaging.version import InvalidVersion, Version

from envdoctor.facts.driver import CudaDriver, KernelModule, NvidiaSmi
from envdoctor.facts.host import Host
from envdoctor.facts.libraries import Libraries, MappedLibraries
from envdoctor.facts.torch import TorchBuild, TorchSettings
from envdoctor.finding import Command, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.knowledge import GATHERED
from envdoctor.knowledge.cuda import cuda_minor, dotted, newest_known_branch, releases
from envdoctor.knowledge.torch import releases as torch_releases
from envdoctor.knowledge.variables import newest_nccl
from envdoctor.rule import Rule, rule
from envdoctor.rules.driver_level import Driver, version_of
from envdoctor.rules.nccl import nccl_version
from envdoctor.rules.presence import windows_driver

BY_ITSELF = "Everything that the environment says itself was judged: pins, symbols, device code, the driver's answers. "
NOT_JUDGED = {
    "torch": "Not judged: which torchvision, torchaudio, xformers and Triton belong to it where their metadata is "
    "silent, options of its allocator, names of its variables, and which of its wheels fits this driver and GPU.",
    "CUDA": "Not judged: whether a driver starts it, where it was not asked, and which GPUs its compiler serves.",
    "driver": "Not judged: how long its branch is supported, and which CUDA it supports, where it was not asked.",
    "NCCL": "Not judged: names of its variables that it may have learned since.",
}


@rule(severity=Severity.INFO, group="doctor")
def knowledge_out_of_date(
    build: TorchBuild | None,
    driver: CudaDriver | None,
    smi: NvidiaSmi | None,
    module: KernelModule | None,
    libraries: Libraries | None,
    mapped: MappedLibraries | None,
    settings: TorchSettings | None,
    host: Host | None,
) -> Iterator[Finding]:
    """Something here is newer than the tables that ship with envdoctor.

    ## What it means
    envdoctor judges by what an environment says of itself first, and by dated tables where that is silent. A release
    that came out after the tables were gathered is not in them.

    ## Why it matters
    Nothing is wrong. But a few questions could not be judged, and each finding names them.

    ## How it is detected
    The versions of torch, of its CUDA, of the driver and of NCCL against the newest ones in the tables, whose dates
    "envdoctor list --knowledge" shows.

    ## What to do
    Upgrade envdoctor, where a newer one is there.

    ## Sources
    https://pytorch.org/get-started/locally/
    """
    yield from _torch(build)
    yield from _cuda(build)
    hand = Driver(driver, None, smi, module, host=host)
    version, shown = version_of(hand)
    newest = newest_known_branch("windows" if windows_driver(host) else "linux")
    if version and version[0] > newest:
        yield _newer("driver", f"driver {dotted(version)}", f"branch {newest}", shown)
    have = nccl_version(libraries, mapped, settings)
    if have and have[0][:2] > newest_nccl()[:2]:
        yield _newer("NCCL", f"NCCL {dotted(have[0])}", dotted(newest_nccl()), (have[1],))


def _torch(build: TorchBuild | None) -> Iterator[Finding]:
    newest = torch_releases()[0].version
    try:
        version = Version(build.version) if build and build.version else None
    except InvalidVersion:
        return
    if build and version and version.release[:2] > newest.release[:2]:
        yield _newer("torch", f"torch {version.public}", str(newest), (see(build, "version", "torch"),))


def _cuda(build: TorchBuild | None) -> Iterator[Finding]:
    newest = max(each.cuda for each in releases())
    version = cuda_minor(build.cuda) if build else None
    if build and version and version > newest:
        shown = see(build, "cuda", "torch was built with", f"CUDA {build.cuda}")
        yield _newer("CUDA", f"CUDA {dotted(version)}", dotted(newest), (shown,))


def _newer(subject: str, have: str, newest: str, shown: tuple[Evidence, ...]) -> Finding:
    renew = Command(None, "python -m pip install --upgrade torch-envdoctor")
    return Finding(
        f"{have} is newer than the tables of envdoctor, which end with {newest}",
        f"{BY_ITSELF}{NOT_JUDGED[subject]}",
        evidence=(
            *shown,
            Evidence("knowledge", newest, f"tables of {GATHERED}", "", f"newest {subject} in the tables"),
        ),
        fixes=(Fix("Upgrade envdoctor", (renew,), Safety.SAFE, "envdoctor itself"),),
        subject=subject,
    )


RULES: tuple[Rule, ...] = (knowledge_out_of_date,)
