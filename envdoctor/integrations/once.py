"""A check that is made once, by whoever comes first to ask for it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from envdoctor.gate.entry import preflight

if TYPE_CHECKING:
    from envdoctor.finding import Report


class Once:
    """Takes the arguments of ``preflight()``; a name that is none of them is a ``TypeError`` at once.

    ``report`` is the report once it was made.
    """

    def __init__(self, **how: Any) -> None:
        inspect.signature(preflight).bind(**how)
        self.how = how
        self.report: Report | None = None

    def check(self) -> None:
        """Check, unless it was done before. Raises ``NotReady``."""
        if self.report is None:
            self.report = preflight(**self.how)
