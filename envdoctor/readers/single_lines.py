"""Facts that stand alone, one a line: ``nvidia-smi -L``, the variables of ``env`` or of a launch script."""

from __future__ import annotations

from envdoctor.readers.cards import cards, slices
from envdoctor.readers.reading import Reading
from envdoctor.readers.told import Told
from envdoctor.readers.variables import is_variable, unset, variables

NAME = "single facts"


def recognises(lines: tuple[str, ...]) -> bool:
    """Tell whether a line names a GPU by its number, or sets a variable that matters."""
    return any(map(is_variable, lines)) or any(True for _ in cards(lines))


def read(lines: tuple[str, ...]) -> Reading:
    """Give the GPUs and the variables."""
    told = Told(
        source="the pasted text", gpus=list(cards(lines)), slices=list(slices(lines)),
        variables=list(variables(lines)), unset=unset(lines),
    )  # fmt: skip
    used = (n for n, line in enumerate(lines) if is_variable(line) or any(True for _ in cards((line,))))
    return Reading(NAME, told.facts(), frozenset(used))
