"""What projects around torch state about their releases: minima, pins, systems; typed rows of one table."""

from __future__ import annotations

import functools

import msgspec
from packaging.specifiers import SpecifierSet

from envdoctor.knowledge import rows


class Statement(msgspec.Struct, frozen=True):
    """One row as it stands: ``releases`` and ``torch`` in the project's own words, ``value`` what else it asks for."""

    package: str
    releases: str
    torch: str
    kind: str
    value: str
    python: str
    note: str
    source: str

    @property
    def specifier(self) -> SpecifierSet:
        """The releases as a specifier; raises ``InvalidSpecifier`` where the cell is one version or words."""
        return SpecifierSet(self.releases)


@functools.cache
def statements() -> tuple[Statement, ...]:
    """Give every row, in the order of the table."""
    return tuple(
        Statement(
            row["package"], row["version"], row["torch_constraint"], row["kind"], row["other_requires"], row["python"],
            row["note"], row["source"],
        )
        for row in rows("ecosystem.csv")
    )  # fmt: skip


@functools.cache
def stated(package: str, kind: str) -> tuple[Statement, ...]:
    """Give every row of one kind about a package, whichever release it speaks of."""
    return tuple(each for each in statements() if each.package == package and each.kind == kind)
