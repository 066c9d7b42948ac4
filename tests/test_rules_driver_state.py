"""Rules about the driver's age, the module on disk, the kernel, nvidia-uvm and features that need a newer driver."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envdoctor.facts import Fact
from envdoctor.facts.driver import CudaDevice, CudaDriver, DriverFiles, KernelModule, NvidiaSmi, SmiGpu
from envdoctor.facts.gpu import DeviceNodes, PciBus, PciDevice
from envdoctor.facts.host import Environment, Host, Variable
from envdoctor.facts.torch import TorchCuda
from envdoctor.finding import Confidence, Severity, Status
from envdoctor.rules.driver import driver_upgrade_pending
from envdoctor.rules.driver_state import (
    driver_branch_eol,
    driver_feature_too_old,
    kernel_too_old,
    uvm_broken_after_suspend,
)
from envdoctor.testing import check
from tests.rule_facts import (
    CARD,
    CPU_BUILD,
    CU130,
    DOCKER,
    JETSON,
    NO_GPU,
    NO_NODES,
    NODES,
    ONE_GPU,
    UBUNTU,
    WSL,
    answers,
    build,
    libcuda,
    libcudart,
    module,
)

SWITCHED = PciBus(gpus=(CARD, CARD), nvswitches=(PciDevice("0000:07:00.0", "10de", "22a3", "068000"),), readable=True)
TWO_H100 = tuple(CudaDevice(n, "NVIDIA H100 80GB HBM3", "9.0") for n in range(2))
UVM_LOADED, UVM_GONE = module(uvm_loaded=True), module(uvm_loaded=False)


def alloc(value: str, name: str = "PYTORCH_CUDA_ALLOC_CONF") -> Environment:
    """Make an environment with allocator options."""
    return Environment(variables=(Variable(name, value),))


def hopper(level: str, count: int = 2) -> CudaDriver:
    """Make libcuda's answer on H100s under a driver of this CUDA level."""
    return CudaDriver(cuda_version=level, init_code=0, device_count=count, devices=TWO_H100[:count])


def test_nvlink_sharp_needs_a_newer_driver() -> None:
    """Two H100 behind NVSwitch under a driver of CUDA 12.0 go without NVLink SHARP: a warning with both levels."""
    finding = check(driver_feature_too_old, build("12.8"), hopper("12.0"), SWITCHED, UBUNTU).finding
    assert (Severity.WARNING, "NVLink SHARP", True) == (
        finding.severity,
        finding.subject,
        "12.1, this one has 12.0" in finding.title,
    )
    assert "580" in finding.fixes[0].commands[1].shell


def test_asynchronous_allocator_needs_a_newer_driver() -> None:
    """The backend cudaMallocAsync under a driver of CUDA 11.2 fires, and unsetting the variable is one way out."""
    facts = (build("11.8", "2.1.0"), answers(0, "11.2", "Tesla V100-SXM2-16GB"), alloc("backend:cudaMallocAsync"))
    finding = check(driver_feature_too_old, *facts, ONE_GPU).finding
    assert "cudaMallocAsync" == finding.subject
    assert "unset PYTORCH_CUDA_ALLOC_CONF" == finding.fixes[1].commands[0].shell


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((build("12.8"), hopper("12.2"), SWITCHED), Status.PASSED),
        ((build("12.8"), hopper("12.0", 1), SWITCHED), Status.PASSED),
        ((build("12.8"), hopper("12.0"), ONE_GPU), Status.PASSED),
        ((build("11.8"), hopper("12.0"), SWITCHED), Status.PASSED),
        ((build("13.0"), hopper("12.0"), SWITCHED), Status.PASSED),
        ((build("11.8"), answers(0, "11.4", "V100"), alloc("backend:cudaMallocAsync"), ONE_GPU), Status.PASSED),
        ((build("11.8"), answers(0, "11.2", "V100"), alloc("expandable_segments:True"), ONE_GPU), Status.PASSED),
        ((build("12.8"), alloc("backend:cudaMallocAsync"), ONE_GPU), Status.UNKNOWN),
        ((CPU_BUILD, alloc("backend:cudaMallocAsync"), ONE_GPU), Status.NOT_APPLICABLE),
        ((build("12.8"), NO_GPU, NO_NODES), Status.NOT_APPLICABLE),
    ],
)
def test_feature_boundaries(facts: tuple[Fact, ...], status: Status) -> None:
    """A new enough driver, a feature that is not wanted, or a driver too old for the build itself is no finding."""
    assert status == check(driver_feature_too_old, *facts).status


