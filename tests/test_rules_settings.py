"""Rules about /dev/shm and TF32."""

from __future__ import annotations

import pytest

from envdoctor.facts.driver import NvidiaSmi, SmiGpu
from envdoctor.facts.host import Environment, Resources, Variable
from envdoctor.facts.torch import TorchBuild, TorchSettings
from envdoctor.finding import Confidence, Severity, Status
from envdoctor.rules.precision import tf32_off
from envdoctor.rules.system import shm_too_small
from envdoctor.testing import check
from tests.rule_facts import CPU_BUILD, CU130, DOCKER, NO_GPU, NO_NODES, ONE_GPU, UBUNTU, build

A100 = NvidiaSmi(gpus=(SmiGpu(0, "NVIDIA A100-SXM4-80GB", compute_capability="8.0"),))
T4 = NvidiaSmi(gpus=(SmiGpu(0, "Tesla T4", compute_capability="7.5"),))
IEEE = TorchSettings(matmul_fp32_precision="ieee", float32_matmul_precision="highest")


def variables(**values: str) -> Environment:
    """Make an environment."""
    return Environment(variables=tuple(Variable(name, value) for name, value in values.items()))


def test_dockers_default_shm() -> None:
    """64 MiB in a container is a warning with Docker's flags."""
    finding = check(shm_too_small, Resources(shm_total_mib=64), DOCKER, ONE_GPU).finding
    assert (Severity.WARNING, Confidence.LIKELY) == (finding.severity, finding.confidence)
    assert ["docker run --shm-size=8g IMAGE", "docker run --ipc=host IMAGE"] == [
        each.commands[0].shell for each in finding.fixes
    ]


def test_small_shm_on_a_host_is_remounted() -> None:
    """Outside a container the mount is enlarged."""
    finding = check(shm_too_small, Resources(shm_total_mib=512), UBUNTU, ONE_GPU).finding
    assert "sudo mount -o remount,size=8G /dev/shm" == finding.fixes[0].commands[0].shell


def test_shm_that_others_have_filled() -> None:
    """A large mount with nothing left in it fires as well; what is named first only looks at what fills it."""
    finding = check(shm_too_small, Resources(shm_total_mib=65536, shm_free_mib=12), UBUNTU, ONE_GPU).finding
    assert finding.title.startswith("/dev/shm has 12 MiB free of 65536 MiB")
    assert ("ls -lhS /dev/shm | head -n 20", True) == (finding.fixes[0].commands[0].shell, len(finding.fixes) > 1)


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((Resources(shm_total_mib=1024), ONE_GPU), Status.PASSED),
        ((Resources(shm_total_mib=65536, shm_free_mib=512), ONE_GPU), Status.PASSED),
        ((Resources(shm_total_mib=65536, shm_free_mib=511), ONE_GPU), Status.FIRED),
        ((Resources(shm_total_mib=1023), ONE_GPU), Status.FIRED),
        ((Resources(shm_total_mib=64), NO_GPU, NO_NODES, DOCKER), Status.NOT_APPLICABLE),
        ((Resources(unknown={"shm_total_mib": "no /dev/shm"}), ONE_GPU), Status.UNKNOWN),
    ],
)
def test_shm_boundaries(facts: tuple[object, ...], status: Status) -> None:
    """1 GiB is enough; a machine without a GPU is not judged; an unread size is unknown."""
    assert status == check(shm_too_small, *facts).status  # type: ignore[arg-type]


def test_tf32_off_on_ampere() -> None:
    """IEEE matrix products on an A100 are info, with the data sheet's factor and a variable to set."""
    finding = check(tf32_off, CU130, IEEE, A100).finding
    assert (Severity.INFO, Confidence.CERTAIN) == (finding.severity, finding.confidence)
    assert "8.0 times" in finding.detail
    assert "export TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1" == finding.fixes[0].commands[0].shell


def test_tf32_default_without_importing_torch() -> None:
    """At level quick the documented default stands in for the setting."""
    finding = check(tf32_off, CU130, A100, level="quick").finding
    assert Confidence.LIKELY == finding.confidence


@pytest.mark.parametrize("name", ["NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"])
def test_tf32_off_by_choice_is_not_nagged_about(name: str) -> None:
    """A variable set to 0 is a choice: it is named, and nothing is advised."""
    finding = check(tf32_off, CU130, IEEE, A100, variables(**{name: "0"})).finding
    assert f"chosen by {name}=0" in finding.title
    assert () == finding.fixes


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((CU130, TorchSettings(matmul_fp32_precision="tf32"), A100), Status.PASSED),
        ((CU130, TorchSettings(float32_matmul_precision="high"), A100), Status.PASSED),
        ((CU130, TorchSettings(allow_tf32_matmul=True), A100), Status.PASSED),
        ((CU130, TorchSettings(matmul_fp32_precision="none", float32_matmul_precision="high"), A100), Status.PASSED),
        ((CU130, A100, variables(TORCH_ALLOW_TF32_CUBLAS_OVERRIDE="1")), Status.PASSED),
        ((CU130, IEEE, T4), Status.NOT_APPLICABLE),
        ((CPU_BUILD, IEEE, A100), Status.NOT_APPLICABLE),
        ((CU130, IEEE), Status.UNKNOWN),
        ((TorchBuild(version="2.7.0a0+7c8ec84dab.nv25.03", cuda="12.8"), A100), Status.UNKNOWN),
        ((TorchBuild(version="2.7.0a0+7c8ec84dab.nv25.03", cuda="12.8"), A100, variables()), Status.FIRED),
        ((build("10.2", "1.5.0"), A100), Status.UNKNOWN),
    ],
)
def test_tf32_not_off(facts: tuple[object, ...], status: Status) -> None:
    """TF32 on passes by any of the three settings; older GPUs and CPU builds do not apply; no GPU known is unknown."""
    assert status == check(tf32_off, *facts).status  # type: ignore[arg-type]
