"""Compiled companions of another CUDA, of another torch by their own record, and of parts that differ."""

from __future__ import annotations

import pytest

from envdoctor.facts.driver import CudaDevice, CudaDriver
from envdoctor.facts.libraries import Copy, Extension, Extensions, LedgerRow, Libraries
from envdoctor.facts.packages import Distribution
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Confidence, Severity, Status
from envdoctor.rules.companion_cuda import tensorrt_cuda_mismatch
from envdoctor.rules.companion_gpus import gpu_too_old_for_package
from envdoctor.rules.companions import extension_built_for_other_torch
from envdoctor.rules.ptxas import triton_ptxas_driver_mismatch
from envdoctor.testing import check
from tests.rule_facts import ONE_GPU, module
from tests.torch_facts import commands, cpu_build, cuda_build, dist, venv

CU118, CU121 = cuda_build("2.4.0+cu118", "11.8"), cuda_build("2.4.0+cu121", "12.1")
CU126, CU130 = cuda_build("2.8.0+cu126", "12.6"), cuda_build("2.9.1+cu130", "13.0")
SCATTER = "torch-scatter"


@pytest.mark.parametrize(
    ("build", "have", "words"),
    [
        (CU118, dist("flash-attn", "2.7.4", built_for="+cu12torch2.4cxx11abiFALSE, CUDA 12, torch 2.4"), "CUDA 12"),
        (CU130, dist("flash-attn", "2.8.3", built_for="CUDA 12"), "CUDA 12"),
        (CU121, dist("vllm", "0.5.4+cu118", built_for="+cu118, CUDA 11.8", requires=("torch==2.4.0",)), "CUDA 11.8"),
        (CU121, dist(SCATTER, "2.1.2+pt24cu118", built_for="+pt24cu118, CUDA 11.8, torch 2.4"), "CUDA 11.8"),
        (CU121, dist(SCATTER, "2.1.2+pt24cpu", built_for="+pt24cpu, torch 2.4"), "the CPU"),
        (cpu_build("2.4.0+cpu"), dist(SCATTER, "2.1.2+pt24cu121", built_for="+pt24cu121, CUDA 12.1"), "CUDA 12.1"),
        (CU130, dist("transformer-engine-cu12", "2.9.0"), "CUDA 12"),
    ],
)
def test_companion_of_another_cuda(build: TorchBuild, have: Distribution, words: str) -> None:
    """The tag, the name or the linked library tells another CUDA major than torch's."""
    finding = check(extension_built_for_other_torch, build, venv(dist("torch", str(build.version)), have)).finding
    assert (Severity.ERROR, have.name) == (finding.severity, finding.subject)
    assert f"is built for {words}" in finding.title
    assert commands(finding)


@pytest.mark.parametrize(
    ("build", "have"),
    [
        (CU121, dist("flash-attn", "2.7.4", built_for="+cu123torch2.4cxx11abiFALSE, CUDA 12.3, torch 2.4")),
        (CU126, dist("flash-attn", "2.8.3", built_for="CUDA 12")),
        (CU121, dist("vllm", "0.5.4", requires=("torch==2.4.0",))),
        (CU121, dist("torchtext", "0.18.0+cpu", built_for="+cpu")),
        (CU130, dist("transformer-engine-cu13", "2.9.0")),
        (cpu_build("2.4.0+cpu"), dist(SCATTER, "2.1.2+pt24cpu", built_for="+pt24cpu, torch 2.4")),
        (TorchBuild(version="2.4.0"), dist(SCATTER, "2.1.2+pt24cu118", built_for="+pt24cu118, CUDA 11.8, torch 2.4")),
    ],
)
def test_companion_of_the_same_cuda_major_passes(build: TorchBuild, have: Distribution) -> None:
    """Another minor of the same major works; torchtext has no kernels; an unknown CUDA of torch accuses nobody."""
    assert Status.PASSED == check(extension_built_for_other_torch, build, venv(dist("torch", "2.4.0"), have)).status


def test_transformer_engine_under_the_other_name() -> None:
    """The way out of a Transformer Engine for CUDA 12 beside a torch for CUDA 13 is the distribution of that major."""
    have = dist("transformer-engine-cu12", "2.9.0")
    finding = check(extension_built_for_other_torch, CU130, venv(dist("torch", "2.9.1"), have)).finding
    assert "transformer-engine-cu13==2.9.0" in commands(finding)[0]


