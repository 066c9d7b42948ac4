"""The staged tests as a whole with pretended ranks: what is asked of whom, what is left out, and who is blamed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from envdoctor.facts.fleet import FleetStages, Stage
from envdoctor.finding import Finding
from envdoctor.fleet import meeting as meetings
from envdoctor.fleet import playing
from envdoctor.fleet.conducting import Conductor, node_names, places_of
from envdoctor.fleet.meeting import Meeting
from envdoctor.fleet.playing import Player, recalled
from envdoctor.fleet.rounds import pairs_of, parted, rounds
from envdoctor.fleet.stage_results import stages_of
from envdoctor.fleet.steps import Answer, Place, Step, answer_of
from envdoctor.rules.fleet import straggler
from envdoctor.rules.measured_card import gpu_slower_than_peers
from envdoctor.testing import check

MIB = 1 << 20
Part = Mapping[str, Any]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the board often, and give up on those who are silent soon."""
    monkeypatch.setattr(meetings, "NAP", 0.003)
    monkeypatch.setattr(playing, "BETWEEN", 2.0)
    monkeypatch.setattr("envdoctor.fleet.conducting.SLACK", 1.0)


@dataclass
class Dictionary:
    """A board that is a dictionary."""

    notices: dict[str, bytes] = field(default_factory=dict)

    def put(self, key: str, data: bytes) -> None:
        """Leave a notice."""
        self.notices[key] = data

    def look(self, keys: Iterable[str]) -> Mapping[str, bytes]:
        """Give the notices that are there."""
        return {key: self.notices[key] for key in keys if key in self.notices}

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Pretended:
    """Ranks in threads, ``each`` on every node. ``flaw`` changes what a step gives, or ends the rank by an error."""

    nodes: int
    each: int
    gpu: str = ""
    flaw: Callable[[int, Part, list[int], dict[str, Any]], dict[str, Any]] = lambda _rank, _part, _group, row: row
    board: Dictionary = field(default_factory=Dictionary)
    asked: list[tuple[int, Part]] = field(default_factory=list)

    def player(self, rank: int) -> Player:
        """Give one rank's part."""
        place = Place(f"node{rank // self.each + 1}", rank % self.each, rank // self.each)
        meeting = Meeting(self.board, rank, self.nodes * self.each)
        return Player(meeting, place, "run", lambda part: self._perform(rank, part))

    def _perform(self, rank: int, part: Part) -> dict[str, Any]:
        self.asked.append((rank, part))
        return self.flaw(rank, part, self._group(rank, part), {"state": "done", "reason": "", "said": self._rows(part)})

    def _group(self, rank: int, part: Part) -> list[int]:
        """Name those that take part with this rank, by the step on the board."""
        number, _, place = part["prefix"].removeprefix("run/").partition("/")
        found: list[int] = meetings._plain(self.board.notices[f"step/{number}"])["groups"][int(place)]
        assert rank in found
        return found

    def _rows(self, part: Part) -> list[dict[str, Any]]:
        if part["do"] == "ready":
            return [{"torch": "2.9", "gloo": True, "nccl": bool(self.gpu)}]
        if part["do"] == "compute":
            index, cuda = part["local_rank"], {"kind": "cuda", "name": self.gpu, "count": self.each}
            device = {**cuda, "index": index, "card": f"GPU-{index}"} if self.gpu else {"kind": "cpu", "name": "CPU"}
            return [device, {"flop": 1e9, "shown": "a product"}, *({"seconds": 0.01 + 1e-5 * n} for n in range(7))]
        if part["do"] == "p2p":
            pairs = [(a, b) for a in part["gpus"] for b in part["gpus"] if a < b]
            return [{"copied": [*pair], "bytes": 1e9, "seconds": [0.01] * 5, "direct": True} for pair in pairs]
        return [{"bytes": size, "seconds": [size / 1e9 * (1 + 0.01 * n) for n in range(5)]} for size in part["sizes"]]

    def run(self) -> FleetStages:
        """Play all stages, rank 0 conducting."""
        ranks = range(self.nodes * self.each)
        threads = [threading.Thread(target=self._follow, args=(rank,), daemon=True) for rank in ranks[1:]]
        for each in threads:
            each.start()
        conductor = Conductor(self.player(0), ("node1", 29500), limit=0.5)
        conductor.conduct(ranks)
        for each in threads:
            each.join(10)
        assert not any(each.is_alive() for each in threads)
        return stages_of(conductor.played, node_names(places_of(conductor.played)))

    def _follow(self, rank: int) -> None:
        try:
            self.player(rank).follow(meetings.time.monotonic() + 10)
        except GoneError:
            return


class GoneError(Exception):
    """This rank is not there any more."""


def slower(said: dict[str, Any], times: float) -> dict[str, Any]:
    """Make what a step measured take so many times as long."""
    rows = [dict(each) for each in said["said"]]
    for row in rows:
        if "seconds" in row:
            row["seconds"] = [s * times for s in row["seconds"]] if isinstance(row["seconds"], list) else (
                row["seconds"] * times
            )  # fmt: skip
    return {**said, "said": rows}


FAILED = {"state": "failed", "reason": "RuntimeError: Connection refused", "said": []}


def blamed(stages: FleetStages) -> dict[str, str]:
    """Give what the rule says of it, by subject."""
    return {each.subject: each.title for each in _found(stages)}


def _found(stages: FleetStages) -> tuple[Finding, ...]:
    return check(straggler, stages).findings


def stage(stages: FleetStages, name: str) -> Stage:
    """Give one stage, which was at least spoken of."""
    found = stages.stage(name)
    assert found is not None
    return found


def states(stages: FleetStages) -> dict[str, str]:
    """Give the state of each stage."""
    return {each.name: each.state for each in stages.stages}


def test_healthy_ranks_go_through_all_stages() -> None:
    """Two nodes of four ranks without a GPU: everything but copies between GPUs is measured, and nobody is blamed."""
    stages = Pretended(2, 4).run()
    expected = {"compute": "done", "p2p": "not-applicable", "loopback": "done", "pairs": "done", "all": "done"}
    assert expected == states(stages)
    assert "no rank has a GPU that torch can use" == stage(stages, "p2p").reason
    assert ["0-3", "4-7"] == [each.ranks for each in stage(stages, "loopback").results]
    assert "gloo (no GPU), 4 MiB, 28 of 28 pairs in 7 rounds" == stage(stages, "pairs").config
    assert {"node1": 6, "node2": 6, "node1+node2": 16} == _count(e.nodes for e in stage(stages, "pairs").results)
    (result,) = stage(stages, "all").results
    assert (("0-7"), pytest.approx(1000 / 1.02 * 2 * 7 / 8)) == (result.ranks, result.value)  # MB/s, as nccl-tests
    assert {} == blamed(stages)


def _count(values: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in values:
        found[each] = found.get(each, 0) + 1
    return found


def test_collectives_meet_as_the_stage_wants_it() -> None:
    """Inside a node the loopback is used, elsewhere the user's network; every group has a place of its own to meet."""
    fleet = Pretended(2, 2)
    fleet.run()
    parts = [part for _, part in fleet.asked if part["do"] == "collective"]
    assert {("lo", 2), (None, 2), (None, 4)} == {(part.get("interface"), part["size"]) for part in parts}
    places = [(part["prefix"], part["rank"]) for part in parts]
    assert len(places) == len({*places})
    assert {("node1", 29500)} == {tuple(part["store"]) for part in parts}


def test_a_slow_rank_is_looked_at_again_and_named() -> None:
    """It computes slowly each time; the others are not blamed for it."""
    fleet = Pretended(
        1, 4, flaw=lambda rank, part, _, row: slower(row, 4) if (rank, part["do"]) == (2, "compute") else row
    )
    stages = fleet.run()
    assert {"2": "Rank 2 is slow when it computes: 24.9 GFLOP/s, its peers 99.7 GFLOP/s"} == blamed(stages)
    assert 12 == sum(part["do"] == "compute" for _, part in fleet.asked)


def test_what_a_second_look_does_not_show_is_no_fault() -> None:
    """A pair that is slow once and well when it is tried again is not blamed; one that stays slow is."""
    seen: list[int] = []

    def flaw(rank: int, part: Part, group: list[int], row: dict[str, Any]) -> dict[str, Any]:
        if part["do"] != "collective" or part["size"] != 2 or part.get("interface"):
            return row
        if group == [1, 3]:
            return slower(row, 9)
        if group == [0, 4]:
            seen.append(rank)
            return slower(row, 9) if len(seen) <= 2 else row
        return row

    stages = Pretended(3, 2, flaw=flaw).run()
    assert {"1+3": "Between ranks 1 and 3 only 109 MB/s, elsewhere 980 MB/s"} == blamed(stages)
    assert 4 == len(seen)


def across(group: list[int], each: int) -> bool:
    """Tell whether a group is on several nodes."""
    return len({rank // each for rank in group}) > 1


def test_a_node_that_is_cut_off_from_the_others_is_one_finding() -> None:
    """Its ranks talk to nobody else: the node is named, not each pair, and the others are asked without it."""

    def flaw(_rank: int, part: Part, group: list[int], row: dict[str, Any]) -> dict[str, Any]:
        cut = part["do"] == "collective" and across(group, 2) and {4, 5} & {*group}
        return FAILED if cut else row

    stages = Pretended(3, 2, flaw=flaw).run()
    assert {"node3": "The ranks of node3 cannot talk in 4 of the 4 pairs with other nodes"} == blamed(stages)
    assert ["done"] * 3 == [each.state for each in stage(stages, "loopback").results]
    assert stage(stages, "all").config.endswith("4 ranks, without 4-5")


def test_the_way_between_two_nodes_is_one_finding() -> None:
    """Of two nodes neither is the odd one: what is bad is the way between them."""

    def flaw(_rank: int, part: Part, group: list[int], row: dict[str, Any]) -> dict[str, Any]:
        return FAILED if part["do"] == "collective" and across(group, 2) else row

    stages = Pretended(2, 2, flaw=flaw).run()
    title = "The ranks of node1 and those of node2 cannot talk in 4 of the 4 pairs between them"
    assert {"node1+node2": title} == blamed(stages)
    why = "not asked: ranks 0 and 3 cannot talk to each other, nor can 3 other pairs"
    assert ("skipped", why) == (stage(stages, "all").state, stage(stages, "all").reason)


def test_a_rank_that_is_bad_over_one_way_alone_is_only_likely_at_fault() -> None:
    """It works inside its node: the finding says that the way may be the cause as well."""

    def flaw(_rank: int, part: Part, group: list[int], row: dict[str, Any]) -> dict[str, Any]:
        return FAILED if part["do"] == "collective" and group in ([0, 2], [0, 3]) else row

    (found,) = _found(Pretended(2, 2, flaw=flaw).run())
    assert ("0", "likely") == (found.subject, found.confidence.value)
    assert "All of them go between node1 and node2: it may be that way as well." in found.detail


def test_a_rank_that_falls_silent_is_named_and_not_waited_for_again() -> None:
    """It goes away in the middle of the pairs: the rest is measured without it."""

    def flaw(rank: int, part: Part, group: list[int], row: dict[str, Any]) -> dict[str, Any]:
        if rank == 5 and part["do"] == "collective" and not part.get("interface"):
            raise GoneError
        return {"state": "timed-out", "reason": "no end within 0.5 s", "said": []} if 5 in group[1:] and len(
            group
        ) == 2 and not part.get("interface") else row  # fmt: skip

    fleet = Pretended(3, 2, flaw=flaw)
    stages = fleet.run()
    assert {"pairs-5": "Rank 5 fails when it talks to other ranks: no answer in time"} == blamed(stages)
    left_out = [each.reason for each in stage(stages, "pairs").results if each.state == "skipped"]
    assert {"rank 5 gave no answer": 1, "rank 5 gives no answer any more": 4} == _count(left_out)
    assert (("0-4", "done"), True) == (
        (stage(stages, "all").results[0].ranks, stage(stages, "all").results[0].state),
        stage(stages, "all").config.endswith("5 ranks, without 5"),
    )


def test_a_rank_that_can_talk_to_nobody_is_given_up_and_left_out() -> None:
    """Two failures and no success are enough: it costs nobody's time any more, and all others are asked together."""

    def flaw(_rank: int, part: Part, group: list[int], row: dict[str, Any]) -> dict[str, Any]:
        return FAILED if part["do"] == "collective" and 3 in group and len(group) == 2 else row

    stages = Pretended(6, 1, flaw=flaw).run()
    assert {"3": "Rank 3 cannot talk to 2 of the 2 ranks it was paired with"} == blamed(stages)
    assert "done" == stage(stages, "all").state
    assert stage(stages, "all").config.endswith("5 ranks, without 3")


def test_a_rank_without_torch_is_named_and_left_out() -> None:
    """What cannot even be imported is a failure of that rank with torch's own words; the others go on."""
    words = "torch cannot be imported: ImportError: libcudnn.so.9"
    lost = {"state": "failed", "reason": words, "said": []}
    stages = Pretended(1, 4, flaw=lambda rank, _part, _group, row: lost if rank == 1 else row).run()
    assert {"1": f"Rank 1 fails when it computes: {words}"} == blamed(stages)
    assert ["0,2-3"] == [each.ranks for each in stage(stages, "all").results]


def test_gpus_meet_by_nccl_and_a_slow_card_and_a_slow_way_are_named() -> None:
    """Each rank has a GPU of its own: NCCL, copies between the GPUs of a node, and cards held against their model."""

    def flaw(rank: int, part: Part, _group: list[int], row: dict[str, Any]) -> dict[str, Any]:
        if part["do"] == "p2p" and rank == 4:
            pair = next(each for each in row["said"] if each["copied"] == [1, 2])
            pair["seconds"] = [0.2] * 5
        return slower(row, 1.2) if part["do"] == "compute" and rank == 6 else row

    stages = Pretended(2, 4, gpu="NVIDIA H100", flaw=flaw).run()
    assert {*states(stages).values()} == {"done"}
    assert "nccl, 64 MiB, 8 ranks" == stage(stages, "all").config
    assert {"p2p-5+6": "Between the GPUs of ranks 5 and 6 only 5 GB/s, elsewhere 100 GB/s"} == blamed(stages)
    found = check(gpu_slower_than_peers, stages).findings
    assert [("6", "The GPU of rank 6 is 17% slower than its peers")] == [(each.subject, each.title) for each in found]


def test_pairs_of_gpus_that_were_not_come_to_are_no_fault() -> None:
    """Many of them take longer than there is time: that is said, and nobody is blamed."""

    def flaw(_rank: int, part: Part, _group: list[int], row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "said": row["said"][:4]} if part["do"] == "p2p" else row

    stages = Pretended(1, 4, gpu="NVIDIA H100", flaw=flaw).run()
    skipped = [each for each in stage(stages, "p2p").results if "skipped" == each.state]
    assert ["no time was left for it"] * 2 == [each.reason for each in skipped]
    assert {} == blamed(stages)


def test_one_rank_has_nobody_to_talk_to() -> None:
    """What needs two does not apply, and is not said to have failed."""
    stages = Pretended(1, 1).run()
    assert ["done", *["not-applicable"] * 4] == [each.state for each in stages.stages]


def test_ranks_that_share_a_gpu_meet_by_gloo() -> None:
    """NCCL refuses two ranks on one GPU: the CPU is taken, and the reason said."""

    def flaw(_rank: int, part: Part, _group: list[int], row: dict[str, Any]) -> dict[str, Any]:
        if part["do"] == "compute":
            row["said"][0] |= {"index": 0, "card": "GPU-0", "count": 1}
        return row

    stages = Pretended(1, 2, gpu="NVIDIA H100", flaw=flaw).run()
    assert "gloo (ranks share a GPU), 4 MiB, 2 ranks" == stage(stages, "all").config
    assert "no rank sees the GPU of another one" == stage(stages, "p2p").reason


def test_what_a_dead_conductor_has_left_is_reported() -> None:
    """Another rank finds on the board what was measured, and who was missing when it ended."""
    fleet = Pretended(1, 3)
    fleet.run()
    for number in (3, 4, 5, 6, 7, 8):
        fleet.board.notices.pop(f"step/{number}", None)
    del fleet.board.notices["did-1/0"]
    played = recalled(Meeting(fleet.board, 1, 3))
    stages = stages_of(played, node_names(places_of(played)))
    assert ["compute", "p2p"] == [each.name for each in stages.stages]
    assert {"0": "Rank 0 fails when it computes: no answer in time"} == blamed(stages)


def test_who_hears_of_no_further_step_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who conducts falls silent after a step: that is noticed, and not waited for till the end of all time."""
    monkeypatch.setattr(playing, "SLACK", 0.1)
    monkeypatch.setattr(playing, "BETWEEN", 0.1)
    fleet = Pretended(1, 2)
    until = meetings.time.monotonic() + 60
    assert False is fleet.player(1).follow(meetings.time.monotonic() + 0.05)
    fleet.board.put("step/0", msgspec.json.encode(Step("ready", 0.1, [[0], [1]], {"do": "ready"})))
    assert False is fleet.player(1).follow(until)
    assert "did-0/1" in fleet.board.notices
    fleet.board.put("step/1", msgspec.json.encode(Step("end")))
    assert True is fleet.player(1).follow(until)


def test_an_answer_that_is_none_is_a_failure() -> None:
    """What another rank sends is looked at before it is believed."""
    assert None is answer_of(None)
    for damaged in (b"", b"[]", b'{"state": 3}', b'{"said": [{"seconds": "fast"}]}'):
        answer = answer_of(damaged)
        assert isinstance(answer, Answer)
        assert ("failed", True) == (answer.state, answer.reason.startswith("its answer cannot be read"))


@pytest.mark.parametrize("count", [2, 3, 4, 7, 8])
def test_everybody_meets_everybody_once(count: int) -> None:
    """While there are few, all pairs are tried, and in a round nobody has two partners."""
    made = rounds(range(count), {})
    pairs = [pair for each in made for pair in each]
    assert (pairs_of(count), pairs_of(count)) == (len(pairs), len({*pairs}))
    assert all(2 * len(each) == len({rank for pair in each for rank in pair}) for each in made)


def test_of_many_ranks_each_meets_eight_others() -> None:
    """The rounds are spread over all there could be, those inside nodes first, and their number does not grow."""
    nodes = {rank: rank // 8 for rank in range(512)}
    made = rounds(range(512), nodes)
    assert (8, 8 * 256) == (len(made), sum(map(len, made)))
    inside = [sum(nodes[a] == nodes[b] for a, b in each) for each in made]
    assert sorted(inside, reverse=True) == inside


def test_pairs_are_tried_again_without_a_rank_in_two_of_them() -> None:
    """Of pairs that share a rank the second waits for the next round, and the third is left out."""
    assert [[(0, 1), (2, 3)], [(0, 2)]] == parted([(0, 1), (2, 3), (0, 2), (0, 3)])


def test_the_next_rank_speaks_for_one_that_hangs_after_its_report() -> None:
    """Rank 0 has brought its report and fell silent while it conducted: the lowest of the others takes its place."""
    board = Dictionary()
    for rank in (0, 1, 2):
        Meeting(board, rank, 3).bring(b"{}")
    assert (0, 1) == (Meeting(board, 2, 3).first_alive(), Meeting(board, 2, 3).first_alive(0))
