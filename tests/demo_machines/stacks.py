"""Python environments with torch in them: what is installed, what torch pins, and what it says when it runs."""

from __future__ import annotations

from dataclasses import replace

from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import (
    CompileTools,
    Pin,
    TorchBuild,
    TorchCuda,
    TorchFiles,
    TorchImport,
    TorchPath,
    TorchSettings,
)

# What the wheel of each torch requires, exactly.
CU126 = {
    "nvidia-cublas-cu12": "12.6.4.1", "nvidia-cuda-cupti-cu12": "12.6.80", "nvidia-cuda-nvrtc-cu12": "12.6.77",
    "nvidia-cuda-runtime-cu12": "12.6.77", "nvidia-cudnn-cu12": "9.5.1.17", "nvidia-cufft-cu12": "11.3.0.4",
    "nvidia-cufile-cu12": "1.11.1.6", "nvidia-curand-cu12": "10.3.7.77", "nvidia-cusolver-cu12": "11.7.1.2",
    "nvidia-cusparse-cu12": "12.5.4.2", "nvidia-cusparselt-cu12": "0.6.3", "nvidia-nccl-cu12": "2.26.2",
    "nvidia-nvjitlink-cu12": "12.6.85", "nvidia-nvtx-cu12": "12.6.77", "triton": "3.3.1",
}  # fmt: skip
CU128 = {
    "nvidia-cublas-cu12": "12.8.4.1", "nvidia-cuda-cupti-cu12": "12.8.90", "nvidia-cuda-nvrtc-cu12": "12.8.93",
    "nvidia-cuda-runtime-cu12": "12.8.90", "nvidia-cudnn-cu12": "9.10.2.21", "nvidia-cufft-cu12": "11.3.3.83",
    "nvidia-cufile-cu12": "1.13.1.3", "nvidia-curand-cu12": "10.3.9.90", "nvidia-cusolver-cu12": "11.7.3.90",
    "nvidia-cusparse-cu12": "12.5.8.93", "nvidia-cusparselt-cu12": "0.7.1", "nvidia-nccl-cu12": "2.27.5",
    "nvidia-nvjitlink-cu12": "12.8.93", "nvidia-nvshmem-cu12": "3.3.20", "nvidia-nvtx-cu12": "12.8.90",
    "triton": "3.5.0",
}  # fmt: skip
CU130 = {
    "nvidia-cublas": "13.1.0.3", "nvidia-cuda-cupti": "13.0.85", "nvidia-cuda-nvrtc": "13.0.88",
    "nvidia-cuda-runtime": "13.0.96", "nvidia-cudnn-cu13": "9.19.0.56", "nvidia-cufft": "12.0.0.61",
    "nvidia-cufile": "1.15.1.6", "nvidia-curand": "10.4.0.35", "nvidia-cusolver": "12.0.4.66",
    "nvidia-cusparse": "12.6.3.3", "nvidia-cusparselt-cu13": "0.8.0", "nvidia-nccl-cu13": "2.28.9",
    "nvidia-nvjitlink": "13.0.88", "nvidia-nvshmem-cu13": "3.4.5", "nvidia-nvtx": "13.0.85", "triton": "3.6.0",
}  # fmt: skip
THROUGH_TOOLKIT = ("-cu13", "triton")  # a cu13 torch names these itself, the others through cuda-toolkit[...]
PLAIN = {
    "filelock": "3.19.1", "fsspec": "2025.9.0", "jinja2": "3.1.6", "markupsafe": "3.0.2", "mpmath": "1.3.0",
    "networkx": "3.5", "numpy": "2.3.3", "pillow": "11.3.0", "pip": "25.2", "setuptools": "80.9.0",
    "sympy": "1.14.0", "typing-extensions": "4.15.0",
}  # fmt: skip
WANTS_TORCH = {
    ("torchvision", "0.21.0"): "2.6.0", ("torchaudio", "2.6.0"): "2.6.0", ("torchvision", "0.24.0"): "2.9.0",
    ("torchaudio", "2.9.0"): "2.9.0", ("torchvision", "0.26.0"): "2.11.0", ("torchvision", "0.28.0"): "2.13.0",
}  # fmt: skip
ARCHITECTURES = {
    "12.6": ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"),
    "12.8": ("sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"),
    "13.0": ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"),
}


def packages(prefix: str, python: str, installed: dict[str, str]) -> Packages:
    """Give a virtual environment that pip filled."""
    site = f"{prefix}/lib/python{python.rpartition('.')[0]}/site-packages"
    return Packages(
        distributions=tuple(_distribution(n, v, site) for n, v in sorted(installed.items())),
        python_version=python, python_implementation="cpython", executable=f"{prefix}/bin/python",
        environment_kind="venv", prefix=prefix, has_pip=True, has_uv=False,
        path=(site.removesuffix("/site-packages").replace(prefix, "/usr"), site),
    )  # fmt: skip


