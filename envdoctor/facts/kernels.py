"""[payload] What a few small kernels answered: how fp32 is really computed, which attention backend is picked."""

from __future__ import annotations

from dataclasses import field
from typing import Dict, Optional, Tuple

from envdoctor.facts import Fact, read_from
from envdoctor.facts.dataclass import dataclass


@dataclass(frozen=True)
class Fingerprint:
    """One fp32 product against fp64: ``rms_error`` tells how it was really computed, whatever the flags say."""

    setting: str = ""  # default (as a fresh process has it), ieee, tf32: what was asked for
    rms_error: Optional[float] = None
    says: str = ""  # ieee, tf32, bf16, unclear: whose rounding the error has
    size: int = 0
    reason: str = ""  # why there is no answer


@dataclass(frozen=True)
class AttentionChoice:
    """Which backend ``scaled_dot_product_attention`` picks for one input, and why it cannot use the others."""

    config: Dict[str, str] = field(default_factory=dict)
    precision: str = ""
    picked: Optional[str] = None  # math, flash, efficient, cudnn
    usable: Tuple[str, ...] = ()
    refused: Dict[str, str] = field(default_factory=dict)  # by backend, in torch's own words
    reason: str = ""  # why ``picked`` is not known


@dataclass(frozen=True)
class KernelCheck:
    """One small piece of work and what became of it.

    ``state``: works, wrong (the result differs from the reference), out-of-memory, failed (``reason`` has the error's
    words), not-applicable. ``seconds`` is of a single warm run, good for an order of magnitude and no more.
    """

    name: str = ""  # allocate, gemm, attention, copy-to-device, copy-to-host
    precision: str = ""
    config: Dict[str, str] = field(default_factory=dict)
    state: str = "works"
    reason: str = ""
    seconds: Optional[float] = None
    rms_error: Optional[float] = None


@dataclass(frozen=True)
class KernelAnswers(Fact):
    """Small kernels of each sort, run once on the device that torch would use."""

    kind: str = read_from("torch.cuda.is_available()", "")  # cuda or cpu
    name: Optional[str] = read_from("torch.cuda.get_device_properties()")
    capability: Optional[str] = read_from("torch.cuda.get_device_properties()")
    fingerprint: Optional[Fingerprint] = read_from("torch.mm of fp32 against fp64")
    attention: Tuple[AttentionChoice, ...] = read_from("torch._fused_sdp_choice, torch.backends.cuda.can_use_*", ())
    checks: Tuple[KernelCheck, ...] = read_from("torch", ())
