"""[payload] FLOPs of a model without a formula: counted on the meta device, where nothing is computed."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, Optional, Sequence, Tuple

from envdoctor_probes.bench.nested import call, mapped
from envdoctor_probes.bench.sdpa import called_by
from envdoctor_probes.bench.suite import words

if TYPE_CHECKING:
    from envdoctor_probes.bench.recipes import Recipe

__all__ = ["attends", "convolution_backward", "count"]


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
        meta, inputs, target = _on_meta(torch, recipe, model)
        samples = recipe.fixed_batch or 1
        with FlopCounterMode(display=False) as forward:
            recipe.loss(call(meta, inputs), target)
        corrected = {torch.ops.aten.convolution_backward: convolution_backward}
        with FlopCounterMode(display=False, custom_mapping=corrected) as both:
            recipe.loss(call(meta, inputs), target).backward()
    except Exception as error:
        return None, None, f"they cannot be counted: {words(error)}"
    return forward.get_total_flops() // samples, both.get_total_flops() // samples, ""


def _on_meta(torch: Any, recipe: Recipe, model: Any) -> Tuple[Any, Any, Any]:
    inputs, target = mapped(
        torch, recipe.feed(1), lambda each: each.detach().to("meta").requires_grad_(each.requires_grad)
    )
    return copy.deepcopy(model).to("meta"), inputs, target


def attends(torch: Any, recipe: Recipe) -> bool:
    """Tell whether a model's attention goes through torch's own function; yes where that cannot be found out."""
    if recipe.ours:
        return True
    try:
        meta, inputs, _ = _on_meta(torch, recipe, recipe.make())
        return called_by(torch, lambda: call(meta, inputs)) is not False
    except Exception:  # its own row will say what is wrong with the model
        return True


def convolution_backward(  # the signature of aten::convolution_backward, with shapes in the tensors' place
    above: Sequence[int], inputs: Sequence[int], weight: Sequence[int], *more: Any, **_out: Any
) -> int:
    """Give a convolution's backward FLOPs: as many as forward for each gradient that is wanted.

    torch's own formula (2.14 still) takes the weight's gradient of a convolution in groups for that of a dense one: a
    ConvNeXt then seems to compute three times as much as it does.
    """
    transposed, wanted = bool(more[4]), more[7]
    places = (inputs if transposed else above)[2:]
    forward = 2 * above[0] * math.prod(places) * math.prod(weight)
    return forward * sum(map(bool, wanted[:2]))
