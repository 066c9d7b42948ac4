"""torch 2.11.0+cu130 in small: since 2.11 most of its pins stand behind the extras of the cuda-toolkit wheel."""

from __future__ import annotations

from tests.stands.small_elf import Library, Needed, build, fatbin
from tests.stands.wheels import Wheel

ARCHES = "sm_75 sm_80 sm_86 sm_90 sm_100 sm_120 compute_120"
MARKER = "(sys_platform == 'linux' or sys_platform == 'win32') and extra =="
TOOLKIT = (
    f"nvidia-cublas==13.1.0.3.* ; {MARKER} 'all'",
    f"nvidia-cublas==13.1.0.3.* ; {MARKER} 'cublas'",
    f"nvidia-cuda-runtime==13.0.96.* ; {MARKER} 'cudart'",
    f"nvidia-cufft==12.0.0.61.* ; {MARKER} 'cufft'",
)
RPATH = "$ORIGIN/../../nvidia/cu13/lib:$ORIGIN/../../nvidia/nccl/lib:$ORIGIN"
VERSION = """from typing import Optional

__version__ = '2.11.0+cu130'
debug = False
cuda: Optional[str] = '13.0'
git_version = '0'
hip: Optional[str] = None
"""
INIT = """import ctypes, os
from .version import __version__
ctypes.CDLL(os.path.join(os.path.dirname(__file__), 'lib', 'libtorch_cuda.so'), mode=ctypes.RTLD_GLOBAL)
"""


def toolkit_stack() -> list[Wheel]:
    """Give this torch and what it needs; nothing is wrong with it."""
    return [
        _torch(),
        Wheel("cuda-toolkit", "13.0.2", {}, TOOLKIT),
        _library("nvidia-cublas", "13.1.0.3", "nvidia/cu13/lib", "libcublas.so.13"),
        _library("nvidia-cuda-runtime", "13.0.96", "nvidia/cu13/lib", "libcudart.so.13"),
        _library("nvidia-nccl-cu13", "2.28.9", "nvidia/nccl/lib", "libnccl.so.2"),
    ]


def _library(name: str, version: str, folder: str, soname: str) -> Wheel:
    versioned = "" if soname == "libnccl.so.2" else soname
    return Wheel(name, version, {f"{folder}/{soname}": build(Library(soname, version=versioned, runpath="$ORIGIN"))})


def _torch() -> Wheel:
    needed = ("libcublas.so.13", "libcudart.so.13", "libnccl.so.2", "libc10.so")
    cuda = Library("libtorch_cuda.so", tuple(map(Needed, needed)), rpath=RPATH, source=fatbin(ARCHES))
    flags = f'const char arch_flags[] = "{ARCHES}";\nconst char numpy[] = "numpy._core._multiarray_umath";\n'
    error = "_ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
    files: dict[str, bytes | str] = {
        "torch/__init__.py": INIT,
        "torch/version.py": VERSION,
        "torch/lib/libc10.so": build(Library("libc10.so", defines=(error,))),
        "torch/lib/libtorch_cuda.so": build(cuda),
        "torch/lib/libtorch_python.so": build(Library("libtorch_python.so", source=flags)),
    }
    toolkit = "cuda-toolkit[cublas,cudart]==13.0.2 ; platform_system == 'Linux'"
    return Wheel("torch", "2.11.0", files, ("filelock", toolkit, "nvidia-nccl-cu13==2.28.9"))
