"""What belongs together when CUDA code is built or communicates: nvcc and gcc, NCCL and the GPU; typed rows."""

from __future__ import annotations

import functools

import msgspec

from envdoctor.knowledge import rows
from envdoctor.knowledge.cuda import Version, cuda_minor, numbers
from envdoctor.knowledge.gpus import Capability, capability


class NcclFloor(msgspec.Struct, frozen=True):
    """The first NCCL that serves a GPU generation, and what happens with an older one, in words."""

    gpu: Capability
    nccl: Version
    words: str
    source: str


class HostCompiler(msgspec.Struct, frozen=True):
    """The newest major of gcc that nvcc, or torch before it, accepts for one CUDA release."""

    cuda: Version
    newest_gcc: int
    source: str


@functools.cache
def nccl_floors() -> tuple[NcclFloor, ...]:
    """Give the floors, the newest generation first."""
    found = [
        NcclFloor(capability(row["min_cc"]) or (), numbers(row["nccl"]) or (), row["words"], row["source"])
        for row in rows("nccl_arch.csv")
    ]
    return tuple(sorted(found, key=lambda each: each.gpu, reverse=True))


def nccl_floor(gpu: Capability) -> NcclFloor | None:
    """Give the floor of this GPU's generation; None for those that every NCCL in use serves."""
    return next((each for each in nccl_floors() if each.gpu[:1] == gpu[:1] and gpu >= each.gpu), None)


@functools.cache
def host_compilers() -> tuple[HostCompiler, ...]:
    """Give the newest gcc by CUDA release, in the order of the table."""
    return tuple(
        HostCompiler(cuda_minor(row["cuda"]) or (), int(row["newest_gcc"]), row["source"])
        for row in rows("host_compilers.csv")
    )


def newest_gcc(cuda: Version) -> tuple[int, str] | None:
    """Give the newest major of gcc that the nvcc of a CUDA version accepts, and the source; None: not known."""
    return next(((each.newest_gcc, each.source) for each in host_compilers() if each.cuda == cuda[:2]), None)
