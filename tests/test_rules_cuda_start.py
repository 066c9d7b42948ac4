"""Rules about starting CUDA: driver against build, forward compatibility, and why CUDA is not available."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envdoctor.diagnose import examine
from envdoctor.facts.driver import CudaDriver, CudaRuntime, KernelModule, NvidiaSmi, SmiGpu
from envdoctor.facts.host import Environment, Host, Variable
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Confidence, Severity, Status
from envdoctor.rules import RULES
from envdoctor.rules.cuda_start import driver_too_old_for_cuda_build, forward_compat_unsupported
from envdoctor.rules.cuda_unavailable import cuda_unavailable
from envdoctor.snapshot import of
from envdoctor.testing import check
from tests.rule_facts import (
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

A100 = NvidiaSmi(driver_version="535.183.01", cuda_version="12.2", gpus=(SmiGpu(0, "NVIDIA A100-SXM4-80GB"),))
VENV = Packages(
    distributions=(Distribution("torch", "2.9.0+cu130", "/venv/lib/python3.11/site-packages", "pip"),),
    python_version="3.11.7",
    executable="/venv/bin/python",
    environment_kind="venv",
    has_pip=True,
)


def test_first_screen() -> None:
    """Driver 535 under a CUDA 13 build: certain, by libcuda's own level and libcudart's 35, with four ways out."""
    checked = check(
        driver_too_old_for_cuda_build,
        CU130,
        answers(0, "12.2"),
        libcudart(35, "12.2", "cudaErrorInsufficientDriver"),
        A100,
        module("535.183.01"),
        ONE_GPU,
        NODES,
        VENV,
        replace(UBUNTU, machine="x86_64"),
    )
    finding = checked.finding
    assert (Severity.ERROR, Confidence.CERTAIN) == (finding.severity, finding.confidence)
    assert ["CUDA 13.0", "CUDA 12.2", "35 cudaErrorInsufficientDriver"] == [each.value for each in finding.evidence]
    wheel, driver, compat, image = finding.fixes
    assert "cu126" in wheel.commands[0].shell
    assert "sudo apt-get install nvidia-driver-580-server" in [each.shell for each in driver.commands]
    assert "cuda-compat-13-0" in compat.commands[0].shell
    assert "nvcr.io/nvidia/pytorch:25.06-py3" in image.commands[0].shell


@pytest.mark.parametrize(
    ("version", "cuda", "status"),
    [
        ("535.183.01", "12.8", Status.PASSED),
        ("525.60.13", "12.8", Status.PASSED),
        ("525.60.12", "12.8", Status.FIRED),
        ("440.100", "10.2", Status.PASSED),
        ("440.32", "10.2", Status.FIRED),
        ("470.182.03", "12.1", Status.FIRED),
        ("470.182.03", "11.8", Status.PASSED),
        ("410.48", "10.1.243", Status.FIRED),
        ("384.111", "9.1", Status.FIRED),
        ("580.65.06", "13.2", Status.PASSED),
        ("525", "12.8", Status.UNKNOWN),
        ("700.10", "14.0", Status.UNKNOWN),
    ],
)
def test_driver_versions_against_builds(version: str, cuda: str, status: Status) -> None:
    """Without an answer of CUDA the module's version decides, by component and by the floors of the tables."""
    assert status == check(driver_too_old_for_cuda_build, build(cuda), module(version), ONE_GPU, UBUNTU).status


@pytest.mark.parametrize(
    "seen",
    [TorchCuda(available=True), libcudart(0, "12.2")],
)
def test_working_cuda_overrules_arithmetic(seen: object) -> None:
    """A stack that was seen to work is never called too old."""
    checked = check(driver_too_old_for_cuda_build, CU130, module("535.183.01"), ONE_GPU, UBUNTU, seen)  # type: ignore[arg-type]
    assert Status.PASSED == checked.status


def test_cuinit_alone_does_not_overrule() -> None:
    """A cuInit succeeds under an old driver too; only the runtime of the build can vouch for it."""
    assert check(driver_too_old_for_cuda_build, CU130, answers(0, "12.2", "A100"), ONE_GPU, UBUNTU).fired


def test_the_drivers_own_level_beats_the_table() -> None:
    """The driver itself says 12.0: that starts 12.8, whatever the table says of the version's last digits."""
    checked = check(driver_too_old_for_cuda_build, build("12.8"), answers(0, "12.0"), module("525.60.12"), ONE_GPU)
    assert Status.PASSED == checked.status


def test_torchs_own_words_carry_the_level() -> None:
    """The words: found version 11040, mean CUDA 11.4."""
    cuda = TorchCuda(available=False, warnings=("The NVIDIA driver on your system is too old (found version 11040).",))
    assert "CUDA 11.4" in [e.value for e in check(driver_too_old_for_cuda_build, build("12.1"), cuda).finding.evidence]


