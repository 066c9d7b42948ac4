"""Which processes belong to whoever asks."""

from __future__ import annotations

import os

import pytest
from envdoctor_probes.own_processes import marks_of, own_processes, parse_parent

from envdoctor.probe import Context


@pytest.mark.parametrize(
    ("stat", "parent"), [("12 (a) b) S 7 12 12 0", 7), ("12 (python) R 1 1", 1), ("", 0), ("12 (x) Z", 0)]
)
def test_parent_of_a_process(stat: str, parent: int) -> None:
    """A name may hold blanks and parentheses; what is gone has no parent."""
    assert parent == parse_parent(stat)


def test_ranks_of_one_job_share_a_mark() -> None:
    """The store of torch's launcher, a step of several tasks under Slurm, a name space of PMIx."""
    torch = {"RANK": "3", "MASTER_ADDR": "n1", "MASTER_PORT": "29500"}
    assert marks_of(torch) == marks_of({**torch, "RANK": "0"})
    assert not marks_of(torch) & marks_of({**torch, "MASTER_PORT": "29501"})
    step = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8"}
    assert marks_of(step) == marks_of({**step, "SLURM_PROCID": "1"})
    assert marks_of({"PMIX_NAMESPACE": "job-1"})


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"MASTER_PORT": "29500"},
        {"SLURM_JOB_ID": "7"},
        {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"},
    ],
)
def test_shell_of_a_batch_system_is_no_job(environ: dict[str, str]) -> None:
    """What a person started in the same allocation is not the same job."""
    assert not marks_of(environ)


def test_job_that_is_asked_about_is_own() -> None:
    """So are we and what started us; a stranger is not."""
    is_own = own_processes(Context(environ={}, options={"pid": 4_190_000}))
    assert [True, True, True, False] == [is_own(each) for each in (4_190_000, os.getpid(), os.getppid(), 4_190_001)]
