"""What happens to a text on its way into a bug report, undone: colours, quotes, fences, entities, tags, line ends."""

from __future__ import annotations

import html
import re
from collections import Counter

from envdoctor.readers.rewrapping import joined

MOST_BYTES = 8_000_000
MOST_CHARACTERS = 2_000_000
MOST_LINE = 2_000
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]{0,16}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|[()][A-Za-z0-9])")
_INVISIBLE = re.compile("[\u200b-\u200f\u2060\ufeff\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SPACES = str.maketrans(
    {"\xa0": " ", "\u2007": " ", "\u202f": " ", "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'}
)
_BREAKS = re.compile(r"<(?:br|/?p|/?div|/?li|/?pre|/?tr) ?/?>", re.IGNORECASE)
_TAGS = re.compile(
    r"</?(?:details|summary|code|b|i|em|strong|span|ul|ol|table|tbody|td|th|sub|sup)(?: [^<>]{0,200})?>", re.IGNORECASE
)
_QUOTES = re.compile(r"^ {0,3}(?:> ?){1,8}")
_FENCE = re.compile(r"^\s{0,8}(?:```|~~~)[\w+-]{0,20}(?: [\w-]{1,40})?\s*$")
_INLINE_FENCE = re.compile(r"^\s{0,8}```(?:text|shell|bash|console|sh|python)?(?=\s{0,8}\S)|```\s*$")
_STAMP = re.compile(
    r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)(?:\s|$)|^\[?rank ?\d{1,5}\]?: ?"
)
_SERVICE = re.compile(r"^([A-Za-z][\w.-]{0,60}?)\s{0,20}\| ?")
_FIRST_OF_STAMPS = frozenset("[r0123456789")
MOST_LAYERS = 4
FEWEST = 5  # lines of one service that tell its name from the first column of a table


def decoded(data: bytes) -> str:
    """Turn bytes into text: UTF-8, or UTF-16 as PowerShell's ``>`` writes it; what is neither is replaced."""
    data = data[:MOST_BYTES]
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return data.decode("utf-16", "replace")
    if data[1:40:2] and data[1:40:2].count(0) == len(data[1:40:2]):
        return data.decode("utf-16-le", "replace")
    return data.decode("utf-8-sig", "replace")


def cleaned(text: str) -> tuple[str, ...]:
    """Give the text's lines as the program printed them, as far as that can be told; at most two million characters.

    Of a longer text the first and the last half million are read: a log tells its end there.
    """
    if len(text) > MOST_CHARACTERS:
        text = f"{text[: MOST_CHARACTERS // 2]}\n{text[-MOST_CHARACTERS // 2 :]}"
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_SPACES)
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    text = _INVISIBLE.sub("", text)
    lines = [line[:MOST_LINE].rstrip() for line in text.split("\n")]
    return tuple(_peeled(_untagged(lines)))


def _untagged(lines: list[str]) -> list[str]:
    """Undo entities and tags; ``<pip>`` and ``<develop>`` are conda's own words and stay."""
    for _ in range(2):  # what was escaped for a page that escapes by itself
        if any("&" in line and ";" in line for line in lines):
            lines = [html.unescape(line)[:MOST_LINE] if "&" in line else line for line in lines]
    if not any("<" in line for line in lines):
        return lines
    split = [part for line in lines for part in (_broken(line) if "<" in line else (line,))]
    return [_TAGS.sub("", _uncommented(line)).rstrip() if "<" in line else line for line in split]


def _uncommented(line: str) -> str:
    """Take out what a page does not show."""
    while (start := line.find("<!--")) >= 0 and (end := line.find("-->", start)) >= 0:
        line = line[:start] + line[end + 3 :]
    return line


def _broken(line: str) -> list[str]:
    """Split a line at tags that end one; where the tag stands at its end there is a line's end already."""
    parts = _BREAKS.split(line)
    return parts if parts[-1] or len(parts) == 1 else parts[:-1]


def _peeled(lines: list[str]) -> list[str]:
    """Take off what was put before each line, layer by layer: a quotation may be of a log that quotes."""
    for _ in range(MOST_LAYERS):
        before = lines
        for layer in _LAYERS:
            lines = layer(lines)
        if lines == before:
            break
    return lines


def _unquoted(lines: list[str]) -> list[str]:
    bare = [_QUOTES.sub("", line) if ">" in line[:4] else line for line in lines]
    return [_INLINE_FENCE.sub("", line) if "```" in line else line for line in bare if not _FENCE.match(line)]


def _unstamped(lines: list[str]) -> list[str]:
    """Take off the time or the rank that a collector or a launcher printed before each line."""
    begun = [line[:1] in _FIRST_OF_STAMPS and _STAMP.match(line) for line in lines]
    if sum(map(bool, begun)) * 2 > sum(map(bool, lines)):
        lines = joined(lines, lambda line: _STAMP.match(line) is not None)
    return [_STAMP.sub("", line) if line[:1] in _FIRST_OF_STAMPS else line for line in lines]


def _without_service(lines: list[str]) -> list[str]:
    """Take off the name of the one service that docker compose printed before each line."""
    found = Counter(match.group(1) for match in (_SERVICE.match(line) for line in lines if "|" in line) if match)
    names = [name for name, count in found.items() if count >= FEWEST]
    if len(names) != 1:
        return lines
    start = re.compile(rf"{re.escape(names[0])}\s{{0,20}}\| ?")
    return [start.sub("", line, count=1) if start.match(line) else line for line in lines]


def _dedented(lines: list[str]) -> list[str]:
    """Take off the indentation that all lines have: a block of code in Markdown."""
    margins = [len(line) - len(line.lstrip(" ")) for line in lines if line]
    common = min(margins, default=0)
    return [line[common:] for line in lines] if common else lines


_LAYERS = (_unquoted, _unstamped, _without_service, _dedented)
