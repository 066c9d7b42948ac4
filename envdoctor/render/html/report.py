"""render(report) -> the page of one report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envdoctor.finding import Severity, Status
from envdoctor.render import causes, machine_words, verdict_words
from envdoctor.render.html import KINDS, page
from envdoctor.render.html.facts import ledger, listed

if TYPE_CHECKING:
    from envdoctor.finding import Finding, Report


def render(report: Report, **_view: Any) -> str:
    """Give the report as one HTML document."""
    return page("report.html.j2", **_of(report))


def _of(report: Report) -> dict[str, Any]:
    top = causes.leading(report)
    shown = {each.key for each in top}
    return {
        "report": report,
        "snapshot": report.snapshot,
        "title": verdict_words.sentence(report),
        "kind": KINDS.get(report.verdict.value, "unknown"),
        "doctor": machine_words.doctor(report.snapshot),
        "machine": machine_words.machine(report.snapshot),
        "notes": (*report.notes, *report.snapshot.plugin_errors),
        "findings": top,
        "consequences": {key: follow(report, key) for key in shown},
        "remarks": causes.remarks(report),
        "ignored": [each for each in report.findings if each.ignored],
        "counts": verdict_words.counts(report),
        "checks": report.checks,
        "statuses": [(each.value, report.count(each)) for each in Status],
        "worst": {check.id: verdict_words.worst(check, report).value for check in report.checks},
        "ledger": ledger(report.snapshot),
        "facts": listed(report.snapshot),
        "severities": [each.value for each in Severity],
    }


def follow(report: Report, key: str) -> list[Finding]:
    """Give the findings that go away with this one."""
    cause = report.finding(key)
    names = causes.consequences(cause, report) if cause else []
    return [each for each in report.active if each.key in names]
