"""How the terminal report looks: glyphs, colours, and painting a line. No other module here knows ANSI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envdoctor.render import untrusted
from envdoctor.render.words import words

if TYPE_CHECKING:
    from collections.abc import Sequence

Span = tuple[str, str]
Line = tuple[Span, ...]

# Readable on light and on dark backgrounds: no yellow, white or cyan on the one, no blue on the other, nothing bright.
STYLES = {
    "head": "bold",
    "error": "bold red",
    "warning": "bold magenta",
    "info": "bold",
    "ok": "green",
    "unknown": "bold",
    "command": "bold",
    "strong": "bold",
    "quiet": "dim",
}
GLYPHS = {"error": "✗", "warning": "!", "info": "i", "ok": "✓", "unknown": "?", "quiet": "-"}
ASCII_GLYPHS = {**GLYPHS, "error": "x", "ok": "+"}
LONGEST_VALUE = 300
NARROWEST = 24


@dataclass(frozen=True)
class Look:
    """What the terminal can show."""

    width: int = 80
    color: bool = False
    unicode: bool = True

    def glyph(self, name: str) -> str:
        """Give the one-column sign for a severity or a status."""
        return (GLYPHS if self.unicode else ASCII_GLYPHS)[name]

    @property
    def dot(self) -> str:
        """The sign between items of a line."""
        return "·" if self.unicode else "|"

    def clean(self, text: str, limit: int = LONGEST_VALUE) -> str:
        """Make text from a report harmless and fit for this terminal."""
        line = untrusted.shorten(untrusted.one_line(untrusted.shorten(text, 4 * limit)), limit)
        return line if self.unicode else untrusted.to_ascii(line)

    def command(self, text: str) -> str:
        """Make a command harmless without dropping or folding any of it."""
        line = untrusted.escape(text)
        return line if self.unicode else untrusted.to_ascii(line)

    def value(self, value: Any) -> str:
        """Put a fact's value in words."""
        return self.clean(words(value))

    def paint(self, line: Sequence[Span]) -> str:
        """Turn spans into a string, with colour where there is any."""
        if not self.color:
            return "".join(text for text, _ in line).rstrip()
        return "".join(_painted(text, style) for text, style in line).rstrip()


def _painted(text: str, style: str) -> str:
    from rich.color import ColorSystem
    from rich.style import Style

    if not style or not text.strip():
        return text
    return Style.parse(STYLES[style]).render(text, color_system=ColorSystem.STANDARD)
