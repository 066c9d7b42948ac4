"""Error messages: what CUDA, NCCL, PyTorch and their neighbours print, what it means, and how to make sure."""

from __future__ import annotations

import functools
import re
import sys
from typing import Any

import msgspec

from envdoctor.knowledge import DATA

WORDS = "words"  # the category of what people write themselves, as against what programs print


class Message(msgspec.Struct, frozen=True):
    """One message: how to know it, an example as the software prints it, its cause, and what confirms and fixes it.

    ``findings``: the ids that it is evidence for, the likeliest first; none where no environment is to blame.
    """

    id: str
    pattern: re.Pattern[str]
    example: str
    category: str
    findings: tuple[str, ...]
    severity: str
    cause: str
    confirm: tuple[str, ...]
    fix: tuple[str, ...]
    source: tuple[str, ...]


@functools.cache
def messages() -> tuple[Message, ...]:
    """Give every message of the table."""
    return tuple(_message(each) for each in _table()["error"])


def _table() -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads((DATA / "error_messages.toml").read_text(encoding="utf-8"))


def _message(row: dict[str, Any]) -> Message:
    lists = {name: tuple(row[name]) for name in ("findings", "confirm", "fix", "source")}
    return Message(pattern=re.compile(row["pattern"]), **{k: v for k, v in row.items() if k != "pattern"} | lists)
