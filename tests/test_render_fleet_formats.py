"""A fleet as a page and as metrics: the map of members by fact, bounded labels, and nothing of a fact comes to life."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from envdoctor import demo, snapshot
from envdoctor.facts.host import Host
from envdoctor.render.html.fleet import rows
from envdoctor.render.members import expand, natural
from envdoctor.snapshot import Snapshot, Target
from tests import canonical_reports as canonical
from tests.command import here
from tests.test_render_html import Page


def saved(folder: Path, many: int, odd: dict[int, str]) -> Path:
    """Save many snapshots of one machine, some of them with another kernel."""
    first: Snapshot = demo.load("h100x8-healthy")
    host = first.get(Host)
    assert host
    for number in range(many):
        facts = first.facts | {"host": replace(host, kernel=odd.get(number, host.kernel), hostname=f"node{number:04d}")}
        made = replace(first, facts=facts, target=Target(f"node{number:04d}"))
        (folder / f"node{number:04d}.json").write_bytes(snapshot.save(made))
    return folder


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        ("3", ["3"]),
        ("0-2,5", ["0", "1", "2", "5"]),
        ("node[008-010,12]", ["node008", "node009", "node010", "node12"]),
        ("a,b[1-2],c", ["a", "b1", "b2", "c"]),
        ("", []),
    ],
)
def test_ranges_are_members(ranks: str, expected: list[str]) -> None:
    """Ranges of ranks and of numbered names are taken apart, leading zeros kept."""
    assert expected == list(expand(ranks))


def test_members_sort_as_people_count() -> None:
    """2 comes before 10."""
    assert ["node2", "node10"] == sorted(["node10", "node2"], key=natural)


def test_map_puts_each_member_in_its_place(tmp_path: Path) -> None:
    """A segment begins where its members stand among all, in every row alike."""
    done = here("fleet", str(saved(tmp_path, 10, {3: "5.15.0", 4: "5.15.0"})), "--format", "json")
    (row,) = [each for each in rows(done.json) if each.key == "host.kernel"]
    values = [share["value"] for share in row.shares]
    told = [(each.start, each.width, values[each.share]) for each in row.segments]
    assert [(0.0, 30.0), (30.0, 20.0), (50.0, 50.0)] == [each[:2] for each in told]
    assert "5.15.0" == told[1][2]


def test_page_has_map_findings_and_files_left_out(tmp_path: Path) -> None:
    """The page names who differs, and what could not be read; it fetches nothing."""
    saved(tmp_path, 12, {7: "5.15.0"})
    (tmp_path / "bad.json").write_text("{")
    done = here("fleet", str(tmp_path), "--format", "html")
    page = Page(done.out)
    words = " ".join(page.words)
    assert "node0007" in words
    assert "bad.json" in words
    assert {"#main", "data:,"} == set(page.fetched)
    assert [] == page.handlers
    assert 1 <= page.tags.count("rect")


def test_page_of_a_thousand_is_small(tmp_path: Path) -> None:
    """A thousand members with scattered differences stay below three megabytes."""
    odd = {number: f"5.15.{number % 9}" for number in range(0, 1000, 3)}
    done = here("fleet", str(saved(tmp_path, 1000, odd)), "--format", "html")
    assert 3_000_000 > len(done.out.encode())
    assert "1000 snapshots" in done.out


def test_hostile_values_are_text(tmp_path: Path) -> None:
    """A value that is made to be HTML becomes text in map, list and findings."""
    done = here("fleet", str(saved(tmp_path, 3, {1: canonical.HOSTILE.replace("\udc80", "")})), "--format", "html")
    page = Page(done.out)
    assert [] == page.handlers
    assert "img" not in page.tags
    assert 1 == page.tags.count("script")


def test_metrics_count_members_and_differences(tmp_path: Path) -> None:
    """Prometheus reads who reported, what differs and on how many; no member is a label."""
    saved(tmp_path, 12, {7: "5.15.0", 8: "5.15.0"})
    (tmp_path / "bad.json").write_text("{")
    done = here("fleet", str(tmp_path), "--format", "prometheus")
    families = text_string_to_metric_families(done.out)
    told = {(s.name, tuple(sorted(s.labels.values()))): s.value for family in families for s in family.samples}
    assert 12.0 == told["envdoctor_fleet_members", ("reported",)]
    assert 1.0 == told["envdoctor_fleet_members", ("left-out",)]
    assert (2.0, 2.0) == (
        told["envdoctor_fleet_values", ("host.kernel",)], told["envdoctor_fleet_odd_members", ("host.kernel",)],
    )  # fmt: skip
    assert [] == [labels for name, labels in told if name.startswith("envdoctor_fleet") and "node" in "".join(labels)]


def test_terminal_draws_who_differs(tmp_path: Path) -> None:
    """A strip has a column for each member, in order, and marks the odd ones."""
    done = here("fleet", str(saved(tmp_path, 12, {3: "5.15.0", 4: "5.15.0"})))
    assert "kernel  ...aa.......\n" in done.out
