"""Precision settings that leave speed unused."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.bench import BenchClocks, BenchDevice, BenchGemm, BenchLadder
from envdoctor.facts.driver import CudaDriver, NvidiaSmi
from envdoctor.facts.host import Environment
from envdoctor.facts.torch import TorchBuild, TorchCuda, TorchSettings
from envdoctor.finding import Command, Confidence, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.knowledge.cuda import numbers
from envdoctor.knowledge.gpus import capability, tf32_gain
from envdoctor.rule import Missing, NotApplicable, Unknown, rule
from envdoctor.rules.builds import need_cuda_build
from envdoctor.rules.cards import Card, cards
from envdoctor.rules.costs import of_a_step, of_products

AMPERE = (8, 0)
IEEE_BY_DEFAULT_SINCE = (1, 12)
WORTH_NAMING = 1.2  # GeForce cards of the 30 and 40 series gain nothing in peak
TORCH_OVERRIDE, NVIDIA_OVERRIDE = "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "NVIDIA_TF32_OVERRIDE"
OF_NVIDIA = re.compile(r"[+.]nv\d")  # 2.7.0a0+7c8ec84dab.nv25.03
FULL_PRECISION = frozenset({"ieee", "none"})


@rule(severity=Severity.INFO, group="precision")
def tf32_off(
    build: TorchBuild,
    settings: TorchSettings | None,
    environment: Environment | None,
    driver: CudaDriver | None,
    smi: NvidiaSmi | None,
    cuda: TorchCuda | None,
    device: BenchDevice | None,
    gemm: BenchGemm | None,
    ladder: BenchLadder | None,
    clocks: BenchClocks | None,
) -> Iterator[Finding]:
    """fp32 matrix multiplications do not use TF32, although the GPU has Tensor Cores for it.

    ## What it means
    From Ampere (compute capability 8.0) on, TF32 computes fp32 matrix products on Tensor Cores with a 10-bit mantissa.
    PyTorch leaves it off for matrix products, since 1.12, and on for cuDNN's convolutions. NVIDIA's own images turn it
    on.

    ## Why it matters
    fp32 training is then limited by the plain FP32 units: on an A100 or H100 the peak is 7 to 8 times lower. Under AMP
    (bf16 or fp16) it matters little.

    ## How it is detected
    torch's setting in a fresh process. At level quick, where torch is not imported, its documented default and the two
    variables that change it. Only with a GPU known to be of compute capability 8.0 or more. A variable that turns TF32
    off is reported as a choice. What it costs here "envdoctor bench" measures: then it is a warning, with the factor.

    ## What to do
    Call torch.set_float32_matmul_precision("high") early in the program, or set the variable. Leave it off where full
    fp32 accuracy is wanted.

    ## Sources
    https://docs.pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices
    """
    need_cuda_build(build)
    gpus = [each for each in cards(driver, smi, cuda) if (capability(each.capability) or (0, 0)) >= AMPERE]
    if not gpus:
        raise _no_ampere(driver, smi, cuda)
    if _turned_on(environment):
        return
    forbidden = environment is not None and _forbidden(environment)
    shown = () if forbidden else _setting(settings, build, environment)
    if not shown and not forbidden:
        return
    chosen = _chosen(environment)
    cost = of_a_step(device, ladder, clocks, "tf32") or of_products(device, gemm, clocks)
    told = f": {cost.what} takes {cost.factor:.1f} times as long here" if cost else ""
    yield Finding(
        f"fp32 matrix products do not use TF32{f', chosen by {chosen.label}' if chosen else ''}{told}",
        "" if cost else _gain(gpus),
        evidence=(*shown, gpus[0].evidence, *((chosen,) if chosen else ()), *(cost.evidence if cost else ())),
        fixes=() if chosen else _turn_on(),
        severity=Severity.WARNING if cost and not chosen else None,
        confidence=Confidence.CERTAIN if settings else Confidence.LIKELY,
    )


def _no_ampere(driver: CudaDriver | None, smi: NvidiaSmi | None, cuda: TorchCuda | None) -> Exception:
    found = cards(driver, smi, cuda)
    if found and all(each.capability for each in found):
        return NotApplicable("no GPU of compute capability 8.0 or more")
    return Unknown("the GPUs' compute capability is not known") if found else Missing(CudaDriver)


def _turned_on(environment: Environment | None) -> bool:
    return environment is not None and environment.get(TORCH_OVERRIDE) == "1" and not _forbidden(environment)


def _forbidden(environment: Environment) -> bool:
    return environment.get(NVIDIA_OVERRIDE) == "0"


def _setting(
    settings: TorchSettings | None, build: TorchBuild, environment: Environment | None
) -> tuple[Evidence, ...]:
    """Give what shows that matrix products are computed in full fp32; empty when they are not."""
    if settings and settings.matmul_fp32_precision is not None:
        off = settings.matmul_fp32_precision in FULL_PRECISION and settings.float32_matmul_precision in {
            None,
            "highest",
        }
        return (see(settings, "matmul_fp32_precision", "matmul.fp32_precision"),) if off else ()
    if settings and settings.float32_matmul_precision is not None:
        off = settings.float32_matmul_precision == "highest"
        return (see(settings, "float32_matmul_precision", "float32_matmul_precision"),) if off else ()
    if settings and settings.allow_tf32_matmul is not None:
        return () if settings.allow_tf32_matmul else (see(settings, "allow_tf32_matmul", "allow_tf32 of matmul"),)
    if environment is None and OF_NVIDIA.search(build.version or ""):
        raise Unknown("this is NVIDIA's own torch, whose image turns TF32 on by a variable that was not read")
    version = numbers(build.version)
    if version is None or version < IEEE_BY_DEFAULT_SINCE:
        raise Unknown("torch's setting was not read, and the default of this version is not known")
    return (see(build, "version", "torch's default since 1.12", "full fp32"),)


def _chosen(environment: Environment | None) -> Evidence | None:
    if environment is None:
        return None
    for name in (NVIDIA_OVERRIDE, TORCH_OVERRIDE):
        if environment.get(name) == "0":
            return see(environment, "variables", f"{name}=0", "0")
    return None


def _gain(gpus: list[Card]) -> str:
    name = next((each.name for each in gpus if (tf32_gain(each.name) or 0) > WORTH_NAMING), "")
    factor = tf32_gain(name) if name else None
    return f"By its data sheet the {name} computes TF32 up to {factor:.1f} times as fast as FP32." if factor else ""


def _turn_on() -> tuple[Fix, ...]:
    return (
        Fix(
            'Call torch.set_float32_matmul_precision("high") early in the program, or set this variable',
            (Command(None, f"export {TORCH_OVERRIDE}=1"),),
            Safety.SAFE,
            "this shell only; fp32 products keep about three decimal digits",
        ),
    )


RULES = (tf32_off,)
