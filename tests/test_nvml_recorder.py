"""A machine that was recorded answers again as it did: the same facts come back from the scenario."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from envdoctor import demo
from envdoctor.facts.nvml import GpuFabric, GpuState
from envdoctor.snapshot import Snapshot, of, save
from tests.stands.fakes import may_unshare, private_dev
from tests.stands.nvml_machine import MakeMachine, NvmlMachine, machine_maker, scenario_names
from tests.stands.nvml_recorder import scenario_of

pytestmark = pytest.mark.gcc
SCRIPT = Path(__file__).parent.parent / "scripts" / "record-nvml"
BUSY = """[gpu 0]
procs = 4711:1234,4712:?
procs_graphics = 815:20
utilization = 73,41
power_enforced_mw = 333000
power_limit_mw = 350000
clocks_app = 1200,1200,1593,900
clocks_app_default = 1410,1410,1593,900
virtualization = 1
field.230 = 1
retired_pages = 0,0,1
throttle = 0x8003
"""
FAULTS = {
    "lost": ("nvmlDeviceGetHandleByIndex_v2@0 = error 15",),
    "refused": ("nvmlDeviceGetName = error 4", "nvmlDeviceGetComputeMode = error 3", "nvmlDeviceGetUUID = error 999"),
    "no limits": ("nvmlDeviceGetPowerManagementDefaultLimit = error 3", "nvmlDeviceGetEnforcedPowerLimit = error 3"),
    "not started": ("nvmlInit_v2 = error 18",),
    "no processes": ("nvmlDeviceGetComputeRunningProcesses_v3 = error 4",),
}


@pytest.fixture
def machine(fake_nvml: Callable[[str], Path], tmp_path: Path) -> MakeMachine:
    """Give a maker of machines."""
    return machine_maker(fake_nvml, tmp_path)


def told(snapshot: Snapshot) -> tuple[GpuState | None, GpuFabric | None]:
    """Give what NVML said, without how long it took."""
    state = snapshot.get(GpuState)
    return state and replace(state, seconds=None), snapshot.get(GpuFabric)


def recorded(asked: NvmlMachine, folder: Path) -> tuple[NvmlMachine, Snapshot]:
    """Ask a machine, write down what it said, and give the machine that this makes."""
    found = asked.ask()
    state, fabric = told(found)
    assert state is not None
    scenario = folder / "recorded.ini"
    scenario.write_text(scenario_of(state, fabric, identity=True))
    return replace(asked, scenario=scenario), found


@pytest.mark.parametrize("name", scenario_names())
def test_recorded_machine_says_the_same(machine: MakeMachine, tmp_path: Path, name: str) -> None:
    """Every fact of both probes comes back: values, refusals, a lost card, a hanging one."""
    again, found = recorded(machine(name, series="470" if "470" in name else "570"), tmp_path)
    assert told(found) == told(again.ask())


@pytest.mark.parametrize("series", ["515", "535", "580"])
def test_busy_machine_says_the_same(machine: MakeMachine, tmp_path: Path, series: str) -> None:
    """Processes, limits that differ, clocks that are set, a recovery action and an unknown reason come back."""
    again, found = recorded(machine("h100x8", series=series, settings=BUSY), tmp_path)
    assert told(found) == told(again.ask())


@pytest.mark.parametrize("fault", FAULTS)
def test_refusals_come_back(machine: MakeMachine, tmp_path: Path, fault: str) -> None:
    """What was refused is refused again, in the same words."""
    again, found = recorded(machine("h100x8", *FAULTS[fault]), tmp_path)
    assert told(found) == told(again.ask())


@pytest.mark.parametrize("name", ["h100x8-healthy", "sick-gpu", "wheel-drift"])
def test_report_that_was_sent_is_enough(machine: MakeMachine, tmp_path: Path, name: str) -> None:
    """A scenario is made from a saved report alone; the fake then says what the report says."""
    state, fabric = told(demo.load(name))
    assert state is not None
    scenario = tmp_path / "sent.ini"
    scenario.write_text(scenario_of(state, fabric, identity=True))
    again = replace(machine("no_devices", series="580"), scenario=scenario)
    found, _ = told(again.ask("device-nodes", "gpu-state"))
    assert found is not None
    same_words = [replace(new, unknown=old.unknown) for new, old in zip(found.gpus, state.gpus, strict=True)]
    assert list(state.gpus) == same_words


def test_identity_is_left_out_unless_asked_for(machine: MakeMachine) -> None:
    """A scenario that is shared names no card: neither UUID nor serial number."""
    asked = machine(
        "h100x8", settings="[gpu 0]\nuuid = GPU-11111111-2222-3333-4444-555555555555\nserial = 1320422012345"
    )
    state, fabric = told(asked.ask())
    assert state is not None
    private = ("GPU-11111111-2222-3333-4444-555555555555", "1320422012345")
    assert [False, False] == [each in scenario_of(state, fabric) for each in private]
    assert [True, True] == [each in scenario_of(state, fabric, identity=True) for each in private]


@pytest.mark.skipif(not SCRIPT.exists(), reason="the source is not here, only the wheel")
def test_script_reads_a_report(tmp_path: Path, machine: MakeMachine) -> None:
    """``scripts/record-nvml REPORT.json`` writes the scenario to standard output."""
    state, _ = told(machine("a100_mig", series="550").ask())
    assert state is not None
    report = tmp_path / "report.json"
    report.write_bytes(save(of(state)))
    done = subprocess.run([sys.executable, SCRIPT, report], capture_output=True, text=True, check=True)
    assert scenario_of(state) == done.stdout


@pytest.mark.root
@pytest.mark.skipif(not SCRIPT.exists(), reason="the source is not here, only the wheel")
@pytest.mark.skipif(not may_unshare(), reason="making device nodes needs root")
def test_script_records_this_machine(machine: MakeMachine, tmp_path: Path) -> None:
    """Without a file it asks NVML itself, reads a few values more, and writes nothing to a card."""
    asked = machine("h100_sick")
    command = private_dev([sys.executable, str(SCRIPT), "--identity"], gpus=8)
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**asked.variables(), "PYTHONPATH": path}
    )
    assert 0 == done.returncode, done.stderr
    assert "vbios = 96.00.89.00.01" in done.stdout.splitlines()
    assert [] == [call for call in asked.calls() if call.startswith("WRITE")]
    scenario = tmp_path / "again.ini"
    scenario.write_text(done.stdout)
    assert told(asked.ask()) == told(replace(asked, scenario=scenario).ask())


@pytest.mark.skipif(not SCRIPT.exists(), reason="the source is not here, only the wheel")
def test_script_says_why_there_is_nothing_to_record(machine: MakeMachine, tmp_path: Path) -> None:
    """On a machine without NVIDIA's nodes it ends with 1 and the reason."""
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a driver")
    environ = {**machine("h100x8").variables(), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False, env=environ)
    assert (1, "", True) == (done.returncode, done.stdout, "no NVIDIA device node" in done.stderr)
