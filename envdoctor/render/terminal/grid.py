"""Tables of numbers: columns aligned under their heads; where they do not fit, each row's cells under its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from envdoctor.render.terminal.layout import GAP, cells, paragraph

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from envdoctor.render.terminal.look import Line, Look, Span


@dataclass(frozen=True)
class Column:
    """A column: its head, and whether it holds numbers, which stand at its right edge."""

    head: str
    number: bool = True


def grid(columns: Sequence[Column], rows: Sequence[Sequence[Span]], look: Look, *, indent: int = 2) -> Iterator[Line]:
    """Lay rows out; a column that is empty in all of them is left out.

    The last column holds words: it wraps within itself.
    """
    kept = [n for n in range(len(columns)) if any(row[n][0] for row in rows)]
    if not kept:
        return
    shown = [columns[n] for n in kept]
    body = [[row[n] for n in kept] for row in rows]
    wide = [max(cells(shown[n].head), *(cells(row[n][0]) for row in body)) for n in range(len(kept))]
    words = not shown[-1].number
    least = min(wide[-1], MOST_FOR_WORDS) if words else wide[-1]
    if indent + sum(wide[:-1]) + least + GAP * (len(kept) - 1) > look.width:
        yield from _stacked(shown, body, look, indent)
        return
    yield from _line(shown, [(each.head, "quiet") for each in shown], wide, look, indent)
    for row in body:
        yield from _line(shown, row, wide, look, indent)


MOST_FOR_WORDS = 14


def _line(
    columns: Sequence[Column], row: Sequence[Span], wide: Sequence[int], look: Look, indent: int
) -> Iterator[Line]:
    line: list[Span] = [(" " * indent, "")]
    for column, (text, style), width in zip(columns[:-1], row[:-1], wide[:-1], strict=True):
        space = " " * (width - cells(text))
        line += [(space, ""), (text, style)] if column.number else [(text, style), (space, "")]
        line.append((" " * GAP, ""))
    text, style = row[-1]
    if columns[-1].number:
        yield (*line, (" " * (wide[-1] - cells(text)), ""), (text, style))
        return
    used = sum(cells(part) for part, _ in line)
    yield from paragraph(text, look.width, style=style, first=tuple(line), indent=used)


def _stacked(columns: Sequence[Column], rows: Sequence[Sequence[Span]], look: Look, indent: int) -> Iterator[Line]:
    for row in rows:
        (name, style), *rest = row
        yield from paragraph(name, look.width, style=style, indent=indent)
        said = [f"{column.head} {text}".strip() for column, (text, _) in zip(columns[1:], rest, strict=True) if text]
        yield from paragraph(f" {look.dot} ".join(said), look.width, indent=indent + GAP)
