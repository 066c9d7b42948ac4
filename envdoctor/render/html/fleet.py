"""A fleet's document (``envdoctor.fleet/1``) as one HTML page: a map of members by fact, findings, stages."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from envdoctor.render import causes, machine_words, members, verdict_words
from envdoctor.render.fleet_json import plain_fleet
from envdoctor.render.html import KINDS, page
from envdoctor.render.html.report import follow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.fleet.reporting import FleetReport


class Segment(NamedTuple):
    """Neighbours with one value: where they begin and how many they are, in percent, and which value it is."""

    start: float
    width: float
    share: int


class Row(NamedTuple):
    """One difference: its values, and the members in order as segments."""

    name: str
    key: str
    shares: list[dict[str, Any]]
    segments: list[Segment]


def render(fleet: FleetReport, **_view: Any) -> str:
    """Give the page."""
    report, document = fleet.report, plain_fleet(fleet)
    top = causes.leading(report)
    on = {each["key"]: each["on"] for each in document["findings"]}
    return page(
        "fleet.html.j2",
        report=report, document=document, snapshot=report.snapshot, on=on, notes=report.notes,
        title=verdict_words.sentence(report), kind=KINDS.get(report.verdict.value, "unknown"),
        doctor=machine_words.doctor(report.snapshot), machine=machine_words.machine(report.snapshot),
        findings=top, consequences={each.key: follow(report, each.key) for each in top},
        remarks=causes.remarks(report), map=rows(document), counts=verdict_words.counts(report),
    )  # fmt: skip


def rows(document: dict[str, Any]) -> list[Row]:
    """Give a row of the map for each difference; members stand in the same place in every row."""
    differences = document["differences"]
    owners = members.owners([[share["ranks"] for share in each["shares"]] for each in differences])
    return [
        Row(each["name"], each["key"], each["shares"], list(_segments(owned)))
        for each, owned in zip(differences, owners, strict=True)
    ]


def _segments(owners: list[int]) -> Iterator[Segment]:
    """Join neighbours of one value."""
    one = 100.0 / max(len(owners), 1)
    start = 0.0
    for share, run in itertools.groupby(owners):
        many = len(list(run))
        if share >= 0:
            yield Segment(round(start, 4), round(many * one, 4), share)
        start += many * one
