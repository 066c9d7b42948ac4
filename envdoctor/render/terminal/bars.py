"""Small charts of one line a row: bars from zero, and a strip that shows who has which value."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from envdoctor.render.terminal.layout import GAP, cells

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from envdoctor.render.terminal.look import Line, Look

EIGHTHS = "▏▎▍▌▋▊▉█"
LEAST = 10  # columns that a bar needs to say anything
LETTERS = "abcdefghijklmnopqrstuvwxyz"
UNKNOWN = "?"


def bars(rows: Sequence[tuple[str, float, str]], look: Look, *, indent: int = 2) -> Iterator[Line]:
    """Give a bar for each (name, value, words); nothing where the terminal is too narrow or nothing is above zero."""
    most = max((value for _, value, _ in rows), default=0.0)
    names = max((cells(look.clean(name)) for name, _, _ in rows), default=0)
    said = max((cells(look.clean(words)) for _, _, words in rows), default=0)
    room = look.width - indent - names - said - 2 * GAP
    if room < LEAST or most <= 0:
        return
    for name, value, words in rows:
        label = look.clean(name)
        first = (" " * indent + label + " " * (names - cells(label) + GAP), "")
        yield (first, (bar(value / most, room, unicode=look.unicode), "strong"), (f"  {look.clean(words)}", ""))


def bar(share: float, room: int, *, unicode: bool) -> str:
    """Draw a share of the room: in eighths of a column where the terminal has them; what is above zero is seen."""
    if share <= 0:
        return ""
    if not unicode:
        return "#" * max(1, round(share * room))
    whole, eighths = divmod(max(1, round(share * room * 8)), 8)
    return EIGHTHS[-1] * whole + (EIGHTHS[eighths - 1] if eighths else "")


def strip(owners: Sequence[int], room: int) -> str:
    """Draw members in order, a letter for each value, ``.`` for the first one; many members share a column.

    Where they differ within a column, the rarer value is drawn: one odd rank of a thousand is seen.
    """
    if not owners or room < 1:
        return ""
    often = {value: owners.count(value) for value in set(owners)}
    columns = min(room, len(owners))
    edges = [number * len(owners) // columns for number in range(columns + 1)]
    parts = (owners[low:high] for low, high in itertools.pairwise(edges))
    return "".join(_letter(min(part, key=lambda value: (often[value], value))) for part in parts)


def _letter(value: int) -> str:
    if value < 0:
        return UNKNOWN
    return "." if value == 0 else LETTERS[(value - 1) % len(LETTERS)]
