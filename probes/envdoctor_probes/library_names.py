"""[payload] The libraries of the ledger: their file names, the wheels that declare them, and what is opened late."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional, Tuple

from envdoctor.facts.libraries import stem_of

__all__ = ["FUNCTIONS", "LATE", "LIBRARIES", "Library", "library_of"]


@dataclass(frozen=True)
class Library:
    """One library: its name in the ledger, its file's stem, the nvidia-* wheel, and the prefix of its C functions."""

    name: str
    stem: str
    wheel: str = ""
    functions: str = ""

    def pinned_by(self, distribution: str) -> bool:
        """Tell whether this distribution (normalised name) is the wheel that brings the library."""
        return bool(self.wheel) and re.match(rf"nvidia-{self.wheel}(-cu\d+)?$", distribution) is not None


_CUDNN_PARTS = ("graph", "ops", "cnn", "adv", "engines_precompiled", "engines_runtime_compiled", "heuristic")
LIBRARIES: Tuple[Library, ...] = (
    Library("cudart", "libcudart", "cuda-runtime", "cuda[A-Z]"),
    Library("cudnn", "libcudnn", "cudnn", "cudnn[A-Z]"),
    *(Library(f"cudnn_{part}", f"libcudnn_{part}", "cudnn") for part in _CUDNN_PARTS),
    Library("nccl", "libnccl", "nccl", "p?nccl[A-Z]"),
    Library("cublas", "libcublas", "cublas", "cublas[A-KM-Z]"),
    Library("cublasLt", "libcublasLt", "cublas", "cublasLt"),
    Library("cusparse", "libcusparse", "cusparse", "cusparse[A-KM-Z]"),
    Library("cusparseLt", "libcusparseLt", "cusparselt", "cusparseLt"),
    Library("cusolver", "libcusolver", "cusolver", "cusolver[A-Z]"),
    Library("cufft", "libcufft", "cufft", "cufft[A-Z]"),
    Library("curand", "libcurand", "curand", "curand[A-Z]"),
    Library("nvjitlink", "libnvJitLink", "nvjitlink", "__nvJitLink|nvJitLink[A-Z]"),
    Library("nvrtc", "libnvrtc", "cuda-nvrtc", "nvrtc[A-Z]"),
    Library("nvshmem", "libnvshmem_host", "nvshmem", "nvshmem"),
    Library("cupti", "libcupti", "cuda-cupti", "cupti[A-Z]"),
    Library("cufile", "libcufile", "cufile", "cuFile"),
    Library("nvtx", "libnvToolsExt", "nvtx"),
    Library("cuda", "libcuda"),
    Library("stdcxx", "libstdc++"),
    Library("gomp", "libgomp"),
    Library("iomp5", "libiomp5"),
)
# Opened by name only when they are first used: (who opens, what, with N for the CUDA major).
LATE: Tuple[Tuple[str, str], ...] = (
    *(("libcudnn", f"libcudnn_{part}.so.M") for part in _CUDNN_PARTS),
    ("libtorch_cuda", "libnvrtc.so.N"),
    ("libcudart", "libcuda.so.1"),
)
# One pass over a string table finds the names of every library's functions.
FUNCTIONS = "(?:{})\\w*".format("|".join(each.functions for each in LIBRARIES if each.functions)).encode()


def library_of(file_name: str) -> Optional[Library]:
    """Give the ledger's library that a file or soname is a copy of; a hash that auditwheel added is passed over."""
    stem = stem_of(file_name)
    return next((each for each in LIBRARIES if each.stem == stem), None)
