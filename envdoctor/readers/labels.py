"""``Label: value`` lines, the common shape of environment reports."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LABEL = re.compile(
    r"^\s{0,40}(?:[-*\u2022+] {0,3})?(?:\*\*|`)?([A-Za-z][\w /&()\[\].,-]{0,60}?)\s{0,40}(?:\*\*|`)?:(?:\*\*)? ?(.*)$"
)
_EXAMPLE = re.compile(r"\s?\((?:e\.?g\.?|i\.?e\.?|for example|if |`)[^()]{0,60}\)?")
NOTHING = frozenset({
    "", "n/a", "none", "could not collect", "not set", "not found", "unknown", "not installed", "no cuda", "-", "null",
    "nan", "<unset>", "unset", "na", "?", "not available", "not applicable", "n.a.",
})  # fmt: skip
NOT_COLLECTED = frozenset({"could not collect", "unknown", "n/a"})


@dataclass(frozen=True)
class Labelled:
    """One label in lower case, its value, the lines below it up to the next label, and where they stand."""

    label: str
    value: str
    below: tuple[str, ...]
    at: int

    @property
    def values(self) -> tuple[str, ...]:
        """The value, or the lines below where it stands on lines of its own."""
        return tuple(filter(None, (self.value, *(line.strip() for line in self.below))))


def labelled(lines: Iterable[str]) -> Iterator[Labelled]:
    """Give each label with what belongs to it."""
    label, value, at = "", "", 0
    below: list[str] = []
    for number, line in enumerate(lines):
        match = _LABEL.match(line) if ":" in line else None
        if match and not _continues(line):
            if label:
                yield Labelled(label, value, tuple(below), at)
            label, value, below, at = _plain(match.group(1)), match.group(2).strip(" `*"), [], number
        elif label:
            below.append(line)
    if label:
        yield Labelled(label, value, tuple(below), at)


def _plain(label: str) -> str:
    """Take the examples of an issue form out of a label: ``PyTorch Version (e.g., 1.0)``."""
    return _EXAMPLE.sub("", label).strip().lower() if "(" in label else label.lower()


def _continues(line: str) -> bool:
    """Tell a path (``/usr/lib/x: y``) or a list entry (``[pip3] x``) from a label."""
    return line.lstrip().startswith(("/", "["))


def said(value: str) -> str | None:
    """Give a value, or None for the many ways to say that there is none."""
    value = value.strip()
    return None if value.lower() in NOTHING else value


def why_not(value: str) -> str | None:
    """Give the words with which a report says that it could not find something out, or None."""
    return value.strip() if value.strip().lower() in NOT_COLLECTED else None


def truth(value: str) -> bool | None:
    """Read True/Yes and False/No; anything else is not known."""
    return {"true": True, "yes": True, "false": False, "no": False}.get(value.strip().lower().rstrip("."))
