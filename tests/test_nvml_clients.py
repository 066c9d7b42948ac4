"""Two clients of NVML that others wrote, nvitop and gpustat, read the same from the fakes as our own probe does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envdoctor.facts.nvml import Gpu
from tests.stands.nvml_machine import MakeMachine, NvmlMachine, machine_maker, state

pytestmark = [pytest.mark.gcc, pytest.mark.network]

MIB = 1 << 20
NVITOP = """
import json
from nvitop import Device, NA
def plain(value):
    return None if value is NA else value
print(json.dumps([{
    "name": each.name(), "uuid": each.uuid(), "pci": each.bus_id().lower(),
    "capability": each.cuda_compute_capability(), "total": each.memory_total(),
    "used": each.memory_used(), "free": each.memory_free(),
    "utilization": plain(each.gpu_utilization()), "temperature": plain(each.temperature()),
    "power": plain(each.power_usage()), "limit": plain(each.power_limit()), "sm": plain(each.sm_clock()),
    "sm_max": plain(each.max_sm_clock()), "memory_clock": plain(each.memory_clock()),
    "persistence": each.persistence_mode() == "Enabled", "mig": each.is_mig_mode_enabled(),
    "processes": sorted([pid, plain(process.gpu_memory())] for pid, process in each.processes().items()),
} for each in Device.all()]))
"""
GPUSTAT = "import gpustat, json; print(json.dumps(gpustat.new_query().jsonify(), default=str))"
SCENARIOS = [("h100x8", "570"), ("a100_driver470", "470"), ("a100_mig", "550"), ("h100_sick", "570")]


@pytest.fixture(scope="session")
def clients(request: pytest.FixtureRequest) -> Path:
    """Give a folder with both clients and all they need, which pip fills once and pytest's cache keeps (5 MB)."""
    folder = request.config.cache.mkdir("nvml-clients") if request.config.cache else None
    if folder is None:
        pytest.skip("pytest's cache is switched off")
    if not all((folder / name).is_dir() for name in ("nvitop", "gpustat")):
        options = ["--only-binary", "nvitop,psutil", "--quiet", "--target", str(folder), "--upgrade"]
        command = [sys.executable, "-m", "pip", "install", *options, "nvitop", "gpustat"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            pytest.skip(f"pip cannot fetch them here: {done.stderr.strip()[-300:]}")
    return folder


@pytest.fixture
def machine(fake_nvml: Callable[[str], Path], tmp_path: Path) -> MakeMachine:
    """Give a maker of machines."""
    return machine_maker(fake_nvml, tmp_path)


def client(folder: Path, script: str, asked: NvmlMachine) -> Any:
    """Run a client in a process of its own on this machine's fake."""
    environ = {**asked.variables(), "PYTHONPATH": str(folder)}
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ, timeout=60)
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)


def busy(process: int) -> str:
    """Let a real process hold memory on the first card: the clients drop those that are not there."""
    return f"[gpu 0]\nprocs = {process}:1234\nutilization = 73,41\nmemory_used_mib = 1240"


def cards(asked: NvmlMachine) -> list[Gpu]:
    """Give what our probe says of the cards that it got an answer from."""
    return [each for each in state(asked.ask("device-nodes", "gpu-state")).gpus if not each.lost]


def by_nvitop(gpu: Gpu) -> dict[str, Any]:
    """Write one of our cards in nvitop's names and units."""
    capability = (gpu.compute_capability or "").split(".")
    return {
        "name": gpu.name, "uuid": gpu.uuid, "pci": gpu.pci_address, "capability": [int(each) for each in capability],
        "total": (gpu.memory_total_mib or 0) * MIB, "used": (gpu.memory_used_mib or 0) * MIB,
        "free": (gpu.memory_free_mib or 0) * MIB, "utilization": gpu.utilization_percent,
        "temperature": gpu.temperature_celsius, "power": (gpu.power_watts or 0) * 1000,
        "limit": (gpu.power_limit_watts or 0) * 1000, "sm": gpu.sm_clock_mhz, "sm_max": gpu.sm_clock_max_mhz,
        "memory_clock": gpu.memory_clock_mhz, "persistence": gpu.persistence, "mig": bool(gpu.mig_enabled),
        "processes": sorted([each.pid, each.memory_mib and each.memory_mib * MIB] for each in gpu.processes),
    }  # fmt: skip


@pytest.mark.parametrize(("name", "series"), SCENARIOS[:3])
def test_nvitop_reads_the_same(machine: MakeMachine, clients: Path, name: str, series: str) -> None:
    """Names, memory, utilisation, temperature, power, clocks, modes and processes of every card agree."""
    asked = machine(name, series=series, settings=busy(os.getpid()))
    theirs = client(clients, NVITOP, asked)
    for each in theirs:
        each["utilization"] = 73 if name == "a100_mig" and each["mig"] else each["utilization"]  # it hides MIG's
    assert [by_nvitop(gpu) for gpu in cards(asked)] == theirs


@pytest.mark.parametrize(("name", "series"), SCENARIOS)
def test_gpustat_reads_the_same(machine: MakeMachine, clients: Path, name: str, series: str) -> None:
    """Names, memory, temperature, power and processes of every card that is not lost agree."""
    asked = machine(name, series=series, settings=busy(os.getpid()))
    told = client(clients, GPUSTAT, asked)
    theirs = [each for each in told["gpus"] if "lost" not in each["name"]]
    for gpu, each in zip(cards(asked), theirs, strict=True):
        assert (gpu.name, gpu.uuid, gpu.memory_total_mib, gpu.memory_used_mib) == (
            each["name"], each["uuid"], each["memory.total"], each["memory.used"],
        )  # fmt: skip
        assert (gpu.temperature_celsius, gpu.power_watts, gpu.power_limit_enforced_watts) == (
            each["temperature.gpu"], each["power.draw"], each["enforced.power.limit"],
        )  # fmt: skip
        here = [[each.pid, each.memory_mib] for each in gpu.processes if each.pid == os.getpid()]
        assert here == [[each["pid"], each["gpu_memory_usage"]] for each in each["processes"]]
    assert state(asked.ask("device-nodes", "gpu-state")).driver_version == told["driver_version"]


def test_a_hung_card_hangs_the_others_and_not_us(machine: MakeMachine, clients: Path) -> None:
    """Where a card never answers, a plain client waits for ever; our probe names the card and keeps the rest."""
    asked = machine("h100_lost_and_hung")
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(
            [sys.executable, "-c", GPUSTAT], env={**asked.variables(), "PYTHONPATH": str(clients)}, timeout=5.0,
            capture_output=True, check=False,
        )  # fmt: skip
    gpus = state(asked.ask("device-nodes", "gpu-state")).gpus
    assert ([3], [6]) == ([each.index for each in gpus if each.hung], [each.index for each in gpus if each.lost])
