"""What a reader gives back: facts, the lines it took them from, and what the reader of the report must know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envdoctor.facts import Fact


@dataclass(frozen=True)
class Reading:
    """One format found in a text. ``used``: the numbers of its lines; other readers do not see them."""

    name: str
    facts: tuple[Fact, ...]
    used: frozenset[int] = frozenset()
    remarks: tuple[str, ...] = ()
