"""Which finding leads, and what goes away with it: the same in every format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.finding import Severity

if TYPE_CHECKING:
    from envdoctor.finding import Finding, Report


def leading(report: Report) -> list[Finding]:
    """Give the errors and warnings that nothing else explains, the primary one first."""
    top = [f for f in report.active if root_of(f, report) is f and f.severity is not Severity.INFO]
    return sorted(top, key=lambda f: f.key != report.primary)


def remarks(report: Report) -> list[Finding]:
    """Give the infos that nothing else explains."""
    return [f for f in report.active if f.severity is Severity.INFO and root_of(f, report) is f]


def root_of(finding: Finding, report: Report) -> Finding:
    """Follow the first cause of each finding up to one that nothing explains; a circle ends where it began."""
    seen = [finding]
    while seen[-1].caused_by:
        cause = report.finding(seen[-1].caused_by[0])
        if cause is None or cause.ignored:
            break
        if cause in seen:
            return finding
        seen.append(cause)
    return seen[-1]


def consequences(finding: Finding, report: Report) -> list[str]:
    """Name what goes away when this finding is fixed."""
    return [f.key for f in report.active if f is not finding and root_of(f, report) is finding]
