"""The rule about GPU code in the build, and the tables of GPUs behind it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envdoctor.facts.driver import CudaDevice, CudaDriver, NvidiaSmi, SmiGpu
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Confidence, Severity, Status
from envdoctor.knowledge import rows
from envdoctor.knowledge.gpus import (
    beyond_compiler,
    capability,
    capability_of,
    code_of,
    has_cubin,
    is_consumer,
    last_driver_branch,
    tf32_gain,
)
from envdoctor.rules.arch import gpu_arch_not_in_build
from envdoctor.testing import check
from tests.rule_facts import CPU_BUILD, NO_GPU, NO_NODES, ONE_GPU, UBUNTU, build, module

CU126_ARCHES = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
X86 = replace(UBUNTU, machine="x86_64")


def gpus(*models: tuple[str, str | None], level: str = "13.0") -> CudaDriver:
    """Make libcuda's list of GPUs by name and capability."""
    devices = tuple(CudaDevice(index, name, cc) for index, (name, cc) in enumerate(models))
    return CudaDriver(cuda_version=level, init_code=0, device_count=len(devices), devices=devices)


def listed(cuda: str, *arches: str) -> TorchBuild:
    """Make a build whose own library lists these architectures."""
    return replace(build(cuda), arch_list=arches)


@pytest.mark.parametrize(
    ("arches", "gpu", "expected"),
    [
        (("sm_80",), "8.9", True),
        (("sm_86",), "8.0", False),
        (("sm_80", "sm_90"), "10.0", False),
        (("sm_90a",), "9.0", True),
        (("sm_100a",), "10.3", False),
        (("sm_100",), "10.3", True),
        (("sm_100",), "10.1", False),
        (("sm_101",), "11.0", True),
        (("sm_110",), "10.1", True),
        (("sm_120",), "12.1", True),
        (("sm_50",), "5.3", False),
        (("sm_60",), "6.2", False),
        (("sm_70",), "7.2", False),
        (("sm_70",), "7.5", True),
        (("sm_80",), "8.7", False),
    ],
)
def test_which_cubin_runs_where(arches: tuple[str, ...], gpu: str, expected: bool) -> None:
    """X.y runs on X.z with z not smaller, with the exceptions that torch itself makes."""
    assert expected is has_cubin(code_of(arches), capability(gpu) or ())


def test_orin_joins_its_major_with_cuda_13_2() -> None:
    """8.7 stands alone before CUDA 13.2."""
    assert (False, True) == tuple(has_cubin(code_of(("sm_80",)), (8, 7), cuda) for cuda in ((13, 0), (13, 2)))


def test_names_are_looked_up_whole() -> None:
    """A capability comes from the whole name, not from the digits in it."""
    assert ("7.5", "8.9", None) == tuple(
        capability_of(name) for name in ("Quadro RTX 5000", "NVIDIA RTX 5000 Ada Generation", "RTX 5000")
    )
    assert ("9.0", "8.0", "8.9", None) == tuple(
        capability_of(name)
        for name in ("NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB", "NVIDIA GeForce RTX 4080 Laptop GPU", "RTX 9999")
    )
    assert ("8.0", "8.9") == (capability_of("NVIDIA A100-SXM4-40GB MIG 1g.5gb"), capability_of("NVIDIA L40S-48C"))


def test_consumer_lines() -> None:
    """GeForce and TITAN are consumer lines; Tesla, A100 and L4 are not."""
    assert all(is_consumer(name) for name in ("NVIDIA GeForce RTX 3090", "TITAN Xp", "GTX 1080 Ti", "RTX 4090"))
    assert not any(
        is_consumer(name) for name in ("Tesla T4", "NVIDIA A100-SXM4-80GB", "RTX A6000", "RTX 5000 Ada Generation")
    )


