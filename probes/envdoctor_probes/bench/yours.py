"""[payload] The user's own model: ``module:callable``. Whatever it does wrong becomes words, not a traceback."""

from __future__ import annotations

import importlib
from typing import Any, Optional, Tuple

from envdoctor_probes.bench.nested import call, tensors
from envdoctor_probes.bench.recipes import Inputs, Recipe, images

__all__ = ["Unusable", "loss_of", "recipe"]


class Unusable(Exception):  # noqa: N818 - said to the user as it is
    """What was named cannot be measured as a model; the words say what was expected and what was there."""


def recipe(torch: Any, name: str, batch: Optional[int]) -> Recipe:
    """Load ``module:callable`` and give it as a recipe.

    The callable gives a ``torch.nn.Module`` that takes images (batch, 3, 224, 224), or a pair of a module and the
    inputs of one batch: a tensor, a tuple or a dictionary of arguments. One with a parameter ``batch`` is told it.
    """
    make = _callable(name)
    _, given = _made(torch, name, make, batch)
    inputs = None if given is None else _inputs(torch, name, given)
    number = None if inputs is None else _batch_of(torch, inputs)

    def feed(wished: int) -> Tuple[Inputs, Any]:
        return images(torch, wished) if inputs is None else (inputs, None)

    def anew() -> Any:  # each time: what one step changes in a model must not reach the next
        model = _made(torch, name, make, batch)[0]
        _give_sizes(torch, model, feed(1)[0])
        return model

    return Recipe(
        name, "yours", anew, feed, lambda output, _target: loss_of(torch, output), layout=inputs is None,
        sample="image" if inputs is None else "sample", fixed_batch=number,
    )  # fmt: skip


def _give_sizes(torch: Any, model: Any, inputs: Inputs) -> None:
    """Run a model with lazy layers once: their parameters have no size before that."""
    lazy = getattr(torch.nn.parameter, "UninitializedParameter", ())
    if any(isinstance(each, lazy) for each in model.parameters()):
        with torch.no_grad():
            call(model, inputs)


def _callable(name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise Unusable(f"{module} of {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        there = sorted(each for each in vars(importlib.import_module(module)) if not each.startswith("_"))[:10]
        raise Unusable(f"{module} has no callable {attribute!r}; it has {', '.join(there) or 'nothing public'}")
    return found


def _made(torch: Any, name: str, make: Any, batch: Optional[int]) -> Tuple[Any, Any]:
    import inspect

    try:
        told = "batch" in inspect.signature(make).parameters
    except (TypeError, ValueError):  # a builtin
        told = False
    try:
        made = make(batch=batch or 1) if told else make()
    except (Exception, SystemExit) as error:
        raise Unusable(f"{name} raised {type(error).__name__}: {error}") from error
    model, given = made if isinstance(made, (tuple, list)) and len(made) == 2 else (made, None)
    if not isinstance(model, torch.nn.Module):
        kind = type(model).__name__
        raise Unusable(f"{name} gave {kind}, expected a torch.nn.Module, or a pair of a module and its inputs")
    return model, given


def _inputs(torch: Any, name: str, given: Any) -> Inputs:
    inputs = given if isinstance(given, tuple) else (given,)
    if not any(True for _ in tensors(torch, inputs)):
        raise Unusable(f"{name} gave inputs without a tensor: {type(given).__name__}")
    return inputs


def _batch_of(torch: Any, inputs: Inputs) -> int:
    first = next(tensors(torch, inputs))
    return int(first.shape[0]) if first.dim() else 1


def loss_of(torch: Any, output: Any) -> Any:
    """Give something to minimise: the output's own ``loss``, or the mean square of its first floating-point tensor."""
    loss = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", None)
    if isinstance(loss, torch.Tensor):
        return loss.float().mean()
    values = (
        vars(output)
        if not isinstance(output, (torch.Tensor, dict, tuple, list)) and hasattr(output, "__dict__")
        else output
    )
    for each in tensors(torch, values):
        if each.is_floating_point() and each.requires_grad:
            return each.float().square().mean()
    raise Unusable(f"its output ({type(output).__name__}) holds no tensor that a gradient could flow from")
