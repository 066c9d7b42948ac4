"""Private values that differ between members: who has the same one is told, never the value or its hash."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from envdoctor.fleet.settled import is_ranks_own

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from envdoctor.fleet.differences import Parted
    from envdoctor.fleet.member import Member

PREFIX = "private."
NOT_SET, ONLY = "not set", "a private value"


def private_differences(members: Sequence[Member]) -> Iterator[tuple[str, Parted]]:
    """Give each variable with a private value that is not the same on all members that told theirs."""
    having: dict[str, dict[str, int]] = defaultdict(dict)
    told = 0
    for number, member in enumerate(members):
        if member.private is None:
            continue
        told |= 1 << number
        for name, hashed in member.private.items():
            parted = having[name]
            parted[hashed] = parted.get(hashed, 0) | 1 << number
    for name, parted in having.items():
        lacking = told & ~_together(parted)
        if (len(parted) > 1 or lacking) and not is_ranks_own(name):
            yield f"{PREFIX}{name}", _named(parted, lacking)


def _together(parted: dict[str, int]) -> int:
    bits = 0
    for each in parted.values():
        bits |= each
    return bits


def _named(parted: dict[str, int], lacking: int) -> Parted:
    """Number the values, the one that most have first; of two that as many have, that of the lower rank."""
    ordered = sorted(parted.values(), key=lambda bits: (-bits.bit_count(), bits & -bits))
    if len(ordered) == 1:
        return {ONLY: ordered[0], NOT_SET: lacking}
    named: Parted = {f"private value #{number}": bits for number, bits in enumerate(ordered, 1)}
    return {**named, NOT_SET: lacking} if lacking else named