def test_tables_agree_on_capabilities() -> None:
    """A GPU that both tables hold has one capability, every row a source, and every capability parses."""
    for row in rows("gpu_specs.csv"):
        assert row["compute_capability"] == capability_of(row["gpu"])
    assert all(row["source"] and capability(row["compute_capability"]) for row in rows("gpu_names.csv"))
    assert all(
        row["source"] and capability(row["min_cc"]) and capability(row["max_cc"]) for row in rows("cuda_arch.csv")
    )


def test_reach_of_compilers_and_drivers() -> None:
    """CUDA 10.2 makes no code for Ampere, CUDA 11.7 none for Hopper but all that Ada needs; Kepler ends with 470."""
    assert (True, True, False, True, None) == (
        beyond_compiler((8, 6), (10, 2)),
        beyond_compiler((9, 0), (11, 7)),
        beyond_compiler((8, 9), (11, 7)),
        beyond_compiler((7, 0), (13, 0)),
        beyond_compiler((9, 0), (99, 0)),
    )
    assert (470, 580, 580, None) == tuple(last_driver_branch(cc) for cc in ("3.5", "6.1", "7.0", "7.5"))


def test_tf32_gain_is_the_vendors() -> None:
    """An A100 computes TF32 eight times as fast as FP32; a model that is not listed has no number."""
    assert (8.0, None) == (tf32_gain("NVIDIA A100-SXM4-80GB"), tf32_gain("Something"))


def test_blackwell_under_a_cuda_12_6_build() -> None:
    """The 5090 has no code in a cu126 build: an error with the list that was read."""
    checked = check(gpu_arch_not_in_build, listed("12.6", *CU126_ARCHES), gpus(("NVIDIA GeForce RTX 5090", "12.0")))
    assert (Severity.ERROR, Confidence.CERTAIN) == (checked.finding.severity, checked.finding.confidence)
    assert ", ".join(CU126_ARCHES) in [each.value for each in checked.finding.evidence]


def test_pascal_under_cuda_13() -> None:
    """A P100 has no code in a CUDA 13 build."""
    assert check(gpu_arch_not_in_build, listed("13.0", "sm_75", "sm_80"), gpus(("Tesla P100-PCIE-16GB", "6.0"))).fired


def test_ada_under_a_cuda_11_7_build_is_healthy() -> None:
    """sm_86 code runs on 8.9."""
    checked = check(gpu_arch_not_in_build, listed("11.7", "sm_80", "sm_86"), gpus(("NVIDIA GeForce RTX 4090", "8.9")))
    assert Status.PASSED == checked.status


def test_ptx_alone_is_a_pause() -> None:
    """With PTX of a lower capability the driver compiles at the first start: info."""
    finding = check(gpu_arch_not_in_build, listed("12.6", "sm_90", "compute_90"), gpus(("RTX", "12.0"))).finding
    assert Severity.INFO == finding.severity
    assert "pause" in finding.title


def test_ptx_newer_than_the_driver_is_refused() -> None:
    """A driver older than the build's CUDA starts it, but does not compile its PTX."""
    facts = (listed("12.8", "sm_80", "compute_80"), gpus(("H100", "9.0"), level="12.2"))
    assert Severity.ERROR == check(gpu_arch_not_in_build, *facts).finding.severity


def test_published_wheels_stand_in_for_the_list() -> None:
    """Without a list the table of published wheels answers by version, variant and platform: likely."""
    smi = NvidiaSmi(gpus=(SmiGpu(0, "NVIDIA GeForce RTX 5080"),))
    finding = check(gpu_arch_not_in_build, build("12.6", "2.7.0"), smi, X86).finding
    assert Confidence.LIKELY == finding.confidence
    assert Status.PASSED == check(gpu_arch_not_in_build, build("12.8", "2.7.0"), smi, X86).status


def test_compiler_range_stands_in_for_an_old_build() -> None:
    """A torch 1.7.1 for CUDA 10.1 is in no table of wheels, but its compiler does not know Ampere."""
    smi = NvidiaSmi(gpus=(SmiGpu(0, "GeForce RTX 3090"),))
    assert check(gpu_arch_not_in_build, build("10.1", "1.7.1"), smi, X86).fired
    assert Status.UNKNOWN == check(gpu_arch_not_in_build, build("11.1", "1.8.0"), smi, X86).status


