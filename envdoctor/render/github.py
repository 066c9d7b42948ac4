"""render(report) -> workflow commands of GitHub Actions: an annotation for each finding, the verdict in the log.

A step's summary is the Markdown format, which the command line adds to ``$GITHUB_STEP_SUMMARY``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envdoctor.finding import Severity
from envdoctor.render.causes import root_of
from envdoctor.render.verdict_words import counts, essential_unknown, sentence
from envdoctor.render.written import clean, finding_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.finding import Finding, Report

LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def render(report: Report, **_view: Any) -> str:
    """Give one line a finding; it does not depend on the terminal."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    ordered = sorted(report.active, key=lambda each: each.key != report.primary)
    yield from (_annotation(each, report) for each in ordered)
    for each in report.findings:
        if each.ignored:
            yield _plain(f"ignored: {each.key}: {each.ignored.reason} (by {each.ignored.by})")
    for check in essential_unknown(report):
        yield _command("warning", f"could not be judged: {check.id}", clean(check.reason or "no reason was recorded"))
    yield from (_plain(each) for each in report.notes)
    yield _plain(", ".join(counts(report)))
    yield _plain(sentence(report))


def _annotation(finding: Finding, report: Report) -> str:
    root = root_of(finding, report)
    level = "notice" if root is not finding else LEVELS[finding.severity or Severity.INFO]
    return _command(level, f"envdoctor: {finding.title}", "\n".join(finding_lines(finding)))


def _command(level: str, title: str, message: str) -> str:
    """Give a workflow command; GitHub reads ``%0A`` as a line's end and ``%2C`` as a comma within a property."""
    safe = _escaped(clean(title)).replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={safe}::{_escaped(message)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _plain(text: str) -> str:
    """Give a line of the log that cannot be taken for a command (``::`` at its start, ``##[`` anywhere)."""
    line = clean(text).replace("##[", "## [")
    return f" {line}" if line.startswith("::") else line
