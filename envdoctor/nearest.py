"""What somebody probably meant: the valid word nearest to a wrong one, put so that a message can end with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_LISTED = 12


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Give the valid word most like ``word``, or None when nothing is like it."""
    import difflib

    folded = {each.lower().replace("_", "-"): each for each in known}
    found = difflib.get_close_matches(word.lower().replace("_", "-"), folded, n=1, cutoff=0.55)
    return folded[found[0]] if found else None


def unknown(kind: str, word: str, known: Iterable[str], *, see: str = "") -> str:
    """Say that ``word`` is no valid ``kind``, what is, and which one was probably meant.

    A long list is not shown; ``see`` then names the command that lists it.
    """
    known = sorted(known) if isinstance(known, (set, frozenset)) else list(known)
    said = f"unknown {kind} {word!r}"
    meant = nearest(word, known)
    if meant:
        said += f": did you mean {meant!r}?"
    if not known:
        return f"{said}: there is none"
    if len(known) <= MOST_LISTED:
        return f"{said}{' ' if meant else ': '}expected one of {', '.join(known)}"
    return f"{said}{' ' if meant else ': '}{see}".rstrip(": ")
