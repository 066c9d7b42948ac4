"""The fake NVML itself: pynvml, as an independent client, reads from it what the scenario says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.stands.fakes import HERE, nvml_scenario

pytestmark = pytest.mark.gcc
Make = Callable[[str], Path]

READ = """
import json, pynvml as nv
def ask(function, *arguments):
    try:
        return function(*arguments)
    except Exception as error:
        return type(error).__name__ + " " + str(getattr(error, "value", ""))
refused = ask(nv.nvmlInit)
out = {"init": refused, "gpus": []}
count = 0 if refused else nv.nvmlDeviceGetCount()
if not refused:
    out["driver"] = nv.nvmlSystemGetDriverVersion()
for index in range(count):
    handle = ask(nv.nvmlDeviceGetHandleByIndex, index)
    if isinstance(handle, str):
        out["gpus"].append({"handle": handle})
        continue
    memory = ask(nv.nvmlDeviceGetMemoryInfo, handle, nv.nvmlMemory_v2)
    out["gpus"].append({
        "name": ask(nv.nvmlDeviceGetName, handle),
        "bus": nv.nvmlDeviceGetPciInfo(handle).busId,
        "total_mib": memory if isinstance(memory, str) else memory.total >> 20,
        "pcie": [ask(nv.nvmlDeviceGetCurrPcieLinkGeneration, handle), ask(nv.nvmlDeviceGetCurrPcieLinkWidth, handle)],
        "throttle": ask(nv.nvmlDeviceGetCurrentClocksThrottleReasons, handle),
        "event": ask(nv.nvmlDeviceGetCurrentClocksEventReasons, handle),
        "links": [ask(nv.nvmlDeviceGetNvLinkState, handle, link) for link in range(6)],
        "remapped": ask(nv.nvmlDeviceGetRemappedRows, handle),
        "ecc": ask(nv.nvmlDeviceGetTotalEccErrors, handle, 1, 0),
        "fan": ask(nv.nvmlDeviceGetFanSpeed, handle),
        "set": ask(nv.nvmlDeviceSetPersistenceMode, handle, 1) if WRITE else None,
    })
print(json.dumps(out))
"""


def read(folder: Path, scenario: Path | None = None, *, write: bool = False, **environ: str) -> dict[str, Any]:
    """Read a fake through pynvml in a process of its own."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": os.pathsep.join(sys.path), **environ}
    if scenario:
        environment["FAKE_NVML_SCENARIO"] = str(scenario)
    command = [sys.executable, "-c", f"WRITE = {write}\n{READ}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_sick_machine_is_read_as_it_is_written(fake_nvml: Make) -> None:
    """Each planted illness is on its card: structures have the layout that pynvml knows."""
    gpus = read(fake_nvml("570"), HERE / "fake_nvml" / "scenarios" / "h100_sick.ini")["gpus"]
    assert ("NVIDIA H100 80GB HBM3", "00000000:19:00.0", 81559) == (
        gpus[0]["name"], gpus[0]["bus"], gpus[0]["total_mib"],
    )  # fmt: skip
    assert ([5, 16], [1, 8]) == (gpus[0]["pcie"], gpus[3]["pcie"])
    assert (0x68, 0x4) == (gpus[1]["throttle"], gpus[2]["event"])
    assert [1, 1, 1, 1, 0, 0] == gpus[4]["links"]
    assert ([3, 9, 1, 1], 2) == (gpus[5]["remapped"], gpus[6]["ecc"])
    assert {"handle": "NVMLError_GpuIsLost 15"} == gpus[7]


def test_what_a_board_lacks_is_not_supported(fake_nvml: Make) -> None:
    """A value that the scenario leaves out is no zero."""
    gpu = read(fake_nvml("580"))["gpus"][0]
    assert ("NVIDIA A100-SXM4-80GB", "NVMLError_NotSupported 3") == (gpu["name"], gpu["fan"])


def test_old_driver_lacks_what_came_later(fake_nvml: Make) -> None:
    """Series 470 has neither the second memory call nor the renamed reasons; pynvml says so in its two ways."""
    answer = read(fake_nvml("470"), HERE / "fake_nvml" / "scenarios" / "a100_driver470.ini")
    gpu = answer["gpus"][0]
    assert ("470.256.02", 1) == (answer["driver"], gpu["throttle"])
    assert gpu["event"].startswith("NVML")
    assert "FunctionNotFound" in gpu["total_mib"] or "Mismatch" in gpu["total_mib"]


@pytest.mark.parametrize(("code", "name"), [(9, "DriverNotLoaded"), (18, "LibRmVersionMismatch"), (4, "NoPermission")])
def test_faults_are_injected(fake_nvml: Make, tmp_path: Path, code: int, name: str) -> None:
    """A scenario with a fault added answers with that code."""
    scenario = nvml_scenario(tmp_path, "h100x8", f"nvmlInit_v2 = error {code}", f"nvmlInitWithFlags = error {code}")
    assert f"NVMLError_{name} {code}" == read(fake_nvml("580"), scenario)["init"]


def test_log_tells_reading_from_writing(fake_nvml: Make, tmp_path: Path) -> None:
    """A client that only reads leaves no WRITE; one that sets something does, and is refused."""
    log = tmp_path / "log"
    read(fake_nvml("580"), FAKE_NVML_LOG=str(log))
    lines = log.read_text().splitlines()
    assert ("nvmlDeviceGetName gpu0" in lines, False) == (True, any(line.startswith("WRITE") for line in lines))
    gpu = read(fake_nvml("580"), write=True, FAKE_NVML_LOG=str(log))["gpus"][0]
    assert "NVMLError_NoPermission 4" == gpu["set"]
    assert "WRITE nvmlDeviceSetPersistenceMode" in log.read_text()
