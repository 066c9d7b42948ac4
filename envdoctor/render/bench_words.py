"""What a benchmark comes to, in one sentence, and which findings are about speed: the same words in every form."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from envdoctor.finding import Severity, Status
from envdoctor.render.verdict_words import many

if TYPE_CHECKING:
    from envdoctor.bench.result import Result
    from envdoctor.finding import Finding, Report

SPEED = frozenset({"measured", "precision"})


def verdict(result: Result) -> tuple[str, str]:
    """Give the kind of sign and the one sentence to take home."""
    if not result.measured:
        return "unknown", "Nothing could be measured."
    report = of_speed(result.report)
    bad = [each for each in report.active if each.severity in {Severity.ERROR, Severity.WARNING}]
    if bad:
        worst = "error" if any(each.severity is Severity.ERROR for each in bad) else "warning"
        return worst, f"{many(len(bad), 'finding')} about speed. Start with {report.primary}."
    if result.run and result.run.machine.is_cpu:
        return "ok", "Measured. A CPU is not judged: compare it with itself, by envdoctor diff."
    judged = sum(check.group == "measured" and check.status is Status.PASSED for check in report.checks)
    if not judged:
        return "unknown", "Measured, but nothing of it could be judged."
    return "ok", "Nothing that was measured is slower than this device is known to be."


def of_speed(report: Report) -> Report:
    """Give the report with those findings alone that are about speed, whatever else is wrong here."""
    kept = tuple(each for each in report.findings if is_of_speed(each, report))
    keys = {each.key for each in kept}
    inside = tuple(replace(each, caused_by=tuple(c for c in each.caused_by if c in keys)) for each in kept)
    primary = next((each.key for each in inside if each.severity is not Severity.INFO and not each.ignored), None)
    return replace(report, findings=inside, primary=primary)


def is_of_speed(finding: Finding, report: Report) -> bool:
    """Tell whether a finding is about speed, or explains one that is."""
    groups = {check.id: check.group for check in report.checks}
    causes = {
        key.partition("@")[0] for each in report.findings if groups.get(each.id) in SPEED for key in each.caused_by
    }
    return groups.get(finding.id) in SPEED or finding.id in causes
