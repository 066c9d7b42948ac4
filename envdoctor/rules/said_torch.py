"""Words about torch itself: missing, hidden, damaged, not importable, or of the wrong kind."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.driver import KernelModule, NvidiaSmi
from envdoctor.facts.host import Host
from envdoctor.facts.libraries import Toolkit
from envdoctor.facts.packages import Packages
from envdoctor.facts.text import ErrorText
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Command, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.remedy import repair
from envdoctor.remedy.install import install, ways_to_cuda
from envdoctor.remedy.machine import machine_of
from envdoctor.remedy.variables import look
from envdoctor.rule import Witness, witness
from envdoctor.rules.cards import gpu_names
from envdoctor.rules.said import NO_PACKAGES, hear, lead, listed, mention, quote

AMD = re.compile(r"\b(?:AMD|Radeon|RX ?\d{3,4}|Instinct|MI\d{2,3}[AX]?)\b")
ASKED_FOR_CUDA = ("cudatoolkit", "pytorch-cuda", "cuda-toolkit", "cuda-runtime", "cuda-version")


@witness
def torch_missing(words: ErrorText, packages: Packages | None, build: TorchBuild | None) -> Iterator[Finding]:
    """Python's own words; another Python than the one whose packages list a torch."""
    heard = hear(words, "torch-missing")
    if heard:
        elsewhere = bool(build and build.version)
        yield lead(
            heard,
            "PyTorch is not installed for the Python that printed this",
            install(packages or NO_PACKAGES, ("torch",)),
            look("See which Python it is", "python -c 'import sys; print(sys.executable)'"),
            detail="The report lists a torch: it is of another Python." if elsewhere else "",
            also=listed(packages, "torch"),
            severity=Severity.WARNING if elsewhere else Severity.ERROR,
        )


@witness
def torch_shadowed_by_local_file(words: ErrorText) -> Iterator[Finding]:
    """Python finds a module called torch that is not torch."""
    heard = hear(words, "torch-shadowed-by-local-file")
    if heard:
        yield lead(
            heard,
            "A file or folder named torch, or like a module of the standard library, hides the real one",
            look("See what is imported", "python -c 'import torch; print(torch.__file__)'", "ls"),
        )


@witness
def torch_install_damaged(words: ErrorText, packages: Packages | None) -> Iterator[Finding]:
    """The loader's words about a file of torch."""
    heard = hear(words, "torch-install-damaged")
    if heard:
        yield lead(
            heard,
            "A library of torch is truncated, or of another machine",
            *repair.again(packages or NO_PACKAGES, ("torch",)),
            also=listed(packages, "torch"),
        )


@witness
def torch_import_fails(words: ErrorText, packages: Packages | None) -> Iterator[Finding]:
    """Words that name no other finding: the compiled part is missing, or MKL lacks a function that torch asks for."""
    heard = hear(words, "torch-import-fails")
    if heard is None:
        return
    mkl = heard.message.id == "ijit"
    lacking = "MKL 2024.1 and newer lack what it asks for" if mkl else "its compiled part is not there for this Python"
    yield lead(
        heard,
        f"PyTorch does not import: {lacking}",
        *((_older_mkl(),) if mkl else repair.again(packages or NO_PACKAGES, ("torch",))),
        also=listed(packages, "torch", "pytorch", "mkl"),
    )


def _older_mkl() -> Fix:
    command = Command(None, "conda install 'mkl<2024.1'")
    return Fix("Install an MKL that still has it", (command,), Safety.SAFE, "this conda environment only")


@witness
def torch_cpu_only_on_gpu_machine(
    words: ErrorText,
    build: TorchBuild | None,
    packages: Packages | None,
    host: Host | None,
    smi: NvidiaSmi | None,
    module: KernelModule | None,
    cuda: TorchCuda | None,
    toolkit: Toolkit | None,
) -> Iterator[Finding]:
    """Torch says so; or somebody wants the GPU, and the build is for the CPU or may be."""
    heard = hear(words, "torch-cpu-only-on-gpu-machine")
    other = build is not None and bool(build.cuda or build.hip)
    if heard is None or other or (cuda and cuda.available):
        return
    wanted = _wanted(packages, smi, toolkit)
    cpu = bool(build and build.is_cpu_only)
    may_be = _index_may_give_cpu(host, build)
    fit, have = machine_of(packages, host, smi=smi, module=module), build.version if build else None
    if heard.own_words and not (cpu or wanted or may_be or build is None):
        return
    yield lead(
        heard,
        "PyTorch is the CPU build, and a GPU is wanted" if cpu or not heard.own_words else _perhaps(may_be),
        *ways_to_cuda(packages or NO_PACKAGES, host, fit, have),
        look("See which build it is", "python -c 'import torch; print(torch.__version__, torch.version.cuda)'"),
        also=(*_cpu_build(build), *wanted),
        severity=None
        if (cpu or not heard.own_words) and (wanted or not heard.own_words)
        else _soft(cpu, wanted, may_be),
        confirmed=True if cpu or (wanted and not heard.own_words) else None,
    )


