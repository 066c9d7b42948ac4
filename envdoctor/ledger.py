"""The ledger made whole: what is really mapped, what each library says of itself, and what the driver allows.

The loader's side of the ledger is read from files, the rest by other probes. Here they are put side by side.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from envdoctor.facts import key_of
from envdoctor.facts.driver import CudaDriver, CudaRuntime
from envdoctor.facts.job import Job
from envdoctor.facts.libraries import LedgerRow, Libraries, MappedLibraries, stem_of
from envdoctor.facts.torch import TorchSettings

if TYPE_CHECKING:
    from envdoctor.snapshot import Snapshot


def complete(snapshot: Snapshot) -> Snapshot:
    """Give the snapshot with its ledger filled in; without a ledger, the snapshot itself. Doing it twice is once."""
    libraries = snapshot.get(Libraries)
    if libraries is None:
        return snapshot
    paths = mapped_paths(snapshot)
    told = api_versions(snapshot)
    limit = driver_limit(snapshot)
    rows = tuple(_completed(row, paths, told.get(row.name), limit) for row in libraries.rows)
    facts = {**snapshot.facts, key_of(Libraries): replace(libraries, rows=rows)}
    return replace(snapshot, facts=facts) if rows != libraries.rows else snapshot


def mapped_paths(snapshot: Snapshot) -> tuple[str, ...]:
    """Give what a process has mapped: the running job of this very Python, else one that has just imported torch."""
    job, mapped = snapshot.get(Job), snapshot.get(MappedLibraries)
    if job is not None and job.same_python:
        return job.libraries
    return mapped.paths if mapped is not None else ()


def api_versions(snapshot: Snapshot) -> dict[str, str]:
    """Give what libraries answer when they are asked for their version, by the ledger's names."""
    settings, mapped = snapshot.get(TorchSettings), snapshot.get(MappedLibraries)
    runtime = snapshot.get(CudaRuntime)
    told = {
        "cudnn": cudnn_version(settings.cudnn_version) if settings and settings.cudnn_version else None,
        "nccl": mapped.nccl_version if mapped else None,
        "cudart": runtime.runtime_version if runtime else None,
    }
    return {name: version for name, version in told.items() if version}


def cudnn_version(number: int) -> str:
    """Read cudnnGetVersion's number: 91002 is 9.10.2, and before cuDNN 9 8907 is 8.9.7."""
    unit = 1000 if number < 10_000 else 10_000
    return f"{number // unit}.{number % unit // 100}.{number % 100}"


def driver_limit(snapshot: Snapshot) -> str | None:
    """Give the newest CUDA that the driver knows, from libcuda itself, else as libcudart has heard it."""
    driver, runtime = snapshot.get(CudaDriver), snapshot.get(CudaRuntime)
    return (driver.cuda_version if driver else None) or (runtime.driver_version if runtime else None)


def _completed(row: LedgerRow, paths: tuple[str, ...], told: str | None, limit: str | None) -> LedgerRow:
    stem = stem_of(row.soname)
    mapped = tuple(path for path in paths if stem and stem_of(PurePosixPath(path).name) == stem)
    return replace(
        row,
        mapped=mapped or row.mapped,
        api_version=told or row.api_version,
        driver_limit=(limit if row.name == "cudart" else None) or row.driver_limit,
    )
