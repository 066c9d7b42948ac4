"""What preflight() gives back: the report, which a notebook shows as a table."""

from __future__ import annotations

from envdoctor.facts.dataclass import dataclass
from envdoctor.finding import Report


@dataclass(frozen=True)
class Cleared(Report):
    """A report that was made inside the program it is about. ``cached``: the verdict is an earlier one's."""

    cached: bool = False

    def _repr_html_(self) -> str:
        """Give the report as HTML for a notebook; every text in it is escaped."""
        from envdoctor.render.notebook import fragment

        return fragment(self)
