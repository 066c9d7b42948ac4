"""render(report) -> Markdown for an issue or a step summary: short, the cause first, the rest folded.

Text of facts is shown as text: no mention, link, heading or HTML of a machine's strings comes to life.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from envdoctor.finding import Severity, Status
from envdoctor.render.causes import leading, remarks
from envdoctor.render.machine_words import doctor, machine
from envdoctor.render.verdict_words import counts, sentence
from envdoctor.render.words import words
from envdoctor.render.written import clean, follows, pasteable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.finding import Evidence, Finding, Fix, Report

SIGNS = {Severity.ERROR: "✗", Severity.WARNING: "!", Severity.INFO: "i"}
LONGEST = 300
# Whatever begins something in GitHub's Markdown: in a line, as an address, or where a line starts.
_SPECIAL = re.compile(r"[\\`*_\[\]<>#|~&@]|:(?=//)|(?<=www)\.|^[-+=>]|^\d(?=\d{0,9}[.)])", re.IGNORECASE)


def render(report: Report, **_view: Any) -> str:
    """Give the report as Markdown; it does not depend on the terminal."""
    return "\n".join(_blocks(report)).rstrip() + "\n"


def _blocks(report: Report) -> Iterator[str]:
    yield f"### envdoctor: {text(sentence(report))}"
    yield ""
    yield text(" · ".join(machine(report.snapshot)))
    yield text(" · ".join((*doctor(report.snapshot), report.snapshot.created)))
    yield ""
    yield from (f"> {text(note)}" for note in report.notes)
    top = leading(report)
    for each in top[:1]:
        yield from in_full(each, report)
    for each in top[1:]:
        yield from folded(_title(each), in_full(each, report, heading=False))
    yield from _remarks(report)
    yield from folded(text(", ".join(counts(report))), _checks(report))


def in_full(finding: Finding, report: Report, *, heading: bool = True) -> Iterator[str]:
    """Give one finding: evidence as a table, what follows from it, and each way out as a block to copy."""
    if heading:
        yield f"#### {_title(finding)}"
        yield ""
    yield f"{code(finding.key)}, {finding.confidence.value}"
    yield ""
    yield from (f"{text(part)}\n" for part in finding.detail.split("\n\n") if part.strip())
    yield from _evidence(finding.evidence)
    if also := follows(report, finding):
        yield f"Also follows from it: {code(also)}"
        yield ""
    for fix in finding.fixes:
        yield from _fix(fix)
    yield f"More: {code(f'envdoctor explain {finding.id}')}"
    yield ""


def folded(summary: str, lines: Iterator[str]) -> Iterator[str]:
    """Fold lines under a summary; GitHub wants the empty lines."""
    yield f"<details><summary>{summary}</summary>"
    yield ""
    yield from lines
    yield ""
    yield "</details>"
    yield ""


def _title(finding: Finding) -> str:
    return f"{SIGNS[finding.severity or Severity.INFO]} {text(finding.title)}"


def _evidence(evidence: tuple[Evidence, ...]) -> Iterator[str]:
    if not evidence:
        return
    yield "| fact | value | read from |"
    yield "| --- | --- | --- |"
    for each in evidence:
        value = code(words(each.value))
        yield f"| {text(each.label or each.fact)} | {value} | {text(each.source)} |"
    yield ""


def _fix(fix: Fix) -> Iterator[str]:
    needs = [word for word, needed in (("root", fix.needs_root), ("a reboot", fix.needs_reboot)) if needed]
    touches = [fix.changes, f"needs {' and '.join(needs)}" if needs else ""]
    about = ", ".join(filter(None, map(text, touches)))
    yield f"**Fix: {text(fix.title)}**{f' ({about})' if about else ''}"
    yield ""
    if fix.commands:
        yield from block("\n".join(pasteable(each.shell) for each in fix.commands), "sh")
    if fix.verify:
        yield f"Prove it: {code(fix.verify)}"
        yield ""


def _remarks(report: Report) -> Iterator[str]:
    for each in remarks(report):
        yield f"* {_title(each)} ({code(each.key)})"
    for each in report.findings:
        if each.ignored:
            yield f"* {code(each.key)} is ignored: {text(each.ignored.reason)} (by {text(each.ignored.by)})"
    yield ""


def _checks(report: Report) -> Iterator[str]:
    told = [each for each in report.checks if each.status in {Status.UNKNOWN, Status.IGNORED}]
    if not told:
        yield "Every check that was asked could be judged."
        return
    yield "| check | status | reason |"
    yield "| --- | --- | --- |"
    for each in told:
        yield f"| {code(each.id)} | {each.status.value} | {text(each.reason)} |"


def text(words_: str) -> str:
    """Give one line in which nothing of Markdown, HTML or GitHub's own signs comes to life."""
    return _SPECIAL.sub(lambda found: f"&#{ord(found.group())};", clean(words_, LONGEST))


def code(words_: str) -> str:
    """Give a code span; a backtick in it needs a longer fence, a bar would end a table's cell."""
    line = clean(words_, LONGEST) or " "
    if "|" in line or "`" in line:
        return f"<code>{text(line)}</code>"
    return f"`{line}`"


def block(lines: str, language: str = "") -> Iterator[str]:
    """Give a fenced block whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", lines)), default=0)
    fence = "`" * max(3, longest + 1)
    yield f"{fence}{language}"
    yield lines
    yield fence
    yield ""
