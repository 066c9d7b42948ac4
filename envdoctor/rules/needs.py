"""What releases of companions need, as the table of the ecosystem states it, looked up for what is installed."""

from __future__ import annotations

from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from envdoctor.facts.packages import Distribution, Packages
from envdoctor.finding import Evidence, see
from envdoctor.knowledge import rows
from envdoctor.knowledge.cuda import numbers
from envdoctor.rules.versions import parsed


@dataclass(frozen=True, slots=True)
class Need:
    """One row of the table: what the releases of a package need, in the column's own words."""

    releases: SpecifierSet
    value: str
    note: str
    source: str

    def shown(self, have: Distribution, label: str = "") -> Evidence:
        """Make the row evidence about a distribution."""
        words = label or f"{have.name} {have.version} needs"
        return Evidence("knowledge.ecosystem", self.note or self.value, self.source, "", words)


def needs(have: Distribution, kind: str) -> tuple[Need, ...]:
    """Give the rows of one kind that speak about this release."""
    version = Version(parsed(have.version, have.name).base_version)
    return tuple(each for each in stated(have.name, kind) if version in each.releases)


def stated(name: str, kind: str) -> tuple[Need, ...]:
    """Give every row of one kind about a package, whichever release it speaks of."""
    return tuple(
        Need(SpecifierSet(row["version"]), row["other_requires"], row["note"], row["source"])
        for row in rows("ecosystem.csv")
        if row["package"] == name and row["kind"] == kind
    )


def installed(packages: Packages, have: Distribution) -> Evidence:
    """Make a distribution evidence."""
    return see(packages, "distributions", have.name, have.version)


def stated_for(have: Distribution, kind: str) -> tuple[Need, ...]:
    """Look a distribution up only where the table knows its name: other versions may be no versions at all."""
    return needs(have, kind) if stated(have.name, kind) else ()


def major_of(text: str | None) -> int | None:
    """Give the major of a version; None when there is none."""
    found = numbers(text)
    return found[0] if found else None
