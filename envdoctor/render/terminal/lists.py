"""What ``--show all`` adds: every check with its status and reason, every probe with its outcome and time."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from envdoctor.finding import Check, Report, Status
from envdoctor.render.terminal.layout import columns
from envdoctor.render.verdict_words import worst

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.render.terminal.look import Line, Look
    from envdoctor.snapshot import ProbeResult

BLANK: Line = ()
GLYPH_OF = {Status.PASSED: "ok", Status.UNKNOWN: "unknown"}


def checks(report: Report, look: Look) -> Iterator[Line]:
    """Give each check by group."""
    ordered = sorted(report.checks, key=lambda check: check.group)
    for group, members in groupby(ordered, key=lambda check: check.group):
        yield ((look.clean(group), "head"),)
        yield from columns([_check_row(each, report, look) for each in members], look.width, indent=2)
        yield BLANK


def _check_row(check: Check, report: Report, look: Look) -> Line:
    fired = check.status is Status.FIRED
    glyph = worst(check, report).value if fired else GLYPH_OF.get(check.status, "quiet")
    said = check.status.value.replace("-", " ")
    name = f"{look.glyph(glyph)} {look.clean(check.id)}"
    return (name, "" if glyph == "ok" else glyph), (look.clean(said), "quiet"), (look.clean(check.reason), "quiet")


def probes(report: Report, look: Look) -> Iterator[Line]:
    """Give each probe, how it ended, and its seconds."""
    results = report.snapshot.probes
    if results:
        yield (("probes", "head"),)
        yield from columns([_probe_row(each, look) for each in results], look.width, indent=2)
        yield BLANK


def _probe_row(result: ProbeResult, look: Look) -> Line:
    outcome = result.outcome
    glyph = {"got": "ok", "absent": "quiet"}.get(outcome.name, "unknown")
    name = f"{look.glyph(glyph)} {look.clean(result.name)}"
    said = f"{outcome.name}, {result.seconds:.3f} s"
    return (name, "" if glyph == "ok" else glyph), (said, ""), (look.clean(outcome.reason), "quiet")
