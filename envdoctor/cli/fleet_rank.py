"""One rank of ``envdoctor fleet``: looks at its machine, brings what it found, and hears or gives the verdict."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from envdoctor import __version__
from envdoctor.cli import exits, fleet_private, streams
from envdoctor.cli.fleet_ended import Ended
from envdoctor.facts.fleet import Ranks, SilentRanks
from envdoctor.facts.rendezvous import Rendezvous
from envdoctor.fleet.board import BoardError
from envdoctor.fleet.meeting import HANDOVER, Hello, Meeting, silent
from envdoctor.fleet.merging import merged
from envdoctor.fleet.presence import Presence
from envdoctor.fleet.ranges import numbers_in_words
from envdoctor.snapshot import SnapshotError, with_fact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from envdoctor.cli.catalogue import Catalogue
    from envdoctor.cli.fleet_board import Meet
    from envdoctor.cli.fleet_stages import Staged
    from envdoctor.cli.settings import Settings
    from envdoctor.facts import Fact
    from envdoctor.fleet.launch import Launch
    from envdoctor.fleet.meeting import Heard
    from envdoctor.fleet.reporting import Fleet, FleetReport
    from envdoctor.snapshot import Snapshot

UNREACHABLE = "rank-unreachable"
LATE = 5.0  # what a look may take beyond its timeout
AFTER_STAGES = 60.0  # seconds in which the report is out once the staged tests are over
GRACE = {"torchrun": 6.0, "accelerate": 6.0}
HOPELESS = frozenset({"timed-out", "unreachable", "failed", "taken"})


@dataclass
class Rank:
    """Everything that this rank is given."""

    launch: Launch
    settled: Settings
    sync_seconds: float
    look: Callable[[Rank, Meet, Callable[[dict[str, Any]], None]], Snapshot]
    new_fleet: Callable[[], Fleet]
    deliver: Callable[[FleetReport], int]
    catalogue: Catalogue
    staged: Staged | None = None
    ended: Ended = field(default_factory=Ended)
    began: float = field(default_factory=time.monotonic)

    @property
    def grace(self) -> float:
        """Give the seconds that are left after the launcher's SIGTERM: torchrun waits thirty before it kills."""
        return GRACE.get(self.launch.launcher, 0.5)

    @property
    def last_call(self) -> float:
        """Give the time until which the verdict must be there, whatever others are at."""
        return self.began + self.settled.timeout + LATE + self.sync_seconds

    def take_part(self, meeting: Meeting) -> float:
        """Take part in the staged tests, where there are any; give the time until which the verdict must be there."""
        if self.staged is None:
            return self.last_call
        ended = self.staged.follow(meeting, self.last_call)
        return time.monotonic() + (AFTER_STAGES if ended else HANDOVER)


def run(rank: Rank) -> int:
    """Be one rank from beginning to end; give the exit code, which is the same on all ranks that could meet."""
    with rank.ended.heard():
        from envdoctor.cli.fleet_board import meet
        from envdoctor.target import Patient

        staged = rank.staged.budget if rank.staged else 0.0
        try:
            met = meet(rank.launch, Patient(), rank.last_call - rank.began + staged)
        except BoardError as error:
            raise streams.OwnFailure(str(error)) from None
        meeting = Meeting(met.board, rank.launch.rank, rank.launch.world_size, rank.ended, rank.grace)
        try:
            return _with_board(rank, met, meeting)
        except Exception as error:
            meeting.cannot(f"envdoctor itself failed: {type(error).__name__}: {error}")
            raise
        finally:
            if rank.staged:
                rank.staged.close()
            met.board.close()


def _with_board(rank: Rank, met: Meet, meeting: Meeting) -> int:
    hello = Hello(socket.gethostname(), rank.launch.leads, __version__)
    presence = Presence(meeting, hello, met.joining)
    presence.start()
    snapshot = rank.look(rank, met, _Doing(presence))
    if rank.staged:
        rank.staged.begin(rank.ended)
    presence.stop()
    if not _joined(rank, met, presence, snapshot.get(Rendezvous)):
        return _alone(rank, snapshot, presence.refused)
    key = fleet_private.give_key(meeting) if rank.launch.rank == 0 else ""
    if not _brought(meeting, snapshot):
        return _alone(rank, _stuck(snapshot) if meeting.stuck else snapshot, meeting.lost, meeting.cannot)
    if rank.launch.rank == 0:
        return _speak(rank, meeting, fleet_private.hashes(snapshot, key))
    return _listen(rank, meeting, snapshot)


