"""Several reports in one: JSON of schema ``envdoctor.reports/1``, and what a terminal shows of them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from envdoctor.compare.subjects import title_of
from envdoctor.finding import Report, Severity
from envdoctor.render import json, verdict_words
from envdoctor.render.terminal import machine
from envdoctor.render.terminal import render as whole
from envdoctor.render.terminal.findings import headline
from envdoctor.render.terminal.layout import paragraph, table
from envdoctor.render.terminal.look import NARROWEST, Look
from envdoctor.render.words import words
from envdoctor.snapshot import now, to_plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from envdoctor.compare.groups import Apart, SideBySide
    from envdoctor.render.terminal.look import Line

SCHEMA = "envdoctor.reports/1"
LONGEST = 100  # characters of one value
MOST = 40  # differences that the terminal lists; JSON has all
BLANK: Line = ()


def plain(reports: Sequence[Report], compared: SideBySide) -> dict[str, Any]:
    """Give several reports and their comparison as JSON-ready data."""
    return {
        "schema": SCHEMA,
        "tool": to_plain(reports[0].snapshot)["tool"],
        "created": now(),
        "reports": [json.plain(each) for each in reports],
        "compare": {
            "targets": list(compared.targets),
            "differs": [_apart(each) for each in compared.apart],
            "findings": [
                {
                    "key": each.finding.key,
                    "severity": each.finding.severity.value if each.finding.severity else "info",
                    "title": each.finding.title,
                    "targets": list(each.targets),
                }
                for each in compared.findings
            ],
            "not_compared": [{"target": target, "reason": reason} for target, reason in compared.left_out],
        },
    }


def _apart(each: Apart) -> dict[str, Any]:
    groups = [{"value": group.value, "targets": list(group.targets)} for group in each.groups]
    return {"key": each.key, "about": each.about, "groups": groups}


def terminal(
    reports: Sequence[Report], compared: SideBySide, *, show: str = "problems", width: int = 80, color: bool = False,
    unicode: bool = True,
) -> str:  # fmt: skip
    """Give several reports as text: each in short (``show`` all: whole), then what differs between them."""
    look = Look(max(width, NARROWEST), color, unicode)
    parts = [
        whole(each, show=show, width=width, color=color, unicode=unicode)
        if show == "all"
        else _text(_in_short(each, look), look)
        for each in reports
    ]
    return "\n".join([*parts, _text(_compared(compared, look), look)])


def _text(lines: Iterator[Line], look: Look) -> str:
    return "\n".join(look.paint(line) for line in lines) + "\n"


def _in_short(report: Report, look: Look) -> Iterator[Line]:
    """Give one target: who it is, its verdict, and the title of each finding that counts."""
    yield from machine.header(report.snapshot, look)
    for each in report.active:
        if each.severity is not Severity.INFO and not each.caused_by:
            style = each.severity.value if each.severity else "error"
            yield from headline(look.clean(each.title), look.clean(each.key), style, style, look)
    yield from paragraph(look.clean(verdict_words.sentence(report)), look.width, style="strong")


def _compared(compared: SideBySide, look: Look) -> Iterator[Line]:
    for target, reason in compared.left_out:
        yield from paragraph(look.clean(f"Not compared: {target}: {reason}"), look.width, style="quiet")
    if not compared.apart:
        rest = len(compared.targets) - len(compared.left_out)
        yield from paragraph(_nothing(rest), look.width, style="strong")
        return
    listed, folded = _fold(compared.apart)
    yield (("What differs between them", "strong"),)
    yield from table(list(_rows(listed[:MOST], look)), look.width, indent=2)
    if len(listed) > MOST:
        yield ((f"  and {len(listed) - MOST} more: --format json", "quiet"),)
    for targets, names in folded.items():
        said = f"Only on {', '.join(targets)}: {verdict_words.many(len(names), 'package')}: {', '.join(names)}"
        yield from paragraph(look.clean(said), look.width, indent=2)


def _fold(apart: Sequence[Apart]) -> tuple[list[Apart], dict[tuple[str, ...], list[str]]]:
    """Part what differs from packages that are there or not: an environment has hundreds of these."""
    listed, folded = [], defaultdict(list)
    for each in apart:
        there = [group for group in each.groups if group.value is not None]
        if each.key.startswith("package.") and len(there) == 1:
            folded[there[0].targets].append(each.key.removeprefix("package."))
        else:
            listed.append(each)
    return listed, dict(folded)


def _nothing(compared: int) -> str:
    if compared < 2:
        return "There is nothing to compare: fewer than two of them answered."
    return "Nothing that should be the same differs between them."


def _rows(found: Sequence[Apart], look: Look) -> Iterator[Line]:
    for each in found:
        for number, group in enumerate(each.groups):
            value = "not there" if group.value is None else words(group.value)
            name = "" if number else title_of(each.key)
            who = ", ".join(group.targets)
            yield ((look.clean(name), ""), (look.clean(value, LONGEST), ""), (look.clean(who), "quiet"))