def test_working_forward_compatibility_is_healthy() -> None:
    """With a compat libcuda that starts, its level counts."""
    checked = check(
        driver_too_old_for_cuda_build, CU130, answers(0, "13.0", "A100"), module("535.183.01"),
        libcuda("580.65.06", compat=True), ONE_GPU,
    )  # fmt: skip
    assert Status.PASSED == checked.status


def test_refused_forward_compatibility_leaves_the_modules_version() -> None:
    """With a compat libcuda that is refused, its level does not count."""
    checked = check(
        driver_too_old_for_cuda_build, CU130, answers(804, "13.0"), module("535.183.01"),
        libcuda("580.65.06", compat=True), ONE_GPU,
    )  # fmt: skip
    assert Status.FIRED == checked.status


def test_refused_compatibility_under_a_sufficient_driver_is_not_too_old() -> None:
    """A 525 driver starts CUDA 12.4 by itself: only the compat library is in the way."""
    facts = (build("12.4"), answers(804, "12.4"), module("525.125.06"), libcuda("550.54.14", compat=True), ONE_GPU)
    assert Status.PASSED == check(driver_too_old_for_cuda_build, *facts).status


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((CPU_BUILD, module(), ONE_GPU), Status.NOT_APPLICABLE),
        ((TorchBuild(version="2.9.0+rocm6.4", hip="6.4"), module(), ONE_GPU), Status.NOT_APPLICABLE),
        ((CU130, NO_GPU, NO_NODES, KernelModule(loaded=False)), Status.NOT_APPLICABLE),
        ((CU130, ONE_GPU, KernelModule(loaded=False)), Status.NOT_APPLICABLE),
        ((CU130, ONE_GPU, KernelModule(loaded=True)), Status.UNKNOWN),
        ((TorchBuild(version="2.9.0"), ONE_GPU, module()), Status.UNKNOWN),
        ((CU130, WSL, KernelModule(loaded=False)), Status.UNKNOWN),
        ((CU130, ONE_GPU), Status.UNKNOWN),
    ],
)
def test_not_applicable_is_not_unknown(facts: tuple[object, ...], status: Status) -> None:
    """No CUDA build, no GPU and no driver do not apply; facts that are missing are unknown, never passed."""
    assert status == check(driver_too_old_for_cuda_build, *facts).status  # type: ignore[arg-type]


def test_jetson_versions_say_nothing() -> None:
    """On Jetson only CUDA's own answer counts."""
    assert Status.UNKNOWN == check(driver_too_old_for_cuda_build, build("12.6"), module("540.4.0"), JETSON).status
    assert Status.PASSED == check(driver_too_old_for_cuda_build, build("12.6"), answers(0, "12.6"), JETSON).status


def test_wsl_is_told_to_renew_the_driver_of_windows() -> None:
    """Under WSL the version is one of Windows, and no Linux driver is ever advised."""
    smi = NvidiaSmi(driver_version="512.15", gpus=(SmiGpu(0, "NVIDIA GeForce RTX 3090"),))
    finding = check(driver_too_old_for_cuda_build, build("12.1"), smi, WSL).finding
    assert "never a Linux driver" in finding.fixes[-1].title
    assert not any("apt-get" in each.shell for each in finding.fixes[-1].commands)


def test_no_driver_upgrade_for_a_gpu_whose_last_branch_is_older() -> None:
    """Kepler ends with branch 470: raising the driver is no way out, and that is said."""
    smi = NvidiaSmi(driver_version="470.256.02", gpus=(SmiGpu(0, "Tesla K80", compute_capability="3.7"),))
    finding = check(driver_too_old_for_cuda_build, build("12.1"), smi, module("470.256.02"), UBUNTU).finding
    assert "470" in finding.detail
    assert not any("Raise" in each.title for each in finding.fixes)


def test_compat_on_a_geforce() -> None:
    """Error 804 with compat libraries: the first way out touches only this shell."""
    finding = check(
        forward_compat_unsupported, answers(804, "13.0"), libcuda("580.65.06", compat=True), module("535.183.01")
    ).finding
    assert (Severity.ERROR, Confidence.CERTAIN) == (finding.severity, finding.confidence)
    assert "LD_LIBRARY_PATH" in finding.fixes[0].commands[0].shell


def test_803_with_a_compat_library_names_it() -> None:
    """Error 803 belongs to the compat library when that is the first one."""
    assert check(forward_compat_unsupported, libcudart(803), libcuda("535.104.05", compat=True), module()).fired


def test_compat_on_a_geforce_before_anyone_asked() -> None:
    """A compat library before a GeForce's driver is likely refused, also without an answer of CUDA."""
    smi = NvidiaSmi(gpus=(SmiGpu(0, "NVIDIA GeForce RTX 3090"),))
    facts = (libcuda("580.65.06", compat=True), module("535.183.01"), smi)
    assert Confidence.LIKELY == check(forward_compat_unsupported, *facts).finding.confidence


