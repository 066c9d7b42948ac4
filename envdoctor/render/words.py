"""A fact's value in words."""

from __future__ import annotations

from typing import Any


def words(value: Any) -> str:
    """Put a value in words: ``None`` is unknown, a sequence is a list with commas."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {words(each)}" for key, each in value.items()) or "none"
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(words(each) for each in value) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) or "(empty)"
