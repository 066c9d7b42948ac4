"""Facts made of what a report tells: the same for every format that says it in words of its own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from envdoctor.facts.driver import DriverFiles, DriverLibrary, KernelModule, NvidiaSmi, SmiGpu
from envdoctor.facts.host import Environment, Host, Resources, Variable
from envdoctor.facts.libraries import Compiler, Copy, Toolkit
from envdoctor.facts.nvml import Gpu, GpuFabric, GpuState, MigDevice, PeerLink
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.readers.systems import host_of
from envdoctor.readers.versions import before, cuda_of_tag, number, rocm_of_tag

if TYPE_CHECKING:
    from envdoctor.facts import Fact

SOURCE = "the pasted report"


@dataclass
class Told:
    """What a report says, in its own words, before it becomes facts. None: the report does not say.

    ``not_collected`` holds, by our name, what the report itself says that it could not find out, in its words.
    """

    source: str = SOURCE
    torch: str | None = None
    cuda: str | None = None
    hip: str | None = None
    has_build: bool = False  # the report has a line about the CUDA of the build
    debug: bool | None = None
    arch_list: tuple[str, ...] = ()
    os: str | None = None
    libc: str | None = None
    python: str | None = None
    platform: str | None = None
    hypervisor: str | None = None
    available: bool | None = None
    nvcc: str | None = None
    gcc: str | None = None
    driver: str | None = None
    libcuda: str | None = None  # of the driver's libraries, where they are told apart from the kernel module
    driver_cuda: str | None = None
    cuda_home: str | None = None
    cudnn: list[Copy] = field(default_factory=list)
    cpu_model: str | None = None
    cpus: int | None = None
    open_files: int | None = None
    locked_memory_kib: int | None = None
    gpus: list[SmiGpu] = field(default_factory=list)
    distributions: list[Distribution] = field(default_factory=list)
    slices: list[tuple[int, str]] = field(default_factory=list)  # MIG: index of the card, profile
    variables: list[Variable] = field(default_factory=list)
    unset: list[str] = field(default_factory=list)
    links: list[PeerLink] = field(default_factory=list)
    not_collected: dict[str, str] = field(default_factory=dict)

    def facts(self) -> tuple[Fact, ...]:
        """Give the facts that these words carry; what nobody said makes no fact."""
        made = (
            _host(self), _packages(self), _build(self), _cuda(self),
            _smi(self), _module(self), _toolkit(self), _environment(self), _resources(self),
            _fabric(self), _state(self), _libraries(self),
        )  # fmt: skip
        return tuple(f for f in made if f is not None)

    def why(self, **fields: str) -> dict[str, str]:
        """Give, by field of a fact, the report's own words for why it is not known."""
        return {
            name: f"{self.source} says: {self.not_collected[ours]}"
            for name, ours in fields.items()
            if ours in self.not_collected
        }


def _host(told: Told) -> Host | None:
    """Before Python 3.8 the C library's version is what Python was linked with: too low, and left out."""
    found = host_of(told.os, told.platform, told.libc, told.hypervisor)
    if found is None or not found.libc or not before(told.python, (3, 8)):
        return found
    why = (
        f"Python {number(told.python) or told.python} reports the glibc that it was linked with, not the one that runs"
    )
    return replace(found, libc=None, unknown={"libc": why})


def _packages(told: Told) -> Packages | None:
    if not (told.distributions or told.python):
        return None
    kinds = {each.source for each in told.distributions}
    python = number(told.python) or told.python
    return Packages(
        distributions=tuple(told.distributions), python_version=python,
        environment_kind="conda" if "conda" in kinds else None,
        sources={"distributions": told.source, "python_version": told.source},
        unknown=told.why(python_version="python"),
    )  # fmt: skip


def _build(told: Told) -> TorchBuild | None:
    torch = told.torch or ""
    cuda, hip = number(told.cuda) or cuda_of_tag(torch), told.hip or rocm_of_tag(torch)
    if not (torch or cuda or hip):
        return None
    return TorchBuild(
        version=told.torch, cuda=cuda, hip=hip, debug=told.debug, is_cpu_only=_is_cpu_only(told, cuda or hip),
        arch_list=told.arch_list,
        sources={"version": f"{told.source}: PyTorch version", "cuda": f"{told.source}: CUDA used to build PyTorch"},
    )  # fmt: skip


