"""Machines whose NVML is the fake one, asked through the real engine. A folder of files stands for /dev: no root."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from envdoctor.diagnose import examine
from envdoctor.facts.nvml import GpuFabric, GpuState
from envdoctor.finding import Report
from envdoctor.plan import BUILT_IN
from envdoctor.probe import Roots
from envdoctor.runner.collection import collect
from envdoctor.snapshot import ProbeResult, Snapshot
from envdoctor.target import Patient
from tests.stands.fakes import HERE, nvml_scenario

PROBES = ("device-nodes", "gpu-state", "gpu-fabric")
NODES = ("nvidiactl", "nvidia-uvm", "nvidia0")


@dataclass(frozen=True)
class NvmlMachine:
    """One machine: a fake NVML of a driver series, a scenario, and a /dev in which the driver's nodes lie."""

    library: Path
    scenario: Path
    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """The file in which the fake writes down every call."""
        return self.folder / "nvml.log"

    def variables(self) -> dict[str, str]:
        """Give the environment in which any client of NVML meets the fake."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA_", "LD_"))}
        fake = {"LD_LIBRARY_PATH": str(self.library), "FAKE_NVML_SCENARIO": str(self.scenario)}
        return {**inherited, **fake, "FAKE_NVML_LOG": str(self.log), **self.environ}

    def ask(self, *names: str, timeout: float = 30.0, nodes: tuple[str, ...] = NODES) -> Snapshot:
        """Ask these probes of the machine through the engine (NVML's, unless told otherwise)."""
        planned = [each for each in BUILT_IN if each.name in (names or PROBES)]
        return collect(self.patient(nodes), planned, timeout=timeout, level="quick")

    def patient(self, nodes: tuple[str, ...] = NODES) -> Patient:
        """Give this machine as one that can be asked."""
        dev = self.folder / "dev"
        dev.mkdir(exist_ok=True)
        for node in nodes:
            (dev / node).touch()
        return Patient(roots=Roots(dev=str(dev)), environ=self.variables(), cwd=str(self.folder))

    def calls(self) -> list[str]:
        """Give every call that was made, in order: ``nvmlDeviceGetName gpu3``."""
        return self.log.read_text().splitlines() if self.log.exists() else []


MakeMachine = Callable[..., NvmlMachine]


def machine_maker(build: Callable[[str], Path], folder: Path) -> MakeMachine:
    """Give ``make("h100x8", "nvmlInit_v2 = hang", series="570")``."""

    def make(name: str, *faults: str, series: str = "570", settings: str = "") -> NvmlMachine:
        return NvmlMachine(build(series), nvml_scenario(folder, name, *faults, settings=settings), folder)

    return make


def state(snapshot: Snapshot) -> GpuState:
    """Give the fact of gpu-state."""
    found = snapshot.get(GpuState)
    assert found is not None, snapshot.probes
    return found


def fabric(snapshot: Snapshot) -> GpuFabric:
    """Give the fact of gpu-fabric."""
    found = snapshot.get(GpuFabric)
    assert found is not None, snapshot.probes
    return found


def result(snapshot: Snapshot, name: str) -> ProbeResult:
    """Give what became of one probe."""
    return next(each for each in snapshot.probes if each.name == name)


def report(snapshot: Snapshot) -> Report:
    """Let all rules examine what was found."""
    return examine(snapshot)


def scenario_names() -> list[str]:
    """Name every scenario that is recorded."""
    return sorted(each.stem for each in (HERE / "fake_nvml" / "scenarios").glob("*.ini"))
