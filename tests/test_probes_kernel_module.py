"""The kernel-module probe: what is loaded, what the next boot would load, and the Fabric Manager."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

import pytest
from envdoctor_probes.fabric_service import parse_dpkg_version
from envdoctor_probes.kernel_module import find_module, kernel_module, parse_modules, parse_nvrm

from envdoctor.facts.driver import KernelModule
from envdoctor.testing import collect
from tests.stands import trees
from tests.stands.trees import Machine


def module_of(tmp_path: Path, machine: Machine) -> KernelModule:
    """Collect the kernel side of a recorded machine."""
    fact = collect(kernel_module, trees.write(tmp_path, machine))
    assert isinstance(fact, KernelModule)
    return fact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (trees.NVRM, ("535.183.01", "proprietary")),
        (trees.NVRM_OPEN, ("570.124.06", "open")),
        ("NVRM version: NVIDIA UNIX aarch64 Kernel Module  550.54.15  Tue Mar  5\n", ("550.54.15", "proprietary")),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  440.100  Fri May 29\n", ("440.100", "proprietary")),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release\n", ("540.4.0", "open")),
        ("NVRM version: something else\n", (None, None)),
        ("", (None, None)),
    ],
)  # fmt: skip
def test_nvrm_line_gives_version_and_flavor(text: str, expected: tuple[str | None, str | None]) -> None:
    """Both the closed and the open module's line are read; other text gives nothing."""
    assert expected == parse_nvrm(text)


def test_loaded_open_driver_is_described(tmp_path: Path) -> None:
    """Version, flavor, companions, the module on disk by DKMS, and the Fabric Manager with its version."""
    fact = module_of(tmp_path, trees.native_8gpu())
    assert (True, "570.124.06", "open") == (fact.loaded, fact.version, fact.flavor)
    assert (True, False, True) == (fact.uvm_loaded, fact.nouveau_loaded, fact.peermem_loaded)
    assert ("570.124.06", "/var/lib/dkms/nvidia") == (fact.on_disk_version, fact.sources["on_disk_version"])
    assert (True, "570.124.06") == (fact.fabric_manager_running, fact.fabric_manager_version)


def test_missing_driver_is_absent_and_nouveau_is_named(tmp_path: Path) -> None:
    """What is not loaded is False, and the disk's silence has its reason."""
    fact = module_of(tmp_path, trees.native_no_driver())
    assert (False, None, True) == (fact.loaded, fact.version, fact.nouveau_loaded)
    assert "lists no nvidia.ko" in fact.unknown["on_disk_version"]
    assert "not looked for" in fact.unknown["fabric_manager_running"]


def test_container_sees_the_modules_but_neither_disk_nor_processes(tmp_path: Path) -> None:
    """In a container the loaded driver is the host's; what lies on the host's disk is unknown, not missing."""
    fact = module_of(tmp_path, trees.docker_v1())
    assert (True, "535.183.01", None, None) == (
        fact.loaded, fact.version, fact.on_disk_version, fact.fabric_manager_running,
    )  # fmt: skip
    assert {"on_disk_version", "fabric_manager_running", "fabric_manager_version"} <= set(fact.unknown)


def test_sandbox_without_a_module_list_knows_nothing(tmp_path: Path) -> None:
    """In gVisor the driver may well be there: nothing is claimed either way."""
    fact = module_of(tmp_path, trees.gvisor())
    assert (None, None) == (fact.loaded, fact.nouveau_loaded)
    assert {"loaded", "version", "flavor"} <= set(fact.unknown)


def test_module_shown_by_sys_alone_counts_as_loaded(tmp_path: Path) -> None:
    """Some containers hide /proc/modules and /proc/driver but show /sys/module/nvidia."""
    machine: Machine = {"sys/module/nvidia/version": "535.183.01\n", "sys/module/nvidia/refcnt": "3\n"}
    fact = module_of(tmp_path, machine)
    assert (True, "535.183.01", "/sys/module/nvidia/version") == (fact.loaded, fact.version, fact.sources["version"])


def test_kernel_without_loadable_modules_has_none_loaded(tmp_path: Path) -> None:
    """No /proc/modules, but /sys/module lists what is built in: the driver is not among it."""
    fact = module_of(tmp_path, {"sys/module/printk/parameters/time": "Y\n"})
    assert (False, "/sys/module") == (fact.loaded, fact.sources["loaded"])