def _is_cpu_only(told: Told, accelerator: str | None) -> bool | None:
    """Tell a build without any accelerator: by what it was built with, else by its own tag."""
    if accelerator or "+xpu" in (told.torch or ""):
        return False
    return True if told.has_build or "+cpu" in (told.torch or "") else None


def _cuda(told: Told) -> TorchCuda | None:
    if told.available is None:
        return None
    return TorchCuda(available=told.available, sources={"available": f"{told.source}: Is CUDA available"})


def _smi(told: Told) -> NvidiaSmi | None:
    unknown = told.why(driver_version="driver", gpus="gpus")
    if not (told.driver or told.gpus or told.driver_cuda or unknown):
        return None
    sources = {"driver_version": f"{told.source}: driver version", "gpus": f"{told.source}: GPU models"}
    sources["cuda_version"] = f"{told.source}: CUDA version of the driver"
    answered = 0 if told.driver or told.gpus else None
    return NvidiaSmi(
        exit_code=answered, driver_version=told.driver, cuda_version=told.driver_cuda, gpus=tuple(told.gpus),
        sources=sources, unknown=unknown,
    )  # fmt: skip


def _module(told: Told) -> KernelModule | None:
    if not told.driver:
        return None
    return KernelModule(loaded=True, version=told.driver, sources={"version": f"{told.source}: driver version"})


def _toolkit(told: Told) -> Toolkit | None:
    if not (told.nvcc or told.cuda_home or told.gcc or told.cudnn):
        return None
    nvcc = (Compiler("nvcc", number(told.nvcc)),) if number(told.nvcc) else ()
    gcc = Compiler("gcc", told.gcc) if told.gcc else None
    sources = dict.fromkeys(("nvcc", "host_compiler", "cuda_home", "cudnn_headers"), told.source)
    return Toolkit(
        cuda_home=told.cuda_home, nvcc=nvcc, host_compiler=gcc, cudnn_headers=tuple(told.cudnn), sources=sources,
        unknown=told.why(nvcc="nvcc", host_compiler="gcc"),
    )  # fmt: skip


def _environment(told: Told) -> Environment | None:
    if not (told.variables or told.unset):
        return None
    sources = {"variables": told.source, "unset": told.source}
    return Environment(variables=tuple(told.variables), unset=tuple(told.unset), sources=sources)


def _resources(told: Told) -> Resources | None:
    found = {
        "cpu_model": told.cpu_model, "cpus_online": told.cpus, "open_files_soft": told.open_files,
        "locked_memory_soft_kib": told.locked_memory_kib,
    }  # fmt: skip
    if not any(each is not None for each in found.values()):
        return None
    return Resources(**found, sources=dict.fromkeys(found, told.source))  # type: ignore[arg-type]


def _fabric(told: Told) -> GpuFabric | None:
    return GpuFabric(links=tuple(told.links), sources={"links": f"{told.source}: topology"}) if told.links else None


def _state(told: Told) -> GpuState | None:
    """Give the cards that are divided; what else a card is doing no such report tells."""
    if not told.slices:
        return None
    names = {each.index: each.name for each in told.gpus}
    cards = (
        Gpu(index, names.get(index), mig_devices=tuple(MigDevice(p) for i, p in told.slices if i == index))
        for index in dict.fromkeys(index for index, _ in told.slices)
    )
    return GpuState(gpus=tuple(cards), sources={"gpus": f"{told.source}: GPU models"})


def _libraries(told: Told) -> DriverFiles | None:
    if not told.libcuda:
        return None
    found = DriverLibrary(soname="libcuda.so.1", version=told.libcuda)
    return DriverFiles(
        libcuda=(found,), first_libcuda=found, sources={"first_libcuda": f"{told.source}: driver version"}
    )
