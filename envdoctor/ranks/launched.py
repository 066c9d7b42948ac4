"""Which rank of how many this process is, by the variables that launchers set."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

# Launcher, its names for rank, number of ranks and rank on this machine; the first that is complete is taken.
# RANK and WORLD_SIZE are what torch itself reads: set by torchrun, accelerate and deepspeed, and by hand.
# The step's own number of tasks comes first: the shell that salloc opens is a step of one task, and keeps the number
# of the whole allocation in SLURM_NTASKS.
NAMES = (
    ("environment", "RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
    ("srun", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    ("mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
)
IN_A_STEP = ("SLURM_STEP_ID", "SLURM_STEPID")  # a plain shell of an allocation has the others too
TORCHRUN = "TORCHELASTIC_RUN_ID"


class Place(NamedTuple):
    """One process of a job. ``attempt`` counts torchrun's restarts.

    ``address`` and ``port``: where the ranks meet; None where nothing says it. ``launchers_store``: the launcher itself
    keeps a store there, from before the ranks start.
    """

    launcher: str
    rank: int
    world_size: int
    local_rank: int | None = None
    address: str | None = None
    port: int | None = None
    attempt: int = 0
    launchers_store: bool = False


def launched(environ: Mapping[str, str]) -> Place | None:
    """Give this process's place in its job; None when no launcher started it, or its variables contradict."""
    for launcher, rank_name, size_name, local_name in NAMES:
        rank, size = _number(environ, rank_name), _number(environ, size_name)
        if rank is None or size is None or not rank < size:
            continue
        if launcher == "srun" and not any(each in environ for each in IN_A_STEP):
            continue
        by = "torchrun" if launcher == "environment" and TORCHRUN in environ else launcher
        return Place(
            by, rank, size, _number(environ, local_name), environ.get("MASTER_ADDR") or None,
            _number(environ, "MASTER_PORT"), _number(environ, "TORCHELASTIC_RESTART_COUNT") or 0,
            environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        )  # fmt: skip
    return None


def _number(environ: Mapping[str, str], name: str) -> int | None:
    value = environ.get(name, "").strip()
    return int(value) if value.isascii() and value.isdigit() else None
