"""Ranks make one report: who brings what, who speaks, and what is said of those who do not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from envdoctor.facts.driver import KernelModule
from envdoctor.facts.host import Host, Resources
from envdoctor.fleet import meeting as meetings
from envdoctor.fleet.board import BoardError
from envdoctor.fleet.meeting import Heard, Hello, Meeting, silent, unpacked
from envdoctor.fleet.merging import merged
from envdoctor.fleet.presence import Presence
from envdoctor.outcome import Got
from envdoctor.snapshot import ProbeResult, load, of, save


@dataclass
class Wall:
    """A board in memory that all ranks of a test share; ``broken`` makes it fail."""

    notices: dict[str, bytes] = field(default_factory=dict)
    broken: str = ""

    def put(self, key: str, data: bytes) -> None:
        """Leave a notice."""
        self._fail()
        self.notices[key] = data

    def look(self, keys: Iterable[str]) -> Mapping[str, bytes]:
        """Give the notices that are there."""
        self._fail()
        return {key: self.notices[key] for key in keys if key in self.notices}

    def close(self) -> None:
        """Stay as it is."""

    def _fail(self) -> None:
        if self.broken:
            raise BoardError(self.broken)


def rank(wall: Wall, number: int, world: int = 3, stopped: Callable[[], bool] = lambda: False) -> Meeting:
    """Give one rank's part."""
    return Meeting(wall, number, world, stopped)


def soon() -> float:
    """Give a time that comes soon."""
    return time.monotonic() + 0.4


def test_rank_0_hears_what_all_bring() -> None:
    """Each rank's document and hello come through unharmed, and nobody waits once all are there."""
    wall = Wall()
    for number in range(3):
        part = rank(wall, number)
        part.hello(Hello(f"node{number}", number == 0, "0.1.0"))
        part.bring(b"document %d" % number)
    heard = rank(wall, 0).gather(time.monotonic() + 60)
    assert [b"document 0", b"document 1", b"document 2"] == [each.snapshot for each in heard]
    assert [("node0", True), ("node1", False), ("node2", False)] == [
        (each.hello.node, each.hello.leads) for each in heard if each.hello
    ]
    assert () == silent(heard)


def test_who_does_not_come_is_named_by_the_last_sign() -> None:
    """Never seen, still at work, cannot join: three different silences."""
    wall = Wall()
    rank(wall, 0, 5).bring(b"here")
    for number in (1, 2):
        rank(wall, number, 5).hello(Hello(f"node{number}"))
        rank(wall, number, 5).at("import torch (12 s)")
    rank(wall, 3, 5).cannot("torch cannot be imported")
    found = {
        each.ranks: (each.state, each.count, each.nodes, each.last) for each in silent(rank(wall, 0, 5).gather(soon()))
    }
    assert {
        "1-2": ("working", 2, "node[1-2]", "import torch (12 s)"),
        "3": ("cannot-join", 1, "", "torch cannot be imported"),
        "4": ("never-seen", 1, "", ""),
    } == found


def test_a_rank_without_a_sign_for_long_went_silent() -> None:
    """Work gives a sign every second or two; none for much longer is no work any more."""
    quiet, busy = (
        Heard(number, Hello("n"), "import torch", quiet_seconds=seconds) for number, seconds in ((1, 60.0), (2, 1.0))
    )
    assert [("1", "ended"), ("2", "working")] == [(each.ranks, each.state) for each in silent([quiet, busy])]


def test_where_the_launcher_ended_the_run_the_wordless_one_has_died() -> None:
    """A launcher ends the others when one dies: those leave what they have, the dead one cannot."""
    wall = Wall()
    rank(wall, 0).bring(b"x")
    rank(wall, 1).bring(b"x")
    rank(wall, 2).hello(Hello("node2"))
    rank(wall, 2).at("import torch (3 s)")
    heard = rank(wall, 0, stopped=lambda: True).gather(time.monotonic() + 60)
    assert [("2", "ended", "import torch (3 s)")] == [(s.ranks, s.state, s.last) for s in silent(heard, "SIGTERM")]


def test_the_verdict_reaches_all() -> None:
    """What one announces the others hear, and it sees them leave."""
    wall = Wall()
    speaker, listener = rank(wall, 0, 2), rank(wall, 1, 2)
    timer = threading.Timer(0.3, lambda: speaker.announce({"code": 1}))
    timer.start()
    assert {"code": 1} == listener.hear(time.monotonic() + 60, "verdict")
    listener.leave()
    speaker.see_all_off([0, 1])
    timer.join()


