"""The one print: what is worth knowing of a verdict goes to the logger ``envdoctor``, once for all ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.finding import Verdict

if TYPE_CHECKING:
    from envdoctor.gate.cleared import Cleared

LOGGER = "envdoctor"


def tell(report: Cleared, *, open_ends: bool) -> None:
    """Log the verdict in one line: at level warning when it is not ok or has ``open_ends``, at level info otherwise."""
    import logging

    logger = logging.getLogger(LOGGER)
    level = logging.INFO if report.verdict is Verdict.OK and not open_ends else logging.WARNING
    if logger.isEnabledFor(level):
        from envdoctor.render.verdict_words import sentence

        logger.log(level, "envdoctor: %s", " ".join((sentence(report), *(f"({each})" for each in report.notes))))
