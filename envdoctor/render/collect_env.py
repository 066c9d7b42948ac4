"""render(snapshot) -> the layout of ``python -m torch.utils.collect_env``, which maintainers read at a glance.

The lines, their order and their words are those of torch 2.13; a value that was not collected is ``Could not collect``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.facts.driver import KernelModule, NvidiaSmi
from envdoctor.facts.host import Environment, Host, Resources
from envdoctor.facts.libraries import Libraries, Toolkit
from envdoctor.facts.nvml import GpuState
from envdoctor.facts.packages import Packages
from envdoctor.facts.torch import TorchBuild, TorchCuda, TorchImport
from envdoctor.render.written import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.snapshot import Snapshot

UNKNOWN = "Could not collect"
# What collect_env asks pip and conda for: part of a name is enough.
NAMES = (
    "torch", "numpy", "triton", "mypy", "optree", "onnx", "nccl", "cudnn", "magma", "mkl", "cudatoolkit",
    "soumith", "dataclasses", "nvidia-", "xformers", "flash-attn", "flash_attn", "deepspeed", "vllm", "apex",
    "bitsandbytes", "transformer-engine", "cupy",
)  # fmt: skip
Line = tuple[str, object]


def render(snapshot: Snapshot) -> str:
    """Give the environment as text, ending with a newline."""
    lines = [*_torch(snapshot), ("", ""), *_system(snapshot), ("", ""), *_python(snapshot), *_cuda(snapshot)]
    told = [f"{name}: {clean(_said(value))}" if name else "" for name, value in lines]
    return "\n".join([*told, "", *_cpu(snapshot), "", *_packages(snapshot), "", *_variables(snapshot)]) + "\n"


def _said(value: object) -> str:
    return UNKNOWN if value in {None, ""} else str(value)


def _torch(snapshot: Snapshot) -> Iterator[Line]:
    build, run = snapshot.get(TorchBuild), snapshot.get(TorchImport)
    version = (build.version or build.metadata_version if build else None) or (run.version if run else None)
    yield "PyTorch version", version or "N/A"
    yield "Is debug build", build.debug if build else None
    yield "CUDA used to build PyTorch", (build.cuda if build else None) or ("N/A" if build is None else None)
    yield "ROCM used to build PyTorch", (build.hip if build else None) or "N/A"


def _system(snapshot: Snapshot) -> Iterator[Line]:
    host, toolkit = snapshot.get(Host), snapshot.get(Toolkit)
    name = host.os_name or host.system if host else None
    yield "OS", f"{name} ({host.machine})" if host and name and host.machine else name
    compiler = toolkit.host_compiler if toolkit else None
    is_clang = bool(compiler and "clang" in compiler.path)
    yield "GCC version", compiler.version if compiler and not is_clang else None
    yield "Clang version", compiler.version if compiler and is_clang else None
    yield "Libc version", (host.libc or "").replace(" ", "-", 1) if host else None


def _python(snapshot: Snapshot) -> Iterator[Line]:
    packages, host, cuda = snapshot.get(Packages), snapshot.get(Host), snapshot.get(TorchCuda)
    version = packages.python_version if packages else None
    yield "Python version", f"{version} (64-bit runtime)" if version else None
    yield "Python platform", "-".join(filter(None, [host.system, host.kernel, host.machine])) if host else None
    yield "Is CUDA available", cuda.available if cuda else "N/A"


def _cuda(snapshot: Snapshot) -> Iterator[Line]:
    toolkit, module = snapshot.get(Toolkit), snapshot.get(KernelModule)
    nvml, smi = snapshot.get(GpuState), snapshot.get(NvidiaSmi)
    nvcc = next((each.version for each in toolkit.nvcc if each.version), None) if toolkit else None
    environment = snapshot.get(Environment)
    yield "CUDA runtime version", nvcc
    yield "CUDA_MODULE_LOADING set to", (environment.get("CUDA_MODULE_LOADING") if environment else None) or "N/A"
    names = [each.name for each in nvml.gpus if each.name] if nvml else [each.name for each in smi.gpus] if smi else []
    if len(names) > 1:
        yield "GPU models and configuration", " "
        yield from ((f"GPU {number}", name) for number, name in enumerate(names))
    else:
        yield "GPU models and configuration", f"GPU 0: {names[0]}" if names else None
    told = (nvml and nvml.driver_version, smi and smi.driver_version, module and module.version)
    yield "Nvidia driver version", next(filter(None, told), None)
    yield "cuDNN version", _cudnn(snapshot)


def _cudnn(snapshot: Snapshot) -> str | None:
    """Name the cuDNN that the loader finds first: collect_env lists every file that ldconfig knows."""
    libraries = snapshot.get(Libraries)
    row = next((each for each in libraries.rows if each.name == "cudnn"), None) if libraries else None
    return row.api_version or (row.first.path if row.first else None) if row else None


def _cpu(snapshot: Snapshot) -> list[str]:
    resources = snapshot.get(Resources)
    if resources is None:
        return ["CPU:", UNKNOWN]
    allowed = resources.cpus_affinity
    return [
        "CPU:",
        f"CPU(s): {_said(resources.cpus_online)}",
        f"Model name: {clean(_said(resources.cpu_model))}",
        f"CPUs this process may use: {_said(allowed)}",
        f"Memory: {_said(resources.memory_total_mib)} MiB",
        f"Shared memory: {_said(resources.shm_total_mib)} MiB",
    ]


def _packages(snapshot: Snapshot) -> Iterator[str]:
    packages = snapshot.get(Packages)
    yield "Versions of relevant libraries:"
    for each in packages.distributions if packages else ():
        if any(name in each.name for name in NAMES):
            if each.source == "conda":
                yield clean(f"[conda] {each.name:<25} {each.version} {each.build} {each.channel}").rstrip()
            else:
                yield clean(f"[pip3] {each.name}=={each.version}")


def _variables(snapshot: Snapshot) -> Iterator[str]:
    environment = snapshot.get(Environment)
    yield "Environment variables (by allow-list):"
    for each in environment.variables if environment else ():
        yield clean(f"{each.name}={each.value}")
