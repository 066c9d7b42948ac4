"""Which rules run, and which findings are not counted. Known before anything is collected, so it imports no fact."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from envdoctor.facts.dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envdoctor.finding import Ignored
    from envdoctor.rule import Rule


@dataclass(frozen=True)
class Selection:
    """Which rules run. ``only`` and ``skip`` hold ids or groups; ``ignore`` maps an id to who ignores it and why."""

    only: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()
    ignore: Mapping[str, Ignored] = field(default_factory=dict)

    def reason_to_skip(self, rule: Rule) -> str | None:
        """Say why ``rule`` does not run, or None when it does."""
        names = {rule.id, rule.group}
        if self.only and not names & self.only:
            return "not selected by --only"
        return f"left out by --skip {min(names & self.skip)}" if names & self.skip else None
