"""render(fleet) -> the report on many ranks or machines that a person reads in a terminal."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from envdoctor.finding import Finding, Severity
from envdoctor.render import machine_words, members
from envdoctor.render.terminal import findings, lists, tally
from envdoctor.render.terminal.bars import strip
from envdoctor.render.terminal.layout import cells, flow, paragraph, table
from envdoctor.render.terminal.look import NARROWEST, Line, Look
from envdoctor.render.verdict_words import many

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from envdoctor.facts.fleet import Stage
    from envdoctor.fleet.reporting import FleetReport

BLANK: Line = ()
DIFFERS = "differs-across-ranks"
MAPPED = 6  # differences of which a map is drawn
LEAST_MAPPED = 3  # members; of two the words say it all
LONGEST_NAME = 24
PLAIN = 100  # from here on a rate is shown without decimals
SHOWN = 12  # differences that are only worth knowing, and files that were left out, before the rest is counted


def render(
    fleet: FleetReport, *, show: str = "problems", width: int = 80, color: bool = False, unicode: bool = True,
    **_view: Any,
) -> str:  # fmt: skip
    """Give the report on a fleet as text for a terminal of ``width`` columns, ending with a newline."""
    look = Look(max(width, NARROWEST), color, unicode)
    lines = _sections(fleet, look, everything=show == "all")
    return "\n".join(look.paint(line) for line in lines) + "\n"


def _sections(fleet: FleetReport, look: Look, *, everything: bool) -> Iterator[Line]:
    minor = [each for each in fleet.report.active if _is_minor(each)]
    yield from _header(fleet, look)
    yield from _first(fleet, look)
    yield BLANK
    shown = tuple(each for each in fleet.report.findings if not _is_minor(each))
    yield from findings.findings(replace(fleet.report, findings=shown), look, everything=everything)
    yield from _minor(minor, look, everything=everything)
    yield from _map(fleet, look, everything=everything)
    yield from _stages(fleet, look)
    yield from _skipped(fleet, look, everything=everything)
    if everything:
        yield from lists.checks(fleet.report, look)
    yield from tally.groups(fleet.report, look)
    yield from tally.counts(fleet.report, look)
    yield from tally.verdict(fleet.report, look)
    yield from _more(look, everything=everything)


def _is_minor(finding: Finding) -> bool:
    return finding.id == DIFFERS and finding.severity is Severity.INFO and finding.ignored is None


def _header(fleet: FleetReport, look: Look) -> Iterator[Line]:
    snapshot, ranks = fleet.report.snapshot, fleet.ranks
    nodes = f" on {many(ranks.nodes, 'node')}" if ranks.nodes and fleet.noun == "rank" else ""
    world = ranks.world_size or fleet.members
    size = many(fleet.members, fleet.noun) if fleet.members == world else f"{fleet.members} of {world} {fleet.noun}s"
    items = [f"envdoctor {snapshot.tool_version}".strip(), f"{size}{nodes}", ranks.launcher, snapshot.level]
    items.append(f"{snapshot.elapsed_seconds:.1f} s")
    spans: list[Line] = [
        ((look.clean(each), "" if number else "head"),) for number, each in enumerate(filter(None, items))
    ]
    yield from flow(spans, look.width, between="   ")
    if not fleet.members:
        return
    machine: list[Line] = [((look.clean(each, 80), ""),) for each in machine_words.machine(snapshot)]
    yield from flow(machine, look.width, between=f" {look.dot} ")
    if 1 < fleet.usual.count < fleet.members:
        yield (
            (look.clean(f"So are {fleet.usual.count} of {fleet.members}: {fleet.usual.ranks}", look.width), "quiet"),
        )
    elif fleet.usual.count < fleet.members:
        yield ((f"That is the first {fleet.noun}; no two are alike in everything.", "quiet"),)


def _first(fleet: FleetReport, look: Look) -> Iterator[Line]:
    told = ["Interrupted: what follows is what was known by then."] if fleet.report.interrupted else []
    if fleet.ranks.ended_by:
        told.append(f"The launcher ended the run ({fleet.ranks.ended_by}): what follows is what was known by then.")
    first = ((look.glyph("warning"), "warning"), (" ", ""))
    for each in (*told, *fleet.report.notes):
        yield from paragraph(look.clean(each), look.width, first=first, indent=2)


def _minor(minor: list[Finding], look: Look, *, everything: bool) -> Iterator[Line]:
    """Give differences that are worth knowing, a line each."""
    if not minor:
        return
    yield (((look.glyph("info")), "info"), (f" {many(len(minor), 'more difference')}, worth knowing", ""))
    shown = minor if everything else minor[:SHOWN]
    for each in shown:
        yield from paragraph(look.clean(each.title), look.width, indent=4)
    if len(shown) < len(minor):
        yield ((f"    and {len(minor) - len(shown)} more: --show all", "quiet"),)
    yield BLANK


def _map(fleet: FleetReport, look: Look, *, everything: bool) -> Iterator[Line]:
    """Give a strip for each difference: a column for each member in order, or for several where they are many."""
    found = fleet.differences.differences if everything else fleet.differences.differences[:MAPPED]
    if not found or fleet.members < LEAST_MAPPED:
        return
    rows = members.owners([[share.ranks for share in each.shares] for each in found])
    names = max(cells(look.clean(each.name, LONGEST_NAME)) for each in found)
    for each, owned in zip(found, rows, strict=True):
        most = max(range(len(each.shares)), key=lambda number: each.shares[number].count)
        order = {most: 0, **{n: 1 + n - (n > most) for n in range(len(each.shares)) if n != most}}
        label = look.clean(each.name, LONGEST_NAME)
        drawn = strip([order.get(value, -1) for value in owned], look.width - names - 4)
        yield ((f"  {label}{' ' * (names - cells(label) + 2)}", ""), (drawn, "strong"))
    said = f"Each column is one {fleet.noun} or more, in order: . has what most have, a letter another value"
    yield from paragraph(look.clean(said), look.width, style="quiet", indent=2, first=(("  ", ""),))
    yield BLANK


def _stages(fleet: FleetReport, look: Look) -> Iterator[Line]:
    if fleet.stages is None or not fleet.stages.stages:
        return
    yield (("Staged tests", "head"),)
    rows = [_stage_row(each, look) for each in fleet.stages.stages]
    yield from table(rows, look.width, indent=2)
    yield BLANK


def _stage_row(stage: Stage, look: Look) -> Line:
    values = [each.value for each in stage.results if each.state == "done" and each.value is not None]
    bad = [each for each in stage.results if each.state not in {"done", "skipped"}]
    left_out = sum(each.state == "skipped" for each in stage.results)
    told = [look.clean(stage.reason)] if stage.state != "done" and not values and stage.reason else []
    told += [f"{_span(values)} {stage.unit} over {len(values)}"] if values else []
    told += [f"{len(bad)} failed"] if bad else []
    told += [f"{left_out} left out"] if left_out else []
    remark = f"{stage.config}, {stage.seconds:.1f} s" if stage.config else f"{stage.seconds:.1f} s"
    glyph = "error" if bad or stage.state == "failed" else "quiet" if stage.state != "done" else "ok"
    return (
        (f"{look.glyph(glyph)} {stage.name}", glyph),
        (look.clean(", ".join(told) or stage.state), ""),
        (look.clean(remark), "quiet"),
    )


def _span(values: list[float]) -> str:
    ends = dict.fromkeys((min(values), max(values)))
    return " to ".join(f"{each:.0f}" if each >= PLAIN else f"{each:.3g}" for each in ends)


def _skipped(fleet: FleetReport, look: Look, *, everything: bool) -> Iterator[Line]:
    if not fleet.skipped:
        return
    first = ((look.glyph("warning"), "warning"), (" ", ""))
    said = f"{many(len(fleet.skipped), 'file')} left out:"
    yield from paragraph(said, look.width, first=first, indent=2)
    shown = fleet.skipped if everything else fleet.skipped[:SHOWN]
    for each in shown:
        yield from paragraph(look.clean(f"{each.name}: {each.why}"), look.width, indent=4)
    if len(shown) < len(fleet.skipped):
        yield ((f"    and {len(fleet.skipped) - len(shown)} more: --format json", "quiet"),)
    yield BLANK


def _more(look: Look, *, everything: bool) -> Iterator[Line]:
    hints = [*([] if everything else ["--show all"]), "--format json", "envdoctor explain ID"]
    items: list[Line] = [((each, "quiet"),) for each in hints]
    items[0] = ((f"More: {hints[0]}", "quiet"),)
    yield from flow(items, look.width, between=f" {look.dot} ")
