"""The rule about requirements: each kind met, not met, and not known; and what an unmet one says."""

from __future__ import annotations

from typing import Any

import pytest

from envdoctor.diagnose import examine
from envdoctor.facts import Fact
from envdoctor.facts.driver import CudaDevice, CudaDriver, CudaRuntime, KernelModule, NvidiaSmi, SmiGpu
from envdoctor.facts.host import Host, Resources
from envdoctor.facts.libraries import Copy, LedgerRow, Libraries, MappedLibraries
from envdoctor.facts.nvml import Gpu, GpuState
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.required import Need, Required
from envdoctor.facts.surroundings import Container
from envdoctor.facts.torch import TorchBuild, TorchCuda, TorchImport, TorchSettings
from envdoctor.finding import Severity, Status, Verdict
from envdoctor.outcome import Absent, TimedOut
from envdoctor.requirements import READERS, parse
from envdoctor.rules.gpu_kinds import bf16_emulated
from envdoctor.rules.required import JUDGES, requirement_not_met
from envdoctor.snapshot import ProbeResult, of
from envdoctor.testing import Checked, check
from tests.rule_facts import CPU_BUILD, CU130, NO_NODES, NODES, UBUNTU

VENV = Packages(
    distributions=(Distribution("torch", "2.9.0+cu130"), Distribution("numpy", "1.26.4")),
    python_version="3.11.7", environment_kind="venv", executable="/venv/bin/python", has_pip=True,
)  # fmt: skip
ROWS = Libraries(
    rows=(
        LedgerRow(
            "cudnn", declared="nvidia-cudnn-cu13 ==9.13.0.50", installed_version="9.13.0.50", api_version="9.13.0"
        ),
        LedgerRow("nccl", declared="nvidia-nccl-cu13 ==2.27.7", first=Copy("/x/libnccl.so.2", "2.27.7")),
    )
)


def cards(*kinds: tuple[str, str, int]) -> CudaDriver:
    """Make libcuda's answer: name, compute capability and MiB of each visible GPU."""
    devices = tuple(CudaDevice(index, *kind) for index, kind in enumerate(kinds))
    return CudaDriver(init_code=0, device_count=len(devices), devices=devices)


A100, H100, T4 = ("NVIDIA A100-SXM4-80GB", "8.0", 81153), ("NVIDIA H100", "9.0", 81559), ("Tesla T4", "7.5", 15109)


def held(require: dict[str, Any], *facts: Fact) -> Checked:
    """Hold one table of requirements against these facts."""
    return check(requirement_not_met, parse(require, "require"), *facts)


