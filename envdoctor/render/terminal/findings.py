"""Findings as a person reads them: the primary one in full, others shorter, consequences under their cause."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from envdoctor.finding import Evidence, Finding, Fix, Report, Safety, Severity
from envdoctor.render.causes import consequences, leading, remarks
from envdoctor.render.terminal.layout import GAP, cells, paragraph, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.render.terminal.look import Line, Look

BLANK: Line = ()
LISTED = 6  # findings of one rule that are named before the rest is counted
SHORT_EVIDENCE = 3
LAST_WORDS = ("probe_run.", "torch_import.")  # facts that hold what a program said when it ended
WHAT_SAFETY_MEANS = {
    Safety.SAFE: "this environment only, undoable",
    Safety.ADMIN: "changes the machine",
    Safety.DISRUPTIVE: "interrupts what runs there",
}


def findings(report: Report, look: Look, *, everything: bool) -> Iterator[Line]:
    """Give each cause with what follows from it; ignored findings are named, not shown."""
    for number, (_, group) in enumerate(groupby(leading(report), key=lambda f: (f.id, f.severity))):
        first, *rest = group
        yield from in_full(first, report, look) if everything or not number else in_short(first, report, look)
        yield from siblings(rest, report, look, everything=everything)
        yield BLANK
    yield from notes(report, look)


def notes(report: Report, look: Look) -> Iterator[Line]:
    """Give infos and ignored findings, a line each."""
    infos = remarks(report)
    for each in infos:
        yield from headline(look.clean(each.title), look.clean(each.key), "info", "", look)
    for each in report.findings:
        if each.ignored:
            said = f"{each.key} is ignored: {each.ignored.reason} (by {each.ignored.by})"
            first = ((look.glyph("quiet"), "quiet"), (" ", ""))
            yield from paragraph(look.clean(said), look.width, style="quiet", first=first, indent=2)
    if infos or len(report.active) < len(report.findings):
        yield BLANK


def in_full(finding: Finding, report: Report, look: Look) -> Iterator[Line]:
    """Give one finding with all its evidence and every way out."""
    yield from heading(finding, look)
    for part in filter(None, map(look.clean, finding.detail.split("\n\n"))):
        yield from paragraph(part, look.width, indent=4)
    yield from evidence(finding.evidence, look)
    yield from _affected(finding, report, look)
    proofs = {fix.verify: None for fix in finding.fixes if fix.verify}
    for number, fix in enumerate(finding.fixes):
        label = f"Fix {chr(ord('A') + number)}" if len(finding.fixes) > 1 else "Fix"
        yield BLANK
        yield from one_fix(fix, label, look)
    if finding.fixes:
        yield BLANK
    for proof in proofs or {f"envdoctor check --only {finding.id}": None}:
        yield from pasteable("Prove it", proof, look)
    yield from pasteable("More", f"envdoctor explain {finding.id}", look)


def in_short(finding: Finding, report: Report, look: Look) -> Iterator[Line]:
    """Give one finding with the evidence that carries it and the first way out."""
    yield from heading(finding, look)
    yield from evidence(finding.evidence[:SHORT_EVIDENCE], look)
    yield from _affected(finding, report, look)
    for fix in finding.fixes[:1]:
        yield from one_fix(fix, "Fix", look)
    yield from pasteable("More", f"envdoctor explain {finding.id}", look)


def heading(finding: Finding, look: Look) -> Iterator[Line]:
    """Give the title, how sure it is, and the name of the finding."""
    style = finding.severity.value if finding.severity else "error"
    title, sure, key = look.clean(finding.title), finding.confidence.value, look.clean(finding.key)
    if cells(title) + cells(sure) + GAP + 2 <= look.width:
        yield from headline(title, sure, style, style, look)
    else:
        yield from headline(title, "", style, style, look)
        key = f"{key} {look.dot} {sure}"
    yield from paragraph(key, look.width, style="quiet", indent=2)


def headline(title: str, remark: str, sign: str, style: str, look: Look) -> Iterator[Line]:
    """Give a title behind its sign, and a remark at the right edge, or below where there is no room."""
    first = ((look.glyph(sign), sign), (" ", ""))
    beside = look.width - 2 - cells(title) - cells(remark)
    if remark and beside >= GAP:
        yield (*first, (title, style), (" " * beside, ""), (remark, "quiet"))
        return
    yield from paragraph(title, look.width, style=style, first=first, indent=2)
    if remark:
        yield from paragraph(remark, look.width, style="quiet", indent=2)


def evidence(facts: tuple[Evidence, ...], look: Look) -> Iterator[Line]:
    """Give the facts a finding rests on: what, its value, where it was read."""
    rows = [
        (
            (look.clean(each.label or each.fact.rpartition(".")[2].replace("_", " ")), ""),
            (look.value(each.value), ""),
            (look.clean(each.source), "quiet"),
        )
        for each in facts
    ]
    yield from table(rows, look.width, indent=4, below="({})")


def _affected(finding: Finding, report: Report, look: Look) -> Iterator[Line]:
    if finding.affects:
        yield from paragraph(look.clean(f"Affects: {', '.join(finding.affects)}"), look.width, indent=2)
    if follows := consequences(finding, report):
        yield from paragraph(look.clean(f"Also follows from it: {', '.join(follows)}"), look.width, indent=2)
        for each in (f for f in report.active if f.key in follows and _has_last_words(f)):
            yield from paragraph(look.clean(each.title), look.width, style="quiet", indent=4)


def _has_last_words(finding: Finding) -> bool:
    """Tell whether this consequence says how a program ended: words that a person will look for."""
    return finding.severity is Severity.ERROR and any(each.fact.startswith(LAST_WORDS) for each in finding.evidence)


def siblings(rest: list[Finding], report: Report, look: Look, *, everything: bool) -> Iterator[Line]:
    """Give further findings of the same rule: the first was explained, these differ in subject only."""
    if everything:
        for each in rest:
            yield BLANK
            yield from in_full(each, report, look)
        return
    for each in rest[:LISTED]:
        style = each.severity.value if each.severity else "error"
        first = (("  ", ""), (look.glyph(style), style), (" ", ""))
        yield from paragraph(look.clean(each.title), look.width, first=first, indent=4)
    if len(rest) > LISTED:
        yield (("    ", ""), (f"and {len(rest) - LISTED} more of {rest[0].id}", "quiet"))


def one_fix(fix: Fix, label: str, look: Look) -> Iterator[Line]:
    """Give one way out: what it does, what it touches and needs, and its commands, each on one line."""
    lead = f"  {label} {look.dot} "
    title, note = look.clean(fix.title), look.clean(", ".join(_touches(fix)))
    gap = look.width - cells(lead + title) - cells(note)
    if gap >= GAP:
        yield ((lead, "strong"), (title, ""), (" " * gap, ""), (note, "quiet"))
    else:
        yield from paragraph(title, look.width, first=((lead, "strong"),), indent=cells(lead))
        yield from paragraph(f"({note})", look.width, style="quiet", indent=cells(lead))
    for command in fix.commands:
        yield (("      ", ""), (look.command(command.shell), "command"))


def _touches(fix: Fix) -> Iterator[str]:
    needs = [word for word, needed in (("root", fix.needs_root), ("a reboot", fix.needs_reboot)) if needed]
    if fix.changes or not needs:
        yield fix.changes or WHAT_SAFETY_MEANS[fix.safety]
    if needs:
        yield f"needs {' and '.join(needs)}"


def pasteable(label: str, command: str, look: Look) -> Iterator[Line]:
    """Give a labelled command on one line."""
    yield (("  ", ""), (f"{label:<10}", "quiet"), (" ", ""), (look.command(command), "command"))
