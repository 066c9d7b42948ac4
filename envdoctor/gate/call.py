"""One call of preflight(), alone or together with the other ranks of its job."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from envdoctor.gate.looking import Look
from envdoctor.gate.refusal import objection, refused
from envdoctor.gate.standing import in_a_group, torch_here
from envdoctor.gate.telling import tell
from envdoctor.ranks.meeting import Lost

if TYPE_CHECKING:
    from envdoctor.gate.asked import Asked
    from envdoctor.gate.cleared import Cleared
    from envdoctor.gate.memory import Memory
    from envdoctor.gate.together import Round
    from envdoctor.ranks.launched import Place
    from envdoctor.runner.starting import Ready


@dataclass
class Call:
    """What was asked, what is kept for it, and where this process stands. ``kept`` is a verdict that lets it begin."""

    asked: Asked
    memory: Memory | None = None
    kept: Cleared | None = None
    place: Place | None = None
    ready: Ready | None = None
    notes: tuple[str, ...] = ()

    def verdict(self) -> Cleared:
        """Give the report, told once for all ranks; raise ``NotReady`` on all of them alike."""
        others = self._others()
        if others is not None:
            report, first = self._together(others), others.meeting.rank == 0
        else:
            report = self._alone(self.kept or self._looked(Look(self.asked, self.ready)))
            first = self.place is None or self.place.rank == 0
        if first:
            tell(report, open_ends=bool(self.notes))
        return report

    def _others(self) -> Round | None:
        """Open a round with the other ranks; where that cannot be, a note says so."""
        if self.place is None and not in_a_group():
            return None
        from envdoctor.gate.together import Round, round_of

        found = round_of(torch_here(), self.place, self.asked.sync_timeout_seconds)
        if isinstance(found, Round):
            return found
        self.notes = (found,) if found else ()
        return None

    def _alone(self, report: Cleared) -> Cleared:
        report = replace(report, notes=(*report.notes, *self.notes))
        found = objection(report, self.asked.fail_on)
        if found:
            raise refused(report, found)
        return report

    def _together(self, round_: Round) -> Cleared:
        """Look and agree with the others; where the store fails on the way, the verdict is this rank's own."""
        from envdoctor.finding import Ignored

        ignore = {name: Ignored(reason, by) for name, (reason, by) in self.asked.ignore.items()}
        report = self.kept
        try:
            report = report or self._looked(Look(self.asked, self.ready), round_)
            return round_.agree(report, self.asked.fail_on, ignore)
        except Lost as why:
            self.notes = (f"this verdict is rank {round_.meeting.rank}'s alone: {why}",)
        finally:
            round_.meeting.store = None  # an exception keeps what its frames held, and with it the connection
        return self._alone(report or self._looked(Look(self.asked)))

    def _looked(self, look: Look, round_: Round | None = None) -> Cleared:
        """Look at the machine, and keep the verdict where that was asked for."""
        try:
            report = look.judge(round_.look(look) if round_ else look.snapshot())
        except Lost:
            raise
        except BaseException as error:
            if round_:
                round_.failed(error)
            raise
        if self.memory is not None:
            self.memory.remember(report, look.rules)
            report = replace(report, notes=(*report.notes, *self.memory.notes))
        return report
