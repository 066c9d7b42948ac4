"""Which reports let a run begin, and the exception that says why one does not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from envdoctor.facts.dataclass import dataclass
from envdoctor.finding import Report, Severity, Status

if TYPE_CHECKING:
    from envdoctor.finding import Finding

COUNTED = {"error": (Severity.ERROR,), "warning": (Severity.ERROR, Severity.WARNING), "never": ()}
REQUIRED = "requirement-not-met"
WIDTH = 88


class NotReady(Exception):  # noqa: N818 - a public name, said as people say it
    """This machine is not ready for the run. The words name the primary cause, the fix and the ids.

    ``report`` is the whole report; None in a process that only heard that another rank is not ready.
    """

    def __init__(self, words: str, report: Report | None = None) -> None:
        super().__init__(words)
        self.report = report


NotReady.__module__ = "envdoctor"  # where it is public: a traceback shows it, and a pickle finds it there


@dataclass(frozen=True)
class Objection:
    """Why a run should not begin: the keys of findings, and requirements that nobody could judge. Both may be empty."""

    keys: tuple[str, ...] = ()
    unjudged: str = ""

    def __bool__(self) -> bool:
        return bool(self.keys or self.unjudged)


def objection(report: Report, fail_on: str) -> Objection:
    """Name what stops a run: findings at or above ``fail_on``, and what is required and could not be found out.

    A question that merely took longer than the budget stops nothing: the report says that it is open.
    """
    counted = COUNTED[fail_on]
    keys = tuple(each.key for each in report.active if each.severity in counted and not _only_slow(each, report))
    return Objection(keys, _unjudged(report) if counted else "")


def _only_slow(finding: Finding, report: Report) -> bool:
    if finding.id != "probe-timed-out":
        return False
    from envdoctor.outcome import TimedOut

    ended = next((each.outcome for each in report.snapshot.probes if each.name == finding.subject), None)
    return isinstance(ended, TimedOut) and not ended.hung


def _unjudged(report: Report) -> str:
    for check in report.checks:
        if check.id == REQUIRED and (check.status is Status.UNKNOWN or (check.status is Status.FIRED and check.reason)):
            return check.reason
    return ""


def refused(report: Report, found: Objection) -> NotReady:
    """Make the exception that says why a run does not begin."""
    return NotReady(words(report, found), report)


def words(report: Report, found: Objection, width: int = WIDTH) -> str:
    """Say why a run does not begin: the ids, the primary cause with its evidence, and its fix."""
    from envdoctor.render.terminal.stopped import stopped

    return stopped(report, found.keys, found.unjudged, width=width, unicode=unicode_on_stderr())


def unicode_on_stderr() -> bool:
    """Tell whether stderr, where a traceback goes, can show more than ASCII."""
    encoding = getattr(sys.stderr, "encoding", None) or "ascii"
    try:
        "✗!·".encode(encoding)
    except (UnicodeEncodeError, LookupError, TypeError):
        return False
    return True
