"""The verdict and the counts of a report, in words: the same words in every format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.finding import Severity, Status, Verdict
from envdoctor.render.causes import consequences

if TYPE_CHECKING:
    from envdoctor.finding import Check, Report

COUNTED = (Status.PASSED, Status.NOT_APPLICABLE, Status.UNKNOWN, Status.SKIPPED, Status.IGNORED)


def counts(report: Report) -> tuple[str, ...]:
    """Count the checks by what became of them; the numbers add up to all of them."""
    fired = [worst(check, report) for check in report.checks if check.status is Status.FIRED]
    parts = [many(fired.count(each), each.value) for each in Severity if each in fired]
    parts += [f"{n} {each.value.replace('-', ' ')}" for each in COUNTED if (n := report.count(each))]
    said = many(len(report.checks), "check")
    return (f"{said}: {parts[0]}" if parts else said, *parts[1:])


def worst(check: Check, report: Report) -> Severity:
    """Give the worst severity of what a check found."""
    found = [f.severity for f in report.findings if f.id == check.id and f.severity]
    return min(found, key=lambda each: each.rank, default=Severity.INFO)


def many(number: int, noun: str) -> str:
    """Count a thing in words that fit: 1 error, 2 errors."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def sentence(report: Report) -> str:
    """Say the one thing to take home."""
    if report.verdict is Verdict.UNDETERMINED:
        return _undetermined(report)
    unknown = report.count(Status.UNKNOWN)
    also = f" {many(unknown, 'check')} could not be judged." if unknown else ""
    if report.verdict is Verdict.OK:
        return f"Everything that could be checked is healthy.{also}"
    return f"{found(report)}. {_start(report)}{also}"


def found(report: Report) -> str:
    """Count errors and warnings in words; nothing where there are none."""
    found = [worst(check, report) for check in report.checks if check.status is Status.FIRED]
    return ", ".join(many(n, each.value) for each in (Severity.ERROR, Severity.WARNING) if (n := found.count(each)))


def _start(report: Report) -> str:
    primary = report.finding(report.primary or "")
    if primary is None:
        return ""
    follows = len(consequences(primary, report))
    more = f"; {follows} more follow{'s' if follows == 1 else ''} from it" if follows else ""
    return f"Start with {primary.key}{more}."


def _undetermined(report: Report) -> str:
    undecided = essential_unknown(report)
    if not undecided:
        return "Undetermined: no check could be judged."
    begin = found(report) or "nothing wrong was found"
    number = many(len(undecided), "essential check")
    return f"Undetermined: {begin}, but {number} could not be judged. {_start(report)}"


def essential_unknown(report: Report) -> list[Check]:
    """Give the checks that keep the verdict open."""
    return [check for check in report.checks if check.essential and check.status is Status.UNKNOWN]


def would_tell(reason: str, check: str, report: Report) -> str:
    """Give the command most likely to decide an open check."""
    if report.snapshot.target.kind == "text":
        return "envdoctor check"
    if "timed-out" in reason or report.interrupted:
        return f"envdoctor check --only {check} --timeout 600"
    return f"envdoctor explain {check}"