def test_module_is_found_among_its_relatives() -> None:
    """nvidia-uvm and nvidiafb are others; compressed modules count; a path of its own comes before the colon."""
    text = "kernel/nvidiafb.ko:\nupdates/dkms/nvidia-uvm.ko.xz: updates/dkms/nvidia.ko.xz\nupdates/dkms/nvidia.ko.xz:\n"
    assert "updates/dkms/nvidia.ko.xz" == find_module(text)
    assert "kernel/drivers/video/nvidia.ko" == find_module("kernel/drivers/video/nvidia.ko: kernel/a.ko\n")
    assert find_module("kernel/nouveau.ko: kernel/nvidia.ko\n") is None


def test_modules_are_listed() -> None:
    """The first word of each line."""
    assert ("nvidia_uvm", "nvidia") == parse_modules("nvidia_uvm 1 0 - Live 0x0\nnvidia 1 1 nvidia_uvm, Live 0x0\n")


@pytest.mark.gcc
def test_uncompressed_module_tells_its_own_version(tmp_path: Path) -> None:
    """The module's .modinfo is the surest source, before what DKMS built some time ago."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    source = (
        '__attribute__((section(".modinfo"), used)) static const char info[] = "license=NVIDIA\\0version=580.65.06";'
    )
    machine = trees.native_8gpu()
    path = f"lib/modules/{trees.RELEASE}"
    machine[f"{path}/modules.dep"] = "updates/dkms/nvidia.ko:\n"
    top = trees.write(tmp_path, machine)
    target = top / path / "updates" / "dkms" / "nvidia.ko"
    target.parent.mkdir(parents=True)
    subprocess.run(["gcc", "-x", "c", "-c", "-o", target, "-"], input=source, text=True, check=True)
    fact = collect(kernel_module, top)
    assert isinstance(fact, KernelModule)
    assert ("580.65.06", f"/{path}/updates/dkms/nvidia.ko") == (fact.on_disk_version, fact.sources["on_disk_version"])


def test_compressed_module_without_other_traces_is_unknown(tmp_path: Path) -> None:
    """A compressed module is not unpacked; two firmware versions do not tell which is meant."""
    machine = trees.native_no_driver() | {
        "lib/modules/6.8.0-31-generic/modules.dep": "updates/nvidia.ko.gz:\n",
        "lib/modules/6.8.0-31-generic/updates/nvidia.ko.gz": gzip.compress(b"version=1"),
        "lib/firmware/nvidia/535.183.01/gsp_ga10x.bin": "",
    }
    assert "535.183.01" == module_of(tmp_path / "one", machine).on_disk_version
    two = machine | {"lib/firmware/nvidia/550.90.07/gsp_ga10x.bin": ""}
    assert "compressed" in module_of(tmp_path / "two", two).unknown["on_disk_version"]


def test_fabric_manager_is_found_by_its_process_and_package(tmp_path: Path) -> None:
    """Without its pid file the process list tells, and Debian's package database the version."""
    machine = trees.native_no_driver() | {
        "proc/modules": "nvidia 1 1 - Live 0x0\n",
        "proc/77/comm": "nv-fabricmanage\n",
        "var/lib/dpkg/info/nvidia-fabricmanager-535.list": "/.\n",
        "var/lib/dpkg/status": (
            "Package: nvidia-fabricmanager-535\nStatus: install ok installed\nVersion: 535.183.01-0ubuntu1\n\n"
        ),
    }
    fact = module_of(tmp_path, machine)
    assert (True, "535.183.01") == (fact.fabric_manager_running, fact.fabric_manager_version)
    assert ("/proc/*/comm", "/var/lib/dpkg/status") == (
        fact.sources["fabric_manager_running"], fact.sources["fabric_manager_version"],
    )  # fmt: skip


def test_missing_fabric_manager_is_seen_from_the_host_alone(tmp_path: Path) -> None:
    """With the driver loaded and the kernel's threads in sight, no such process means that it does not run."""
    machine = trees.native_no_driver() | {"proc/modules": "nvidia 1 1 - Live 0x0\n"}
    assert module_of(tmp_path, machine).fabric_manager_running is False


def test_removed_package_has_no_version() -> None:
    """A package that left its configuration behind is not installed; an epoch is no part of the version."""
    removed = "Package: nvidia-fabricmanager-535\nStatus: deinstall ok config-files\nVersion: 535.1\n\n"
    assert parse_dpkg_version(removed, "nvidia-fabricmanager-535") is None
    assert "560.35.03" == parse_dpkg_version(
        "Package: fm\nStatus: install ok installed\nVersion: 1:560.35.03-1\n", "fm"
    )
