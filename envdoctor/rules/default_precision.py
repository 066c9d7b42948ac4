"""Is a reduced precision at work that nobody asked for?"""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, NvidiaSmi
from envdoctor.facts.host import Environment
from envdoctor.facts.text import ErrorText
from envdoctor.facts.torch import TorchBuild, TorchCuda, TorchSettings
from envdoctor.finding import Evidence, Finding, Fix, Severity, see
from envdoctor.knowledge.cuda import numbers
from envdoctor.knowledge.gpus import capability
from envdoctor.remedy.variables import export, in_program
from envdoctor.rule import NotApplicable, Rule, rule
from envdoctor.rules.cards import Card, cards
from envdoctor.rules.said import Heard, hear, lead

AMPERE = (8, 0)
OVERRIDE = "NVIDIA_TF32_OVERRIDE"  # read by cuBLAS and cuDNN themselves
ON_FOR_PRODUCTS, OFF_AGAIN = (1, 7), (1, 12)  # torch turned TF32 on for matrix products with 1.7, off again with 1.12


@rule(severity=Severity.INFO, group="precision")
def tf32_default_precision(
    words: ErrorText | None,
    build: TorchBuild | None,
    settings: TorchSettings | None,
    driver: CudaDriver | None,
    smi: NvidiaSmi | None,
    cuda: TorchCuda | None,
    environment: Environment | None,
) -> Iterator[Finding]:
    """Float32 products are computed in TF32 by default.

    ## What it means
    From Ampere on, Tensor Cores multiply float32 numbers rounded to ten bits of mantissa. torch 1.7 to 1.11 does so for
    matrix products unless it is told otherwise, and every release does so for convolutions.

    ## Why it matters
    Results differ by about a thousandth from those of an older GPU or of the CPU. Training seldom minds; solvers,
    geometry and comparisons do.

    ## How it is detected
    The release of torch beside an Ampere or newer GPU: info. Where a text speaks of results that are inaccurate or
    differ, it is a warning. What was set explicitly speaks against it: torch's live settings, NVIDIA_TF32_OVERRIDE=0.

    ## What to do
    Switch TF32 off where the digits matter: torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32
    in the program, or NVIDIA_TF32_OVERRIDE=0 for a run, which no program can take back.

    ## Sources
    https://docs.pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices
    https://github.com/pytorch/pytorch/issues/67384
    """
    heard = hear(words, "tf32-default-precision")
    new = [each for each in cards(driver, smi, cuda) if (capability(each.capability) or (0,)) >= AMPERE]
    version = numbers(build.version if build else None)
    products = version is not None and ON_FOR_PRODUCTS <= version < OFF_AGAIN
    if not new:
        raise NotApplicable("no GPU that computes in TF32 is known")
    off = settings and settings.allow_tf32_matmul is False and settings.allow_tf32_cudnn is False
    if off or (environment and environment.get(OVERRIDE) == "0"):
        return
    shown = (see(build, "version", "torch"),) if build and build.version else ()
    if heard:
        yield _differs(heard, new, shown, products=products or version is None)
    elif products:
        title = f"torch before 1.12 multiplies float32 matrices in TF32 by default on the {new[0].name}"
        yield Finding(title, "", (*shown, new[0].evidence), _off())


def _differs(heard: Heard, new: list[Card], shown: tuple[Evidence, ...], *, products: bool) -> Finding:
    return lead(
        heard,
        "Results differ where TF32 is at work: float32 is multiplied with ten bits of mantissa on this GPU",
        *_off(),
        detail="" if products else "This torch uses it for convolutions by default, for products on request.",
        also=(*shown, new[0].evidence),
        severity=Severity.WARNING,
        confirmed=True if products else None,
    )


def _off() -> tuple[Fix, ...]:
    """Switch TF32 off: in CUDA's libraries for all that this shell starts, or where the program begins."""
    line = "torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False"
    return (
        export("Switch TF32 off for what this shell starts", f"{OVERRIDE}=0"),
        in_program("Or say so at the start of the program", line),
    )


RULES: tuple[Rule, ...] = (tf32_default_precision,)
