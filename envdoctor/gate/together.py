"""All ranks of a job, one verdict: what can be shared is asked once, and all begin or none does.

Each rank leaves its word in the store. Rank 0 reads them when all are there, or when the time is over, lays them side
by side and settles the outcome. Who comes later finds it settled. Where rank 0 does not settle it, another rank does.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from envdoctor.gate import views
from envdoctor.gate.refusal import NotReady, Objection, objection, words
from envdoctor.gate.words import ARRIVED, OUTCOME, Outcome, Word, cleared_away, common_key, heard, say, settle, settled
from envdoctor.ranks.meeting import Lost, Meeting, NowhereToMeet, meet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envdoctor.finding import Ignored
    from envdoctor.gate.cleared import Cleared
    from envdoctor.gate.looking import Look
    from envdoctor.ranks.launched import Place
    from envdoctor.snapshot import Snapshot

SETTLING = 3.0  # seconds beyond the others' deadline in which rank 0 reads and settles
CALL_IT_EVERYWHERE = (
    "Every rank has to call preflight(), and as often as the others. One that is slow to start needs a longer"
    " sync_timeout_seconds."
)
_calls = itertools.count(1)


def round_of(torch: Any, place: Place | None, seconds: float) -> Round | str:
    """Open a round with the other ranks, or say why the verdict is this rank's own; empty where there are no others."""
    name = f"preflight/{next(_calls)}"  # every rank makes the same calls in the same order
    try:
        meeting = meet(torch, place, seconds, name)
    except (NowhereToMeet, Lost) as why:
        return f"this verdict is rank {place.rank}'s alone: {why}" if place and place.world_size > 1 else ""
    return Round(meeting, place) if meeting.world_size > 1 else ""


@dataclass
class Round:
    """One call of preflight() on all ranks. Its methods raise ``Lost`` when the store does not answer any more."""

    meeting: Meeting
    place: Place | None
    began: float = field(default_factory=time.monotonic)
    view: str = ""
    shared: frozenset[str] = frozenset()

    # Looking

    def look(self, look: Look) -> Snapshot:
        """Look together: the first rank with this view asks the machine, the others take that and add their own."""
        if self.meeting.has(OUTCOME):  # too late to share anything
            return look.snapshot()
        self.view = views.view(look.asked.level)
        if views.is_first(self.meeting, self.view):
            return self._look_for_all(look)
        told = views.shared(self.meeting, self.view, look.asked.budget_seconds)
        look.began = time.monotonic()  # waiting for another rank is no work of this one
        if told is None:
            self.view = ""
            return look.snapshot()
        look.only = views.OWN_PROBES
        own = look.snapshot()
        self.shared = frozenset(told.facts) - frozenset(own.facts)
        return views.with_own(told, own)

    def _look_for_all(self, look: Look) -> Snapshot:
        from envdoctor.render.json import write
        from envdoctor.snapshot import to_plain

        text = ""
        try:
            snapshot = look.snapshot()
            text = write(to_plain(snapshot))
        finally:  # whatever happened: the others wait for it
            views.share(self.meeting, self.view, text)
        self.shared = frozenset(snapshot.facts)
        return snapshot

    # Agreeing

    def agree(self, report: Cleared, fail_on: str, ignore: Mapping[str, Ignored]) -> Cleared:
        """Say this rank's word and take the outcome; on rank 0 the report then holds what the ranks differ in.

        Raises ``NotReady`` on all ranks alike.
        """
        found = objection(report, fail_on)
        say(self.meeting, self._word(report, found))
        if self.meeting.rank == 0:
            report, outcome = self._lead(report, fail_on, ignore)
        else:
            outcome = self._follow(fail_on)
        if not outcome.refused:
            return replace(report, notes=(*report.notes, *outcome.told))
        if outcome.by == self.meeting.rank:
            raise NotReady(outcome.words, report)
        said = f"rank {self.meeting.rank} stops with all others: {outcome.short}"
        raise NotReady(f"{said} (rank {outcome.by} says it in full)", report)

    def failed(self, error: BaseException) -> None:
        """Tell the others that this rank does not take part, so that they need not wait for it."""
        said = f"{type(error).__name__}: {error}".strip(": ")
        say(self.meeting, Word(self.meeting.rank, socket.gethostname(), failed=said[:500]))

    def _word(self, report: Cleared, found: Objection) -> Word:
        from envdoctor.gate.comparing import own_of
        from envdoctor.redact.keyed import keyed_variables

        text = words(report, found) if found else ""
        word = Word(self.meeting.rank, socket.gethostname(), found.keys, found.unjudged, "", text, self.view)
        if report.cached:  # its facts were not kept, so it is not compared
            return word
        private = keyed_variables(os.environ, report.snapshot, common_key(self.meeting))
        return replace(word, own=own_of(report.snapshot, self.shared), private=private)

    def _follow(self, fail_on: str) -> Outcome:
        """Wait for what rank 0 settles. When that does not come, settle it in its place."""
        self.meeting.deadline = max(self.meeting.deadline, time.monotonic()) + SETTLING
        outcome = settled(self.meeting)
        return outcome or settle(self.meeting, _without_rank_0(self.meeting, fail_on))

    def _lead(self, report: Cleared, fail_on: str, ignore: Mapping[str, Ignored]) -> tuple[Cleared, Outcome]:
        """Wait for all words, lay them side by side, and settle the outcome."""
        from envdoctor.gate import comparing

        self.meeting.wait_for_all(ARRIVED)
        said, size = heard(self.meeting), self.meeting.world_size
        ranks = comparing.roll_call(self.meeting, said, self.place, time.monotonic() - self.began)
        differing, compared = comparing.differences(self.meeting, said)
        own = objection(report, fail_on)
        report = comparing.judged(report, (ranks, differing), ignore)
        objecting = [each for each in said.values() if each.objects]
        more = Objection(tuple(each for each in objection(report, fail_on).keys if each not in own.keys))
        missing = CALL_IT_EVERYWHERE if len(said) < size else ""
        mine = Outcome(
            bool(more or objecting) and fail_on != "never",
            0,
            _paragraphs(words(report, more) if more else "", missing, comparing.in_full(objecting, size)),
            "; ".join(filter(None, (", ".join(more.keys), comparing.in_short(objecting, size)))),
            (_told(len(said), size, ranks.nodes or 0, compared),),
        )
        outcome = settle(self.meeting, mine)
        cleared_away(self.meeting, said)
        return report, outcome


def _told(arrived: int, size: int, machines: int, compared: int) -> str:
    plural = "s" if machines != 1 else ""
    less = f"; {compared} of them were compared" if compared < arrived else ""
    return f"{arrived} of {size} ranks on {machines} machine{plural} have checked{less}"


def _without_rank_0(meeting: Meeting, fail_on: str) -> Outcome:
    """Put the outcome together in rank 0's place: that it did not answer stops the run."""
    from envdoctor.gate import comparing

    said = heard(meeting)
    missing = [rank for rank in range(meeting.world_size) if rank not in said] or [0]
    size = meeting.world_size
    gone = f"{comparing.in_words(missing, size)} did not answer in time"
    others = [each for each in said.values() if each.objects]
    full = _paragraphs(f"{gone}. {CALL_IT_EVERYWHERE}", comparing.in_full(others, size))
    short = "; ".join(filter(None, (gone, comparing.in_short(others, size))))
    return Outcome(fail_on != "never", meeting.rank, full, short, (gone,))


def _paragraphs(*parts: str) -> str:
    return "\n\n".join(filter(None, parts))
