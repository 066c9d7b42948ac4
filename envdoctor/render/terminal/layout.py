"""Breaking text into lines of a given width, in terminal cells: paragraphs, flowing items, tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from envdoctor.render.terminal.look import Line, Span

GAP = 2
NARROW_VALUE = 24  # columns; a table with less room for its values puts its cells under each other


def cells(text: str) -> int:
    """Count the terminal columns that ``text`` takes."""
    from rich.cells import cell_len

    return len(text) if text.isascii() else cell_len(text)


def wrap(text: str, width: int) -> list[str]:
    """Break at spaces so that no line is wider than ``width``; a longer word is broken, after a slash if it can be."""
    lines, line = [], ""
    for word in text.split(" "):
        if line and cells(line) + 1 + cells(word) <= width:
            line = f"{line} {word}"
            continue
        if line:
            lines.append(line)
        *full, line = _pieces(word, width)
        lines.extend(full)
    return [*lines, line]


def _pieces(word: str, width: int) -> list[str]:
    pieces = []
    while cells(word) > width:
        end = _longest_start(word, width)
        slash = max(word.rfind(sign, 0, end) for sign in "/,=") + 1
        cut = slash if slash > end // 2 else end
        pieces.append(word[:cut])
        word = word[cut:]
    return [*pieces, word]


def _longest_start(word: str, width: int) -> int:
    end = min(len(word), width)
    while end > 1 and cells(word[:end]) > width:
        end -= 1
    return max(end, 1)


def paragraph(text: str, width: int, *, style: str = "", first: Line = (), indent: int = 0) -> Iterator[Line]:
    """Give a text as lines indented alike; ``first``, of the indent's width, stands before the first of them."""
    for number, line in enumerate(wrap(text, max(width - indent, 1))):
        lead = first if first and not number else ((" " * indent, ""),)
        yield (*lead, (line, style))


def flow(items: Iterable[Line], width: int, *, between: str, indent: int = 0) -> Iterator[Line]:
    """Put items on lines, unbroken where they fit, with ``between`` between two on one line."""
    line: list[Span] = []
    for item in items:
        used, wanted = _width(line), _width(item)
        if line and used + cells(between) + wanted <= width:
            line += [(between, "quiet"), *item]
            continue
        if line:
            yield tuple(line)
        line = [(" " * indent, ""), *item]
        if indent + wanted > width:
            *full, last = paragraph("".join(t for t, _ in item), width, style=item[-1][1], indent=indent)
            yield from full
            line = list(last)
    if line:
        yield tuple(line)


def _width(spans: Iterable[Span]) -> int:
    return sum(cells(text) for text, _ in spans)


def table(rows: Sequence[Line], width: int, *, indent: int = 0, below: str = "{}") -> Iterator[Line]:
    """Align name, value and remark; a remark without room goes under its value, a long value wraps in its column.

    ``below`` is how a remark is written that stands on a line of its own. Where not even name and value fit side by
    side, all are put under each other.
    """
    if not rows:
        return
    lead = indent + max(cells(row[0][0]) for row in rows) + GAP
    room = width - lead
    if room < NARROW_VALUE:
        yield from _stacked(rows, width, indent, below)
        return
    beside = [cells(row[1][0]) for row in rows if cells(row[1][0]) + GAP + cells(row[2][0]) <= room]
    column = max(beside, default=0)
    for name, value, remark in rows:
        fits = cells(value[0]) <= column and column + GAP + cells(remark[0]) <= room
        first = ((" " * indent, ""), name, (" " * (lead - indent - cells(name[0])), ""))
        if fits:
            yield (*first, value, (" " * (column - cells(value[0]) + GAP), ""), remark)
            continue
        yield from paragraph(value[0], width, style=value[1], first=first, indent=lead)
        if remark[0]:
            yield from paragraph(below.format(remark[0]), width, style=remark[1], indent=lead)


def columns(rows: Sequence[Line], width: int, *, indent: int = 0) -> Iterator[Line]:
    """Align name, state and remark, each remark wrapped in its column; without room for that, give a ``table``."""
    widest = [max((cells(row[place][0]) for row in rows), default=0) for place in range(2)]
    lead = indent + sum(widest) + 2 * GAP
    if width - lead < NARROW_VALUE:
        yield from table(rows, width, indent=indent)
        return
    for name, state, remark in rows:
        padded = [
            (text, style, " " * (wide - cells(text) + GAP))
            for (text, style), wide in zip((name, state), widest, strict=True)
        ]
        first = tuple(span for text, style, gap in padded for span in ((text, style), (gap, "")))
        yield from paragraph(remark[0], width, style=remark[1], first=((" " * indent, ""), *first), indent=lead)


def _stacked(rows: Sequence[Line], width: int, indent: int, below: str) -> Iterator[Line]:
    for name, value, remark in rows:
        yield from paragraph(name[0], width, style=name[1], indent=indent)
        yield from paragraph(value[0], width, style=value[1], indent=indent + GAP)
        if remark[0]:
            yield from paragraph(below.format(remark[0]), width, style=remark[1], indent=indent + GAP)
