"""TOML of somebody else, read whole or not at all: what is in it is data, whatever its shape."""

from __future__ import annotations

import sys
from typing import Any

MOST_PACKAGES = 5_000


def table_of(text: str) -> dict[str, Any] | None:
    """Parse TOML; None when it is none, or is nested beyond reason."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return None


def table(value: Any, *names: str) -> dict[str, Any]:
    """Give the table below these names; an empty one where something else is there."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def tables(value: Any) -> list[dict[str, Any]]:
    """Give the tables of an array, at most ``MOST_PACKAGES``."""
    return [each for each in value[:MOST_PACKAGES] if isinstance(each, dict)] if isinstance(value, list) else []


def words(value: Any) -> tuple[str, ...]:
    """Give the strings of an array, or the one string."""
    found = value if isinstance(value, list) else [value]
    return tuple(each[:2_000] for each in found[:MOST_PACKAGES] if isinstance(each, str))


def word(value: Any) -> str:
    """Give a string, or an empty one where something else is there."""
    return value[:2_000] if isinstance(value, str) else ""
