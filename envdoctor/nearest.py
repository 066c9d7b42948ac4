"""What somebody probably meant: the valid word nearest to a wrong one, put so that a message can end with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_LISTED = 12
LEAST_BEGUN = 2  # a word is taken as begun, not misspelt, from three letters on


def nearest(word: str, known: Iterable[str], *, likeness: float = 0.55) -> str | None:
    """Give the valid word most like ``word``, or None when nothing is as like it as ``likeness`` (0 to 1)."""
    import difflib

    folded = {each.lower().replace("_", "-"): each for each in known}
    said = word.lower().replace("_", "-")
    begun = [each for each in folded if each.startswith(said)] if len(said) > LEAST_BEGUN else []
    found = sorted(begun, key=len) or difflib.get_close_matches(said, folded, n=1, cutoff=likeness)
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
    said = said if meant else f"{said}: the nearest is {nearest(word, known, likeness=0.0)!r};"
    return f"{said} {see}".rstrip("; ")
