"""Facts that stand alone, one a line: of ``nvidia-smi -L``, of ``env`` or a launch script, of ``lscpu``."""

from __future__ import annotations

import re

from envdoctor.readers.cards import cards, slices
from envdoctor.readers.reading import Reading
from envdoctor.readers.told import Told
from envdoctor.readers.variables import is_variable, unset, variables

NAME = "single facts"
_CPUS = re.compile(r"^\s{0,20}CPU\(s\):\s{1,40}(\d{1,5})\s{0,10}$")


def recognises(lines: tuple[str, ...]) -> bool:
    """Tell whether a line names a GPU by its number, sets a variable that matters, or counts the CPUs."""
    return any(map(is_variable, lines)) or any(map(_CPUS.match, lines)) or any(True for _ in cards(lines))


def read(lines: tuple[str, ...]) -> Reading:
    """Give the GPUs, the variables and the number of CPUs."""
    cpus = next((int(match.group(1)) for line in lines if (match := _CPUS.match(line))), None)
    told = Told(
        source="the pasted text", gpus=list(cards(lines)), slices=list(slices(lines)),
        variables=list(variables(lines)), unset=unset(lines), cpus=cpus,
    )  # fmt: skip
    used = (
        n for n, line in enumerate(lines) if is_variable(line) or _CPUS.match(line) or any(True for _ in cards((line,)))
    )
    return Reading(NAME, told.facts(), frozenset(used))
