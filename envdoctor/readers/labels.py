"""``Label: value`` lines, the common shape of environment reports."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LABEL = re.compile(r"^\s{0,40}([A-Za-z][\w /&()\[\].-]{0,60}?)\s*: ?(.*)$")
NOTHING = frozenset({"", "n/a", "none", "could not collect", "not set", "not found", "unknown", "not installed"})


def labelled(lines: Iterable[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Give each label (lower case), its value and the lines below it up to the next label."""
    label, value = "", ""
    below: list[str] = []
    for line in lines:
        match = _LABEL.match(line)
        if match and not _continues(line):
            if label:
                yield label, value, below
            label, value, below = match.group(1).lower(), match.group(2).strip(), []
        elif label:
            below.append(line)
    if label:
        yield label, value, below


def _continues(line: str) -> bool:
    """Tell a path (``/usr/lib/x: y``) or a list entry (``[pip3] x``) from a label."""
    return line.lstrip().startswith(("/", "["))


def said(value: str) -> str | None:
    """Give a value, or None for the many ways to say that there is none."""
    value = value.strip()
    return None if value.lower() in NOTHING else value


def truth(value: str) -> bool | None:
    """Read True/Yes and False/No; anything else is not known."""
    return {"true": True, "yes": True, "false": False, "no": False}.get(value.strip().lower())
