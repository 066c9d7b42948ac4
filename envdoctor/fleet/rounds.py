"""Who is tested with whom: pure arithmetic over ranks.

The circle method gives rounds in which each rank has one partner, and meets every other one once over all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

MOST_ROUNDS = 8
Pair = tuple[int, int]


def rounds(ranks: Sequence[int], nodes: Mapping[int, Hashable], most: int = MOST_ROUNDS) -> list[list[Pair]]:
    """Give at most so many rounds of pairs, spread evenly over all; those with pairs inside a node come first.

    A rank that works inside its node and nowhere else is told so from one that works nowhere.
    """
    everyone: list[int | None] = [*ranks]
    if len(everyone) % 2:
        everyone.append(None)  # whoever meets nobody has a round off
    count = max(0, len(everyone) - 1)
    chosen = range(count) if count <= most else [each * count // most for each in range(most)]
    found = [_round(everyone, number) for number in chosen]
    return sorted((each for each in found if each), key=lambda pairs: -_inside(pairs, nodes))


def _round(everyone: Sequence[int | None], number: int) -> list[Pair]:
    """Give one round: the first stays in its place, the others have moved on by ``number``."""
    turning = everyone[1:]
    turn = number % len(turning)
    circle = [everyone[0], *turning[turn:], *turning[:turn]]
    half = len(circle) // 2
    facing = zip(circle[:half], reversed(circle[half:]), strict=True)
    return [(min(a, b), max(a, b)) for a, b in facing if a is not None and b is not None]


def _inside(pairs: Iterable[Pair], nodes: Mapping[int, Hashable]) -> int:
    return sum(nodes.get(a) == nodes.get(b) for a, b in pairs)


def parted(pairs: Iterable[Pair], most: int = 2) -> list[list[Pair]]:
    """Put pairs that are to be tried again into rounds in which no rank has two partners; the rest is left out."""
    made: list[list[Pair]] = [[] for _ in range(most)]
    for pair in pairs:
        free = next((each for each in made if not {*pair} & _in(each)), None)
        if free is not None:
            free.append(pair)
    return [each for each in made if each]


def _in(pairs: Collection[Pair]) -> set[int]:
    return {rank for pair in pairs for rank in pair}


def pairs_of(count: int) -> int:
    """Give the number of pairs among so many."""
    return count * (count - 1) // 2
