"""Releases of cuDNN and NCCL: typed rows. What the library found on a machine says of itself comes before any row."""

from __future__ import annotations

import functools

import msgspec

from envdoctor.knowledge import cells, rows
from envdoctor.knowledge.cuda import Version, numbers
from envdoctor.knowledge.gpus import Capability, capability


class Cudnn(msgspec.Struct, frozen=True):
    """One release of cuDNN for one CUDA major; ``oldest_gpu`` and ``driver`` None where they are not documented."""

    version: Version
    cuda_major: int
    package: str
    driver: Version | None
    oldest_gpu: Capability | None
    torch: tuple[str, ...]
    note: str
    source: str


class Nccl(msgspec.Struct, frozen=True):
    """One release of NCCL (``version`` None: what holds for any), the day of its tag, and what is known of it."""

    version: Version | None
    tagged: str
    torch: tuple[str, ...]
    known_issues: str
    notable_fixes: str
    source: str


@functools.cache
def cudnn_releases() -> tuple[Cudnn, ...]:
    """Give the releases of cuDNN, in the order of the table."""
    return tuple(
        Cudnn(
            numbers(row["cudnn"]) or (), int(row["cuda_major"]), row["pypi_package"],
            numbers(row["min_driver_linux"]), capability(row["min_cc"]), cells(row["used_by_default_torch"]),
            row["note"], row["source"],
        )
        for row in rows("cudnn.csv")
    )  # fmt: skip


def cudnn_release(version: Version, cuda_major: int | None = None) -> Cudnn | None:
    """Give the row of a release, by as many parts as both name; None when the table does not hold it."""
    return next(
        (
            each
            for each in cudnn_releases()
            if each.version[: len(version)] == version[: len(each.version)] and cuda_major in {None, each.cuda_major}
        ),
        None,
    )


@functools.cache
def nccl_releases() -> tuple[Nccl, ...]:
    """Give the releases of NCCL, in the order of the table."""
    return tuple(
        Nccl(
            numbers(row["nccl"]), row["tag_date"], cells(row["bundled_by_default_torch"]), row["known_issues"],
            row["notable_fixes"], row["source"],
        )
        for row in rows("nccl.csv")
    )  # fmt: skip