def test_newer_module_on_disk() -> None:
    """A newer nvidia.ko on disk beside libraries of the loaded version is a warning that names both."""
    facts = (module("535.183.01", on_disk_version="535.216.03"), libcuda("535.183.01"), UBUNTU)
    finding = check(driver_upgrade_pending, *facts).finding
    assert Severity.WARNING == finding.severity
    assert {"535.183.01", "535.216.03"} <= {str(each.value) for each in finding.evidence}
    assert finding.fixes[0].needs_reboot


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((module("535.183.01", on_disk_version="535.183.01"), libcuda("535.183.01")), Status.PASSED),
        ((module("440.100", on_disk_version="440.33"), libcuda("440.100")), Status.PASSED),
        ((module("535.183.01", on_disk_version="535.216.03"), libcuda("535.216.03")), Status.PASSED),
        ((module("535.183.01", on_disk_version="535.216.03"), NvidiaSmi(exit_code=18)), Status.PASSED),
        ((module("535.183.01", on_disk_version="535.216.03"), DriverFiles()), Status.UNKNOWN),
        ((module("535.183.01", unknown={"on_disk_version": "no /lib/modules"}),), Status.UNKNOWN),
        ((module("535.183.01", on_disk_version="535.216.03"), libcuda("535.183.01"), DOCKER), Status.NOT_APPLICABLE),
        ((module("535.183.01", on_disk_version="535.216.03"), libcuda("535.183.01"), WSL), Status.NOT_APPLICABLE),
        ((KernelModule(loaded=False), UBUNTU), Status.NOT_APPLICABLE),
    ],
)
def test_pending_upgrade_boundaries(facts: tuple[Fact, ...], status: Status) -> None:
    """Equal or older modules, and libraries that differ already (another finding), are left alone; 440.100 > 440.33."""
    assert status == check(driver_upgrade_pending, *facts).status


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((module("470.256.02"), ONE_GPU), Status.FIRED),
        ((NvidiaSmi(driver_version="535.183.01", gpus=(SmiGpu(0, "NVIDIA L4"),)),), Status.FIRED),
        ((module("580.95.05"), ONE_GPU), Status.PASSED),
        ((module("999.10"), ONE_GPU), Status.UNKNOWN),
        ((module("440.100"), ONE_GPU), Status.UNKNOWN),
        ((module("470.256.02"), WSL), Status.NOT_APPLICABLE),
        ((KernelModule(loaded=False), NO_GPU, NO_NODES), Status.NOT_APPLICABLE),
    ],
)
def test_branch_end_of_life(facts: tuple[Fact, ...], status: Status) -> None:
    """A branch whose date has passed is info; one that the table does not date is unknown, never judged by its age."""
    checked = check(driver_branch_eol, *facts)
    assert status == checked.status
    assert {Severity.INFO} >= {each.severity for each in checked.findings}


def test_branch_that_is_the_last_for_the_gpu() -> None:
    """For Kepler branch 470 is the last: it is said, and no driver is advised."""
    smi = NvidiaSmi(gpus=(SmiGpu(0, "Tesla K80", compute_capability="3.7"),))
    finding = check(driver_branch_eol, module("470.256.02"), smi).finding
    assert ("No later branch serves this GPU.", ()) == (finding.detail, finding.fixes)


@pytest.mark.parametrize(
    ("kernel", "status"),
    [
        ("4.18.0-553.el8_10.x86_64", Status.FIRED),
        ("5.4.0-216-generic", Status.FIRED),
        ("5.5.0", Status.PASSED),
        ("5.15.0-139-generic", Status.PASSED),
        ("6.8.0-79-generic", Status.PASSED),
        ("unheard-of", Status.UNKNOWN),
    ],
)
def test_old_kernel(kernel: str, status: Status) -> None:
    """Below Linux 5.5, by number, is info."""
    assert status == check(kernel_too_old, replace(UBUNTU, kernel=kernel), ONE_GPU).status


