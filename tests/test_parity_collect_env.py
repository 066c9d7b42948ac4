"""Every fact that PyTorch's own collect_env has too is the same one, on the same environment at the same time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from envdoctor.facts.driver import NvidiaSmi
from envdoctor.facts.host import Environment, Host, Resources
from envdoctor.facts.libraries import Toolkit
from envdoctor.facts.nvml import GpuState
from envdoctor.facts.packages import Packages
from envdoctor.facts.surroundings import Fabric
from envdoctor.facts.torch import TorchBuild, TorchCuda, TorchImport, TorchSettings
from envdoctor.plan import BUILT_IN, for_level
from envdoctor.probe import Roots
from envdoctor.runner.collection import collect
from envdoctor.snapshot import F, Snapshot
from envdoctor.target import Patient
from tests.stands.fakes import HERE

pytestmark = [
    pytest.mark.gcc,
    pytest.mark.real_torch,
    pytest.mark.skipif(
        not (Path(sysconfig.get_path("purelib")) / "torch" / "lib").is_dir(), reason="torch is not here"
    ),
]

COLLECT_ENV = """
import json
from torch.utils.collect_env import get_env_info
print(json.dumps(get_env_info()._asdict(), default=str))
"""
DRIVER, MODEL, GPUS = "570.124.06", "NVIDIA H100 80GB HBM3", 8
SMI = f"""#!/bin/sh
case "$1" in
-L) for n in 0 1 2 3 4 5 6 7; do echo "GPU $n: {MODEL} (UUID: GPU-fa4e0000-0000-4000-8000-00000000000$n)"; done ;;
--query-gpu=*) for n in 0 1 2 3 4 5 6 7; do echo "$n, {MODEL}, {DRIVER}, 81559, 9.0"; done ;;
*) echo "| NVIDIA-SMI {DRIVER}      Driver Version: {DRIVER}     CUDA Version: 12.8     |" ;;
esac
"""
SETTINGS = {"PYTORCH_ALLOC_CONF": "expandable_segments:True", "CUDA_MODULE_LOADING": "LAZY"}


@dataclass(frozen=True)
class Both:
    """What collect_env says, and what our probes found: on this machine, and where it has NVIDIA's nodes too."""

    theirs: dict[str, Any]
    ours: Snapshot
    driver: Snapshot

    def fact(self, kind: type[F]) -> F:
        """Give one of our facts."""
        found = self.driver.get(kind) or self.ours.get(kind)
        assert found is not None, [each for each in self.ours.probes if each.outcome.name != "got"]
        return found


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, fake_nvml: Callable[[str], Path], fake_cuda: Path) -> Both:
    """Run both on this environment, to which fakes add a driver and eight GPUs."""
    folder = tmp_path_factory.mktemp("parity")
    (folder / "nvidia-smi").write_text(SMI)
    (folder / "nvidia-smi").chmod(0o755)
    dev = folder / "dev"
    dev.mkdir()
    for node in ("nvidiactl", "nvidia-uvm"):
        (dev / node).touch()
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("CUDA_", "LD_", "PYTORCH_"))},
        **SETTINGS,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "LD_LIBRARY_PATH": str(fake_nvml("570")),
        "FAKE_NVML_SCENARIO": str(HERE / "fake_nvml" / "scenarios" / "h100x8.ini"),
    }
    done = subprocess.run(
        [sys.executable, "-c", COLLECT_ENV], capture_output=True, text=True, check=True, env=environ, cwd=folder
    )
    ours = collect(Patient(environ=environ, cwd=str(folder)), for_level("standard"), timeout=120.0)
    asked = [each for each in BUILT_IN if each.name in {"nvidia-smi", "gpu-state"}]
    driver = collect(Patient(roots=Roots(dev=str(dev)), environ=environ), asked, timeout=30.0)
    return Both(json.loads(done.stdout.splitlines()[-1]), ours, driver)


def cpu(both: Both, name: str) -> str:
    """Read one line of the lscpu output that collect_env quotes."""
    match = re.search(rf"^{re.escape(name)}:\s+(.*)$", both.theirs["cpu_info"], re.MULTILINE)
    assert match is not None, name
    return match[1]


def starts(whole: str | None, start: str | None) -> bool:
    """Tell whether one version is the beginning of the other: ``12`` of ``12.2.0``."""
    return (whole is None and start is None) or bool(whole and start and (whole + ".").startswith(start + "."))


def same_torch(both: Both) -> None:
    """Release, debug build, CUDA and HIP."""
    build, done = both.fact(TorchBuild), both.fact(TorchImport)
    assert both.theirs["torch_version"] == build.version == done.version
    assert both.theirs["is_debug_build"] == str(build.debug)
    assert both.theirs["cuda_compiled_version"] == build.cuda
    assert both.theirs["hip_compiled_version"] == (build.hip or "N/A")


def same_system(both: Both) -> None:
    """Operating system, C library, and Python's platform string put together from our facts."""
    host = both.fact(Host)
    assert both.theirs["os"] == f"{host.os_name} ({host.machine})"
    libc = (host.libc or "").replace(" ", "-")
    assert both.theirs["libc_version"] == libc
    expected = f"{host.system}-{host.kernel}-{host.machine}-with-{libc.replace('-', '')}"
    assert both.theirs["python_platform"] == expected


