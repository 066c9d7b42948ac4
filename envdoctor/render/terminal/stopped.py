"""Why a run does not begin, as a person reads it under a traceback or before a shell's next prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.render.causes import leading, root_of
from envdoctor.render.terminal import findings
from envdoctor.render.terminal.layout import paragraph
from envdoctor.render.terminal.look import NARROWEST, Line, Look

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from envdoctor.finding import Finding, Report

MOST_NAMED = 12


def stopped(
    report: Report,
    keys: Sequence[str],
    unjudged: str = "",
    *,
    width: int = 80,
    color: bool = False,
    unicode: bool = True,
) -> str:
    """Say which findings stop the run, then the first of their causes in full, and the others in short.

    ``unjudged``: what is required and could not be found out, in words. There is no newline at the end.
    """
    look = Look(max(width, NARROWEST), color, unicode)
    return "\n".join(look.paint(line) for line in _lines(report, keys, unjudged, look)).rstrip("\n")


def _lines(report: Report, keys: Sequence[str], unjudged: str, look: Look) -> Iterator[Line]:
    yield from paragraph(look.clean(_ids(keys)), look.width, indent=0)
    if unjudged:
        yield from paragraph(look.clean(f"What is required could not be found out: {unjudged}", 1000), look.width)
    for number, each in enumerate(_causes(report, keys)):
        yield findings.BLANK
        yield from findings.in_full(each, report, look) if not number else findings.in_short(each, report, look)


def _ids(keys: Sequence[str]) -> str:
    if not keys:
        return "This machine is not ready."
    more = f" and {len(keys) - MOST_NAMED} more" if len(keys) > MOST_NAMED else ""
    return f"This machine is not ready: {', '.join(keys[:MOST_NAMED])}{more}"


def _causes(report: Report, keys: Sequence[str]) -> list[Finding]:
    """Give what leads to the findings that stop the run, in the order to read it."""
    stopping = {root_of(each, report).key for each in report.active if each.key in keys}
    return [each for each in leading(report) if each.key in stopping]
