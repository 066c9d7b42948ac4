"""[payload] The rungs of the ladder: what each changes, in which order they are climbed, and onto what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Tuple

__all__ = ["BESIDE", "CLIMB", "COLD", "DEFAULT", "Rung"]


@dataclass(frozen=True)
class Rung:
    """One change to a training step: ``change`` is what becomes different in ``training.Settings``.

    ``instead_of``: it is not put onto the rung of that name but in its place, as fp16 is instead of bf16.
    """

    step: str
    changes: str
    change: Dict[str, Any] = field(default_factory=dict)
    instead_of: str = ""


DEFAULT = Rung("default", "nothing is set: fp32 and attention as torch has them, AdamW, images from pageable memory")
CLIMB: Tuple[Rung, ...] = (
    Rung("fp32-ieee", "fp32 products in IEEE mode", {"fp32": "ieee"}),
    Rung("tf32", "fp32 products and convolutions in TF32", {"fp32": "tf32"}),
    Rung("amp-bf16", "autocast to bf16", {"amp": "bf16"}),
    Rung("amp-fp16", "autocast to fp16 with a gradient scaler", {"amp": "fp16"}, instead_of="amp-bf16"),
    Rung("fused-optimizer", "AdamW(fused=True)", {"fused": True}),
    Rung("channels-last", "memory format channels_last", {"channels_last": True}),
    Rung("cudnn-benchmark", "torch.backends.cudnn.benchmark = True", {"cudnn_benchmark": True}),
    Rung("pinned", "pinned host memory and non_blocking copies", {"inputs": "pinned"}),
)
# Off the climb: what is lost with it, or what it saves in memory.
BESIDE: Tuple[Rung, ...] = (
    Rung("math-attention", "attention by its formula (the math backend)", {"attention": "math"}),
    Rung("attention-weights", "eager attention that gives its weights (need_weights)", {"attention": "weights"}),
    Rung("deterministic", "torch.use_deterministic_algorithms(True)", {"deterministic": True}),
    Rung("checkpointing", "every block computed again in the backward pass", {"checkpointing": True}),
)
# Last, because they begin with a long pause.
COLD: Tuple[Rung, ...] = (
    Rung("compile", "torch.compile", {"compile": True}),
    Rung("cuda-graph", "the whole step replayed as a CUDA graph", {"graph": True}),
)
