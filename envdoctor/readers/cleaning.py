"""What happens to a text on its way into a bug report, undone: colours, quotes, fences, entities, line ends."""

from __future__ import annotations

import html
import re

MOST_CHARACTERS = 2_000_000
MOST_LINE = 2_000
_ANSI = re.compile(r"\x1b\[[0-9;?]{0,16}[ -/]{0,4}[@-~]")
_QUOTES = re.compile(r"^(?:> ?){1,8}")
_FENCE = re.compile(r"^\s{0,8}(?:```|~~~)[\w+-]{0,20}\s*$")


def cleaned(text: str) -> tuple[str, ...]:
    """Give the text's lines as the program printed them, as far as that can be told; at most two million characters."""
    text = _ANSI.sub("", text[:MOST_CHARACTERS]).replace("\r\n", "\n").replace("\r", "\n").replace("\xa0", " ")
    lines = [line[:MOST_LINE].rstrip() for line in text.split("\n")]
    if any("&" in line and ";" in line for line in lines):
        lines = [html.unescape(line) for line in lines]
    return tuple(_QUOTES.sub("", line) for line in lines if not _FENCE.match(line))