def test_all_wheels_of_a_cuda_stand_in_for_an_unknown_release() -> None:
    """Where the release is not known, what every published wheel of that CUDA lacks is lacking."""
    unnamed, p100, v100 = TorchBuild(cuda="12.8"), SmiGpu(0, "Tesla P100"), SmiGpu(0, "Tesla V100-SXM2-32GB")
    assert Confidence.LIKELY == check(gpu_arch_not_in_build, unnamed, NvidiaSmi(gpus=(p100,)), X86).finding.confidence
    assert Status.UNKNOWN == check(gpu_arch_not_in_build, unnamed, NvidiaSmi(gpus=(v100,)), X86).status


def test_turing_under_cuda_9() -> None:
    """Volta code runs on Turing, but the math libraries of CUDA 9 do not."""
    smi = NvidiaSmi(gpus=(SmiGpu(0, "GeForce RTX 2080 Ti"),))
    finding = check(gpu_arch_not_in_build, listed("9.0", "sm_60", "sm_70"), smi).finding
    assert "math libraries" in finding.title


def test_each_model_is_judged_by_itself() -> None:
    """Of three models the one without code is named as the subject."""
    models = gpus(("NVIDIA GeForce RTX 5090", "12.0"), ("NVIDIA GeForce RTX 4090", "8.9"), ("RTX 3090", "8.6"))
    checked = check(gpu_arch_not_in_build, listed("12.6", *CU126_ARCHES), models)
    assert "gpu-arch-not-in-build@NVIDIA GeForce RTX 5090" == checked.finding.key


def test_torchs_own_capabilities_and_list() -> None:
    """What torch says of itself serves when nobody else was asked."""
    cuda = TorchCuda(available=True, arch_list=("sm_37",), device_names=("Tesla T4",), capabilities=("7.5",))
    assert check(gpu_arch_not_in_build, build("10.2", "1.5.0"), cuda).fired


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((CPU_BUILD, gpus(("A100", "8.0"))), Status.NOT_APPLICABLE),
        ((build("12.8"), NO_GPU, NO_NODES), Status.NOT_APPLICABLE),
        ((build("12.8"), ONE_GPU, module()), Status.UNKNOWN),
        ((listed("12.8", "sm_80"), gpus(("Mystery", None))), Status.UNKNOWN),
    ],
)
def test_arch_not_applicable_or_unknown(facts: tuple[object, ...], status: Status) -> None:
    """A CPU build and a machine without a GPU do not apply; a GPU of unknown capability is unknown."""
    assert status == check(gpu_arch_not_in_build, *facts).status  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("torch", "model", "fires"),
    [
        (TorchBuild(version="1.9.0"), ("NVIDIA H100 PCIe", "9.0"), True),
        (TorchBuild(version="1.3.1", cuda="10.1"), ("Quadro K2000", "3.0"), True),
        (TorchBuild(version="0.3.1", cuda="9.0"), ("Quadro M2000", "5.0"), True),
        (TorchBuild(version="1.9.0"), ("NVIDIA A100-SXM4-80GB", "8.0"), False),
        (TorchBuild(version="2.3.1"), ("Tesla V100-SXM2-16GB", "7.0"), False),
        (TorchBuild(version="1.9.0a0+gitd69c22d"), ("NVIDIA H100 PCIe", "9.0"), False),
        (TorchBuild(version="1.9.0", is_cpu_only=True), ("NVIDIA H100 PCIe", "9.0"), False),
    ],
    ids=["no CUDA knew it", "below the minimum", "left out", "one CUDA knew it", "served", "source build", "CPU build"],
)
def test_a_release_whose_cuda_is_not_known_is_judged_by_all_of_them(
    torch: TorchBuild,
    model: tuple[str, str],
    fires: bool,
) -> None:
    """Where no published build of a release has code for a GPU it need not be known which build this is."""
    assert fires is check(gpu_arch_not_in_build, torch, gpus(model), UBUNTU).fired
