"""Rules about small kernels: what was computed once on the device that torch would use."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.kernels import KernelAnswers, KernelCheck
from envdoctor.finding import Command, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.rule import Rule, Unknown, rule

CAUSES = (
    "gpu-arch-not-in-build", "cublas-mismatch", "cudnn-version-mismatch", "nvjitlink-mismatch", "gpu-memory-low",
    "gpu-hardware-fault", "ecc-uncorrectable", "xid-errors", "torch-install-damaged",
)  # fmt: skip
NOT_WRITTEN = "not implemented"  # for this type of number on this device: old releases of torch, on a CPU
SIMPLE = frozenset({"", "fp32", "fp16", "bf16"})  # what every training uses; fp64, fp8 and int8 few
SHOWN = 6
DTYPES = {"fp64": "float64", "fp16": "float16", "bf16": "bfloat16"}


@rule(severity=Severity.ERROR, group="torch", explained_by=CAUSES)
def kernel_check_failed(kernels: KernelAnswers) -> Iterator[Finding]:
    """CUDA starts, but a small piece of work on the device fails, or computes something wrong.

    ## What it means
    Memory was allocated, a small product, an attention and a copy were computed, once for each precision that this
    device has, and compared with fp64. One of them ended in an error, or its result was another one.

    ## Why it matters
    A training does the same things thousands of times. One that fails is found only when the job has started; one that
    is wrong trains a model that does not learn, without any error.

    ## How it is detected
    `--level deep` computes them in a process of its own. A precision that the device or this torch does not have is no
    failure. Where fp64, fp8 or int8 alone fail it is a warning.

    ## What to do
    Read the words of the error: "no kernel image" is a wheel without code for this GPU, CUBLAS_STATUS_* are mostly
    libraries of two releases, "out of memory" is another program on the card. For a wrong result ask another GPU: if it
    is right there, this card computes wrongly and must not train.

    ## Sources
    https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html
    """
    if not kernels.checks:
        raise Unknown("no small kernel was run")
    for state, broken in (("wrong", _in(kernels, "wrong")), ("failed", _in(kernels, "failed", "out-of-memory"))):
        if broken:
            yield _finding(kernels, state, broken)


def _in(kernels: KernelAnswers, *states: str) -> list[KernelCheck]:
    return [each for each in kernels.checks if each.state in states and NOT_WRITTEN not in each.reason]


def _finding(kernels: KernelAnswers, state: str, broken: list[KernelCheck]) -> Finding:
    where = kernels.name or ("the GPU" if kernels.kind == "cuda" else "the CPU")
    more = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
    said = "gives a wrong result" if state == "wrong" else "fails"
    simple = any(each.precision in SIMPLE for each in broken)
    return Finding(
        f"A small kernel {said} on {where}: {_named(broken[0])}{more}",
        evidence=tuple(_told(kernels, each) for each in broken[:SHOWN]),
        fixes=_ways(kernels, state, broken[0].precision),
        subject=state,
        severity=Severity.ERROR if simple else Severity.WARNING,
    )


def _named(check: KernelCheck) -> str:
    return " ".join(filter(None, (check.precision, check.name, check.config.get("shape"))))


def _told(kernels: KernelAnswers, check: KernelCheck) -> Evidence:
    error = f" (relative rms error {check.rms_error:.1e})" if check.rms_error is not None else ""
    return see(kernels, "checks", _named(check), f"{check.reason}{error}")


def _ways(kernels: KernelAnswers, state: str, precision: str) -> tuple[Fix, ...]:
    again = "envdoctor check --level deep --only kernel-check-failed"
    if state == "wrong" and kernels.kind == "cuda":
        title, command = "Compare the GPUs by the error of one product: drain one that stands out", _on_each(precision)
    else:
        title, command = "See whether it fails in a plain product too, with the whole traceback", _product(kernels)
    return (Fix(title, (Command(None, command),), Safety.SAFE, "nothing: it only computes", verify=again),)


def _product(kernels: KernelAnswers) -> str:
    device = "cuda" if kernels.kind == "cuda" else "cpu"
    code = f'a = torch.randn(512, 512, device="{device}"); print((a @ a).double().norm())'
    return f"CUDA_LAUNCH_BLOCKING=1 python -c 'import torch; {code}'"


def _on_each(precision: str) -> str:
    error = "error = lambda a: float(((a @ a).double() - a.double() @ a.double()).abs().max())"
    each = f'torch.randn(512, 512, device=f"cuda:{{n}}", dtype=torch.{DTYPES.get(precision, "float32")})'
    code = f"import torch; {error}; print([error({each}) for n in range(torch.cuda.device_count())])"
    return f"python -c '{code}'"


RULES: tuple[Rule, ...] = (kernel_check_failed,)
