"""What preflight() gives back: the report, which a notebook shows as a table."""

from __future__ import annotations

from envdoctor.facts.dataclass import dataclass
from envdoctor.finding import Report


@dataclass(frozen=True)
class Cleared(Report):
    """A report that was made inside the program it is about. ``cached``: the verdict is an earlier one's."""

    cached: bool = False

    def __repr__(self) -> str:
        """Say the verdict and the ids: a prompt shows this, and the facts would fill it for pages."""
        keys = ", ".join(each.key for each in self.active) or "nothing found"
        return f"<envdoctor report: {self.verdict.value}: {keys}{' (kept)' if self.cached else ''}>"

    def _repr_html_(self) -> str:
        """Give the report as HTML for a notebook; every text in it is escaped."""
        from envdoctor.render.notebook import fragment

        return fragment(self)
