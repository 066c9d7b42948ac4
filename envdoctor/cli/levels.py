"""From which level on a rule can judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.facts import key_of
from envdoctor.plan import BUILT_IN, LEVELS, level_of

if TYPE_CHECKING:
    from envdoctor.plan import Planned
    from envdoctor.rule import Rule


def from_level(rule: Rule, planned: tuple[Planned, ...] = BUILT_IN) -> str:
    """Give the lowest level that collects every fact the rule cannot do without."""
    levels = [level_of(key_of(each.fact), planned) for each in rule.inputs if not each.optional]
    return max(levels, key=LEVELS.index, default=LEVELS[0])
