"""What a requirement is held against: one value of this machine, whether it suffices, and the way to make it so."""

from __future__ import annotations

import msgspec

from envdoctor.facts.driver import CudaDriver, CudaRuntime, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes
from envdoctor.facts.host import Host, Resources
from envdoctor.facts.libraries import Libraries, MappedLibraries
from envdoctor.facts.nvml import GpuState
from envdoctor.facts.packages import Packages
from envdoctor.facts.run import ProbeRun
from envdoctor.facts.surroundings import Container
from envdoctor.facts.torch import TorchBuild, TorchCuda, TorchImport, TorchSettings
from envdoctor.finding import Evidence, Fix
from envdoctor.requirements import conditions
from envdoctor.rule import Unknown


class Around(msgspec.Struct, frozen=True):
    """Everything that a requirement can be held against; None where it was not found out."""

    run: ProbeRun
    host: Host | None = None
    build: TorchBuild | None = None
    imported: TorchImport | None = None
    packages: Packages | None = None
    libraries: Libraries | None = None
    settings: TorchSettings | None = None
    mapped: MappedLibraries | None = None
    module: KernelModule | None = None
    driver: CudaDriver | None = None
    runtime: CudaRuntime | None = None
    cuda: TorchCuda | None = None
    state: GpuState | None = None
    smi: NvidiaSmi | None = None
    nodes: DeviceNodes | None = None
    resources: Resources | None = None
    container: Container | None = None

    def absent(self, probe: str) -> str:
        """Say why what this probe asks about is not there. Raises ``Unknown`` when that was not found out."""
        end = self.run.end_of(probe)
        if end.outcome == "absent":
            return end.reason
        raise Unknown(f"probe {probe} {end.outcome}: {end.reason}" if end.outcome else f"{probe} was not collected")


class Held(msgspec.Struct, frozen=True):
    """One requirement held against the machine: ``said`` is the title of the finding when it is not ``met``."""

    met: bool
    said: str
    evidence: tuple[Evidence, ...] = ()
    fixes: tuple[Fix, ...] = ()
    causes: tuple[str, ...] = ()
    detail: str = ""


def spoken(wanted: str) -> str:
    """Put a requirement in words: ``>=8`` is "at least 8"."""
    found = conditions(wanted)
    if len(found) == 1 and found[0][0] == ">=":
        return f"at least {found[0][1]:g}"
    return wanted
