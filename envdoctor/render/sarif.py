"""render(report) -> SARIF 2.1.0: rules with their pages, a result for each finding, what could not be judged beside.

A finding is about a machine, not about a line of code: its place is the file that a fact was read from, where it was
read from one, and always the target and the fact by name (``logicalLocations``).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from envdoctor.finding import Severity, Status
from envdoctor.render.json import write
from envdoctor.render.verdict_words import sentence
from envdoctor.render.written import clean, finding_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from envdoctor.finding import Check, Evidence, Finding, Report
    from envdoctor.snapshot import ProbeResult

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
HOME = "https://github.com/torch-envdoctor/envdoctor"
LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def render(report: Report, *, explain: Callable[[str], str] | None = None, **_view: Any) -> str:
    """Give the report as one SARIF run; ``explain`` gives a rule's page by its id."""
    ids = {each.id: number for number, each in enumerate(report.checks)}
    known = dict.fromkeys(each.id for each in report.findings if each.id not in ids)
    ids |= {each: len(ids) + number for number, each in enumerate(known)}
    driver = {
        "name": "envdoctor", "version": clean(report.snapshot.tool_version), "informationUri": HOME,
        "rules": [_rule(each, report, explain) for each in ids],
    }  # fmt: skip
    run = {
        "tool": {"driver": driver},
        "invocations": [_invocation(report)],
        "results": [_result(each, ids[each.id], report) for each in report.findings],
        "columnKind": "unicodeCodePoints",
        "properties": {
            "verdict": report.verdict.value,
            "primary": clean(report.primary) if report.primary else None,
            "level": report.snapshot.level,
        },
    }
    return write({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})


def _rule(id_: str, report: Report, explain: Callable[[str], str] | None) -> dict[str, Any]:
    page = explain(id_) if explain else ""
    found = [each.severity or Severity.INFO for each in report.findings if each.id == id_]
    rule: dict[str, Any] = {"id": id_, "name": "".join(part.capitalize() for part in id_.split("-"))}
    if page:
        first, _, rest = page.partition("\n")
        rule["shortDescription"] = {"text": first}
        rule["help"] = {"text": page, "markdown": f"**{first}**\n\n{rest.strip()}\n"}
    if found:
        worst = min(found, key=lambda each: each.rank)
        rule["defaultConfiguration"] = {"level": LEVELS[worst]}
    return rule


def _result(finding: Finding, index: int, report: Report) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.id,
        "ruleIndex": index,
        "level": LEVELS[finding.severity or Severity.INFO],
        "message": {"text": "\n".join(finding_lines(finding))},
        "locations": [_location(each, report) for each in finding.evidence] or [_target(report)],
        "partialFingerprints": {"envdoctorKey/v1": _fingerprint(finding.key)},
        "properties": {
            "key": clean(finding.key), "confidence": finding.confidence.value,
            "causedBy": [clean(each) for each in finding.caused_by],
            "primary": finding.key == report.primary,
        },
    }  # fmt: skip
    if finding.ignored:
        words = clean(f"{finding.ignored.reason} (by {finding.ignored.by})")
        result["suppressions"] = [{"kind": "external", "justification": words}]
    return result


def _fingerprint(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "backslashreplace")).hexdigest()


def _location(seen: Evidence, report: Report) -> dict[str, Any]:
    location = _target(report)
    location["logicalLocations"][0] |= {"name": clean(seen.fact), "fullyQualifiedName": _named(report, seen.fact)}
    if seen.source.startswith("/") and " " not in seen.source:
        location["physicalLocation"] = {"artifactLocation": {"uri": f"file://{quote(clean(seen.source))}"}}
    return location


def _target(report: Report) -> dict[str, Any]:
    return {"logicalLocations": [{"fullyQualifiedName": _named(report, ""), "kind": "resource"}]}


def _named(report: Report, fact: str) -> str:
    return "/".join(filter(None, [clean(report.snapshot.target.key) or "this", clean(fact)]))


def _invocation(report: Report) -> dict[str, Any]:
    unknown = [each for each in report.checks if each.status is Status.UNKNOWN]
    lost = [each for each in report.snapshot.probes if each.outcome.name in {"failed", "crashed", "timed-out"}]
    notes = [{"level": "note", "message": {"text": clean(each)}} for each in (sentence(report), *report.notes)]
    return {
        "executionSuccessful": not report.interrupted,
        "toolExecutionNotifications": [*notes, *map(_unjudged, unknown), *map(_lost, lost)],
    }


def _unjudged(check: Check) -> dict[str, Any]:
    words = f"{check.id} could not be judged: {check.reason or 'no reason was recorded'}"
    level = "warning" if check.essential else "note"
    return {"level": level, "message": {"text": clean(words)}, "associatedRule": {"id": check.id}}


def _lost(result: ProbeResult) -> dict[str, Any]:
    words = f"probe {result.name} {result.outcome.name}: {result.outcome.reason}"
    return {"level": "note", "message": {"text": clean(words)}}
