"""Facts by their content: what ten thousand members say alike is kept, decoded and judged once.

A fact often differs only in values that are new at each look (free memory, temperatures) or that name the machine.
Without those it is settled: members with the same settled content share one ``Content``. What was left out stays with
the member, for the few rules that read it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from envdoctor.compare.flat import flatten_facts
from envdoctor.compare.traits import SETTLED
from envdoctor.fleet.settled import ENVIRONMENT, is_ranks_own, settler
from envdoctor.snapshot import SnapshotError, decode_fact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from envdoctor.compare.flat import Flat
    from envdoctor.facts import Fact


@dataclass(slots=True)
class Content:
    """One settled content of a fact, with the fact of the first member that had it."""

    number: int
    key: str
    settled: bytes
    fact: Fact
    _flat: Flat | None = None

    @property
    def flat(self) -> Flat:
        """Give what can be compared of it, by dotted key."""
        if self._flat is None:
            flat = flatten_facts({self.key: msgspec.json.decode(self.settled)}, (SETTLED,))
            self._flat = _without_ranks_own(flat) if self.key == ENVIRONMENT else flat
        return self._flat


def _without_ranks_own(flat: Flat) -> Flat:
    return {key: value for key, value in flat.items() if not is_ranks_own(key.partition(".")[2])}


@dataclass(slots=True)
class Pool:
    """All contents met so far. ``kinds`` are the facts that are known; others are left out."""

    kinds: Mapping[str, type[Fact]]
    contents: list[Content] = field(default_factory=list)
    _known: dict[tuple[str, bytes], Content] = field(default_factory=dict)
    _settle: dict[str, Callable[[bytes], bytes] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Prepare for each kind of fact how it is settled."""
        self._settle = {key: settler(key, kind) for key, kind in self.kinds.items()}

    def take(self, key: str, raw: bytes) -> tuple[Content, bool]:
        """Give the content of a fact as JSON, and whether the member has values of its own beside it.

        Raises ``SnapshotError`` when it is none of a fact of this name.
        """
        settle = self._settle[key]
        settled = raw if settle is None else settle(raw)
        content = self._known.get((key, settled))
        if content is None:
            content = self._known[key, settled] = self._new(key, raw, settled)
        return content, settle is not None

    def _new(self, key: str, raw: bytes, settled: bytes) -> Content:
        plain = msgspec.json.decode(raw)
        if not isinstance(plain, dict):
            raise SnapshotError(f"fact {key}: expected an object")
        content = Content(len(self.contents), key, settled, decode_fact(key, plain, kinds=dict(self.kinds)))
        self.contents.append(content)
        return content