def test_nobody_waits_for_ever() -> None:
    """No verdict: None at the deadline; a rank that never leaves is not waited for."""
    wall = Wall()
    assert rank(wall, 1).hear(soon(), "verdict") is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meetings, "FAREWELL", 0.2)
        rank(wall, 0).see_all_off([0, 1, 2])


def test_a_board_that_goes_is_noticed_soon() -> None:
    """When rank 0 and its board die, the others do not wait for the whole time."""
    wall = Wall(broken="Connection refused")
    part, began = rank(wall, 1), time.monotonic()
    assert part.hear(began + 600, "verdict") is None
    assert "Connection refused" == part.lost


def test_the_lowest_rank_that_is_there_takes_over() -> None:
    """Rank 0 brought nothing: rank 1 speaks, not rank 2."""
    wall = Wall()
    rank(wall, 1).bring(b"x")
    rank(wall, 2).bring(b"x")
    assert [1, 1] == [rank(wall, number).first_alive() for number in (1, 2)]


def test_damaged_words_are_no_crash() -> None:
    """Foreign bytes under our keys become nothing, not an exception."""
    wall = Wall({"hello/1": b"\xff{", "at/1": b"\xff", "snapshot/2": b"not packed", "verdict": b"[]"})
    heard = rank(wall, 0).gather(soon())
    assert [("", ""), (b"",)] == [(heard[1].hello.node, ""), (heard[2].snapshot,)]  # type: ignore[union-attr]
    assert {} == rank(wall, 1).hear(soon(), "verdict")


def test_a_bomb_is_not_unpacked() -> None:
    """A small document that would unpack to gigabytes is no document."""
    import zlib

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meetings, "LARGEST", 1000)
        assert b"" == unpacked(zlib.compress(b"\0" * 100_000))
        assert b"fine" == unpacked(zlib.compress(b"fine"))


def test_presence_joins_says_hello_and_what_is_done() -> None:
    """While the machine is examined the others can see that this rank is there and what it is at."""
    wall, tries = Wall(), []

    def joining(_until: float) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise BoardError("refused")

    presence = Presence(rank(wall, 1), Hello("node1", version="0.1.0"), joining)
    presence.doing("import torch")
    presence.start()
    end = time.monotonic() + 60
    while "at/1" not in wall.notices and time.monotonic() < end:
        time.sleep(0.05)
    presence.stop()
    assert (True, 3) == (presence.joined, len(tries))
    assert {"node": "node1", "leads": True, "version": "0.1.0"} == msgspec.json.decode(wall.notices["hello/1"])
    assert wall.notices["at/1"].startswith(b"import torch (")
    assert presence.try_to_join(0.1)


def test_presence_that_cannot_join_says_why() -> None:
    """The last words of a refusal are kept for the report."""

    def joining(_until: float) -> None:
        raise BoardError("10.0.0.1:29500: Connection refused")

    presence = Presence(rank(Wall(), 1), Hello("node1"), joining)
    presence.start()
    presence.stop()
    assert (False, False, "10.0.0.1:29500: Connection refused") == (
        presence.joined, presence.try_to_join(0.1), presence.refused,
    )  # fmt: skip


def snapshot(*facts: Any) -> bytes:
    """Give a snapshot of these facts."""
    return save(of(*facts))


def test_a_rank_takes_from_the_first_of_its_node_what_it_did_not_ask() -> None:
    """Machine-wide facts and their probes come from one rank; what both asked stays the rank's own."""
    own = snapshot(Resources(cpus_affinity=4))
    first = snapshot(Resources(cpus_affinity=8), Host(hostname="node1"), KernelModule(version="580"))
    both = load(merged(own, first))
    assert 4 == both.get(Resources).cpus_affinity  # type: ignore[union-attr]
    assert "node1" == both.get(Host).hostname  # type: ignore[union-attr]
    assert [
        ProbeResult(name, key, Got())
        for name, key in (("resources", "resources"), ("host", "host"), ("kernel-module", "kernel_module"))
    ] == list(both.probes)


def test_without_the_first_of_its_node_a_rank_has_its_own_facts() -> None:
    """A rank is not lost with the one that asked for the machine; a damaged document stays what it is."""
    own = snapshot(Resources(cpus_affinity=4))
    assert (own, own, b"broken") == (merged(own, None), merged(own, b"broken"), merged(b"broken", own))
