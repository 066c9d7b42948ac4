"""[payload] Facts as plain data that JSON can hold: what cannot be said in UTF-8 or as a finite number is made so."""

from __future__ import annotations

import json
import math
import re
from dataclasses import fields, is_dataclass
from typing import Any, Dict, Mapping

LARGEST = 4 << 20
_LONE = re.compile("[\ud800-\udfff]")


class NotPlain(Exception):  # noqa: N818 - says what the value is
    """A value that is no plain data; the words name where it sits and its type."""


def text(value: str) -> str:
    """Make text valid Unicode: a byte that was no UTF-8 (a lone surrogate) is spelled in hex, so that it shows."""
    return _LONE.sub(_spelled, str.__str__(value)) if _LONE.search(value) else str.__str__(value)


def _spelled(found: Any) -> str:
    code = ord(found.group())
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else "\N{REPLACEMENT CHARACTER}"


def plain(value: Any, where: str = "") -> Any:
    """Turn dataclasses, tuples, sets and mappings into dictionaries and lists; raise ``NotPlain`` for anything else."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        return text(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return _collection(value, where)


def _collection(value: Any, where: str) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name), f"{where}.{each.name}") for each in fields(value)}
    if isinstance(value, Mapping):
        return {text(str(key)): plain(each, f"{where}.{key}") for key, each in value.items()}
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=str)
    if isinstance(value, (list, tuple)):
        return [plain(each, f"{where}[{number}]") for number, each in enumerate(value)]
    raise NotPlain(f"{where.lstrip('.') or 'the answer'} is of type {type(value).__name__}, which is no plain data")


def line(event: Mapping[str, Any]) -> bytes:
    """Give the event as one line of ASCII JSON."""
    spelled: Dict[str, Any] = plain(event)
    return json.dumps(spelled, separators=(",", ":")).encode("ascii") + b"\n"