@pytest.mark.parametrize(
    ("require", "facts", "status"),
    [
        ({"torch": ">=2.9"}, (CU130,), Status.PASSED),
        ({"torch": ">=2.9"}, (TorchBuild(version="2.10.0a0+b558c986e8.nv25.11"),), Status.PASSED),
        ({"torch": "==2.9.0"}, (CU130,), Status.PASSED),
        ({"torch": ">=2.9.1"}, (CU130,), Status.FIRED),
        ({"torch": ">=2.9"}, (CU130, TorchImport(imported=True, version="2.4.1")), Status.FIRED),
        ({"torch": ">=2.9"}, (VENV,), Status.PASSED),
        ({"torch": ">=2.9"}, (), Status.UNKNOWN),
        ({"torch": ">=2.9"}, (TorchBuild(version="unknown"),), Status.UNKNOWN),
        ({"cuda": ">=12.8"}, (CU130,), Status.PASSED),
        ({"cuda": "==12.8.*"}, (CU130,), Status.FIRED),
        ({"cuda": ">=12.8"}, (CPU_BUILD,), Status.FIRED),
        ({"cuda": ">=12.8"}, (TorchBuild(version="2.9.0", unknown={"cuda": "not readable"}),), Status.UNKNOWN),
        ({"cuda": ">=12.8"}, (), Status.UNKNOWN),
        ({"cudnn": ">=9.10"}, (CU130, ROWS), Status.PASSED),
        ({"cudnn": "==9.13.0.50"}, (CU130, ROWS), Status.PASSED),
        ({"cudnn": ">=9.14"}, (CU130, ROWS, VENV), Status.FIRED),
        ({"cudnn": ">=9.10"}, (CPU_BUILD,), Status.FIRED),
        ({"cudnn": ">=9.10"}, (CU130,), Status.UNKNOWN),
        ({"nccl": ">=2.27"}, (CU130, ROWS), Status.PASSED),
        ({"nccl": ">=2.28"}, (CU130, ROWS), Status.FIRED),
        ({"nccl": ">=2.27"}, (CU130, ROWS, MappedLibraries(nccl_version="2.21.5")), Status.FIRED),
        ({"nccl": ">=2.27"}, (CU130, TorchSettings(nccl_version="2.27.5")), Status.PASSED),
        ({"driver": ">=580"}, (KernelModule(loaded=True, version="580.95.05"),), Status.PASSED),
        ({"driver": ">=580"}, (KernelModule(loaded=True, version="535.183.01"), UBUNTU), Status.FIRED),
        ({"driver": ">=440.33"}, (KernelModule(loaded=True, version="440.100"),), Status.PASSED),
        ({"driver": ">=580"}, (NvidiaSmi(driver_version="580.82.07"),), Status.PASSED),
        ({"driver": ">=580"}, (KernelModule(loaded=False),), Status.FIRED),
        ({"driver": ">=580"}, (), Status.UNKNOWN),
        ({"gpus": 2}, (cards(A100, A100),), Status.PASSED),
        ({"gpus": 8}, (cards(A100, A100),), Status.FIRED),
        ({"gpus": "==1"}, (cards(A100, A100),), Status.FIRED),
        ({"gpus": 1}, (CudaRuntime(code=0, device_count=1),), Status.PASSED),
        ({"gpus": 1}, (CudaRuntime(code=35, name="cudaErrorInsufficientDriver"),), Status.FIRED),
        ({"gpus": 1}, (CudaDriver(init_code=100, init_name="CUDA_ERROR_NO_DEVICE"),), Status.FIRED),
        ({"gpus": 1}, (TorchCuda(available=True, device_count=1),), Status.PASSED),
        ({"gpus": 1}, (NO_NODES,), Status.FIRED),
        ({"gpus": 0}, (NO_NODES,), Status.PASSED),
        ({"gpus": 1}, (NODES,), Status.UNKNOWN),
        ({"gpus": 1}, (NvidiaSmi(gpus=(SmiGpu(0, "NVIDIA L4"),)),), Status.PASSED),
        ({"gpu_memory_gib": 79}, (cards(A100, H100),), Status.PASSED),
        ({"gpu_memory_gib": 80}, (cards(A100, H100),), Status.FIRED),
        ({"gpu_memory_gib": 40}, (cards(A100, T4),), Status.FIRED),
        ({"gpu_memory_gib": 40}, (NO_NODES,), Status.FIRED),
        ({"gpu_memory_gib": 40}, (CudaRuntime(code=0, device_count=1),), Status.UNKNOWN),
        (
            {"gpu_memory_gib": 40},
            (CudaRuntime(code=0, device_count=1), GpuState(gpus=(Gpu(0, "A100", memory_total_mib=81920),))),
            Status.PASSED,
        ),
        ({"compute_capability": 8.0}, (cards(A100, H100),), Status.PASSED),
        ({"compute_capability": ">=8.0,<9"}, (cards(A100, H100),), Status.FIRED),
        ({"compute_capability": 7.0}, (cards(("GPU", "10.0", 1)),), Status.PASSED),
        ({"compute_capability": 8.0}, (NvidiaSmi(gpus=(SmiGpu(0, "Tesla T4"),)),), Status.FIRED),
        ({"compute_capability": 8.0}, (NvidiaSmi(gpus=(SmiGpu(0, "A card"),)),), Status.UNKNOWN),
        ({"bf16": "native"}, (cards(A100),), Status.PASSED),
        ({"bf16": "native"}, (cards(A100, T4),), Status.FIRED),
        ({"bf16": "any"}, (cards(T4),), Status.PASSED),
        ({"fp8": "native"}, (cards(H100),), Status.PASSED),
        ({"fp8": "native"}, (cards(A100),), Status.FIRED),
        ({"shm_gib": 8}, (Resources(shm_total_mib=16384),), Status.PASSED),
        ({"shm_gib": 8}, (Resources(shm_total_mib=64), Host(container="docker")), Status.FIRED),
        ({"shm_gib": 8}, (Resources(),), Status.UNKNOWN),
        ({"python": ">=3.10"}, (VENV,), Status.PASSED),
        ({"python": ">=3.12"}, (VENV,), Status.FIRED),
        ({"python": ">=3.12"}, (), Status.UNKNOWN),
        ({"packages": {"numpy": ">=1.26"}}, (VENV,), Status.PASSED),
        ({"packages": {"numpy": ">=2"}}, (VENV,), Status.FIRED),
        ({"packages": {"timm": "*"}}, (VENV,), Status.FIRED),
        ({"packages": {"numpy": "*"}}, (VENV,), Status.PASSED),
        ({"packages": {"numpy": "*"}}, (), Status.UNKNOWN),
        ({"ngc": ">=25.01"}, (Container(nvidia_image_tag="25.03"),), Status.PASSED),
        ({"ngc": ">=25.01"}, (Container(nvidia_image_tag="23.12"),), Status.FIRED),
        ({"ngc": True}, (Container(nvidia_image_tag="23.12"),), Status.PASSED),
        ({"ngc": True}, (Container(),), Status.FIRED),
        ({"ngc": True}, (), Status.UNKNOWN),
    ],
)  # fmt: skip
def test_each_kind_of_requirement(require: dict[str, Any], facts: tuple[Fact, ...], status: Status) -> None:
    """Each requirement is met, not met with a fix and evidence, or not known; never met by silence."""
    found = held(require, *facts)
    assert (status, True) == (found.status, status is not Status.UNKNOWN or bool(found.reason))
    for each in found.findings:
        assert (Severity.ERROR, True, True) == (each.severity, bool(each.fixes), len(each.evidence) >= 2)
        assert all(fix.commands for fix in each.fixes)


