"""preflight() on a machine that has GPUs: real device nodes in a private /dev, fakes for the driver's libraries.

What holds here: everything that touches the driver is asked in a child, and nothing of it reaches the caller.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.stands.cuda_wheels import nvidia
from tests.stands.engine import nothing_left
from tests.stands.fakes import may_unshare, nvml_scenario, private_dev
from tests.stands.program import program
from tests.stands.wheels import Wheel, install

__all__ = ["nothing_left"]
pytestmark = [
    pytest.mark.root,
    pytest.mark.gcc,
    pytest.mark.network,
    pytest.mark.skipif(not may_unshare(), reason="making device nodes needs root"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="the fakes are made with gcc"),
    pytest.mark.usefixtures("nothing_left"),
]
CALL = """
import json, time, envdoctor
ignore = {"duplicate-torch-installs": "the stand lies before another"}
how = json.loads(%r)
before = having()
began = time.monotonic()
try:
    report, said = envdoctor.preflight(ignore=ignore, **how), ""
except envdoctor.NotReady as error:
    report, said = error.report, str(error)
print(json.dumps({
    "took": time.monotonic() - began, "before": before, "after": having(), "said": said,
    "verdict": report.verdict.value, "notes": list(report.notes), "primary": report.primary,
    "ends": {p.name: p.outcome.name for p in report.snapshot.probes},
    "ids": {f.key: f.severity.value for f in report.findings},
}))
"""


@pytest.fixture
def call(
    tmp_path_factory: pytest.TempPathFactory,
    fake_cuda: Path,
    fake_nvml: Callable[[str], Path],
    stand: Callable[[str], Path],
    real_cudart: Path,
) -> Callable[..., Any]:
    """Give a call of preflight() on a machine with two GPUs, driver 570, a small cu124 torch and a real libcudart."""
    folder = tmp_path_factory.mktemp("machine")
    site = folder / "site"
    shutil.copytree(stand("healthy_cu124"), site)
    wheel = nvidia("nvidia-cuda-runtime-cu12")
    files = {**wheel.files, "nvidia/cuda_runtime/lib/libcudart.so.12": real_cudart.read_bytes()}
    install(site, Wheel(wheel.name, wheel.version, files))

    def run(how: str = "{}", **environ: str) -> Any:
        around = {
            "PYTHONPATH": str(site),
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, (fake_cuda, fake_nvml("570")))),
            "FAKE_NVML_SCENARIO": str(nvml_scenario(folder, "h100x8")),
        }
        cwd = folder / "cwd"
        cwd.mkdir(exist_ok=True)
        on: dict[str, Any] = {"cwd": cwd, "around": lambda command: private_dev(command, gpus=2)}
        return program(CALL % how, **on, **{**around, **environ})

    return run


def test_the_driver_is_asked_in_a_child_and_never_here(call: Callable[..., Any]) -> None:
    """All sources answer, and neither libcuda, NVML nor libcudart is mapped into the caller; nothing else is left."""
    told = call('{"require": {"gpus": 1, "driver": ">=570"}, "budget_seconds": 60}')
    assert {"got"} == {told["ends"][name] for name in ("cuda-driver", "cuda-runtime", "gpu-state")}
    assert ([], told["before"]) == (told["after"]["driver"], told["after"])
    assert set() == {"requirement-not-met@gpus", "requirement-not-met@driver"} & set(told["ids"])


def test_a_machine_that_cannot_train_is_refused(call: Callable[..., Any]) -> None:
    """Error 802 stops the run with the fabric manager as its cause, and a required GPU follows from it."""
    told = call('{"require": {"gpus": 8}, "budget_seconds": 60}', FAKE_CUDA_INIT="802")
    assert ("fabric-manager-missing", "error") == (told["primary"], told["ids"]["requirement-not-met@gpus"])
    assert "This machine is not ready: " in told["said"]
    assert "Also follows from it: " in told["said"]
    assert "requirement-not-met@gpus" in told["said"]


def test_a_driver_that_hangs_costs_the_budget_and_no_more(call: Callable[..., Any]) -> None:
    """A cuInit that never returns is given up at the budget's end, named, and leaves no process."""
    told = call('{"budget_seconds": 4}', FAKE_CUDA_INIT="hang")
    assert told["took"] < 30  # cuInit hangs for ever
    assert ("timed-out", "undetermined") == (told["ends"]["cuda-driver"], told["verdict"])
    assert any(
        note.startswith("no answer within the budget of 4 s") and "cuda-driver" in note for note in told["notes"]
    )
    assert told["before"] == told["after"]


def test_a_crash_in_the_driver_is_not_ours(call: Callable[..., Any]) -> None:
    """A cuInit that crashes kills the child that asked, not the program."""
    told = call('{"budget_seconds": 60}', FAKE_CUDA_INIT="segv")
    assert ("crashed", told["before"]) == (told["ends"]["cuda-driver"], told["after"])
