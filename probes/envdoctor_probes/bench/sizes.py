"""[payload] How many samples a step takes where nobody said so, and how large a model is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from envdoctor.facts.bench import BenchModel
from envdoctor_probes.bench.counted import count

if TYPE_CHECKING:
    from envdoctor_probes.bench.place import Place
    from envdoctor_probes.bench.recipes import Recipe
    from envdoctor_probes.bench.wanted import Wanted

__all__ = ["describe", "usual_batch"]

GIB = 1 << 30
# Memory that may be used, and the batch of images that fits with room to spare: a ViT-B in fp32 takes about 0.15 GiB
# an image. Sequences are longer, and one takes as much as several images.
_BATCHES = ((30, 128), (14, 64), (6, 32), (3, 16), (0, 4))
_SEQUENCES = {"bert_base": 4, "llama_block": 16}


def usual_batch(place: Place, recipe: Recipe, wanted: Wanted) -> int:
    """Give the batch that was asked for, the one the user's model brings, or one that suits the device's memory."""
    if recipe.fixed_batch is not None:
        return recipe.fixed_batch
    if wanted.batch is not None:
        return wanted.batch
    if not place.is_cuda:
        return 1
    batch = next(each for gib, each in _BATCHES if place.allowed_bytes >= gib * GIB)
    return max(1, batch // _SEQUENCES.get(recipe.name, 1))


def describe(place: Place, recipe: Recipe, batch: int) -> BenchModel:
    """Say what the model is and what a sample costs: by formula, else counted, else not known with the reason."""
    torch = place.torch
    model = _without_memory(torch, recipe)
    parameters = sum(each.numel() for each in model.parameters())
    about = BenchModel(
        model=recipe.name, origin=recipe.origin, sample=recipe.sample, batch=batch, tokens=recipe.tokens,
        parameters=parameters,
    )  # fmt: skip
    flops = recipe.flops
    if flops is not None:
        about = replace(about, flops_forward=flops.forward, flops_train=flops.train, flops_source="formula")
        if recipe.make_block is None:
            return about
        return replace(about, block_flops_forward=flops.block_forward, block_flops_train=flops.block_train)
    forward, train, why = count(torch, recipe, model)
    if forward is None:
        return replace(about, unknown=dict.fromkeys(("flops_forward", "flops_train", "flops_source"), why))
    return replace(about, flops_forward=forward, flops_train=train, flops_source="counted")


def _without_memory(torch: Any, recipe: Recipe) -> Any:
    """Make the model on the meta device where that is possible: a large one need not fit twice."""
    if recipe.ours and hasattr(torch, "device") and _can_enter(torch):
        with torch.device("meta"):
            return recipe.make()
    return recipe.make()


def _can_enter(torch: Any) -> bool:
    return hasattr(torch.device("cpu"), "__enter__")  # since torch 2.0
