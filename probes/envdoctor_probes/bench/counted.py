"""[payload] FLOPs of a model without a formula: counted on the meta device, where nothing is computed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Optional, Tuple

from envdoctor_probes.bench.nested import call, mapped
from envdoctor_probes.bench.suite import words

if TYPE_CHECKING:
    from envdoctor_probes.bench.recipes import Recipe

__all__ = ["count"]


def count(torch: Any, recipe: Recipe, model: Any) -> Tuple[Optional[int], Optional[int], str]:
    """Give FLOPs of one sample, forward and with backward, and why they are not known.

    Never on a real device: the CPU's fused attention is not seen by torch's counter, and a GPU's backward pass is
    seen with what it computes twice.
    """
    try:
        from torch.utils.flop_counter import FlopCounterMode
    except ImportError:
        return None, None, f"torch {torch.__version__} cannot count FLOPs"
    try:
        meta = copy.deepcopy(model).to("meta")
        inputs, target = mapped(
            torch, recipe.feed(1), lambda each: each.detach().to("meta").requires_grad_(each.requires_grad)
        )
        samples = recipe.fixed_batch or 1
        with FlopCounterMode(display=False) as forward:
            recipe.loss(call(meta, inputs), target)
        with FlopCounterMode(display=False) as both:
            recipe.loss(call(meta, inputs), target).backward()
    except Exception as error:
        return None, None, f"they cannot be counted: {words(error)}"
    return forward.get_total_flops() // samples, both.get_total_flops() // samples, ""
