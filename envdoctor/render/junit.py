"""render(report) -> JUnit XML, one case a check: what CI systems show beside the tests.

A check that found an error is a failed case. One that found a warning or an info passes and says so, since a gate
fails on errors alone; what could not be judged, does not apply, or is ignored is skipped, with the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from envdoctor.finding import Check, Severity, Status
from envdoctor.render.untrusted import escape
from envdoctor.render.verdict_words import sentence
from envdoctor.render.written import clean, finding_lines

if TYPE_CHECKING:
    from envdoctor.finding import Finding, Report

RAN = frozenset({Status.PASSED, Status.FIRED})


def render(report: Report, **_view: Any) -> str:
    """Give the report as one JUnit test suite; it does not depend on the terminal."""
    cases = [_case(check, report) for check in report.checks]
    failed = sum(case.find("failure") is not None for case in cases)
    skipped = sum(case.find("skipped") is not None for case in cases)
    took = f"{report.snapshot.elapsed_seconds:.3f}"
    counted = {"tests": str(len(cases)), "failures": str(failed), "errors": "0", "skipped": str(skipped), "time": took}
    top = ET.Element("testsuites", {"name": "envdoctor", **counted})
    stamp = report.snapshot.created.partition("+")[0]
    suite = ET.SubElement(top, "testsuite", {"name": "envdoctor", **counted, "timestamp": stamp})
    _properties(suite, report)
    suite.extend(cases)
    ET.SubElement(suite, "system-out").text = _text((sentence(report), *report.notes))
    ET.indent(top)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(top, encoding="unicode") + "\n"


def _properties(suite: ET.Element, report: Report) -> None:
    snapshot = report.snapshot
    told = {
        "verdict": report.verdict.value, "primary": report.primary or "", "level": snapshot.level,
        "target": snapshot.target.key, "version": snapshot.tool_version, "interrupted": str(report.interrupted).lower(),
    }  # fmt: skip
    properties = ET.SubElement(suite, "properties")
    for name, value in told.items():
        ET.SubElement(properties, "property", {"name": name, "value": clean(value)})


def _case(check: Check, report: Report) -> ET.Element:
    case = ET.Element("testcase", {"classname": f"envdoctor.{clean(check.group)}", "name": clean(check.id)})
    found = [each for each in report.active if each.id == check.id]
    errors = [each for each in found if each.severity is Severity.ERROR]
    if check.status not in RAN:
        ET.SubElement(case, "skipped", {"message": clean(f"{check.status.value}: {check.reason}")})
    elif errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        told = {"message": clean(errors[0].title) + more, "type": "error"}
        ET.SubElement(case, "failure", told).text = _words(found)
    elif found:
        ET.SubElement(case, "system-out").text = _words(found)
    return case


def _words(found: list[Finding]) -> str:
    return "\n\n".join(_text(finding_lines(each)) for each in found)


def _text(lines: tuple[str, ...]) -> str:
    return "\n".join(map(escape, lines))