def _soft(cpu: bool, wanted: tuple[Evidence, ...], may_be: str) -> Severity:
    return Severity.WARNING if cpu or wanted or may_be else Severity.INFO


def _perhaps(may_be: str) -> str:
    return f"PyTorch may be the CPU build{': ' + may_be if may_be else ''}"


def _cpu_build(build: TorchBuild | None) -> tuple[Evidence, ...]:
    if build is None or not build.is_cpu_only:
        return ()
    return (see(build, "cuda", "torch was built with", f"no CUDA ({build.conda_build or build.version})"),)


def _wanted(packages: Packages | None, smi: NvidiaSmi | None, toolkit: Toolkit | None) -> tuple[Evidence, ...]:
    """Show what says that CUDA is wanted here: a card, a driver, a toolkit, packages for it."""
    names = [each for each in gpu_names(None, smi, None) if not AMD.search(each)]
    if smi and (names or smi.driver_version):
        return (see(smi, "gpus" if names else "driver_version", "GPU", names[0] if names else smi.driver_version),)
    asked = listed(packages, *ASKED_FOR_CUDA)
    if asked:
        return asked[:1]
    return (see(toolkit, "nvcc", "CUDA toolkit", toolkit.nvcc[0].version),) if toolkit and toolkit.nvcc else ()


def _index_may_give_cpu(host: Host | None, build: TorchBuild | None) -> str:
    """Say where the index that pip asks by itself has CPU wheels."""
    if build is not None and (build.version or "").partition("+")[2].startswith("cu"):
        return ""
    if host and host.system == "Windows":
        return "for Windows, PyPI has no other"
    return "for aarch64, PyPI long had no other" if host and host.machine == "aarch64" else ""


@witness
def rocm_build_on_nvidia(
    words: ErrorText, build: TorchBuild | None, smi: NvidiaSmi | None, packages: Packages | None, host: Host | None
) -> Iterator[Finding]:
    """HIP speaks on a machine with an NVIDIA GPU; or the CPU is used where GPUs of both makers are."""
    heard = hear(words, "rocm-build-on-nvidia")
    names = gpu_names(None, smi, None)
    have = build.version if build else None
    nvidia = [each for each in names if not AMD.search(each)]
    amd = [each for each in names if AMD.search(each)] or mention(words, AMD.pattern)
    if heard is None or not nvidia or (heard.own_words and (not amd or (build and (build.cuda or build.is_cpu_only)))):
        return
    yield lead(
        heard,
        "PyTorch is the ROCm build, but the GPU is NVIDIA's"
        if not heard.own_words
        else "GPUs of AMD and NVIDIA are here, and the CPU is used: perhaps an installer chose the ROCm build",
        *ways_to_cuda(packages or NO_PACKAGES, host, machine_of(packages, host, smi=smi), have),
        look("See which build it is", "python -c 'import torch; print(torch.version.hip, torch.version.cuda)'"),
        also=(see(smi, "gpus", "GPU", ", ".join(names[:4])),) if smi else (),
        confirmed=None if heard.own_words else True,
    )


@witness
def conda_channel_mix(words: ErrorText, packages: Packages | None, build: TorchBuild | None) -> Iterator[Finding]:
    """A CPU build from conda where CUDA was wanted, and the text speaks of channels."""
    heard = hear(words, "torch-cpu-only-on-gpu-machine")
    channels = mention(
        words, r"\b(?:conda-forge|defaults|pytorch|nvidia)\b.{0,30}\bchannel|\bchannels?\b.{0,30}\bconda-forge"
    )
    asked = listed(packages, *ASKED_FOR_CUDA)
    owned = [each.name for each in packages.distributions if each.source == "conda"] if packages else []
    if heard and channels and "pytorch" in owned and build and build.is_cpu_only:
        yield lead(
            heard,
            "conda chose the CPU build, although CUDA was wanted: the order of channels decides what it takes",
            look("See which builds there are", "conda search 'conda-forge::pytorch[build=*cuda*]'"),
            also=(*_cpu_build(build), quote(channels), *asked),
            severity=Severity.WARNING,
        )


WITNESSES: tuple[Witness, ...] = (
    torch_missing, torch_shadowed_by_local_file, torch_install_damaged, torch_import_fails,
    torch_cpu_only_on_gpu_machine, rocm_build_on_nvidia, conda_channel_mix,
)  # fmt: skip
