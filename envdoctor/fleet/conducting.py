"""The one who conducts the staged tests: from what each rank can do alone to what all do together.

Before each step it is known who is still there. Whoever gives no answer takes no part any more, so that nobody waits
for it twice; what cannot be asked is said to be so, with the reason.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from envdoctor.fleet import ranges, rounds
from envdoctor.fleet.playing import SLACK, Player, gathered
from envdoctor.fleet.stage_results import stages_of
from envdoctor.fleet.steps import END, ORDER, READY, Place, Played, Row, Step, key_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envdoctor.facts.fleet import StageResult
    from envdoctor.fleet.rounds import Pair

SECONDS = {"compute": 20.0, "p2p": 20.0, "loopback": 20.0, "pairs": 15.0, "all": 30.0}
READY_SECONDS = 90.0  # in which torch is imported on every rank
KIB, MIB = 1 << 10, 1 << 20
SIZES = {"gloo": (64 * KIB, 4 * MIB), "nccl": (MIB, 64 * MIB)}
DOUBTFUL = 0.85  # of what others give: such a pair or rank is looked at again; the rule's own line is well below
MORE_LOOKS = 2  # at what ranks compute, while one looks slow: a turn of the scheduler is no straggler
HOPELESS = 2  # pairs that fail, and none that does not: a rank that is tried no more
FEW_FAILED = 2  # failed pairs that are looked at again; more of them are no accident


def budget(limit: float | None) -> float:
    """Give the seconds that all stages can take at the most, each step being given ``limit``."""
    steps = {**dict.fromkeys(ORDER, 1), "pairs": rounds.MOST_ROUNDS + 2, "compute": 1 + MORE_LOOKS}
    return READY_SECONDS + sum(count * ((limit or SECONDS[name]) + SLACK) for name, count in steps.items())


@dataclass
class Conductor:
    """Conducts on behalf of all. ``store``: host and port of a store of torch's; ``limit``: seconds of each step."""

    player: Player
    store: tuple[str, int]
    limit: float | None = None
    why_no_store: str = ""
    played: list[Played] = field(default_factory=list)
    places: dict[int, Place] = field(default_factory=dict)
    _gone: set[int] = field(default_factory=set)

    @property
    def nodes(self) -> dict[int, str]:
        """Name each rank's machine; two of one name are told apart by the launcher's number."""
        return node_names(self.places)

    def conduct(self, ranks: Sequence[int]) -> None:
        """Go through all stages with these ranks; what became of them is in ``played``."""
        self._ready(ranks)
        self._compute()
        self._p2p()
        self._loopback()
        self._pairs()
        self._all()
        self.player.meeting.announce({"stage": END}, key_of(len(self.played)))

    # What each step has in common

    def _play(self, step: Step) -> Played:
        """Announce a step, take part in it, and wait for the answers of all; or say that it was not asked."""
        meeting, number, began = self.player.meeting, len(self.played), time.monotonic()
        if step.groups and meeting.stopped():
            step = Step(step.stage, state="skipped", reason="not asked: the run was ended")
        meeting.announce(msgspec.to_builtins(step), key_of(number))
        played = Played(step)
        if step.groups:
            self.player.take_part(number, step)
            played.answers = gathered(meeting, number, step, began + step.seconds + SLACK)
            self._gone |= {rank for rank, answer in played.answers.items() if answer is None}
        played.seconds = time.monotonic() - began
        self.played.append(played)
        return played

    def _not_asked(self, stage: str, why: str, state: str = "skipped") -> None:
        self._play(Step(stage, state=state, reason=f"not asked: {why}" if state == "skipped" else why))

    def _seconds(self, stage: str) -> float:
        return self.limit or SECONDS[stage]

    @property
    def _there(self) -> list[int]:
        """Name the ranks that have torch and still answer."""
        return [each for each in self.places if each not in self._gone]

    # The stages

    def _ready(self, ranks: Sequence[int]) -> None:
        step = Step(READY, READY_SECONDS, [[each] for each in ranks], {"do": "ready"})
        self._play(step)
        self.places = places_of(self.played, done=True)

    def _compute(self) -> None:
        if not self._there:
            self._not_asked("compute", "no rank can import torch")
            return
        played = self._play(self._computing())
        shown = next((a.row("flop").shown for a in played.answers.values() if a and a.row("flop").shown), "")
        played.step.config = shown
        for _ in range(MORE_LOOKS):
            if doubtful(self._results("compute")):
                self._play(self._computing())

    def _computing(self) -> Step:
        return Step("compute", self._seconds("compute"), [[each] for each in self._there], {"do": "compute"})

    def _device(self, rank: int) -> Row:
        """Give what a rank has said of its device."""
        for each in reversed(self.played):
            answer = each.answers.get(rank) if each.step.stage == "compute" else None
            if answer and answer.row("kind").kind:
                return answer.row("kind")
        return Row()

    def _p2p(self) -> None:
        """Have one rank of each node copy between all GPUs that it sees and that are some rank's own."""
        groups, each = [], {}
        for ranks in self._by_node().values():
            whose = {self._device(rank).index: rank for rank in reversed(ranks) if self._device(rank).count > 1}
            if len(whose) > 1:
                leader = min(whose.values())
                groups.append([leader])
                each[str(leader)] = {"gpus": sorted(whose), "ranks": {str(i): whose[i] for i in sorted(whose)}}
        if groups:
            step = Step("p2p", self._seconds("p2p"), groups, {"do": "p2p"}, each, "64 MiB, the slower direction")
            self._play(step)
            return
        cuda = [rank for rank in self._there if self._device(rank).kind == "cuda"]
        why = "no rank sees the GPU of another one" if cuda else "no rank has a GPU that torch can use"
        self._not_asked("p2p", why, "not-applicable")

    def _loopback(self) -> None:
        groups = [ranks for ranks in self._by_node().values() if len(ranks) > 1]
        if not groups:
            self._not_asked("loopback", "no node has two ranks that answer", "not-applicable")
        elif self._can_meet("loopback"):
            self._play(self._together("loopback", groups))

    def _pairs(self) -> None:
        there = self._there
        if len(there) < 2:
            self._not_asked("pairs", "there are no two ranks that answer", "not-applicable")
            return
        if not self._can_meet("pairs"):
            return
        planned = rounds.rounds(there, self.nodes)
        total, tried = rounds.pairs_of(len(there)), sum(map(len, planned))
        said = f"{tried} of {total} pairs in {len(planned)} round{'s' if len(planned) > 1 else ''}"
        for each in planned:
            self._round(each, said)
        for again in self._again():
            self._round(again, said)

    def _round(self, pairs: Sequence[Pair], said: str) -> None:
        """Try these pairs at once, but for those of ranks that do not answer, or have met nobody they could talk to."""
        hopeless = self._hopeless()
        out = [(pair, each) for pair in pairs for each in pair[::-1] if each in self._gone | hopeless]
        left_out = {pair: f"rank {each} {_why_left_out(each, self._gone)}" for pair, each in out}
        step = self._together("pairs", [[*pair] for pair in pairs if pair not in left_out])
        step.config = f"{step.config}, {said}"
        step.left_out = [([*pair], why) for pair, why in left_out.items()]
        self._play(step)

    def _all(self) -> None:
        outside, failed = self._hopeless(), self._failed_pairs()
        there = [each for each in self._there if each not in outside]
        cut = [pair for pair in failed if {*pair} <= {*there}]
        if len(self._there) < 2:
            self._not_asked("all", "there are no two ranks that answer", "not-applicable")
        elif len(there) < 2:
            self._not_asked("all", "there are no two ranks that can talk to each other")
        elif cut:
            first = f"ranks {cut[0][0]} and {cut[0][1]} cannot talk to each other"
            self._not_asked("all", first + (f", nor can {len(cut) - 1} other pairs" if len(cut) > 1 else ""))
        elif self._can_meet("all"):
            step = self._together("all", [there])
            left = sorted({*self.places} - {*there})
            without = f", without {ranges.numbers_in_words(left)}" if left else ""
            step.config = f"{step.config}, {len(there)} ranks{without}"
            self._play(step)

    # What collectives need

    def _can_meet(self, stage: str) -> bool:
        """Tell whether ranks can meet for a collective; say so where they cannot."""
        if self.why_no_store:
            self._not_asked(stage, self.why_no_store)
        return not self.why_no_store

    def _together(self, stage: str, groups: list[list[int]]) -> Step:
        why = self._why_gloo()
        backend = "gloo" if why else "nccl"
        sizes = SIZES[backend]
        told = {"do": "collective", "backend": backend, "store": [*self.store], "sizes": sizes}
        if stage == "loopback" and backend == "gloo":
            told["interface"] = "lo"  # so that no network takes part in it
        each = {str(rank): {"index": self._device(rank).index} for group in groups for rank in group}
        config = f"{f'gloo ({why})' if why else 'nccl'}, {sizes[-1] // MIB} MiB"
        return Step(stage, self._seconds(stage), groups, told, each, config)

    def _why_gloo(self) -> str:
        """Say why the CPU is taken for collectives; nothing where every rank has a GPU of its own and NCCL."""
        devices = {rank: self._device(rank) for rank in self._there}
        without = [rank for rank, device in devices.items() if device.kind != "cuda"]
        if without:
            return "no GPU" if len(without) == len(devices) else f"no GPU on {ranges.numbers_in_words(without)}"
        cards = [(self.nodes.get(rank), device.card) for rank, device in devices.items()]
        if len({*cards}) < len(cards):
            return "ranks share a GPU"
        ready = self.played[0].answers
        lacking = [rank for rank in devices if not ((answer := ready.get(rank)) and answer.row("torch").nccl)]
        return f"no NCCL on {ranges.numbers_in_words(lacking)}" if lacking else ""

    def _by_node(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for rank in self._there:
            found[self.nodes[rank]].append(rank)
        return found

    # What is known by now

    def _results(self, name: str) -> tuple[StageResult, ...]:
        """Give what a stage gave, of several looks the best."""
        stage = stages_of(self.played, self.nodes).stage(name)
        return stage.results if stage else ()

    def _pair_results(self) -> dict[Pair, StageResult]:
        """Give for each pair what came of it, the better of two looks."""
        found = {tuple(map(int, each.ranks.split("+"))): each for each in self._results("pairs")}
        return {(pair[0], pair[1]): each for pair, each in found.items() if len(pair) == 2}

    def _failed_pairs(self) -> list[Pair]:
        return [pair for pair, each in self._pair_results().items() if each.state in {"failed", "timed-out"}]

    def _hopeless(self) -> set[int]:
        """Name ranks whose pairs fail one after the other, and none does not."""
        failed: dict[int, int] = defaultdict(int)
        done: set[int] = set()
        for pair, each in self._pair_results().items():
            for rank in pair:
                failed[rank] += each.state in {"failed", "timed-out"}
                done |= {rank} if each.state == "done" else set()
        return {rank for rank, count in failed.items() if count >= HOPELESS and rank not in done}

    def _again(self) -> list[list[Pair]]:
        """Give rounds for pairs that look slow beside the others, and for few that failed."""
        known = self._pair_results()
        slow = {each.ranks for each in doubtful([*known.values()])}
        failed = self._failed_pairs()
        looked_at = [pair for pair, each in known.items() if each.ranks in slow]
        return rounds.parted([*looked_at, *(failed if len(failed) <= FEW_FAILED else [])])


def _why_left_out(rank: int, gone: set[int]) -> str:
    return "gives no answer any more" if rank in gone else f"could talk to none of {HOPELESS} others"


def doubtful(results: Sequence[StageResult]) -> list[StageResult]:
    """Give those that stay behind the others of their kind: of one device, inside one node or between two.

    They are held against the upper median of all of their kind, which of a few is one of the others.
    """
    kinds: dict[tuple[str, bool], list[float]] = defaultdict(list)
    for each in results:
        if each.value:
            kinds[_kind(each)].append(each.value)
    usual = {kind: statistics.median_high(values) for kind, values in kinds.items()}
    return [each for each in results if each.value and each.value < DOUBTFUL * usual[_kind(each)]]


def _kind(result: StageResult) -> tuple[str, bool]:
    return result.on, "+" in result.nodes


def places_of(played: Sequence[Played], *, done: bool = False) -> dict[int, Place]:
    """Give where the ranks run, as they said at the first step; ``done``: only of those that have torch."""
    answers = [pair for each in played[:1] for pair in each.answers.items()]
    return {rank: each.place for rank, each in answers if each and each.place and (each.done or not done)}


def node_names(places: dict[int, Place]) -> dict[int, str]:
    """Name each rank's machine: by its host name, and where machines share one, by the launcher's number as well."""
    numbers: dict[str, set[int | None]] = defaultdict(set)
    for each in places.values():
        numbers[each.host].add(each.node)
    shared = {host for host, found in numbers.items() if len(found) > 1}
    return {rank: f"{p.host}#{p.node}" if p.host in shared else p.host for rank, p in places.items()}
