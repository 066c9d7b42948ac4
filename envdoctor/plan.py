"""Which probes exist, where they are found in the patient, and which process runs them. Names only: nothing loads.

The doctor never imports the probes. What a probe says of itself must agree with this table; a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVELS = ("quick", "standard", "deep")


@dataclass(frozen=True)
class Planned:
    """One probe as the doctor knows it.

    ``where`` is ``module:attribute`` in the patient, ``fact`` the key of the fact it answers with, ``child`` the
    process it shares. ``gated``: started only when the device nodes show that asking the driver changes nothing.
    ``after_import``: asked in a fork of the process that has imported torch. ``travels``: whether another patient may
    be asked too. ``location``: the directory that a plug-in's module is imported from; empty for the payload's own.
    """

    name: str
    where: str
    fact: str
    level: str = "quick"
    child: str = "static"
    seconds: float = 10.0
    gated: bool = False
    after_import: bool = False
    travels: bool = True
    location: str = ""


def _static(name: str, module: str) -> Planned:
    function = name.replace("-", "_")
    return Planned(name, f"envdoctor_probes.{module}:{function}", function)


BUILT_IN: tuple[Planned, ...] = (
    _static("device-nodes", "devices"),
    _static("host", "host"),
    _static("resources", "resources"),
    _static("environment", "environment"),
    _static("pci-bus", "pci"),
    _static("kernel-module", "kernel_module"),
    _static("driver-files", "driver_files"),
    _static("packages", "packages"),
    _static("torch-path", "torch_path"),
    _static("torch-build", "torch_build"),
    Planned("torch-files", "envdoctor_probes.torch_files:torch_files", "torch_files", child="ledger"),
    _static("compile-tools", "compile_tools"),
    Planned("libraries", "envdoctor_probes.libraries:libraries", "libraries", child="ledger"),
    Planned("extensions", "envdoctor_probes.extensions:extensions", "extensions", child="extensions"),
    Planned("toolkit", "envdoctor_probes.toolkit:toolkit", "toolkit", child="ledger", seconds=12.0),
    _static("kernel-log", "kernel_log"),
    _static("container", "nvidia_container"),
    _static("fabric", "fabric"),
    _static("job", "job"),
    Planned("storage", "envdoctor_probes.storage:storage", "storage", child="storage", seconds=5.0),
    Planned("gpu-state", "envdoctor_probes.nvml:gpu_state", "gpu_state", child="nvml", seconds=13.0, gated=True),
    Planned(
        "gpu-fabric", "envdoctor_probes.nvml_fabric:gpu_fabric", "gpu_fabric", child="nvml-fabric",
        seconds=14.0, gated=True,
    ),
    Planned("cuda-driver", "envdoctor_probes.cuda_driver:cuda_driver", "cuda_driver", child="libcuda", gated=True),
    Planned("cuda-runtime", "envdoctor_probes.cuda_runtime:cuda_runtime", "cuda_runtime", child="cudart", gated=True),
    Planned("nvidia-smi", "envdoctor_probes.nvidia_smi:nvidia_smi", "nvidia_smi", child="nvidia-smi", gated=True),
    Planned(
        "torch-import", "envdoctor_probes.torch_import:torch_import", "torch_import", "standard", "torch", seconds=90.0
    ),
    Planned(
        "torch-settings", "envdoctor_probes.torch_settings:torch_settings", "torch_settings", "standard", "torch",
        seconds=20.0, after_import=True,
    ),
    Planned(
        "torch-cuda", "envdoctor_probes.torch_cuda:torch_cuda", "torch_cuda", "standard", "torch",
        seconds=30.0, after_import=True,
    ),
    Planned(
        "mapped-libraries", "envdoctor_probes.mapped:mapped_libraries", "mapped_libraries", "standard", "torch",
        seconds=10.0, after_import=True,
    ),
)  # fmt: skip


def for_level(level: str, probes: tuple[Planned, ...] = BUILT_IN) -> tuple[Planned, ...]:
    """Give the probes that ``level`` runs, the lower levels' included."""
    return tuple(p for p in probes if LEVELS.index(p.level) <= LEVELS.index(level))


def level_of(fact: str, probes: tuple[Planned, ...] = BUILT_IN) -> str:
    """Give the lowest level at which ``fact`` (a key) is collected; facts of no probe are there from the start."""
    return next((p.level for p in probes if p.fact == fact), "quick")


def with_prerequisites(planned: Sequence[Planned], known: Sequence[Planned] = BUILT_IN) -> tuple[Planned, ...]:
    """Add what the planned probes cannot do without: the look at the device nodes, and the import of torch."""
    names = {each.name for each in planned}
    wanted = set()
    if any(each.gated for each in planned):
        wanted.add("device-nodes")
    if any(each.after_import for each in planned):
        wanted.add("torch-import")
    missing = tuple(each for each in known if each.name in wanted - names)
    return (*missing, *planned)
