"""Text from facts is untrusted: here it becomes one harmless line before any format shows it."""

from __future__ import annotations

import re
import unicodedata

# CSI and OSC sequences, then any other two-character escape. A cut-off OSC ends with the text.
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\|$)|\x1b[@-Z\\-_]")
# Control, format (bidi marks, zero-width), surrogate, private use, unassigned, line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_PLAIN = {
    "·": "|", "…": "...", "≤": "<=", "≥": ">=", "→": "->", "≠": "!=", "“": '"', "”": '"', "µ": "u",
    "\u00d7": "x", "\u2013": "-", "\u2014": "-", "\u2018": "'", "\u2019": "'", "\u00a0": " ",
}  # fmt: skip


def one_line(text: str) -> str:
    """Drop terminal sequences, fold white space into single spaces, and spell out what cannot be seen."""
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()
    return escape(" ".join(_ANSI.sub("", text).split()))


def escape(text: str) -> str:
    r"""Spell out each character that is invisible or moves the cursor: ``\x1b``, ``\u202e``. Nothing is dropped."""
    if text.isascii() and text.isprintable():
        return text
    hidden = {ord(each): _spelled(each) for each in set(text) if unicodedata.category(each) in _HIDDEN}
    return text.translate(hidden) if hidden else text


def _spelled(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def to_ascii(text: str) -> str:
    """Write typographic signs in ASCII, and any other character as its escape."""
    if text.isascii():
        return text
    return "".join(_PLAIN.get(each, each) for each in text).encode("ascii", "backslashreplace").decode("ascii")


def shorten(text: str, limit: int, mark: str = "…") -> str:
    """Cut the middle out of a long text: errors and paths say the most at their two ends."""
    if len(text) <= limit:
        return text
    room = max(limit - len(mark), 2)
    return f"{text[: room - room // 3]}{mark}{text[-(room // 3) :]}"