def _distribution(name: str, version: str, site: str) -> Distribution:
    plain, _, tag = version.partition("+")
    torch = WANTS_TORCH.get((name, plain))
    return Distribution(
        name, version, site, "pip", source="pip", built_for=f"+{tag}" if tag else "",
        requires=(f"torch=={torch}",) if torch else (),
    )  # fmt: skip


def installed_version(installed: Packages, name: str, version: str) -> Packages:
    """Give the same environment with another version of one package."""
    changed = tuple(replace(each, version=version) if each.name == name else each for each in installed.distributions)
    return replace(installed, distributions=changed)


def build(site: str, version: str, cuda: str | None, pins: dict[str, str], python: str) -> TorchBuild:
    """Give what the files of a wheel tell without importing it."""
    tag = f"cp{python.replace('.', '')}"
    return TorchBuild(
        location=f"{site}/torch", version=version, cuda=cuda, debug=False, is_cpu_only=cuda is None,
        git_version="449b1768410104d3ed79d3bcfe4ba1d65c7f22c0", metadata_version=version,
        wheel_tag=f"{tag}-{tag}-manylinux_2_28_x86_64", installer="pip", cxx11_abi=True,
        arch_list=ARCHITECTURES[cuda] if cuda else (), cuda_linkage="shared" if cuda else None,
        pins=tuple(Pin(name, f"=={pin}", _through(name, cuda)) for name, pin in sorted(pins.items())),
        has_libtorch_cuda=cuda is not None,
        unknown={} if cuda else {"cuda": "built without CUDA", "cuda_linkage": "built without CUDA"},
    )  # fmt: skip


def _through(name: str, cuda: str | None) -> str:
    return f"cuda-toolkit[{name[7:]}]" if cuda == "13.0" and not name.endswith(THROUGH_TOOLKIT) else ""


def files(version: str, checked: int) -> TorchFiles:
    """Give an installation whose every file is what RECORD says."""
    return TorchFiles(
        checked_files=checked, dist_infos=(f"torch-{version}.dist-info",), metadata_empty=False, record_missing=False,
        package_missing=False, metadata_missing=False,
    )  # fmt: skip


def path(site: str) -> TorchPath:
    """Give a search path with one torch on it."""
    return TorchPath(found=(f"{site}/torch",))


def imported(site: str, version: str, seconds: float) -> TorchImport:
    """Give an import that works."""
    return TorchImport(
        imported=True, seconds=seconds, version=version, file=f"{site}/torch/__init__.py", started_threads=False
    )


def import_error(error: str, where: str, seconds: float) -> TorchImport:
    """Give an import that ends with the loader's own words."""
    return TorchImport(
        imported=False, seconds=seconds, error_type="ImportError", error=error, where=where, started_threads=False,
        unknown={"version": "import torch failed", "file": "import torch failed"},
    )  # fmt: skip


def sees(name: str, count: int, capability: str, cuda: str) -> TorchCuda:
    """Give a torch that can use every GPU."""
    return TorchCuda(
        available=True, device_count=count, arch_list=ARCHITECTURES[cuda], device_names=(name,) * count,
        capabilities=(capability,) * count, seconds=0.61,
    )  # fmt: skip


def sees_nothing(error: str, error_type: str = "RuntimeError", *, warnings: tuple[str, ...] = ()) -> TorchCuda:
    """Give a torch that cannot use CUDA, and its words."""
    return TorchCuda(
        available=False, device_count=0, error_type=error_type, error=error, warnings=warnings, seconds=0.05
    )


def settings(cudnn: int | None, nccl: str | None, threads: int) -> TorchSettings:
    """Give torch's defaults, nothing chosen by anyone."""
    return TorchSettings(
        matmul_fp32_precision="none", cudnn_fp32_precision="tf32", float32_matmul_precision="highest",
        allow_tf32_matmul=False, allow_tf32_cudnn=True, cudnn_enabled=True, cudnn_benchmark=False,
        cudnn_deterministic=False, cudnn_version=cudnn, deterministic_algorithms=False, flash_sdp=True,
        mem_efficient_sdp=True, math_sdp=True, cudnn_sdp=True, default_dtype="torch.float32", anomaly_mode=False,
        num_threads=threads, nccl_version=nccl, distributed_backends=("gloo", "nccl") if nccl else ("gloo",),
        unknown={} if nccl else {"nccl_version": "built without CUDA", "cudnn_version": "built without CUDA"},
    )  # fmt: skip


def tools(triton: str | None, python: str) -> CompileTools:
    """Give what torch.compile needs, as a machine with build-essential and the Python headers has it."""
    return CompileTools(
        c_compiler="/usr/bin/gcc", python_headers=f"/usr/include/python{python}/Python.h", triton_version=triton,
        unknown={} if triton else {"triton_version": "triton is not installed"},
    )  # fmt: skip
