"""Everything that this installation knows: built-in probes and rules, and those of plug-ins."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import click

from envdoctor.nearest import unknown
from envdoctor.plan import BUILT_IN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envdoctor.facts import Fact
    from envdoctor.plan import Planned
    from envdoctor.plugins import Plugins
    from envdoctor.rule import Rule


@dataclass(frozen=True)
class Catalogue:
    """What plug-ins add to the built-in probes and rules. Rules are imported when they are first asked for."""

    plugins: Plugins

    @property
    def planned(self) -> tuple[Planned, ...]:
        """Give every probe."""
        return (*BUILT_IN, *self.plugins.planned)

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """Give every rule."""
        from envdoctor.rules import RULES

        return (*RULES, *self.plugins.rules)

    @property
    def pages(self) -> dict[str, str]:
        """Give the page of every rule by its id."""
        return {rule.id: rule.page for rule in self.rules}

    @property
    def retired(self) -> frozenset[str]:
        """Name the ids that were once in use."""
        from envdoctor.rules import RETIRED

        return RETIRED

    @property
    def facts(self) -> dict[str, type[Fact]]:
        """Give every kind of fact by its key."""
        from envdoctor.snapshot import BY_KEY

        return BY_KEY | self.plugins.facts

    @property
    def ids(self) -> frozenset[str]:
        """Name every finding."""
        return frozenset(rule.id for rule in self.rules)

    @property
    def groups(self) -> frozenset[str]:
        """Name every group of rules."""
        return frozenset(rule.group for rule in self.rules)

    def names(self, words: Iterable[str], option: str) -> frozenset[str]:
        """Turn what follows ``--only`` and ``--skip`` into ids and groups; groups in any case."""
        words = tuple(words)
        known = {name.lower(): name for name in self.ids | self.groups} if words else {}
        for word in words:
            if word.lower() not in known:
                said = unknown("finding or group", word, known.values(), see="see 'envdoctor list findings'")
                raise click.UsageError(f"{option}: {said}")
        return frozenset(known[word.lower()] for word in words)

    def check_id(self, word: str, where: str) -> None:
        """Refuse an id that no rule ever had, naming the nearest."""
        if word not in self.ids | self.retired:
            said = unknown("finding", word, self.ids, see="see 'envdoctor list findings'")
            raise click.UsageError(f"{where}: {said}")


def load() -> Catalogue:
    """Read every plug-in; what is broken in one is told by ``plugins.errors``."""
    from envdoctor import plugins

    return Catalogue(plugins.load())
