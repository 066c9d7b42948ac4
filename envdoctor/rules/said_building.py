"""Words of compilers and of what calls them: what makes the findings about building more than info."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.driver import NvidiaSmi
from envdoctor.facts.host import Environment, Host
from envdoctor.facts.libraries import Toolkit
from envdoctor.facts.packages import Packages
from envdoctor.facts.text import ErrorText
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Evidence, Finding, Fix, Severity, see
from envdoctor.knowledge.cuda import numbers
from envdoctor.knowledge.torch import releases
from envdoctor.remedy import repair
from envdoctor.remedy.install import install
from envdoctor.remedy.variables import export, look, unset
from envdoctor.rule import Witness, witness
from envdoctor.rules.building import ARCH_LIST
from envdoctor.rules.cards import cards
from envdoctor.rules.compiling import install_compiler, install_headers
from envdoctor.rules.said import NO_PACKAGES, built_with, hear, lead, listed


def _toolkit(toolkit: Toolkit | None) -> tuple[Evidence, ...]:
    return (see(toolkit, "nvcc", "nvcc", toolkit.nvcc[0].version),) if toolkit and toolkit.nvcc else ()


@witness
def cuda_toolkit_torch_mismatch(
    words: ErrorText, build: TorchBuild | None, toolkit: Toolkit | None
) -> Iterator[Finding]:
    """A build refuses the toolkit that it found."""
    heard = hear(words, "cuda-toolkit-torch-mismatch")
    if heard:
        cuda = build.cuda if build and build.cuda else None
        home = f"CUDA_HOME=/usr/local/cuda-{'.'.join(cuda.split('.')[:2])}" if cuda else "CUDA_HOME=/usr/local/cuda"
        yield lead(
            heard,
            "A build refuses this CUDA toolkit: torch was built with another CUDA",
            export("Point the build at a toolkit of torch's CUDA, which must be installed", home),
            look("See which toolkits are here", "ls -d /usr/local/cuda*", "nvcc --version"),
            also=(*built_with(build), *_toolkit(toolkit)),
            severity=Severity.ERROR,
        )


@witness
def cuda_home_wrong(words: ErrorText, environment: Environment | None, toolkit: Toolkit | None) -> Iterator[Finding]:
    """A build looks for the toolkit and does not find it."""
    heard = hear(words, "cuda-home-wrong")
    value = environment.get("CUDA_HOME") if environment else None
    if heard:
        yield lead(
            heard,
            f"A build does not find the CUDA toolkit{' where CUDA_HOME points' if value else ''}",
            export("Point CUDA_HOME at a toolkit that is there", "CUDA_HOME=/usr/local/cuda"),
            look("See which toolkits are here", "ls -d /usr/local/cuda*", "command -v nvcc"),
            also=(
                *((see(environment, "variables", "CUDA_HOME", value),) if environment and value else ()),
                *_toolkit(toolkit),
            ),
            severity=Severity.ERROR,
        )


@witness
def host_compiler_too_new(words: ErrorText, toolkit: Toolkit | None) -> Iterator[Finding]:
    """Nvcc refuses the host compiler."""
    heard = hear(words, "host-compiler-too-new")
    if heard is None:
        return
    newest = heard.match[1] if heard.message.id == "host-gcc" else None
    gcc = toolkit.host_compiler if toolkit else None
    older = f"NVCC_PREPEND_FLAGS='-ccbin g++-{newest}'" if newest else "NVCC_PREPEND_FLAGS='-ccbin g++-12'"
    yield lead(
        heard,
        "nvcc refuses the host compiler, which is newer than it knows",
        export(f"Let nvcc use g++-{newest or 12}, which must be installed", older),
        look("See which compilers are here", "ls /usr/bin/g++*", "nvcc --version"),
        also=(*_toolkit(toolkit), *((see(toolkit, "host_compiler", "gcc", gcc.version),) if toolkit and gcc else ())),
        severity=Severity.ERROR,
    )


@witness
def arch_list_unsupported(
    words: ErrorText, environment: Environment | None, toolkit: Toolkit | None, smi: NvidiaSmi | None
) -> Iterator[Finding]:
    """Torch or nvcc refuses an architecture that a build asks for."""
    heard = hear(words, "arch-list-unsupported")
    if heard is None:
        return
    value = environment.get(ARCH_LIST) if environment else None
    own = ";".join(dict.fromkeys(each.capability for each in cards(None, smi, None) if each.capability))
    yield lead(
        heard,
        "A build asks for a GPU architecture that this torch or this nvcc does not know",
        *((unset(ARCH_LIST),) if value else ()),
        export("Name the GPUs of this machine alone", f"{ARCH_LIST}='{own or '8.0'}'"),
        look("See which GPUs they are", "nvidia-smi --query-gpu=name,compute_cap --format=csv"),
        also=(
            *((see(environment, "variables", ARCH_LIST, value),) if environment and value else ()),
            *_toolkit(toolkit),
        ),
        severity=Severity.ERROR,
    )


@witness
def python_headers_missing(words: ErrorText, host: Host | None, packages: Packages | None) -> Iterator[Finding]:
    """A compiler does not find Python.h."""
    heard = hear(words, "python-headers-missing")
    if heard:
        title = "Python.h is missing: what Triton, torch.compile or a build wanted to compile stopped there"
        yield lead(heard, title, install_headers(host, packages), severity=Severity.ERROR)


@witness
def c_compiler_missing(words: ErrorText, host: Host | None) -> Iterator[Finding]:
    """Triton, torch.compile or a build finds no compiler."""
    heard = hear(words, "c-compiler-missing")
    if heard:
        title = "No C compiler is found: what Triton, torch.compile or a build wanted to compile stopped there"
        yield lead(heard, title, install_compiler(host), severity=Severity.ERROR)


@witness
def compile_toolchain_missing(words: ErrorText, packages: Packages | None, host: Host | None) -> Iterator[Finding]:
    """Torch.compile finds no Triton."""
    heard = hear(words, "compile-toolchain-missing")
    if heard and not re.search(r"flop counting", heard.text):
        windows = bool(host and host.system == "Windows")
        yield lead(
            heard,
            "torch.compile finds no Triton"
            + (": for Windows it is a package of its own, triton-windows" if windows else ""),
            *_triton(packages or NO_PACKAGES, windows=windows),
            also=listed(packages, "torch", "triton", "triton-windows"),
        )


def _triton(packages: Packages, *, windows: bool) -> tuple[Fix, ...]:
    """Install the Triton of this torch: what it asks for, and on Windows, where it asks for none, one of that minor."""
    if not windows:
        return repair.whole_torch(packages)
    torch = numbers(packages.version("torch"))
    pin = next((each.triton.lstrip("=~") for each in releases() if each.version.release == torch), "")
    spec = f"triton-windows=={'.'.join(pin.split('.')[:2])}.*" if pin else "triton-windows"
    return (install(packages, (spec,)),)


WITNESSES: tuple[Witness, ...] = (
    cuda_toolkit_torch_mismatch, cuda_home_wrong, host_compiler_too_new, arch_list_unsupported, python_headers_missing,
    c_compiler_missing, compile_toolchain_missing,
)  # fmt: skip