def _brought(meeting: Meeting, snapshot: Snapshot) -> bool:
    """Bring the report; tell whether it arrived. It is large: if it does, large messages come through after all."""
    if not meeting.bring(packed(snapshot)):
        return False
    seen = snapshot.get(Rendezvous)
    if seen is not None and seen.large is False:
        meeting.bring(packed(_with_large(snapshot, seen, came_through=True)))
    return True


class _Doing:
    """Hears the events of the look at this machine, and passes on what it waits for."""

    def __init__(self, presence: Presence) -> None:
        from envdoctor.cli.progress import Progress

        self._presence, self.shown = presence, Progress()

    def __call__(self, event: dict[str, Any]) -> None:
        """Take one event."""
        self.shown(event)
        if event.get("event") == "waiting":
            self._presence.doing(", ".join(event["on"]) or "waiting")


def packed(snapshot: Snapshot) -> bytes:
    """Give a snapshot as it travels."""
    from envdoctor.redact import without_credentials
    from envdoctor.rewrite import rewrite
    from envdoctor.snapshot import save

    return save(rewrite(snapshot, without_credentials))


def _joined(rank: Rank, met: Meet, presence: Presence, seen: Rendezvous | None) -> bool:
    """Tell whether the meeting point could be joined; wait for it as long as that makes sense."""
    until = time.monotonic() + rank.sync_seconds
    while not presence.try_to_join(1.0):
        if rank.ended():
            met.hurry()
            until = min(until, rank.ended.at + rank.grace)
        if time.monotonic() >= until or _hopeless(seen):
            return False
    return True


def _hopeless(seen: Rendezvous | None) -> bool:
    """Tell whether waiting longer would change nothing: a name that does not resolve, a way that does not exist."""
    if seen is None:
        return False
    wrong = seen.resolve_error or seen.answers_as == "something-else" or seen.large is False
    return bool(wrong) or not seen.address or seen.reached in HOPELESS


# The one who speaks


def _speak(rank: Rank, meeting: Meeting, private: bytes = b"") -> int:
    """Wait for all, have the staged tests run, make the report, and tell everybody the exit code when it is out.

    ``private``: this rank's keyed hashes; empty where the ranks have no key.
    """
    began = time.monotonic()
    heard = meeting.gather(began + rank.sync_seconds)
    waited = round(time.monotonic() - began, 1)
    hashes = {rank.launch.rank: private, **fleet_private.of_others(meeting, heard)} if private else {}
    staged = (rank.staged.measured(meeting, heard),) if rank.staged else ()
    report = _report(rank, heard, waited, hashes, *staged)
    code = rank.deliver(report)
    meeting.announce({"code": code, "by": rank.launch.rank})
    meeting.see_all_off(each.rank for each in heard if each.snapshot is not None)
    return code


def _report(
    rank: Rank, heard: Sequence[Heard], waited: float, hashes: Mapping[int, bytes], *others: Fact
) -> FleetReport:
    fleet = rank.new_fleet()
    fleet.began = rank.began
    leaders = {_node(each): each.snapshot for each in heard if each.hello and each.hello.leads}
    unreadable = []
    for each in heard:
        if each.snapshot is None:
            continue
        leads = each.hello is None or each.hello.leads
        document = each.snapshot if leads else merged(each.snapshot, leaders.get(_node(each)))
        try:
            fleet.add(document, str(each.rank), _node(each), fleet_private.read(hashes.get(each.rank)))
        except SnapshotError as error:
            unreadable.append(SilentRanks(str(each.rank), 1, _node(each), "cannot-join", f"its report: {error}"))
    if rank.launch.rank and rank.staged and rank.staged.fell_silent:
        unreadable.append(SilentRanks("0", 1, _node(heard[0]), "ended", "conducting the staged tests"))
    nodes = len({_node(each) for each in heard if each.hello})
    launch = rank.launch
    ranks = Ranks(
        world_size=launch.world_size, arrived=len(fleet.names), nodes=max(nodes, 1), launcher=launch.launcher,
        address=f"{launch.address}:{launch.port}", silent=(*silent(heard, rank.ended.by), *unreadable),
        waited_seconds=waited, ended_by=rank.ended.by,
    )  # fmt: skip
    return fleet.report(ranks, *others, interrupted=rank.ended.by == "SIGINT")