def same_python(both: Both) -> None:
    """The version; the build's date and compiler are left out."""
    assert both.theirs["python_version"].partition(" ")[0] == both.fact(Packages).python_version


def same_cuda(both: Both) -> None:
    """Whether torch sees a GPU."""
    assert both.theirs["is_cuda_available"] == str(both.fact(TorchCuda).available)


def same_compilers(both: Both) -> None:
    """The host compiler and nvcc: ours are read without running them, and shorter."""
    toolkit = both.fact(Toolkit)
    gcc = (both.theirs["gcc_version"] or "").rpartition(" ")[2] or None
    assert starts(gcc, toolkit.host_compiler.version if toolkit.host_compiler else None)
    assert starts(both.theirs["cuda_runtime_version"], toolkit.nvcc[0].version if toolkit.nvcc else None)


def same_driver(both: Both) -> None:
    """As nvidia-smi and as NVML have it."""
    assert both.theirs["nvidia_driver_version"] == DRIVER == both.fact(NvidiaSmi).driver_version
    assert both.fact(GpuState).driver_version == DRIVER


def same_gpus(both: Both) -> None:
    """Every name, in order, from both our sources."""
    theirs = re.findall(r"^GPU \d+: (.*)$", both.theirs["nvidia_gpu_models"], re.MULTILINE)
    assert [MODEL] * GPUS == theirs
    assert theirs == [each.name for each in both.fact(NvidiaSmi).gpus]
    assert theirs == [each.name for each in both.fact(GpuState).gpus]


def same_cudnn(both: Both) -> None:
    """There is one for both or for neither."""
    settings, toolkit = both.fact(TorchSettings), both.fact(Toolkit)
    assert (both.theirs["cudnn_version"] is None) == (settings.cudnn_version is None and not toolkit.cudnn_headers)


def same_processor(both: Both) -> None:
    """Model, number, architecture, NUMA nodes."""
    resources = both.fact(Resources)
    assert (cpu(both, "Model name"), int(cpu(both, "CPU(s)"))) == (resources.cpu_model, resources.cpus_online)
    assert cpu(both, "Architecture") == both.fact(Host).machine
    assert int(cpu(both, "NUMA node(s)")) == both.fact(Fabric).numa_nodes


def same_packages(both: Both) -> None:
    """Every version that they list."""
    packages = both.fact(Packages)
    lines = [line.partition("==") for line in both.theirs["pip_packages"].splitlines()]
    theirs = {re.sub(r"[-_.]+", "-", name).lower(): version for name, _, version in lines}
    assert {"torch", "numpy"} <= set(theirs)
    assert theirs == {name: packages.version(name) for name in theirs}


def same_conda(both: Both) -> None:
    """They list conda's packages only in an environment of conda's."""
    assert (both.theirs["conda_packages"] or "") == "" or both.fact(Packages).environment_kind == "conda"


def same_variables(both: Both) -> None:
    """The allocator's settings."""
    ours = {each.name: each.value for each in both.fact(Environment).variables}
    theirs = both.theirs["caching_allocator_config"]
    assert {"PYTORCH_ALLOC_CONF": "expandable_segments:True"} == theirs
    assert theirs == {name: ours.get(name) for name in theirs}


COMPARED: dict[str, Callable[[Both], None]] = {
    "torch_version": same_torch, "is_debug_build": same_torch, "cuda_compiled_version": same_torch,
    "hip_compiled_version": same_torch, "os": same_system, "libc_version": same_system,
    "python_platform": same_system, "python_version": same_python, "is_cuda_available": same_cuda,
    "gcc_version": same_compilers, "cuda_runtime_version": same_compilers, "nvidia_driver_version": same_driver,
    "nvidia_gpu_models": same_gpus, "cudnn_version": same_cudnn, "cpu_info": same_processor,
    "pip_packages": same_packages, "conda_packages": same_conda, "caching_allocator_config": same_variables,
}  # fmt: skip
# What no finding of ours rests on: other vendors' parts, and tools that neither torch nor its extensions need.
NOT_OURS = {
    "clang_version", "cmake_version", "is_xpu_available", "hip_runtime_version", "miopen_runtime_version",
    "is_xnnpack_available", "pip_version", "cuda_module_loading",
}  # fmt: skip


@pytest.mark.parametrize("name", COMPARED)
def test_same_as_collect_env(both: Both, name: str) -> None:
    """The fact that both have has one value."""
    COMPARED[name](both)


def test_no_fact_of_theirs_is_forgotten(both: Both) -> None:
    """Each of its fields is compared here, or is left out on purpose; one that a later torch adds is noticed."""
    known = set(COMPARED) | NOT_OURS | {"intel_gpu_models", "intel_gpu_driver_version"}
    assert set() == set(both.theirs) - known


def test_nothing_was_left_out_for_want_of_time(both: Both) -> None:
    """All our probes answered, or say why their subject is not there."""
    assert {"got", "absent"} >= {each.outcome.name for each in (*both.ours.probes, *both.driver.probes)}