def test_every_requirement_has_its_judge() -> None:
    """What can be asked for can be held against a machine."""
    assert set(READERS) - {"packages"} == set(JUDGES)


def test_nothing_required_is_not_applicable() -> None:
    """Without a requirement the rule has nothing to say, and does not make the verdict undetermined."""
    assert Status.NOT_APPLICABLE is check(requirement_not_met, CU130).status
    assert Status.NOT_APPLICABLE is check(requirement_not_met, CU130, Required()).status


def test_what_is_not_met_stays_found_when_another_is_unknown() -> None:
    """An unmet requirement is reported although a second one cannot be judged; the check says so."""
    found = held({"driver": ">=580", "torch": ">=3"}, CU130)
    assert (["requirement-not-met@torch"], Status.FIRED) == ([each.key for each in found.findings], found.status)
    assert "whether driver is >=580 is not known" in found.reason


def test_an_unknown_requirement_leaves_the_verdict_undetermined() -> None:
    """A requirement that nobody could judge is never taken as met."""
    report = examine(of(parse({"driver": ">=580"}, "here")), (requirement_not_met,))
    assert Verdict.UNDETERMINED is report.verdict


def test_a_requirement_of_a_later_version_is_unknown() -> None:
    """A saved snapshot may hold a requirement that this version does not have."""
    found = check(requirement_not_met, Required(needs=(Need("teraflops", ">=1"),)))
    assert (Status.UNKNOWN, True) == (found.status, "this version does not know it" in found.reason)


def test_a_probe_that_found_no_torch_is_evidence() -> None:
    """Where there is no torch, the probe's own words are the evidence; where it timed out, it is unknown."""
    absent = ProbeResult("torch-build", "torch_build", Absent("no torch on the module search path"))
    late = ProbeResult("torch-build", "torch_build", TimedOut("no answer within 2 s"))
    said = [
        examine(of(parse({"torch": ">=2"}, "here"), probes=(each,)), (requirement_not_met,)) for each in (absent, late)
    ]
    assert ["torch is not installed"] == [each.title for each in said[0].findings]
    assert "no torch on the module search path" == said[0].findings[0].evidence[0].source
    assert "timed-out: no answer within 2 s" in said[1].checks[0].reason


