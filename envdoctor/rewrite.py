"""rewrite(value, change) -> the same value with each string in it changed, however deep it lies."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def rewrite(value: T, change: Callable[[str], str]) -> T:
    """Apply ``change`` to every string in plain data and dataclasses.

    Keys that are identifiers (names of facts and fields) stay as they are: they are ours, not the machine's.
    """
    changed: Any = _rewritten(value, change)
    return changed  # type: ignore[no-any-return]


def _rewritten(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, enum.Enum) or value is None:
        return value
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_key(key, change): _rewritten(each, change) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)(_rewritten(each, change) for each in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _dataclass(value, change)
    return value


def _key(key: Any, change: Callable[[str], str]) -> Any:
    return change(key) if isinstance(key, str) and not key.isidentifier() else key


def _dataclass(value: Any, change: Callable[[str], str]) -> Any:
    """Copy a dataclass only where something in it changes: a snapshot is thousands of small ones."""
    changes = {}
    for each in dataclasses.fields(value):
        old = getattr(value, each.name)
        new = _rewritten(old, change)
        if new != old:
            changes[each.name] = new
    return dataclasses.replace(value, **changes) if changes else value
