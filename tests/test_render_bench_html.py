"""A benchmark as a page: pictures that follow the theme, numbers beside them, and nothing fetched."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from envdoctor.bench.result import Result, result_of
from envdoctor.diagnose import examine
from envdoctor.render.bench_json import plain
from envdoctor.render.html import bench, pictures
from envdoctor.snapshot import of
from tests import canonical_reports as canonical
from tests.bench_machines import cards
from tests.test_render_html import Page

MACHINES = {"a100": cards.a100, "h100": cards.h100, "rtx3080": cards.rtx3080, "cpu": cards.cpu}
DRAWN = {
    "roofline": pictures.roofline,
    "ladder": pictures.ladder,
    "ceilings": pictures.ceilings,
    "clocks": pictures.clocks,
}


def result(name: str) -> Result:
    """Judge a constructed machine's benchmark."""
    return result_of(examine(of(*cards.facts_of(MACHINES[name]()))))  # type: ignore[arg-type]


def document(name: str) -> dict[str, Any]:
    """Give its document."""
    return plain(result(name))


@pytest.mark.parametrize("name", MACHINES)
def test_page_shows_every_measurement_and_fetches_nothing(name: str) -> None:
    """Each measurement with its verdict is in the table; the page is small and leads nowhere."""
    found = result(name)
    text = bench.render(found, plain(found))
    page = Page(text)
    assert {"#main", "data:,"} == {each for each in page.fetched if not each.startswith("#") or each == "#main"}
    assert [] == page.handlers
    words = " ".join(page.words)
    assert [] == [each["name"] for each in plain(found)["measurements"] if each["name"] not in words]
    assert 1_500_000 > len(text.encode())


@pytest.mark.parametrize("name", DRAWN)
def test_picture_is_svg_whose_colours_are_the_pages(name: str) -> None:
    """Well-formed, named for screen readers, its text is text, and no colour is fixed."""
    svg = DRAWN[name](document("a100"))
    root = ET.fromstring(svg)
    assert root.attrib["aria-label"]
    assert root.attrib["role"] == "img"
    assert set() == set(re.findall(r"#[0-9a-f]{6}\b", svg)) - {"#ffffff", "#000000"}
    assert [] == [
        name for name in re.findall(r"var\(--([\w-]+)\)", svg) if not re.fullmatch(r"text|quiet|line|series-\d", name)
    ]
    texts = ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts
    assert [] == [each for each in texts if "$" in each or "\\" in each]


def test_pictures_of_one_page_share_no_id() -> None:
    """An id is used once on a page, and what a picture refers to is in it."""
    drawn = [draw(document("a100")) for draw in DRAWN.values()]
    ids = [each for svg in drawn for each in re.findall(r'\bid="([^"]+)"', svg)]
    assert sorted(set(ids)) == sorted(ids)
    for svg in drawn:
        wanted = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
        assert wanted <= set(re.findall(r'\bid="([^"]+)"', svg))


def test_ladder_says_what_each_change_is_worth() -> None:
    """Each step's name, its rate and its factor stand beside its bar."""
    found = document("a100")
    words = "".join(ET.fromstring(pictures.ladder(found)).itertext())
    for row in found["ladder"]:
        assert row["step"] in words
    assert "\N{MULTIPLICATION SIGN}5.82" in words


def test_binding_ceiling_is_named() -> None:
    """The picture of the ceilings marks the one that binds."""
    found = document("a100")
    words = " ".join(ET.fromstring(pictures.ceilings(found)).itertext())
    assert found["limits"]["binds"] in words
    assert "binds" in words


@pytest.mark.parametrize("name", DRAWN)
def test_nothing_measured_is_no_picture(name: str) -> None:
    """An empty result draws nothing instead of an empty frame."""
    assert "" == DRAWN[name](plain(result_of(examine(of()))))


def test_empty_result_is_a_page() -> None:
    """A run that measured nothing still says so."""
    found = result_of(examine(of()))
    assert "unknown device" in bench.render(found, plain(found))


def test_hostile_names_are_text() -> None:
    """A device, a step or a reason that is made to be HTML is shown, in the table and in the pictures."""
    found = document("a100")
    found["device"]["name"] = found["ladder"][0]["step"] = found["ladder"][0]["reason"] = canonical.HOSTILE
    for row in found["ladder"]:
        row["previous"] = canonical.HOSTILE if row["previous"] == "fp32" else row["previous"]
    page = Page(bench.render(result("a100"), found))
    assert [] == page.handlers
    assert 1 == page.tags.count("script")
    assert "img" not in page.tags
