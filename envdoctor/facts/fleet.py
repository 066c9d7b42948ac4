"""[payload] Many ranks or machines side by side: who answered, what differs between them, how fast each one is.

No probe collects the first three: they are put together from what the members sent or saved. Ranks are written as
ranges (``248-255``), snapshots by their names (``node[001-004]``).
"""

from __future__ import annotations

from dataclasses import field
from typing import Optional, Tuple

from envdoctor.facts import Fact, read_from
from envdoctor.facts.dataclass import dataclass
from envdoctor.facts.rendezvous import Rendezvous


@dataclass(frozen=True)
class SilentRanks:
    """Ranks that did not report, alike in what is known of them.

    ``state``: ``never-seen`` (no sign of them at all), ``working`` (they had begun, and were at ``last`` when the time
    was over), ``ended`` (they had begun, and gave no sign any more), ``cannot-join`` (they said why themselves),
    ``lost`` (they cannot be reached any more).
    """

    ranks: str = ""
    count: int = 0
    nodes: str = ""
    state: str = "never-seen"
    last: str = ""
    seconds: Optional[float] = None  # how long they had been at it


@dataclass(frozen=True)
class Ranks(Fact):
    """The roll call: how many were to come, and who did."""

    world_size: Optional[int] = read_from("RANK, WORLD_SIZE and their like")
    arrived: Optional[int] = read_from("reports of the ranks")
    nodes: Optional[int] = read_from("GROUP_RANK, SLURM_NODEID, LOCAL_RANK")
    launcher: str = read_from("environment", "")  # torchrun, srun, mpirun, environment; files for saved snapshots
    address: str = read_from("MASTER_ADDR, MASTER_PORT", "")
    silent: Tuple[SilentRanks, ...] = read_from("reports of the ranks", ())
    waited_seconds: Optional[float] = read_from("--sync-timeout")
    ended_by: str = read_from("the launcher", "")  # SIGTERM: the launcher ended the run, mostly because a rank died


@dataclass(frozen=True)
class Share:
    """One of several values, and who has it; ``also`` pairs other keys that differ in the same way with its values."""

    value: str = ""
    ranks: str = ""
    count: int = 0
    nodes: str = ""
    majority: bool = False
    also: Tuple[Tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Difference:
    """Something that is not the same everywhere: the rarest value first. ``alike``: keys that differ in the same way.

    ``key`` is the key of a flattened snapshot; ``name`` is what a person calls it (``nccl``), or the key.
    """

    name: str = ""
    key: str = ""
    shares: Tuple[Share, ...] = ()
    alike: Tuple[str, ...] = ()
    alike_count: int = 0
    unknown_count: int = 0  # members of which it is not known


@dataclass(frozen=True)
class RankDifferences(Fact):
    """What the members differ in, the most telling first."""

    members: Optional[int] = read_from("reports of the ranks")
    noun: str = read_from("reports of the ranks", "rank")  # rank or snapshot
    differences: Tuple[Difference, ...] = read_from("snapshots of the members", ())


@dataclass(frozen=True)
class StageResult:
    """What a stage gave for a rank, a pair or a group; ``value`` is a rate in the stage's unit: more is better.

    ``state``: done, failed (``reason`` has the words), timed-out, skipped. ``seconds``: of one product, copy or
    all-reduce, sample by sample. ``on``: the model of the device.
    """

    ranks: str = ""  # "3"; a pair is "3+7", the group of a collective "0-3"
    state: str = "done"
    value: Optional[float] = None
    seconds: Tuple[float, ...] = field(default=())
    reason: str = ""
    nodes: str = ""  # "node1"; of a pair on two nodes "node1+node2"
    on: str = ""


@dataclass(frozen=True)
class Stage:
    """One of the staged tests: compute, p2p, loopback, pairs, all. ``seconds``: what it took as a whole."""

    name: str = ""
    state: str = "done"  # done, failed, skipped, not-applicable
    unit: str = ""  # TFLOP/s, GFLOP/s, GB/s, MB/s
    config: str = ""
    reason: str = ""
    seconds: float = 0.0
    results: Tuple[StageResult, ...] = ()


@dataclass(frozen=True)
class FleetStages(Fact):
    """What the staged tests of ``envdoctor fleet --deep`` measured, rank by rank, pair by pair, group by group."""

    stages: Tuple[Stage, ...] = read_from("staged tests over the ranks", ())

    def stage(self, name: str) -> Optional[Stage]:
        """Give one stage, or None when it was not run."""
        for each in self.stages:
            if each.name == name:
                return each
        return None


FACTS = (Ranks, RankDifferences, FleetStages, Rendezvous)
