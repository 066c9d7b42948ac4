"""Ranges of ranks and of numbered machines, taken apart: who has which value, in the order in which people count."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BRACKET = re.compile(r"([^,\[]*)\[([^\]]*)\]|([^,]+)")


def expand(ranks: str) -> Iterator[str]:
    """Give the members of ``248-255,300`` and of ``node[001-004,009]`` one by one."""
    for prefix, inside, plain in _BRACKET.findall(ranks):
        for part in (inside or plain).split(","):
            first, _, last = part.strip().partition("-")
            if first.isdecimal() and last.isdecimal():
                width = len(first) if first.startswith("0") else 0
                yield from (f"{prefix}{number:0{width}d}" for number in range(int(first), int(last) + 1))
            elif part.strip():
                yield f"{prefix}{part.strip()}"


def natural(name: str) -> list[tuple[bool, int, str]]:
    """Give a key that sorts 2 before 10."""
    parts = re.split(r"(\d+)", name)
    return [(not each.isdecimal(), int(each) if each.isdecimal() else 0, each) for each in parts if each]


def owners(differences: Sequence[Sequence[str]]) -> list[list[int]]:
    """Give, for each difference, the number of the value that each member has, -1 where it is not known.

    A difference is the ranges of its values; a member stands in the same place in every difference.
    """
    found = [[list(expand(ranks)) for ranks in each] for each in differences]
    names = sorted({name for each in found for share in each for name in share}, key=natural)
    place = {name: number for number, name in enumerate(names)}
    owned = [[-1] * len(names) for _ in found]
    for row, shares in zip(owned, found, strict=True):
        for number, share in enumerate(shares):
            for name in share:
                row[place[name]] = number
    return owned