def test_parts_of_transformer_engine_must_agree() -> None:
    """What one part asks of the other, by its own metadata, is held; the same version passes."""
    asks = dist("transformer-engine-torch", "2.9.0", requires=("torch>=2.1", "transformer-engine-cu13==2.9.0"))
    for version, status in (("2.5.0", Status.FIRED), ("2.9.0", Status.PASSED)):
        packages = venv(dist("torch", "2.9.1"), asks, dist("transformer-engine-cu13", version))
        assert status == check(extension_built_for_other_torch, CU130, packages).status


@pytest.mark.parametrize(
    ("built_for", "compiled", "fires"),
    [
        ("torch 2.1.2, CUDA 12.1", True, True),
        ("torch 2.4.1, CUDA 12.4", True, False),
        ("torch 2.4.0, CUDA 11.8", True, True),
        ("torch 2.1.2, CUDA 11.8", False, False),
    ],
)
def test_deepspeed_is_judged_by_its_record_where_it_is_compiled(built_for: str, compiled: bool, fires: bool) -> None:
    """DeepSpeed's compiled operators must be of this torch's minor; without any, the record is of no matter."""
    have = dist("deepspeed", "0.14.5", built_for=built_for)
    files = Extensions(extensions=(Extension("/x/fused_adam_op.so", "deepspeed"),) if compiled else ())
    checked = check(extension_built_for_other_torch, CU121, venv(dist("torch", "2.4.0"), have), files)
    assert fires is checked.fired


def gpu(name: str, cc: str, level: str = "12.8") -> CudaDriver:
    """Make libcuda's answer about one card."""
    return CudaDriver(cuda_version=level, init_code=0, device_count=1, devices=(CudaDevice(0, name, cc),))


V100 = gpu("Tesla V100-SXM2-16GB", "7.0")


@pytest.mark.parametrize(
    ("card", "version", "fires"),
    [(V100, "9.15.1.9", True), (V100, "9.10.2.21", False), (gpu("T4", "7.5"), "9.15.1.9", False)],
)  # fmt: skip
def test_cudnn_that_no_longer_serves_the_gpu(card: CudaDriver, version: str, fires: bool) -> None:
    """CuDNN 9.11 and newer serve Turing and newer; the last one that serves a V100 is offered."""
    packages = venv(dist("torch", "2.8.0"), dist("nvidia-cudnn-cu12", version))
    checked = check(gpu_too_old_for_package, packages, card)
    assert fires is checked.fired
    if fires:
        assert "nvidia-cudnn-cu12==9.10.2.21" in commands(checked.finding)[0]


def test_cudnn_that_would_be_loaded_counts() -> None:
    """An older wheel does not help when a newer cuDNN from outside comes first."""
    packages = venv(dist("torch", "2.8.0"), dist("nvidia-cudnn-cu12", "9.10.2.21"))
    row = LedgerRow("cudnn", "libcudnn.so.9", first=Copy("/usr/lib/libcudnn.so.9", "9.15.1"))
    assert Status.FIRED == check(gpu_too_old_for_package, packages, V100, Libraries(rows=(row,))).status


def test_what_was_seen_to_start_overrules_the_driver_number() -> None:
    """Driver 470 under a CUDA 12 build that works, by cuda-compat: nothing else of CUDA 12 is too new for it."""
    facts = (venv(dist("torch", "2.4.0"), dist("triton", "3.0.0"), dist("tensorrt-cu12", "10.1")), module("470.182.03"))
    works = TorchCuda(available=True, device_names=("NVIDIA A100-SXM4-80GB",))
    for rule in (triton_ptxas_driver_mismatch, tensorrt_cuda_mismatch):
        assert Status.FIRED == check(rule, *facts, CU118 if rule is tensorrt_cuda_mismatch else CU121, ONE_GPU).status
        assert Status.PASSED == check(rule, *facts, CU121, ONE_GPU, works).status


def test_confidence_of_a_companion_of_another_cuda() -> None:
    """What a package says of itself is certain."""
    have = dist(SCATTER, "2.1.2+pt24cu118", built_for="+pt24cu118, CUDA 11.8, torch 2.4")
    finding = check(extension_built_for_other_torch, CU121, venv(dist("torch", "2.4.0"), have)).finding
    assert Confidence.CERTAIN == finding.confidence
