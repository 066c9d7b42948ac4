"""render(report) -> the report a person reads in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envdoctor.render.terminal import findings, lists, machine, tally
from envdoctor.render.terminal.layout import paragraph
from envdoctor.render.terminal.look import NARROWEST, Line, Look

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.finding import Report

__all__ = ["render"]


def render(
    report: Report, *, show: str = "problems", width: int = 80, color: bool = False, unicode: bool = True, **_view: Any
) -> str:
    """Give the report as text for a terminal of ``width`` columns, ending with a newline.

    ``show``: ``problems``, or ``all`` for every check and probe as well. Lines that hold a command may be longer
    than ``width``: a command is never broken.
    """
    look = Look(max(width, NARROWEST), color, unicode)
    lines = _sections(report, look, everything=show == "all")
    return "\n".join(look.paint(line) for line in lines) + "\n"


def _sections(report: Report, look: Look, *, everything: bool) -> Iterator[Line]:
    yield from machine.header(report.snapshot, look)
    yield from _warnings_first(report, look)
    yield ()
    yield from findings.findings(report, look, everything=everything)
    if everything:
        yield from lists.checks(report, look)
        yield from lists.probes(report, look)
    yield from tally.groups(report, look)
    yield from tally.counts(report, look)
    yield from tally.verdict(report, look)
    yield from tally.more(report, look, everything=everything)


def _warnings_first(report: Report, look: Look) -> Iterator[Line]:
    told = ["Interrupted: what follows is what was known by then."] if report.interrupted else []
    told += report.notes
    if not any(f.id == "plugin-broken" for f in report.findings):
        told += [f"A plug-in is broken: {each}" for each in report.snapshot.plugin_errors]
    for each in told:
        kind = "info" if each in report.calm else "warning"
        first = ((look.glyph(kind), kind), (" ", ""))
        yield from paragraph(look.clean(each), look.width, first=first, indent=2)