@pytest.mark.parametrize(
    ("release", "command"),
    [
        ("20.04.6", "sudo apt-get install linux-generic-hwe-20.04"),
        ("22.04", "sudo apt-get install linux-generic-hwe-22.04"),
        ("18.04.6", "uname -r; ls /boot/vmlinuz-*"),
        ("23.10", "uname -r; ls /boot/vmlinuz-*"),
    ],
)
def test_newer_kernel_of_ubuntu(release: str, command: str) -> None:
    """Its package is named by the release without the point release, where it is new enough and there is one."""
    host = replace(UBUNTU, kernel="5.4.0-216-generic", os_version=release)
    assert command == check(kernel_too_old, host, ONE_GPU).finding.fixes[0].commands[0].shell


def test_old_kernel_without_gpu() -> None:
    """A machine without an NVIDIA GPU is not judged by its kernel."""
    assert (
        Status.NOT_APPLICABLE == check(kernel_too_old, Host(system="Linux", kernel="4.18.0"), NO_GPU, NO_NODES).status
    )


def test_error_999_with_the_module_unloaded_is_certain() -> None:
    """Error 999 while nvidia-uvm is not loaded: certain, and loading it is the first way out."""
    finding = check(uvm_broken_after_suspend, UVM_GONE, NODES, answers(999), UBUNTU).finding
    assert (Severity.ERROR, Confidence.CERTAIN) == (finding.severity, finding.confidence)
    assert "nvidia-modprobe" in finding.fixes[0].commands[0].shell


def test_error_999_with_the_module_loaded_is_likely() -> None:
    """Error 999 with nvidia-uvm loaded is likely the broken module: reload it."""
    finding = check(uvm_broken_after_suspend, UVM_LOADED, NODES, libcudart(999), UBUNTU).finding
    assert Confidence.LIKELY == finding.confidence
    assert "sudo rmmod nvidia_uvm && sudo modprobe nvidia_uvm" == finding.fixes[0].commands[0].shell


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((UVM_GONE, NODES), Status.FIRED),
        ((UVM_LOADED, NODES), Status.PASSED),
        ((UVM_GONE, NODES, answers(0, "12.2", "NVIDIA L4")), Status.PASSED),
        ((UVM_LOADED, NODES, answers(999), TorchCuda(available=True)), Status.PASSED),
        ((UVM_GONE, NODES, answers(804)), Status.PASSED),
        ((UVM_GONE, DeviceNodes(nvidiactl=NODES.nvidiactl)), Status.NOT_APPLICABLE),
        ((KernelModule(loaded=False, uvm_loaded=False), NO_NODES), Status.NOT_APPLICABLE),
        ((UVM_GONE, NODES, WSL), Status.NOT_APPLICABLE),
        ((UVM_GONE, NODES, JETSON), Status.NOT_APPLICABLE),
        ((NODES,), Status.UNKNOWN),
        ((TorchCuda(available=False, error="CUDA unknown error (error 999): x"),), Status.FIRED),
    ],
)
def test_uvm_boundaries(facts: tuple[Fact, ...], status: Status) -> None:
    """A CUDA that was seen to start, another error, a missing node or another kind of driver is no such thing."""
    assert status == check(uvm_broken_after_suspend, *facts).status


def test_cuda_build_without_gpu_is_left_alone() -> None:
    """None of these rules fires for a CUDA build on a machine without any NVIDIA device."""
    bare = (CU130, NO_GPU, NO_NODES, KernelModule(loaded=False, uvm_loaded=False), replace(UBUNTU, kernel="4.4.0"))
    rules = (
        driver_feature_too_old,
        driver_upgrade_pending,
        driver_branch_eol,
        kernel_too_old,
        uvm_broken_after_suspend,
    )
    assert {Status.NOT_APPLICABLE} == {check(rule, *bare).status for rule in rules}
