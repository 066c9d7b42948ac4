"""[payload] torch: what is installed (read without importing it), and what it says of itself once imported."""

from __future__ import annotations

from typing import Optional, Tuple

from envdoctor.facts import Fact, read_from
from envdoctor.facts.dataclass import dataclass


@dataclass(frozen=True)
class Pin:
    """A requirement of torch's wheel: ``nvidia-cudnn-cu12`` ``==9.1.0.70``; ``via`` names extras followed."""

    name: str = ""
    specifier: str = ""
    via: str = ""


@dataclass(frozen=True)
class TorchBuild(Fact):
    """The installed torch, read from its files."""

    location: Optional[str] = read_from("module search path", private=True)  # the torch/ directory
    version: Optional[str] = read_from("torch/version.py __version__")  # "2.9.0+cu130"
    cuda: Optional[str] = read_from("torch/version.py cuda")  # "13.0"; None: built without CUDA
    hip: Optional[str] = read_from("torch/version.py hip")
    git_version: Optional[str] = read_from("torch/version.py git_version")
    debug: Optional[bool] = read_from("torch/version.py debug")
    is_cpu_only: Optional[bool] = read_from("torch/version.py cuda, hip, xpu")
    metadata_version: Optional[str] = read_from("torch-*.dist-info METADATA")
    wheel_tag: Optional[str] = read_from("torch-*.dist-info WHEEL")
    installer: Optional[str] = read_from("torch-*.dist-info INSTALLER")
    arch_list: Tuple[str, ...] = read_from("torch/lib/libtorch_python.so .rodata", ())  # ("sm_80", "compute_90")
    cxx11_abi: Optional[bool] = read_from("symbols of torch/lib/libc10.so")
    pins: Tuple[Pin, ...] = read_from("Requires-Dist of torch, followed through extras", ())
    cuda_linkage: Optional[str] = read_from("NEEDED of torch/lib/libtorch_cuda.so")  # shared, hashed, static
    # What a CUDA build that calls itself 2.9.0 without a local tag is known by:
    has_libtorch_cuda: Optional[bool] = read_from("torch/lib/libtorch_cuda.so")
    conda_build: Optional[str] = read_from("conda-meta/pytorch-*.json build string")
    # The NumPy headers that torch was compiled with: built with those of 1.x it cannot use NumPy 2.
    numpy_headers_major: Optional[int] = read_from("torch/lib/libtorch_python.so .rodata")


@dataclass(frozen=True)
class DamagedFile:
    """A file that is not what its distribution's RECORD says.

    ``problem``: missing, empty, size, lfs-pointer, not-elf, other-machine, unreadable.
    """

    path: str = ""
    distribution: str = ""
    problem: str = ""
    expected: str = ""
    found: str = ""


@dataclass(frozen=True)
class TorchFiles(Fact):
    """RECORD against the files of torch and of the nvidia-* wheels."""

    checked_files: int = read_from("RECORD", 0)
    damaged: Tuple[DamagedFile, ...] = read_from("RECORD, file sizes and ELF headers", ())
    leftovers: Tuple[str, ...] = read_from("site-packages", ())  # "~orch-2.4.1.dist-info"
    dist_infos: Tuple[str, ...] = read_from("site-packages", ())  # every dist-info that calls itself torch
    metadata_empty: Optional[bool] = read_from("METADATA")
    record_missing: Optional[bool] = read_from("RECORD")
    package_missing: Optional[bool] = read_from("torch/")  # metadata without files
    metadata_missing: Optional[bool] = read_from("torch-*.dist-info")  # files without metadata


@dataclass(frozen=True)
class Shadow:
    """A file that hides a module: ``name`` is found at ``path`` before ``hidden``.

    ``hidden`` is None when the standard library's module is hidden, or when there is no other torch behind it.
    """

    name: str = ""
    path: str = ""
    hidden: Optional[str] = None
    via: str = ""  # cwd, PYTHONPATH, site-packages


@dataclass(frozen=True)
class TorchPath(Fact):
    """What ``import torch`` would find, in order."""

    found: Tuple[str, ...] = read_from("module search path", ())  # every torch on the path, first one wins
    namespaces: Tuple[str, ...] = read_from("module search path", ())  # of these, folders without __init__.py
    shadows: Tuple[Shadow, ...] = read_from("module search path", ())


