"""fragment(report) -> HTML for a notebook's cell: the verdict, the machine, and each cause with its fix.

It needs no script and no style sheet. Every text of the machine is escaped.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from envdoctor.finding import Severity
from envdoctor.render.causes import leading, remarks
from envdoctor.render.machine_words import doctor, machine
from envdoctor.render.untrusted import escape as harmless
from envdoctor.render.verdict_words import counts, sentence
from envdoctor.render.words import words
from envdoctor.render.written import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.finding import Evidence, Finding, Fix, Report

SIGNS = {Severity.ERROR: ("✗", "#b00020"), Severity.WARNING: ("!", "#8a4b00"), Severity.INFO: ("i", "inherit")}
LONGEST = 300


def fragment(report: Report) -> str:
    """Give the report as one ``<div>``; the first cause is open, the others are folded."""
    return f'<div class="envdoctor" style="line-height:1.4">{"".join(_parts(report))}</div>'


def _parts(report: Report) -> Iterator[str]:
    yield f"<p><b>envdoctor: {text(sentence(report))}</b><br>{text(' · '.join(machine(report.snapshot)))}<br>"
    yield f"<small>{text(' · '.join((*doctor(report.snapshot), *counts(report))))}</small></p>"
    yield from (f"<p><small>{text(note)}</small></p>" for note in report.notes)
    for number, each in enumerate(leading(report)):
        yield from _finding(each, first=not number)
    infos = [f"<li>{text(each.title)} <small>{text(each.key)}</small></li>" for each in remarks(report)]
    ignored = [
        f"<li>{text(each.key)} is ignored: {text(each.ignored.reason)}</li>" for each in report.findings if each.ignored
    ]
    if infos or ignored:
        yield f"<ul>{''.join((*infos, *ignored))}</ul>"


def _finding(finding: Finding, *, first: bool) -> Iterator[str]:
    sign, color = SIGNS[finding.severity or Severity.INFO]
    yield f"<details{' open' if first else ''}><summary>"
    yield f'<b style="color:{color}">{sign}</b> {text(finding.title)} <small>{text(finding.key)}</small></summary>'
    yield f"<p>{text(finding.detail)}</p>" if finding.detail else ""
    yield "".join(("<table>", *map(_row, finding.evidence), "</table>"))
    yield from map(_fix, finding.fixes)
    yield f"<p>More: <code>envdoctor explain {text(finding.id)}</code></p></details>"


def _row(seen: Evidence) -> str:
    told = (seen.label or seen.fact, words(seen.value), " · ".join(filter(None, (seen.source, seen.freshness))))
    return f"<tr>{''.join(f'<td>{text(each)}</td>' for each in told)}</tr>"


def _fix(fix: Fix) -> str:
    shell = "\n".join(escape(harmless(each.shell)) for each in fix.commands)
    about = f" <small>({text(fix.changes)})</small>" if fix.changes else ""
    return f"<p>Fix: {text(fix.title)}{about}</p><pre>{shell}</pre>"


def text(said: str) -> str:
    """Give one line in which nothing of HTML comes to life."""
    return escape(clean(said, LONGEST))
