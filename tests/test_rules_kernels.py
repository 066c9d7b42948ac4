"""The rule about small kernels that were computed once."""

from __future__ import annotations

import pytest

from envdoctor.facts.kernels import KernelAnswers, KernelCheck
from envdoctor.finding import Severity, Status
from envdoctor.rules.kernels import kernel_check_failed
from envdoctor.testing import check

SIZE = {"shape": "512x512x512"}
NO_IMAGE = "RuntimeError: CUDA error: no kernel image is available for execution on the device"
NO_HALF = "RuntimeError: \"addmm_impl_cpu_\" not implemented for 'Half'"
HEALTHY = (
    KernelCheck("allocate", "", {"bytes": "256 MiB"}),
    KernelCheck("gemm", "fp32", SIZE, rms_error=2e-7),
    KernelCheck("gemm", "bf16", SIZE, rms_error=2e-3),
    KernelCheck("gemm", "fp8", SIZE, "not-applicable", "fp8 needs compute capability 8.9, this GPU has 8.0"),
    KernelCheck("copy-to-device", "", {"bytes": "64 MiB"}),
)


def answers(*more: KernelCheck, kind: str = "cuda") -> KernelAnswers:
    """Give healthy answers and these."""
    return KernelAnswers(kind=kind, name="NVIDIA A100-SXM4-80GB" if kind == "cuda" else None, checks=(*HEALTHY, *more))


def test_a_kernel_that_fails_is_named_with_the_words_of_its_error() -> None:
    """All that fail are one finding, with each error as evidence, and a command that shows it outside the doctor."""
    failed = [KernelCheck("gemm", each, SIZE, "failed", NO_IMAGE) for each in ("fp16", "tf32")]
    finding = check(kernel_check_failed, answers(*failed)).finding
    assert ("failed", Severity.ERROR) == (finding.subject, finding.severity)
    assert finding.title == "A small kernel fails on NVIDIA A100-SXM4-80GB: fp16 gemm 512x512x512, and 1 more"
    assert [NO_IMAGE, NO_IMAGE] == [each.value for each in finding.evidence]
    assert 'device="cuda"' in str(finding.fixes[0].commands[0].shell)


def test_a_wrong_result_is_a_finding_of_its_own() -> None:
    """A wrong product beside one that fails are two findings, the worse one first; all GPUs are to be compared."""
    wrong = KernelCheck("gemm", "fp16", SIZE, "wrong", "it differs from the reference", 1e-4, 0.7)
    full = KernelCheck("attention", "bf16", {}, "out-of-memory", "CUDA out of memory")
    first, second = check(kernel_check_failed, answers(wrong, full)).findings
    assert ("wrong", "failed") == (first.subject, second.subject)
    assert "it differs from the reference (relative rms error 7.0e-01)" == first.evidence[0].value
    assert "dtype=torch.float16)) for n in range(torch.cuda.device_count())" in str(first.fixes[0].commands[0].shell)


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        (answers(), Status.PASSED),
        (answers(KernelCheck("gemm", "fp16", {}, "failed", NO_HALF), kind="cpu"), Status.PASSED),
        (answers(KernelCheck("gemm", "fp32", {}, "wrong", "it differs from the reference"), kind="cpu"), Status.FIRED),
        (KernelAnswers(kind="cuda"), Status.UNKNOWN),
    ],
)  # fmt: skip
def test_what_a_device_does_not_have_is_no_failure(facts: KernelAnswers, status: Status) -> None:
    """A precision that this torch or device lacks is none; a CPU that computes wrongly is; nothing run is unknown."""
    assert status == check(kernel_check_failed, facts).status


def test_a_rare_precision_alone_is_a_warning() -> None:
    """A card whose fp8 fails still trains in bf16."""
    finding = check(kernel_check_failed, answers(KernelCheck("gemm", "fp8", SIZE, "failed", "CUBLAS_STATUS"))).finding
    assert Severity.WARNING is finding.severity
