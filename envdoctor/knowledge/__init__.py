"""Dated, sourced tables and their typed loaders. An empty cell means "not found", never "none".

What the environment says itself (a wheel's pins, a library's symbols, the driver's answer) comes before any row here.
"""

from __future__ import annotations

import csv
import functools
import io
from dataclasses import dataclass
from pathlib import Path

GATHERED = "2026-11-22"
DATA = Path(__file__).parent / "data"  # importlib.resources would cost every start 6 ms


@dataclass(frozen=True, slots=True)
class Table:
    """One shipped table: its file, what one row is, and the day it was gathered (ISO 8601)."""

    name: str
    row: str
    date: str = GATHERED


TABLES: tuple[Table, ...] = (
    Table("torch_releases.csv", "torch release"),
    Table("torch_early.csv", "torch minor before the releases table"),
    Table("torch_arch.csv", "torch minor x CUDA variant x platform"),
    Table("cuda_driver.csv", "CUDA toolkit release"),
    Table("driver_branches.csv", "driver branch x operating system"),
    Table("cuda_compat.csv", "cuda-compat package x base branch"),
    Table("cudnn.csv", "cuDNN version x CUDA major"),
    Table("nccl.csv", "NCCL version"),
    Table("nccl_known_vars.csv", "NCCL environment variable"),
    Table("ngc_pytorch.csv", "NGC PyTorch image tag"),
    Table("ecosystem.csv", "companion package version"),
    Table("gpu_specs.csv", "GPU model"),
    Table("gpu_names.csv", "GPU family by compute capability"),
    Table("gpu_driver_names.csv", "name that a driver gives a GPU model"),
    Table("cuda_arch.csv", "CUDA compiler release"),
    Table("host_compilers.csv", "CUDA compiler release"),
    Table("nccl_arch.csv", "GPU generation that NCCL learned"),
    Table("reference_results.csv", "published measurement"),
    Table("xid.csv", "Xid code"),
    Table("env_vars.toml", "environment variable"),
    Table("error_messages.toml", "error message"),
)


@functools.cache
def rows(name: str) -> tuple[dict[str, str], ...]:
    """Give the rows of a shipped CSV table as dictionaries of strings; raises FileNotFoundError for another name."""
    return tuple(csv.DictReader(io.StringIO((DATA / name).read_text(encoding="utf-8"))))


def cells(text: str) -> tuple[str, ...]:
    """Split a list cell at its semicolons: ``"8.0;8.6"`` -> ``("8.0", "8.6")``."""
    return tuple(part.strip() for part in text.split(";") if part.strip())
