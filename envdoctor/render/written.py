"""A finding as plain lines: for formats that have one place for all that is to be said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.render.causes import consequences
from envdoctor.render.untrusted import escape, one_line, shorten
from envdoctor.render.words import words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.finding import Finding, Fix, Report

LONGEST = 2000
LONGEST_COMMAND = 20_000


def finding_lines(finding: Finding) -> tuple[str, ...]:
    """Give severity and title, detail, evidence, fixes and the page, a line each; commands are never broken."""
    return tuple(_lines(finding))


def _lines(finding: Finding) -> Iterator[str]:
    severity = finding.severity.value if finding.severity else "info"
    yield f"{severity}: {clean(finding.title)} [{clean(finding.key)}, {finding.confidence.value}]"
    yield from (clean(part) for part in finding.detail.split("\n\n") if part.strip())
    for each in finding.evidence:
        yield f"  {clean(each.label or each.fact)}: {clean(words(each.value))} ({clean(each.source)})"
    if finding.caused_by:
        yield f"  follows from: {clean(', '.join(finding.caused_by))}"
    for fix in finding.fixes:
        yield from _fix(fix)
    yield f"  more: envdoctor explain {finding.id}"


def clean(text: str, limit: int = LONGEST) -> str:
    """Give one harmless line of bounded length; a very long text keeps its two ends."""
    return shorten(one_line(shorten(text, 4 * limit)), limit)


def _fix(fix: Fix) -> Iterator[str]:
    yield f"  fix: {clean(fix.title)}"
    yield from (f"    {pasteable(command.shell)}" for command in fix.commands)


def pasteable(command: str) -> str:
    """Give a command on one line, whole or not at all: a part of one must not be pasted."""
    if len(command) > LONGEST_COMMAND:
        return f"# {len(command)} characters, too long to show: see --format json"
    return escape(command)


def follows(report: Report, finding: Finding) -> str:
    """Name what goes away with this finding; nothing where nothing does."""
    return ", ".join(clean(each) for each in consequences(finding, report))