@dataclass(frozen=True)
class TorchImport(Fact):
    """One ``import torch`` in a child."""

    imported: Optional[bool] = read_from("import torch")
    seconds: Optional[float] = read_from("import torch")
    version: Optional[str] = read_from("torch.__version__")
    file: Optional[str] = read_from("torch.__file__", private=True)
    error_type: Optional[str] = read_from("import torch")  # "ImportError", "SystemExit", …
    error: Optional[str] = read_from("import torch")
    where: Optional[str] = read_from("traceback, last frame")
    started_threads: Optional[bool] = read_from("/proc/self/task after the import")
    warnings: Tuple[str, ...] = read_from("warnings during import torch", ())
    earlier_errors: Tuple[str, ...] = read_from("exceptions that led to the error, nearest first", ())
    printed: Optional[str] = read_from("sys.stderr during import torch")  # where NumPy says what it cannot raise


@dataclass(frozen=True)
class TorchCuda(Fact):
    """What torch itself says of CUDA, asked in a fork of the child that imported it."""

    available: Optional[bool] = read_from("torch.cuda.is_available()")
    device_count: Optional[int] = read_from("torch.cuda.device_count()")
    error_type: Optional[str] = read_from("torch.cuda.init()")
    error: Optional[str] = read_from("torch.cuda.init()")  # why not
    warnings: Tuple[str, ...] = read_from("warnings of torch.cuda", ())
    arch_list: Tuple[str, ...] = read_from("torch.cuda.get_arch_list()", ())
    device_names: Tuple[str, ...] = read_from("torch.cuda.get_device_name()", ())
    capabilities: Tuple[str, ...] = read_from("torch.cuda.get_device_capability()", ())
    seconds: Optional[float] = read_from("torch.cuda.is_available()")


@dataclass(frozen=True)
class TorchSettings(Fact):
    """Precision and speed settings, as a fresh process (or this one, when live) has them."""

    fp32_precision: Optional[str] = read_from("torch.backends.fp32_precision")
    matmul_fp32_precision: Optional[str] = read_from("torch.backends.cuda.matmul.fp32_precision")  # ieee, tf32, none
    cudnn_fp32_precision: Optional[str] = read_from("torch.backends.cudnn.conv.fp32_precision")
    float32_matmul_precision: Optional[str] = read_from("torch.get_float32_matmul_precision()")
    allow_tf32_matmul: Optional[bool] = read_from("torch.backends.cuda.matmul.allow_tf32")
    allow_tf32_cudnn: Optional[bool] = read_from("torch.backends.cudnn.allow_tf32")
    cudnn_enabled: Optional[bool] = read_from("torch.backends.cudnn.enabled")
    cudnn_benchmark: Optional[bool] = read_from("torch.backends.cudnn.benchmark")
    cudnn_deterministic: Optional[bool] = read_from("torch.backends.cudnn.deterministic")
    cudnn_version: Optional[int] = read_from("torch.backends.cudnn.version()")
    deterministic_algorithms: Optional[bool] = read_from("torch.are_deterministic_algorithms_enabled()")
    flash_sdp: Optional[bool] = read_from("torch.backends.cuda.flash_sdp_enabled()")
    mem_efficient_sdp: Optional[bool] = read_from("torch.backends.cuda.mem_efficient_sdp_enabled()")
    math_sdp: Optional[bool] = read_from("torch.backends.cuda.math_sdp_enabled()")
    cudnn_sdp: Optional[bool] = read_from("torch.backends.cuda.cudnn_sdp_enabled()")
    default_dtype: Optional[str] = read_from("torch.get_default_dtype()")
    anomaly_mode: Optional[bool] = read_from("torch.is_anomaly_enabled()")
    num_threads: Optional[int] = read_from("torch.get_num_threads()")
    nccl_version: Optional[str] = read_from("torch.cuda.nccl.version()")  # that of the headers torch was built with
    distributed_backends: Tuple[str, ...] = read_from("torch.distributed", ())


@dataclass(frozen=True)
class CompileTools(Fact):
    """What torch.compile needs on the machine, looked up without running any of it."""

    c_compiler: Optional[str] = read_from("CC, PATH")
    cxx_compiler: Optional[str] = read_from("CXX, PATH")
    python_headers: Optional[str] = read_from("sysconfig include directory: Python.h")
    triton_version: Optional[str] = read_from("triton metadata")
