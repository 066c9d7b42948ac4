"""The process that does the steps of staged tests: each in a fork with a deadline, whatever the step does to it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envdoctor.runner.stepper import Stepper
from envdoctor.target import Patient
from tests.fleet_ranks import left_running

# A torch of which a step needs one function: what that does is told by a file.
TORCH = """
import os, sys, time, threading
__version__ = "2.9"
HERE = os.path.dirname(__file__)
print("imported", file=open(os.path.join(HERE, "imports"), "a"))

class version:
    cuda = None

float32 = "torch.float32"

class Matrix:
    def to(self, dtype):
        return self

class device:
    def __init__(self, kind):
        self.type, self.index = kind, None

def randn(*size, device):
    return Matrix()

def empty_like(matrix):
    return matrix

def mm(first, second, out):
    exec(open(os.path.join(HERE, "does")).read())
    time.sleep(0.03)
"""


@pytest.fixture
def torch(tmp_path: Path) -> Path:
    """Give the folder of a pretended torch."""
    folder = tmp_path / "torch"
    folder.mkdir()
    (folder / "__init__.py").write_text(TORCH)
    (folder / "does").write_text("")
    return folder


@pytest.fixture
def stepper(torch: Path) -> Iterator[Stepper]:
    """Give a process that has imported it; nothing of it is left afterwards."""
    mark = f"EDS_MARK_{os.getpid()}"
    made = Stepper(Patient(environ={**os.environ, "PYTHONPATH": str(torch.parent), mark: "1"}))
    yield made
    made.close()
    assert [] == left_running(mark)


def compute(seconds: float = 20.0) -> dict[str, Any]:
    """Give a step."""
    return {"do": "compute", "seconds": seconds, "local_rank": 0}


READY = {"do": "ready", "seconds": 20.0}


def imports(torch: Path) -> int:
    """Count how often it was imported."""
    return (torch / "imports").read_text().count("imported")


def test_a_step_says_its_rows_and_the_next_needs_no_import(stepper: Stepper, torch: Path) -> None:
    """Two steps after one import: the device, the product, and nine samples each."""
    for _ in range(2):
        found = stepper.do(compute())
        assert ("done", "") == (found["state"], found["reason"])
        assert ["kind", "flop", *["seconds"] * 9] == [next(iter(each)) for each in found["said"]]
    assert 1 == imports(torch)


@pytest.mark.parametrize(
    ("does", "state", "words"),
    [
        ("os.fork(); time.sleep(600)", "timed-out", "no end within"),
        ("os.abort()", "failed", "killed by signal 6"),
        ("print('NCCL WARN: no'); sys.stdout.flush(); os._exit(3)", "failed", "(exit code 3): NCCL WARN: no"),
        ("raise RuntimeError('out of memory')", "failed", "RuntimeError: out of memory"),
    ],
    ids=["hangs", "aborts", "exits", "raises"],
)
def test_what_a_step_does_to_its_process_is_its_answer(
    stepper: Stepper, torch: Path, does: str, state: str, words: str
) -> None:
    """It hangs, crashes or fails: said with what was known before, and the next step works."""
    (torch / "does").write_text(does)
    stepper.do(READY)  # the import's time is not the step's
    found = stepper.do(compute(2.0))
    assert (state, True) == (found["state"], words in found["reason"]), found
    assert "CPU" == found["said"][0]["name"]
    assert "done" == stepper.do(READY)["state"]
    assert 1 == imports(torch)


def test_an_import_that_fails_is_every_step_s_answer(torch: Path, stepper: Stepper) -> None:
    """The words are the import's own."""
    stepper.close()
    (torch / "__init__.py").write_text("raise ImportError('libcudnn.so.9: cannot open')\n")
    for _ in range(2):
        found = stepper.do(READY)
        assert "torch cannot be imported: ImportError: libcudnn.so.9: cannot open" == found["reason"]


def test_a_process_that_must_not_be_forked_does_one_step(torch: Path, stepper: Stepper) -> None:
    """The import started a thread: each step gets a process of its own, and one that hangs is killed all the same."""
    stepper.close()
    (torch / "__init__.py").write_text(
        TORCH + "\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    )
    assert ["done", "done"] == [stepper.do(READY)["state"] for _ in range(2)]
    (torch / "does").write_text("time.sleep(600)")
    assert "timed-out" == stepper.do(compute(3.0))["state"]
    assert "done" == stepper.do(READY)["state"]
    assert 4 <= imports(torch)


def test_a_run_that_was_ended_waits_for_no_step(torch: Path) -> None:
    """The launcher's SIGTERM came: the step is given up at once."""
    (torch / "does").write_text("time.sleep(600)")
    over = time.monotonic() + 1.0
    made = Stepper(
        Patient(environ={**os.environ, "PYTHONPATH": str(torch.parent)}), stopped=lambda: time.monotonic() > over
    )
    found = made.do(compute(300.0))
    made.close()
    assert ("failed", True) == (found["state"], "so was the run" in found["reason"])


def test_an_interpreter_that_is_not_there_is_said(tmp_path: Path) -> None:
    """Nothing can be started: a failure with the reason."""
    found = Stepper(Patient(python=str(tmp_path / "python"))).do(compute())
    assert ("failed", True) == (found["state"], "cannot be started" in found["reason"])
