"""Rules about the driver's two halves and the fabric manager."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envdoctor.facts.driver import DriverFiles, DriverLibrary, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import PciBus
from envdoctor.facts.nvml import GpuFabric, GpuState
from envdoctor.facts.torch import TorchCuda
from envdoctor.finding import Confidence, Severity, Status
from envdoctor.rules.driver import driver_library_mismatch, fabric_manager_missing
from envdoctor.testing import check
from tests.rule_facts import CARD, DOCKER, NODES, ONE_GPU, UBUNTU, WSL, answers, libcuda, libcudart, module

SMI_MISMATCH = NvidiaSmi(
    exit_code=18,
    words="Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 570.124",
)
HGX = PciBus(gpus=(CARD,) * 8, nvswitches=(replace(CARD, device_id="22a3", class_code="068000"),) * 4, readable=True)


def test_mismatch_by_file_versions() -> None:
    """Module and first libcuda of different versions are an error, likely while CUDA itself was not asked."""
    finding = check(driver_library_mismatch, module("535.154.05"), libcuda("535.183.01"), UBUNTU).finding
    assert (Severity.ERROR, Confidence.LIKELY) == (finding.severity, finding.confidence)
    assert "sudo reboot" == finding.fixes[0].commands[0].shell


def test_mismatch_by_words_of_nvidia_smi() -> None:
    """nvidia-smi's own words are enough, and are shown with the version of its library."""
    finding = check(driver_library_mismatch, SMI_MISMATCH).finding
    assert Confidence.CERTAIN == finding.confidence
    assert "570.124" in [each.value for each in finding.evidence]


def test_mismatch_by_nvmls_own_error() -> None:
    """Error 18 of nvmlInit says it outright; another error of NVML says something else."""
    words = "RM has detected an NVML/RM version mismatch."
    finding = check(driver_library_mismatch, GpuState(init_code=18, init_words=words), module(None)).finding
    assert (Confidence.CERTAIN, f"error 18: {words}") == (finding.confidence, finding.evidence[-1].value)
    other = GpuState(init_code=9, init_words="Driver Not Loaded")
    assert not check(driver_library_mismatch, other, module("535.183.01"), libcuda("535.183.01")).fired


def test_mismatch_by_error_803() -> None:
    """Error 803 without a compat library is a half-finished upgrade."""
    assert check(driver_library_mismatch, module(None), answers(803), UBUNTU).fired


def test_mismatch_in_torchs_words() -> None:
    """Torch's own message carries the code."""
    cuda = TorchCuda(
        available=False, error="Error 803: system has unsupported display driver / cuda driver combination"
    )
    assert check(driver_library_mismatch, module(None), cuda, UBUNTU).fired


def test_mismatch_in_a_container_removes_the_images_driver() -> None:
    """In a container the image's own driver libraries go, by the version that was found."""
    finding = check(driver_library_mismatch, module("535.154.05"), libcuda("550.54.14"), DOCKER).finding
    assert "apt-get purge -y libnvidia-compute-550" == finding.fixes[0].commands[0].shell


def test_library_that_would_fit_is_named() -> None:
    """A second libcuda that fits the module is pointed out."""
    wrong = DriverLibrary("/opt/old/libcuda.so.535.104.05", version="535.104.05")
    right = DriverLibrary("/usr/lib/libcuda.so.535.183.01", version="535.183.01")
    files = DriverFiles(libcuda=(wrong, right), first_libcuda=wrong)
    assert right.path in check(driver_library_mismatch, module("535.183.01"), files, UBUNTU).finding.detail


@pytest.mark.parametrize(
    "facts",
    [
        (module("535.183.01"), libcuda("535.183.01"), UBUNTU),
        (module("535.154.05"), libcuda("535.183.01"), UBUNTU, libcudart(0)),
        (module("535.154.05"), libcuda("535.183.01"), UBUNTU, TorchCuda(available=True)),
        (module("535.183.01"), libcuda("575.57.08", compat=True), UBUNTU, answers(803)),
        (module("535.183.01"), answers(100), UBUNTU),
    ],
)
def test_no_mismatch(facts: tuple[object, ...]) -> None:
    """Equal versions, CUDA seen to work, and a compat library in front are no mismatch."""
    assert Status.PASSED == check(driver_library_mismatch, *facts).status  # type: ignore[arg-type]


