"""The whole quick check on a machine that has GPUs: real device nodes in a private /dev, and fakes for the driver.

NVML and libcuda are fakes, the libcudart between torch and libcuda is a real one, the rest is this machine's own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.stands.fakes import may_unshare, nvml_scenario, private_dev

pytestmark = [
    pytest.mark.root,
    pytest.mark.gcc,
    pytest.mark.network,
    pytest.mark.skipif(not may_unshare(), reason="making device nodes needs root"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="the fakes are made with gcc"),
]
CONTEXTS = {"cuCtxCreate_v2", "cuDevicePrimaryCtxRetain", "cuMemAlloc_v2"}


class Machine:
    """A machine with two GPUs on which reports are made."""

    def __init__(self, folder: Path, libraries: list[Path], torch: Path) -> None:
        self.folder, self.libraries, self.torch = folder, libraries, torch
        self.cuda_log, self.nvml_log = folder / "cuda.log", folder / "nvml.log"

    def check(self, *faults: str, gpus: int = 2, mode: str = "666", **environ: str) -> dict[str, Any]:
        """Run ``envdoctor check`` at level quick and give its report."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA_", "LD_"))}
        environment = {
            **inherited,
            "PYTHONPATH": os.pathsep.join([str(self.torch), *sys.path]),
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, self.libraries)),
            "FAKE_NVML_SCENARIO": str(nvml_scenario(self.folder, "h100x8", *faults)),
            "FAKE_NVML_LOG": str(self.nvml_log),
            "FAKE_CUDA_LOG": str(self.cuda_log),
            **environ,
        }
        command = [sys.executable, "-m", "envdoctor", "check", "--level", "quick", "--format", "json"]
        done = subprocess.run(
            private_dev(command, gpus=gpus, mode=mode),
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            cwd=self.folder,
            timeout=60,
        )
        report: dict[str, Any] = json.loads(done.stdout)
        return report


@pytest.fixture
def machine(
    tmp_path: Path,
    fake_cuda: Path,
    fake_nvml: Callable[[str], Path],
    stand: Callable[[str], Path],
    real_cudart: Path,
) -> Machine:
    """Give a machine with driver 570, a small CUDA torch and a real libcudart."""
    site = tmp_path / "site"
    shutil.copytree(stand("healthy_cu124"), site)
    shutil.copy(real_cudart, site / "nvidia" / "cuda_runtime" / "lib" / "libcudart.so.12")
    return Machine(tmp_path, [fake_cuda, fake_nvml("570")], site)


def outcomes(report: dict[str, Any]) -> dict[str, str]:
    """Give the driver's probes' outcomes by name."""
    names = {"device-nodes", "cuda-driver", "cuda-runtime", "gpu-state"}
    return {each["name"]: each["outcome"] for each in report["probes"] if each["name"] in names}


def ids(report: dict[str, Any]) -> set[str]:
    """Give what was found."""
    return {finding["id"] for finding in report["findings"]}


def test_every_source_answers_and_nothing_is_written(machine: Machine) -> None:
    """All three libraries are asked; no context is created and nothing of NVML's that writes is called."""
    report = machine.check()
    assert {"got"} == set(outcomes(report).values())
    facts = report["facts"]["facts"]
    assert (0, "12.8") == (facts["cuda_driver"]["init_code"], facts["cuda_driver"]["cuda_version"])
    assert 8 == len(facts["gpu_state"]["gpus"])
    assert set() == CONTEXTS & set(machine.cuda_log.read_text().split())
    assert not [line for line in machine.nvml_log.read_text().splitlines() if line.startswith("WRITE")]


def test_fabric_that_is_not_ready_is_found(machine: Machine) -> None:
    """Error 802 from libcuda and from the real libcudart is one finding, with both as evidence's source."""
    report = machine.check(FAKE_CUDA_INIT="802")
    facts = report["facts"]["facts"]
    assert (802, "cudaErrorSystemNotReady") == (facts["cuda_driver"]["init_code"], facts["cuda_runtime"]["name"])
    assert "fabric-manager-missing" in ids(report)


def test_driver_too_old_is_found_by_the_runtimes_own_verdict(machine: Machine) -> None:
    """A driver of CUDA 11.4 under a cu124 torch: the real runtime says 35."""
    report = machine.check(FAKE_CUDA_VERSION="11040")
    assert 35 == report["facts"]["facts"]["cuda_runtime"]["code"]
    assert "driver-too-old-for-cuda-build" in ids(report)


def test_crash_in_the_driver_costs_its_own_answer_alone(machine: Machine) -> None:
    """A cuInit that crashes takes neither NVML's nor the static facts along, and what it said before is kept."""
    report = machine.check(FAKE_CUDA_INIT="segv")
    found = outcomes(report)
    assert ("crashed", "got", "got") == (found["cuda-driver"], found["gpu-state"], found["device-nodes"])
    assert "12.8" == report["facts"]["facts"]["cuda_driver"]["cuda_version"]


def test_without_nodes_nothing_is_asked_and_nothing_appears(machine: Machine) -> None:
    """The harm gate: with an empty /dev neither library is called at all."""
    report = machine.check(gpus=0)
    found = outcomes(report)
    assert {"absent"} == {found[name] for name in ("cuda-driver", "cuda-runtime", "gpu-state")}
    assert (False, False) == (machine.cuda_log.exists(), machine.nvml_log.exists())
    assert not list(Path("/dev").glob("nvidia*"))


def test_lost_and_hung_cards_cost_the_others_nothing(machine: Machine) -> None:
    """Of eight cards one is lost and one never answers: the report names both and keeps the other six, in time."""
    began = time.monotonic()
    report = machine.check("nvmlDeviceGetTemperature@3 = hang", "nvmlDeviceGetHandleByIndex_v2@6 = error 15", gpus=8)
    assert time.monotonic() - began < 15.0
    lost = {finding["subject"] for finding in report["findings"] if finding["id"] == "gpu-lost"}
    temperatures = [gpu["temperature_celsius"] for gpu in report["facts"]["facts"]["gpu_state"]["gpus"]]
    assert ({"3", "6"}, [34, 34, 34, None, 34, 34, None, 34]) == (lost, temperatures)
    assert not [line for line in machine.nvml_log.read_text().splitlines() if line.startswith("WRITE")]
