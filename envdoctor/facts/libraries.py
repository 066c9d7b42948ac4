"""[payload] The ledger: for each library that torch loads, which copy is declared, bundled, found first and mapped."""

from __future__ import annotations

import re
from typing import Optional, Tuple

from envdoctor.facts import Fact, read_from
from envdoctor.facts.dataclass import dataclass

_FILE = re.compile(r"(lib[\w+-]+?)(?:-[0-9a-f]{8})?\.so(?:\.|$)")


def stem_of(file_name: str) -> Optional[str]:
    """Give what names of one library share: libcudnn for libcudnn.so.9, without the hash that auditwheel adds."""
    match = _FILE.match(file_name)
    return match.group(1) if match else None


@dataclass(frozen=True)
class Copy:
    """One copy of a library on disk, and the version its file name, header or symbols tell."""

    path: str = ""
    version: Optional[str] = None
    owner: Optional[str] = None  # the distribution whose RECORD lists it
    via: str = ""  # rpath, runpath, LD_LIBRARY_PATH, LD_PRELOAD, ld.so.cache, default, already-loaded
    requested_by: Optional[str] = None
    real_path: str = ""  # links followed


@dataclass(frozen=True)
class LedgerRow:
    """One library: the same question asked in six places. An empty place says in ``unknown`` of the fact why."""

    name: str = ""  # cudart, cudnn, cudnn_graph, nccl, cublas, …
    soname: str = ""  # libcudnn.so.9
    declared: Optional[str] = None  # "nvidia-cudnn-cu12 ==9.1.0.70"
    declared_version: Optional[str] = None
    installed_version: Optional[str] = None  # of the distribution that declares it
    bundled: Tuple[Copy, ...] = ()  # in torch/lib or nvidia/*/lib
    first: Optional[Copy] = None  # what the loader would find first, and why
    mapped: Tuple[str, ...] = ()  # in a process that imported torch, or a running job
    api_version: Optional[str] = None  # cudnnGetVersion, ncclGetVersion
    driver_limit: Optional[str] = None  # what the driver allows
    needed_versions: Tuple[str, ...] = ()  # symbol versions that requesters need from it
    missing_versions: Tuple[str, ...] = ()  # those that ``first`` does not define
    needed_symbols_missing: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Extension:
    """A compiled file of a package that is made against torch, and what it asks for that is not there.

    ``abi_only_count`` says how many of the unresolved symbols torch has with the other ABI's std::string.
    """

    path: str = ""
    distribution: str = ""
    unresolved: Tuple[str, ...] = ()  # at most 20, those that the ABI does not explain first
    unresolved_count: int = 0
    abi_only_count: int = 0
    needs_missing: Tuple[str, ...] = ()  # libraries of torch and CUDA that nothing provides
    cxx11_abi: Optional[bool] = None  # of the std::string in what it asks of torch; None: it asks nothing with one
    arches: Tuple[str, ...] = ()  # device code, ("sm_80", "compute_90"); empty: it has none


@dataclass(frozen=True)
class Extensions(Fact):
    """The compiled parts of torch's companions, read without loading them."""

    extensions: Tuple[Extension, ...] = read_from("RECORD, undefined symbols, NEEDED and .nv_fatbin", ())

    def of(self, distribution: str) -> Tuple[Extension, ...]:
        """Give the compiled files of one distribution."""
        return tuple(each for each in self.extensions if each.distribution == distribution)


@dataclass(frozen=True)
class Libraries(Fact):
    """The version ledger, from the loader's search order as this environment has it."""

    rows: Tuple[LedgerRow, ...] = read_from("loader's search order", ())
    missing: Tuple[str, ...] = read_from("loader's search order", ())  # sonames that torch needs and nothing provides
    complaints: Tuple[str, ...] = read_from("loader's search order", ())  # in the loader's words, in order
    preload: Tuple[str, ...] = read_from("LD_PRELOAD, /etc/ld.so.preload", ())
    library_path: Tuple[str, ...] = read_from("LD_LIBRARY_PATH", ())
    glibc: Optional[str] = read_from("os.confstr")
    glibcxx_newest: Optional[str] = read_from("verdef of libstdc++.so.6")
    glibc_needed: Optional[str] = read_from("verneed of what torch loads")
    glibcxx_needed: Optional[str] = read_from("verneed of what torch loads")
    openmp: Tuple[Copy, ...] = read_from("loader's search order: libgomp, libiomp5, libomp", ())

    def row(self, name: str) -> Optional[LedgerRow]:
        """Give the row of one library, or None."""
        for each in self.rows:
            if each.name == name:
                return each
        return None


@dataclass(frozen=True)
class MappedLibraries(Fact):
    """Shared objects mapped after ``import torch``, in the order of their addresses' first appearance."""

    paths: Tuple[str, ...] = read_from("/proc/self/maps after import torch", ())
    nccl_version: Optional[str] = read_from("ncclGetVersion of the mapped libnccl")


@dataclass(frozen=True)
class Compiler:
    """One compiler found on the machine."""

    path: str = ""
    version: Optional[str] = None


@dataclass(frozen=True)
class Toolkit(Fact):
    """CUDA toolkits, compilers and library configuration outside the Python environment."""

    cuda_home: Optional[str] = read_from("CUDA_HOME, CUDA_PATH")
    cuda_home_exists: Optional[bool] = read_from("CUDA_HOME, CUDA_PATH")
    nvcc: Tuple[Compiler, ...] = read_from("PATH, CUDA_HOME, /usr/local/cuda*", ())
    host_compiler: Optional[Compiler] = read_from("CC, CXX, PATH: version by file name and its own files")
    cudnn_headers: Tuple[Copy, ...] = read_from("cudnn_version.h outside the environment", ())
    nccl_conf: Tuple[Tuple[str, str], ...] = read_from("NCCL_CONF_FILE or ~/.nccl.conf, then /etc/nccl.conf", ())
    nccl_conf_path: Optional[str] = read_from("NCCL_CONF_FILE or ~/.nccl.conf, then /etc/nccl.conf")  # ", " between two
