"""[payload] How fp32 is computed: read, set, and read off a result whatever the settings say."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any, Iterator, List, Tuple

from envdoctor.facts.kernels import Fingerprint

__all__ = ["default_precision", "fingerprint", "fp32_computed_as", "read_fp32", "says"]

SIZE = 1024
CPU_SIZE = 256
# Relative rms error of one fp32 product of normal numbers against fp64, by the rounding of its factors: 2.5e-7 for
# fp32, 2.9e-4 for TF32 (10 bits), 2.3e-3 for bf16 (7 bits). Between them there is an order of magnitude of room.
_UP_TO = ((1e-5, "ieee"), (1e-3, "tf32"), (8e-3, "bf16"))
Setting = Tuple[Any, str, Any]


def says(rms_error: float) -> str:
    """Say whose rounding an error has: ieee, tf32, bf16, or unclear."""
    return next((name for limit, name in _UP_TO if rms_error <= limit), "unclear")


def fingerprint(torch: Any, device: Any, setting: str = "default", size: int = 0) -> Fingerprint:
    """Multiply two fp32 matrices as torch is set now, and compare with fp64."""
    size = size or (SIZE if device.type == "cuda" else CPU_SIZE)
    generator = torch.Generator(device="cpu").manual_seed(20260101)
    first, second = (torch.randn(size, size, generator=generator).to(device) for _ in range(2))
    exact = first.double() @ second.double()
    found = (first @ second).double()
    rms = float(((found - exact).square().mean() / exact.square().mean()).sqrt())
    if not rms >= 0:
        return Fingerprint(setting, None, "unclear", size, "the product holds values that are no numbers")
    return Fingerprint(setting, rms, says(rms), size)


def default_precision(torch: Any, device: Any) -> str:
    """Name the precision that fp32 products really have where nothing was set: fp32, tf32 or bf16."""
    said = fingerprint(torch, device).says
    return {"ieee": "fp32", "unclear": "fp32"}.get(said, said)


def read_fp32(torch: Any) -> str:
    """Give the setting of fp32 products, by the newer name or else the older one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(AttributeError, RuntimeError, AssertionError):
            return str(torch.backends.cuda.matmul.fp32_precision)
        return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee"


@contextlib.contextmanager
def fp32_computed_as(torch: Any, setting: str) -> Iterator[None]:
    """Set products and convolutions of fp32 to ``ieee`` or ``tf32`` within; ``default`` leaves them alone."""
    undo = _set(torch, setting) if setting != "default" else []
    try:
        yield
    finally:
        for place, name, value in undo:
            setattr(place, name, value)


def _set(torch: Any, setting: str) -> List[Setting]:
    """Set by the older names, and give what is needed to undo it.

    Where the newer ones (torch 2.9) were used, reading the older raises, and the compiler of torch 2.9 to 2.13 reads
    those. The newer are for a process in which they have been used already, or where there are no others.
    """
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the older names are old
        newer = _now(((cuda.matmul, "fp32_precision"), (getattr(cudnn, "conv", None), "fp32_precision")))
        older = _now(((cuda.matmul, "allow_tf32"), (cudnn, "allow_tf32")))
        value: Any = setting == "tf32" if older else setting
        for place, name, _ in older or newer:
            setattr(place, name, value)
    return [*older, *newer]  # the newer last: "none" has no older name


def _now(names: Tuple[Tuple[Any, str], ...]) -> List[Setting]:
    """Give what is set by these names; nothing where torch does not have all of them, or refuses to tell."""
    with contextlib.suppress(AttributeError, RuntimeError, AssertionError):
        return [(place, name, getattr(place, name)) for place, name in names]
    return []