def _node(heard: Heard) -> str:
    return heard.hello.node if heard.hello else ""


# The others


def _listen(rank: Rank, meeting: Meeting, snapshot: Snapshot) -> int:
    """Take part in the staged tests and wait for the verdict; when nobody speaks, speak, or let the next rank do it."""
    verdict = fleet_private.answer(meeting, snapshot, rank.last_call, rank.take_part)
    if verdict is None and not meeting.lost:
        silent = (0,) if rank.staged and rank.staged.fell_silent else ()  # it has brought its report, and then hung
        if meeting.first_alive(*silent) == rank.launch.rank:
            return _speak(replace(rank, sync_seconds=min(rank.sync_seconds, HANDOVER)), meeting)
        verdict = meeting.hear(time.monotonic() + 2 * HANDOVER, "verdict")
    if verdict is None:
        return _alone(rank, snapshot, meeting.lost)
    meeting.leave()
    code = verdict.get("code")
    return code if isinstance(code, int) else exits.INTERNAL


def _stuck(snapshot: Snapshot) -> Snapshot:
    """Write down that a large message got stuck on its way to the launcher's store, where small ones came through."""
    seen = snapshot.get(Rendezvous)
    if seen is None:
        return snapshot
    return _with_large(snapshot, seen, came_through=False)


def _with_large(snapshot: Snapshot, seen: Rendezvous, *, came_through: bool) -> Snapshot:
    """Put what became of this rank's own report in place of what the look at the meeting point said."""
    return with_fact(
        snapshot, replace(seen, large=came_through, sources={**seen.sources, "large": "this rank's report"})
    )


def _alone(rank: Rank, snapshot: Snapshot, why: str, tell: Callable[[str], object] = lambda _why: None) -> int:
    """Report what this rank knows by itself: the first rank of each node does, on stdout; the others one line.

    ``tell`` passes on to the others, in few words, why this rank will not report to them.
    """
    report = _own_report(rank, snapshot, _others(rank) if rank.launch.rank == 0 else ())
    if rank.launch.rank and not any(each.id == UNREACHABLE for each in report.report.findings):
        report = _own_report(rank, snapshot, (SilentRanks("0", 1, "", "lost", why),))
    first = report.report.finding(report.report.primary or "")
    tell(first.title if first else why)
    stands_in = rank.launch.rank == 1 == rank.launch.local_rank and not rank.launch.keeps_store  # for rank 0
    if rank.launch.leads or stands_in:
        return rank.deliver(report)
    streams.notice(f"envdoctor: rank {rank.launch.rank}: {first.title if first else why}")
    return exits.code_for(report.report, rank.settled.fail_on)


def _others(rank: Rank) -> tuple[SilentRanks, ...]:
    """Name those that rank 0 has not heard: it could not even join where they were to meet."""
    others = range(1, rank.launch.world_size)
    return (SilentRanks(numbers_in_words(others), len(others), "", "never-seen"),) if others else ()


def _own_report(rank: Rank, snapshot: Snapshot, gone: tuple[SilentRanks, ...]) -> FleetReport:
    launch, fleet = rank.launch, rank.new_fleet()
    fleet.began = rank.began
    fleet.add(packed(snapshot), str(launch.rank), socket.gethostname())
    ranks = Ranks(
        world_size=launch.world_size, arrived=1, launcher=launch.launcher, ended_by=rank.ended.by, silent=gone,
        address=f"{launch.address}:{launch.port}", waited_seconds=rank.sync_seconds,
    )  # fmt: skip
    return fleet.report(ranks, interrupted=rank.ended.by == "SIGINT")