def test_compat_older_than_the_driver_by_the_table() -> None:
    """cuda-compat 12.2 on branch 570 is excluded by NVIDIA's table."""
    facts = (libcuda("535.104.05", compat=True), module("570.124.06"))
    assert check(forward_compat_unsupported, *facts).fired


@pytest.mark.parametrize(
    "facts",
    [
        (answers(0, "13.0", "A100"), libcuda("580.65.06", compat=True), module("535.183.01")),
        (libcuda("580.65.06", compat=True), module("535.183.01"), A100),
        (libcuda("535.183.01"), module("535.183.01")),
        (libcudart(803), libcuda("535.183.01"), module("535.154.05")),
    ],
)
def test_compat_supported_or_not_used(facts: tuple[object, ...]) -> None:
    """A compat library that starts, one that the table allows, and the driver's own library pass."""
    assert Status.PASSED == check(forward_compat_unsupported, *facts).status  # type: ignore[arg-type]


def test_unavailable_alone_says_how_to_find_out() -> None:
    """With nothing but torch's verdict it fires alone and lists the commands that would decide."""
    finding = check(cuda_unavailable, CU130, TorchCuda(available=False)).finding
    assert () == finding.caused_by
    assert "nvidia-smi" in [each.shell for each in finding.fixes[-1].commands]


def test_unavailable_names_its_cause() -> None:
    """The rule that explains it is named, and leads the report."""
    report = examine(
        of(CU130, answers(0, "12.2"), libcudart(35, "12.2"), module(), ONE_GPU, NODES, UBUNTU,
           libcuda("535.183.01"), TorchCuda(available=False)),
        RULES,
    )  # fmt: skip
    assert "driver-too-old-for-cuda-build" == report.primary
    unavailable = report.finding("cuda-unavailable")
    assert unavailable is not None
    assert "driver-too-old-for-cuda-build" == unavailable.caused_by[0]


def test_quick_level_takes_the_runtimes_word() -> None:
    """Without torch's verdict libcudart stands in for it, then libcuda."""
    assert check(cuda_unavailable, CU130, libcudart(999), ONE_GPU, level="quick").fired
    assert check(
        cuda_unavailable, CU130, CudaRuntime(linked_statically=True), answers(999), ONE_GPU, level="quick"
    ).fired


def test_999_is_told_to_reload_uvm() -> None:
    """Error 999 is mostly a broken nvidia-uvm."""
    finding = check(cuda_unavailable, CU130, answers(999), TorchCuda(available=False), ONE_GPU).finding
    assert "nvidia_uvm" in finding.fixes[0].commands[0].shell


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((CU130, TorchCuda(available=True), ONE_GPU), Status.PASSED),
        ((CU130, libcudart(0), ONE_GPU), Status.PASSED),
        ((CPU_BUILD, TorchCuda(available=False), ONE_GPU), Status.NOT_APPLICABLE),
        ((CU130, TorchCuda(available=False), NO_GPU, NO_NODES), Status.NOT_APPLICABLE),
        ((CU130, ONE_GPU, NODES), Status.UNKNOWN),
    ],
)
def test_when_unavailable_does_not_fire(facts: tuple[object, ...], status: Status) -> None:
    """Working CUDA passes; a CPU build or a machine without a GPU do not apply; nobody asked is unknown."""
    assert status == check(cuda_unavailable, *facts).status  # type: ignore[arg-type]


def test_healthy_machine_is_silent() -> None:
    """Driver 535 with a CUDA 12.8 build that works: no error and no warning from any rule here."""
    report = examine(
        of(build("12.8"), answers(0, "12.2", "A100"), libcudart(0, "12.2"), module(), ONE_GPU, NODES, UBUNTU, A100,
           libcuda("535.183.01"), TorchCuda(available=True),
           Environment(variables=(Variable("CUDA_VISIBLE_DEVICES", "0"),))),
        RULES,
    )  # fmt: skip
    assert () == tuple(each for each in report.findings if each.severity is not Severity.INFO)


def test_cpu_only_machine_is_silent() -> None:
    """A machine without a GPU and a CPU torch: nothing but the note that there is no GPU."""
    report = examine(
        of(CPU_BUILD, NO_GPU, NO_NODES, KernelModule(loaded=False), Host(system="Linux", container="docker")), RULES
    )
    assert ["no-nvidia-gpu"] == [each.id for each in report.findings]


def test_container_without_gpus_has_one_cause() -> None:
    """Driver on the host, nothing of it inside: that is the cause; missing nodes and CUDA's own answer follow."""
    report = examine(
        of(CU130, module(), ONE_GPU, NO_NODES, DOCKER, TorchCuda(available=False), CudaDriver(init_code=100)), RULES
    )
    assert "container-gpu-not-passed" == report.primary
