"""The end of the report: groups, counts, the verdict, and where to read on."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from envdoctor.finding import Check, Report, Status, Verdict
from envdoctor.render import verdict_words
from envdoctor.render.terminal.layout import flow, paragraph

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.render.terminal.look import Line, Look


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
    by_reason: dict[str, list[str]] = defaultdict(list)
    for check in verdict_words.essential_unknown(report):
        by_reason[check.reason].append(check.id)
    for reason, ids in by_reason.items():
        yield from paragraph(look.clean(", ".join(ids)), look.width, indent=4)
        yield from paragraph(look.clean(reason or "no reason was recorded"), look.width, style="quiet", indent=6)
        yield (("      ", ""), (look.command(verdict_words.would_tell(reason, ids[0], report)), "command"))


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
