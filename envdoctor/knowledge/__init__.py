"""Dated, sourced tables and their typed loaders. An empty cell means "not found", never "none".

What the environment says itself (a wheel's pins, a library's symbols, the driver's answer) comes before any row here.
"""

from __future__ import annotations

import csv
import functools
import io
from pathlib import Path

import msgspec

GATHERED = "2026-11-22"
DATA = Path(__file__).parent / "data"  # importlib.resources would cost every start 6 ms


class Table(msgspec.Struct, frozen=True):
    """One shipped table: its file, what one row is, where rows come from, and the day it was gathered (ISO 8601)."""

    name: str
    row: str
    source: str
    date: str = GATHERED

    @property
    def count(self) -> int:
        """How many rows it has."""
        if self.name.endswith(".csv"):
            return len(rows(self.name))
        return (DATA / self.name).read_text(encoding="utf-8").count("\n[[")


TABLES: tuple[Table, ...] = (
    Table("torch_releases.csv", "torch release", "METADATA of PyPI's wheels, PyTorch's release matrix"),
    Table("torch_early.csv", "torch minor before the releases table", "PyTorch's page of previous versions"),
    Table("torch_arch.csv", "torch minor x CUDA variant x platform", "cubins of the wheels, PyTorch's build scripts"),
    Table("cuda_driver.csv", "CUDA toolkit release", "NVIDIA's release notes and compatibility guide"),
    Table("driver_branches.csv", "driver branch x operating system", "NVIDIA's releases.json by endoflife.date"),
    Table("cuda_compat.csv", "cuda-compat package x base branch", "NVIDIA's compatibility guide"),
    Table("cudnn.csv", "cuDNN version x CUDA major", "PyPI, NVIDIA's cuDNN support matrix"),
    Table("nccl.csv", "NCCL version", "tags and issues of NVIDIA/nccl, PyPI"),
    Table("nccl_known_vars.csv", "NCCL environment variable", "sources of NCCL 2.12 to 2.30"),
    Table("torch_known_vars.csv", "torch environment variable", "torch's wheels 2.1 to 2.15", "2026-11-28"),
    Table("ngc_pytorch.csv", "NGC PyTorch image tag", "NVIDIA's release notes and the images' environments"),
    Table("ecosystem.csv", "companion package version", "METADATA of PyPI's wheels, the projects' own pages"),
    Table("gpu_specs.csv", "GPU model", "NVIDIA's data sheets and architecture papers"),
    Table("gpu_names.csv", "GPU family by compute capability", "NVIDIA's list of CUDA GPUs"),
    Table("gpu_driver_names.csv", "name that a driver gives a GPU model", "nvidia-smi's output, PCI ids"),
    Table("cuda_arch.csv", "CUDA compiler release", "NVIDIA's nvcc documentation"),
    Table("host_compilers.csv", "CUDA compiler release", "NVIDIA's installation guides, projects' issues"),
    Table("nccl_arch.csv", "GPU generation that NCCL learned", "NCCL's makefiles and issues"),
    Table("reference_results.csv", "published measurement", "the publications that each row names"),
    Table("xid.csv", "Xid code", "NVIDIA's Xid catalogue"),
    Table("env_vars.toml", "environment variable", "sources and documents of torch, NCCL, CUDA", "2026-11-28"),
    Table("error_messages.toml", "error message", "issues and sources that each row names"),
)


@functools.cache
def rows(name: str) -> tuple[dict[str, str], ...]:
    """Give the rows of a shipped CSV table as dictionaries of strings; raises FileNotFoundError for another name."""
    return tuple(csv.DictReader(io.StringIO((DATA / name).read_text(encoding="utf-8"))))


def cells(text: str) -> tuple[str, ...]:
    """Split a list cell at its semicolons: ``"8.0;8.6"`` -> ``("8.0", "8.6")``."""
    return tuple(part.strip() for part in text.split(";") if part.strip())


def is_unsourced(source: str) -> bool:
    """Tell whether a row's source says that nobody looked it up: such a row must never make an error."""
    return not source.strip() or "unsourced" in source or "not re-read" in source
