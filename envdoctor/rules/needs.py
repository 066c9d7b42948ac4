"""What releases of companions need, as the table of the ecosystem states it, looked up for what is installed."""

from __future__ import annotations

from packaging.version import Version

from envdoctor.facts.packages import Distribution, Packages
from envdoctor.finding import Evidence, see
from envdoctor.knowledge.cuda import numbers
from envdoctor.knowledge.ecosystem import Statement, stated
from envdoctor.rules.versions import parsed


def needs(have: Distribution, kind: str) -> tuple[Statement, ...]:
    """Give the rows of one kind that speak about this release."""
    version = Version(parsed(have.version, have.name).base_version)
    return tuple(each for each in stated(have.name, kind) if version in each.specifier)


def shown(row: Statement, have: Distribution, label: str = "") -> Evidence:
    """Make a row evidence about a distribution."""
    words = label or f"{have.name} {have.version} needs"
    return Evidence("knowledge.ecosystem", row.note or row.value, row.source, "", words)


def installed(packages: Packages, have: Distribution) -> Evidence:
    """Make a distribution evidence."""
    return see(packages, "distributions", have.name, have.version)


def stated_for(have: Distribution, kind: str) -> tuple[Statement, ...]:
    """Look a distribution up only where the table knows its name: other versions may be no versions at all."""
    return needs(have, kind) if stated(have.name, kind) else ()


def major_of(text: str | None) -> int | None:
    """Give the major of a version; None when there is none."""
    found = numbers(text)
    return found[0] if found else None
