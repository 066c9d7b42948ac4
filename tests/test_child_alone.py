"""What measures runs alone, one after the other, and what watches it ends with it."""

from __future__ import annotations

import itertools

import pytest

from envdoctor.outcome import Crashed, Got
from envdoctor.plan import Planned
from envdoctor.snapshot import Snapshot
from tests.stands.engine import by_name, collect_from, nothing_left, plan
from tests.stands.misbehaving import Thing

pytestmark = pytest.mark.usefixtures("nothing_left")
__all__ = ["nothing_left"]


def import_with(importer: str = "import_it") -> Planned:
    """Plan the import that questions are forked from."""
    return plan(importer, "torch-import", child="torch", seconds=20.0)


def measuring(name: str, function: str = "measure") -> Planned:
    """Plan something that measures in a fork of the import."""
    return plan(function, name, child="torch", after_import=True, alone=True, seconds=20.0)


def spans(snapshot: Snapshot, *names: str) -> list[tuple[float, float]]:
    """Give from when to when each of these worked."""
    found = []
    for name in names:
        fact = snapshot.facts[name]
        assert isinstance(fact, Thing)
        began, ended = map(float, (fact.words or "").split())
        found.append((began, ended))
    return found


@pytest.mark.parametrize("importer", ["import_it", "import_it_and_start_a_thread"])
def test_measurements_follow_each_other_in_the_order_of_the_plan(importer: str) -> None:
    """No two of them overlap, forked from one import or each with its own, and the first planned comes first."""
    snapshot = collect_from([import_with(importer), *map(measuring, "abcd")], timeout=60.0)
    found = spans(snapshot, *"abcd")
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(found))


def test_a_measurement_waits_for_every_other_process() -> None:
    """A probe of another process and a question that does not measure are over before anything is measured."""
    others = [plan("measure", "other"), plan("measure", "question", child="torch", after_import=True)]
    snapshot = collect_from([measuring("a"), import_with(), *others], timeout=60.0)
    other, question, measured = spans(snapshot, "other", "question", "a")
    assert max(other[1], question[1]) <= measured[0]


def test_what_watches_begins_before_and_ends_after() -> None:
    """A probe beside the measurements runs as long as they do, and then answers by itself."""
    watcher = plan("watch", "watcher", beside=True, seconds=60.0)
    snapshot = collect_from([watcher, import_with(), measuring("a"), measuring("b")], timeout=60.0)
    watched, first, last = spans(snapshot, "watcher", "a", "b")
    assert Got("fresh-process") == by_name(snapshot)["watcher"].outcome
    assert (True, True) == (watched[0] <= first[0], watched[1] >= last[1])


def test_what_watches_ends_at_once_when_nothing_is_measured() -> None:
    """Without anything to watch a watcher answers."""
    snapshot = collect_from([plan("watch", "watcher", beside=True, seconds=60.0)], timeout=60.0)
    assert Got("fresh-process") == by_name(snapshot)["watcher"].outcome


def test_a_measurement_that_crashes_costs_the_next_nothing() -> None:
    """The next one is measured, and the watcher is told of the end."""
    watcher = plan("watch", "watcher", beside=True, seconds=60.0)
    planned = [watcher, import_with(), measuring("a", "segfault_after_a_part"), measuring("b")]
    found = by_name(collect_from(planned, timeout=60.0))
    assert isinstance(found["a"].outcome, Crashed)
    assert ["got", "got"] == [found["b"].outcome.name, found["watcher"].outcome.name]


def test_an_import_that_fails_leaves_nothing_to_watch() -> None:
    """When nothing can be measured the watcher does not go on until its deadline."""
    watcher = plan("watch", "watcher", beside=True, seconds=60.0)
    found = by_name(collect_from([watcher, import_with("import_fails"), measuring("a")], timeout=60.0))
    assert ["failed", "got"] == [found["a"].outcome.name, found["watcher"].outcome.name]