def test_unknown_versions_are_unknown() -> None:
    """With a module whose version could not be read, nothing passes; the recorded reason is given."""
    checked = check(driver_library_mismatch, KernelModule(loaded=True, unknown={"version": "denied"}), UBUNTU)
    assert (Status.UNKNOWN, "denied") == (checked.status, checked.reason)


def test_no_driver_library_is_no_mismatch() -> None:
    """A container without any driver library has nothing to compare."""
    assert Status.NOT_APPLICABLE == check(driver_library_mismatch, module(), DriverFiles(), DOCKER).status


def test_mismatch_does_not_apply_without_module_or_on_wsl() -> None:
    """No module, or the driver of Windows: nothing to compare."""
    assert Status.NOT_APPLICABLE == check(driver_library_mismatch, KernelModule(loaded=False), UBUNTU).status
    assert Status.NOT_APPLICABLE == check(driver_library_mismatch, module("1"), libcuda("2"), WSL).status


def test_error_802() -> None:
    """Error 802 names the fabric manager, with a package of exactly the driver's version."""
    finding = check(fabric_manager_missing, HGX, module(fabric_manager_running=False), answers(802), UBUNTU).finding
    assert (Severity.ERROR, Confidence.CERTAIN) == (finding.severity, finding.confidence)
    assert "nvidia-fabricmanager-535='535.183.01-*'" in finding.fixes[1].commands[0].shell


def test_802_without_visible_switches_is_likely() -> None:
    """Machines that hide their switches still answer 802."""
    finding = check(fabric_manager_missing, ONE_GPU, NODES, libcudart(802), DOCKER).finding
    assert Confidence.LIKELY == finding.confidence


def test_switches_without_fabric_manager() -> None:
    """NVSwitches on a host without a fabric manager are enough when CUDA was not asked."""
    assert check(fabric_manager_missing, HGX, module(fabric_manager_running=False), UBUNTU).fired


@pytest.mark.parametrize(
    ("states", "fires"),
    [
        (("in-progress",) * 8, True),
        (("completed", "not-started"), True),
        (("completed",) * 8, False),
        (("not-supported",), False),
        ((None, None), False),
        ((), False),
    ],
)
def test_fabric_that_nvml_says_is_not_set_up(states: tuple[str | None, ...], fires: bool) -> None:
    """In a container that shows no switch NVML itself tells of a fabric that waits; cards without one are fine."""
    facts = (ONE_GPU, NODES, DOCKER, GpuFabric(fabric_states=states))
    checked = check(fabric_manager_missing, *facts)
    assert fires is checked.fired
    assert not check(fabric_manager_missing, *facts, libcudart(0)).fired


def test_fabric_manager_of_another_version() -> None:
    """A fabric manager of another version than the driver is named as such."""
    finding = check(
        fabric_manager_missing,
        HGX,
        module(fabric_manager_running=True, fabric_manager_version="535.161.08-1"),
        answers(802),
        UBUNTU,
    ).finding
    assert "another version" in finding.title


@pytest.mark.parametrize(
    "facts",
    [
        (HGX, module(fabric_manager_running=False), UBUNTU, answers(0, "12.2", "H100")),
        (HGX, module(fabric_manager_running=False), DOCKER),
        (HGX, module(fabric_manager_running=True, fabric_manager_version="535.183.01-1"), UBUNTU),
        (ONE_GPU, module(fabric_manager_running=False), UBUNTU),
    ],
)
def test_fabric_manager_not_needed_or_not_visible(facts: tuple[object, ...]) -> None:
    """CUDA seen to work, a container, a running fabric manager and a machine without switches pass."""
    assert Status.PASSED == check(fabric_manager_missing, *facts).status  # type: ignore[arg-type]
