"""Many numbers or names in a few words: ``0-3,7``, ``node[001-004,7]``."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NUMBERED = re.compile(r"(.*?)(\d+)(\D*)")


def numbers_in_words(numbers: Iterable[int]) -> str:
    """Give numbers as ranges: 0, 1, 2, 7 -> ``0-2,7``."""
    return ",".join(_run(str(first), str(last)) for first, last in _runs(sorted(set(numbers))))


def _run(first: str, last: str) -> str:
    return first if first == last else f"{first}-{last}"


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for each in numbers:
        if runs and each == runs[-1][1] + 1:
            runs[-1] = runs[-1][0], each
        else:
            runs.append((each, each))
    return runs


def names_in_words(names: Iterable[str], most: int = 0) -> str:
    """Give names with what they share said once, as Slurm writes host lists: ``node[001-003],login``.

    ``most``: how many parts are named before the rest is counted; 0: all.
    """
    numbered: dict[tuple[str, str], list[str]] = defaultdict(list)
    parts: list[str] = []
    for name in dict.fromkeys(names):
        match = _NUMBERED.fullmatch(name)
        if match is None:
            parts.append(name)
        else:
            numbered[match[1], match[3]].append(match[2])
    parts += [_folded(*around, *each) for around, digits in numbered.items() for each in _by_width(digits)]
    if most and len(parts) > most:
        return f"{', '.join(parts[:most])} and {len(parts) - most} more"
    return ",".join(parts)


def _by_width(digits: Sequence[str]) -> list[tuple[int, set[int]]]:
    """Sort numbers by the width they are written in: 0 for those that are not filled up with zeros."""
    filled = {len(each) for each in digits if each.startswith("0") and len(each) > 1}
    found: dict[int, set[int]] = defaultdict(set)
    for each in digits:
        found[len(each) if len(each) in filled else 0].add(int(each))
    return list(found.items())


def _folded(before: str, after: str, width: int, numbers: set[int]) -> str:
    runs = _runs(sorted(numbers))
    inside = ",".join(_run(f"{first:0{width}d}", f"{last:0{width}d}") for first, last in runs)
    return f"{before}{inside}{after}" if len(numbers) == 1 else f"{before}[{inside}]{after}"


def in_words(names: Sequence[str], most: int = 0) -> str:
    """Give members by their names: ranks as ranges, other names folded."""
    if all(each.isdecimal() for each in names):
        return numbers_in_words(map(int, names))
    return names_in_words(names, most)
