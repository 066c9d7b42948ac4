"""render(report) -> one HTML page that needs nothing else: no request leaves it, and it reads without scripts too.

Needs the extra ``html`` (Jinja2). Everything of a report is text in it: autoescaped, and what hides is spelled out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from envdoctor.finding import Severity, Status
from envdoctor.render import causes, machine_words, verdict_words
from envdoctor.render.html.facts import ledger, listed
from envdoctor.render.untrusted import one_line, shorten
from envdoctor.render.words import words
from envdoctor.render.written import pasteable

if TYPE_CHECKING:
    from jinja2 import Environment

    from envdoctor.finding import Report

TEMPLATES = Path(__file__).parent / "templates"
LONGEST = 4000
SIGNS = {"error": "✗", "warning": "!", "info": "i", "ok": "✓", "unknown": "?"}
KINDS = {"ok": "ok", "warnings": "warning", "errors": "error"}


def render(report: Report, **_view: Any) -> str:
    """Give the report as one HTML document; it does not depend on the terminal."""
    return page("report.html.j2", **_of(report))


def page(template: str, **values: Any) -> str:
    """Fill a template of ours; the result ends with a newline."""
    text = environment().get_template(template).render(**values)
    return text.encode("utf-8", "backslashreplace").decode() + "\n"


def environment() -> Environment:
    """Give Jinja2 with autoescape on, undefined names as errors, and our filters."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {"clean": clean, "command": pasteable, "value": lambda value: clean(words(value))}
    made.globals |= {"SIGNS": SIGNS}
    return made


def clean(text: object) -> str:
    """Give one harmless line of bounded length."""
    said = str(text)
    return shorten(one_line(shorten(said, 4 * LONGEST)), LONGEST)


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
        "consequences": {key: _follow(report, key) for key in shown},
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


def _follow(report: Report, key: str) -> list[Any]:
    cause = report.finding(key)
    names = causes.consequences(cause, report) if cause else []
    return [each for each in report.active if each.key in names]
