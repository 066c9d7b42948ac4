"""[payload] Inputs of models: tensors inside tuples, lists and dictionaries."""

from __future__ import annotations

from typing import Any, Callable, Iterator

__all__ = ["call", "mapped", "tensors"]


def mapped(torch: Any, value: Any, change: Callable[[Any], Any]) -> Any:
    """Give the same inputs with each tensor changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {name: mapped(torch, each, change) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(mapped(torch, each, change) for each in value)
    return value


def tensors(torch: Any, value: Any) -> Iterator[Any]:
    """Give the tensors in their order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from tensors(torch, each)
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from tensors(torch, each)


def call(model: Any, inputs: Any) -> Any:
    """Call a model with its inputs: a single dictionary holds named arguments."""
    return model(**inputs[0]) if len(inputs) == 1 and isinstance(inputs[0], dict) else model(*inputs)
