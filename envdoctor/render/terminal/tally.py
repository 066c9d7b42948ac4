"""The end of the report: groups, counts, the verdict, and where to read on."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from envdoctor.finding import Check, Report, Status, Verdict
from envdoctor.render import verdict_words
from envdoctor.render.terminal.layout import flow, paragraph

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.render.terminal.look import Line, Look

_ALL = 10_000  # characters: every id is named
_OF_PROBE = re.compile(r"^probe [\w-]+ [a-z-]+: ")  # what differs where several questions were lost for one reason


def groups(report: Report, look: Look) -> Iterator[Line]:
    """Give each group in which nothing fired: how much passed, or what is unknown."""
    members: dict[str, list[Check]] = defaultdict(list)
    for check in report.checks:
        members[check.group].append(check)
    items = [item for name, checks in members.items() if (item := _group(name, checks, look))]
    yield from flow(items, look.width, between="   ")


def _group(name: str, checks: list[Check], look: Look) -> Line | None:
    statuses = [check.status for check in checks]
    passed, unknown = statuses.count(Status.PASSED), statuses.count(Status.UNKNOWN)
    name = look.clean(name)
    if unknown:
        of = f" of {len(checks)}" if passed else ""
        return ((look.glyph("unknown"), "unknown"), (f" {name} {unknown}{of} unknown", ""))
    if not passed or Status.FIRED in statuses:
        return None
    return ((look.glyph("ok"), "ok"), (f" {name} {passed}", ""))


def counts(report: Report, look: Look) -> Iterator[Line]:
    """Count the checks by what became of them."""
    items: list[Line] = [((each, ""),) for each in verdict_words.counts(report)]
    yield from flow(items, look.width, between=f" {look.dot} ")


def verdict(report: Report, look: Look) -> Iterator[Line]:
    """Say the one thing to take home, and for what is undetermined, which command would tell."""
    kind = {Verdict.OK: "ok", Verdict.WARNINGS: "warning", Verdict.ERRORS: "error"}.get(report.verdict, "unknown")
    first = ((look.glyph(kind), kind), (" ", ""))
    yield from paragraph(look.clean(verdict_words.sentence(report)), look.width, style="strong", first=first, indent=2)
    if report.verdict is Verdict.UNDETERMINED:
        yield from _undecided(report, look)


def _undecided(report: Report, look: Look) -> Iterator[Line]:
    by_reason: dict[str, list[Check]] = defaultdict(list)
    for check in verdict_words.essential_unknown(report):
        by_reason[_OF_PROBE.sub("", check.reason)].append(check)
    for words, checks in by_reason.items():
        told = {each.reason for each in checks}
        said = words if len(told) > 1 else checks[0].reason
        yield from paragraph(look.clean(", ".join(each.id for each in checks), _ALL), look.width, indent=4)
        yield from paragraph(look.clean(said or "no reason was recorded"), look.width, style="quiet", indent=6)
        command = verdict_words.would_tell(checks[0].reason, checks[0].id, report)
        yield (("      ", ""), (look.command(command), "command"))


def more(report: Report, look: Look, *, everything: bool) -> Iterator[Line]:
    """Say how to see more, and which deeper level has not been asked."""
    deeper = sorted({c.reason for c in report.checks if c.status is Status.SKIPPED and c.reason.startswith("needs ")})
    hints = [] if everything else ["--show all", "--format json"]
    hints += [each.removeprefix("needs ") for each in deeper]
    hints += ["envdoctor explain ID"]
    items: list[Line] = [((look.clean(each), "quiet"),) for each in hints]
    command = "" if everything and not deeper else "envdoctor check "
    items[0] = ((f"More: {command}{items[0][0][0]}", "quiet"),)
    yield from flow(items, look.width, between=f" {look.dot} ")