def test_finding_names_what_was_required_and_the_proof() -> None:
    """The finding shows both values and their sources, and the command that asks for the same again."""
    finding = held({"torch": ">=2.10"}, CU130, VENV).finding
    assert "torch is 2.9.0+cu130, >=2.10 is required" == finding.title
    assert [("torch", "2.9.0+cu130"), ("required torch", ">=2.10")] == [(e.label, e.value) for e in finding.evidence]
    assert "/venv/bin/python -m pip install 'torch>=2.10'" == finding.fixes[0].commands[0].shell
    assert "envdoctor check --only requirement-not-met --require 'torch>=2.10'" == finding.fixes[0].verify


def test_proof_of_a_configured_requirement_needs_no_option() -> None:
    """What the configuration file asks for is asked for again by itself."""
    finding = check(requirement_not_met, parse({"bf16": "native"}, "/repo/pyproject.toml"), cards(T4)).finding
    assert "envdoctor check --only requirement-not-met" == finding.fixes[0].verify


def test_a_card_sold_as_80_gb_is_explained() -> None:
    """A requirement missed by the few percent that the driver keeps says so."""
    assert "sold by" in held({"gpu_memory_gib": 80}, cards(A100)).finding.detail
    assert "" == held({"gpu_memory_gib": 160}, cards(A100)).finding.detail


def test_a_cause_is_named() -> None:
    """A required GPU that bf16 is only emulated on: the emulation is the cause, and is an error then."""
    facts = (parse({"bf16": "native"}, "here"), cards(T4), CU130)
    report = examine(of(*facts), (requirement_not_met, bf16_emulated))
    expected = {"bf16-emulated": (Severity.ERROR, ()), "requirement-not-met@bf16": (Severity.ERROR, ("bf16-emulated",))}
    assert expected == {each.key: (each.severity, each.caused_by) for each in report.findings}
    assert "bf16-emulated" == report.primary


@pytest.mark.parametrize("require", [{}, {"bf16": "any"}, {"gpus": 1}])
def test_emulated_bf16_stays_info_where_nobody_asks_for_more(require: dict[str, Any]) -> None:
    """Only a requirement of native bf16 makes the emulation an error."""
    found = check(bf16_emulated, parse(require, "here"), cards(T4), CU130)
    assert Severity.INFO is found.finding.severity


def test_fix_for_cuda_is_a_wheel_of_that_range() -> None:
    """Where another CUDA is required, the fix names a torch that is published for it."""
    finding = held({"cuda": "==12.6.*"}, CU130, VENV).finding
    assert "/whl/cu126" in finding.fixes[0].commands[0].shell


def test_fix_for_a_library_keeps_its_own_wheel_name() -> None:
    """Another NCCL comes by its own wheel, said to be another than torch's pin, or by a newer torch."""
    own, newer = held({"nccl": ">=2.28"}, CU130, ROWS, VENV).finding.fixes
    assert "'nvidia-nccl-cu13>=2.28'" in own.commands[0].shell
    assert ("not the one that this torch pins" in own.title, "'torch>2.9.0'" in newer.commands[0].shell) == (True, True)


def test_fix_for_shared_memory_names_the_size() -> None:
    """The way to a larger /dev/shm asks for what is required, not for a round number."""
    finding = held({"shm_gib": 32}, Resources(shm_total_mib=64), Host(container="docker")).finding
    assert "docker run --shm-size=32g IMAGE" == finding.fixes[0].commands[0].shell


@pytest.mark.parametrize(
    ("level", "command"),
    [
        ("12.2", "'torch==2.14.1' --index-url https://download.pytorch.org/whl/cu126"),
        ("11.4", "'torch>=2.10'"),  # no torch of that range for this driver, as the finding about the driver says
    ],
)
def test_the_torch_that_is_required_is_one_that_the_driver_starts(level: str, command: str) -> None:
    """The newest of the range by default is built for a CUDA that this driver does not start."""
    driver = CudaDriver(init_code=0, cuda_version=level)
    fix = held({"torch": ">=2.10"}, CU130, VENV, UBUNTU, driver).finding.fixes[0]
    assert f"/venv/bin/python -m pip install {command}" == fix.commands[0].shell
