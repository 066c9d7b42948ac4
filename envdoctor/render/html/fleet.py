"""A fleet's document (``envdoctor.fleet/1``) as one HTML page: a map of members by fact, findings, stages."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from envdoctor.render import causes, machine_words, verdict_words
from envdoctor.render.fleet_json import plain_fleet
from envdoctor.render.html import KINDS, page
from envdoctor.render.html.report import follow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.fleet.reporting import FleetReport

MOST_SEGMENTS = 400  # of one row; finer than this nobody sees
_BRACKET = re.compile(r"([^,\[]*)\[([^\]]*)\]|([^,]+)")


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
    members = [[list(expand(share["ranks"])) for share in each["shares"]] for each in differences]
    names = sorted({name for each in members for share in each for name in share}, key=natural)
    place = {name: number for number, name in enumerate(names)}
    return [
        Row(each["name"], each["key"], each["shares"], list(_segments(shares, place)))
        for each, shares in zip(differences, members, strict=True)
    ]


def expand(ranks: str) -> Iterator[str]:
    """Give the members of ``248-255,300`` and of ``node[001-004,009]`` one by one."""
    for prefix, inside, plain in _BRACKET.findall(ranks):
        for part in (inside or plain).split(","):
            first, _, last = part.strip().partition("-")
            if first.isdecimal() and last.isdecimal():
                width = len(first) if first.startswith("0") else 0
                yield from (f"{prefix}{number:0{width}d}" for number in range(int(first), int(last) + 1))
            elif part.strip():
                yield f"{prefix}{part.strip()}"


def natural(name: str) -> list[tuple[bool, int, str]]:
    """Give a key that sorts 2 before 10."""
    parts = re.split(r"(\d+)", name)
    return [(not each.isdecimal(), int(each) if each.isdecimal() else 0, each) for each in parts if each]


def _segments(shares: list[list[str]], place: dict[str, int]) -> Iterator[Segment]:
    """Join neighbours of one value; where there are more segments than can be seen, the smallest are left to others."""
    owner = {place[name]: number for number, share in enumerate(shares) for name in share}
    one = 100.0 / max(len(place), 1)
    runs = [(key, len(list(run))) for key, run in itertools.groupby(owner.get(at, -1) for at in range(len(place)))]
    start = 0.0
    for share, many in runs[:MOST_SEGMENTS]:
        if share >= 0:
            yield Segment(round(start, 4), round(many * one, 4), share)
        start += many * one
