"""Facts made of what an environment report tells: the same for every layout of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from envdoctor.facts.driver import KernelModule, NvidiaSmi, SmiGpu
from envdoctor.facts.host import Environment, Host, Variable
from envdoctor.facts.libraries import Compiler, Toolkit
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild, TorchCuda

if TYPE_CHECKING:
    from envdoctor.facts import Fact

SOURCE = "the pasted report"
_NUMBER = re.compile(r"\d+(?:\.\d+){1,3}")


@dataclass
class Told:
    """What a report says, in its own words, before it becomes facts. None: the report does not say."""

    torch: str | None = None
    cuda: str | None = None
    hip: str | None = None
    has_build: bool = False  # the report has a line about the CUDA of the build
    debug: bool | None = None
    os: str | None = None
    libc: str | None = None
    python: str | None = None
    platform: str | None = None
    available: bool | None = None
    nvcc: str | None = None
    driver: str | None = None
    cuda_home: str | None = None
    gpus: list[SmiGpu] = field(default_factory=list)
    distributions: list[Distribution] = field(default_factory=list)
    variables: list[Variable] = field(default_factory=list)
    torch_says: bool = True  # the GPU names come from torch or nvidia-smi, not from a person

    def facts(self) -> tuple[Fact, ...]:
        """Give the facts that these words carry; what nobody said makes no fact."""
        made = (_host(self), _packages(self), _build(self), _cuda(self), _smi(self), _module(self))
        return tuple(f for f in (*made, _toolkit(self), _environment(self)) if f is not None)


def number(text: str | None) -> str | None:
    """Give the first version number in a text."""
    match = _NUMBER.search(text or "")
    return match.group() if match else None


def _host(told: Told) -> Host | None:
    if not (told.os or told.platform or told.libc):
        return None
    system, os_id, version = _system(told.os or "", told.platform or "")
    machine = re.search(r"\b(x86_64|aarch64|arm64|ppc64le|AMD64)\b", f"{told.os} {told.platform}")
    kernel = re.match(r"Linux-([^-]+(?:-\d+)?[\w.+-]*?)-(?:x86_64|aarch64|ppc64le|with)", told.platform or "")
    release = kernel.group(1) if kernel else None
    return Host(
        system=system, os_id=os_id, os_version=version, os_name=told.os, kernel=release,
        machine={"AMD64": "x86_64"}.get(machine.group(), machine.group()) if machine else None,
        libc=told.libc.replace("-", " ", 1) if told.libc else None,
        wsl=True if "microsoft" in (told.platform or "").lower() else None,
    )  # fmt: skip


def _system(name: str, platform: str) -> tuple[str | None, str | None, str | None]:
    text = f"{name} {platform}".lower()
    if "windows" in text:
        return "Windows", None, None
    if "macos" in text or "mac os" in text or "darwin" in text:
        return "Darwin", None, None
    match = re.match(r"(ubuntu|debian|centos|red hat|rocky|almalinux|fedora|amazon|arch|opensuse|suse)", name.lower())
    ids = {"red hat": "rhel", "amazon": "amzn", "suse": "sles"}
    os_id = ids.get(match.group(), match.group()) if match else None
    return "Linux" if name or "linux" in text else None, os_id, (number(name) if match else None)


def _packages(told: Told) -> Packages | None:
    if not (told.distributions or told.python):
        return None
    kinds = {each.source for each in told.distributions}
    python = number(told.python) or told.python
    return Packages(
        distributions=tuple(told.distributions), python_version=python,
        environment_kind="conda" if "conda" in kinds else None, sources={"distributions": SOURCE},
    )  # fmt: skip


def _build(told: Told) -> TorchBuild | None:
    if told.torch is None:
        return None
    cuda, hip = number(told.cuda), told.hip
    cpu_only = told.has_build and cuda is None and hip is None
    sources = {"version": f"{SOURCE}: PyTorch version", "cuda": f"{SOURCE}: CUDA used to build PyTorch"}
    build = TorchBuild(version=told.torch, cuda=cuda, hip=hip, debug=told.debug, sources=sources)
    return TorchBuild(**{**vars(build), "is_cpu_only": cpu_only if told.has_build else None})


def _cuda(told: Told) -> TorchCuda | None:
    if told.available is None:
        return None
    return TorchCuda(available=told.available, sources={"available": f"{SOURCE}: Is CUDA available"})


def _smi(told: Told) -> NvidiaSmi | None:
    if not (told.driver or told.gpus):
        return None
    sources = {"driver_version": f"{SOURCE}: Nvidia driver version", "gpus": f"{SOURCE}: GPU models"}
    return NvidiaSmi(exit_code=0, driver_version=told.driver, gpus=tuple(told.gpus), sources=sources)


def _module(told: Told) -> KernelModule | None:
    return KernelModule(loaded=True, version=told.driver, sources={"version": SOURCE}) if told.driver else None


def _toolkit(told: Told) -> Toolkit | None:
    if not (told.nvcc or told.cuda_home):
        return None
    nvcc = (Compiler("nvcc", number(told.nvcc)),) if told.nvcc else ()
    return Toolkit(cuda_home=told.cuda_home, nvcc=nvcc, sources={"nvcc": f"{SOURCE}: CUDA runtime version"})


def _environment(told: Told) -> Environment | None:
    return Environment(variables=tuple(told.variables)) if told.variables else None
