"""The staged tests of ``envdoctor fleet --deep`` as one rank has them: its process with torch, its part."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envdoctor.fleet import conducting, playing
from envdoctor.fleet.stage_results import stages_of
from envdoctor.fleet.steps import Place
from envdoctor.runner.courier import Courier, CourierError
from envdoctor.runner.stepper import Stepper
from envdoctor.target import Patient

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from envdoctor.facts.fleet import FleetStages
    from envdoctor.fleet.launch import Launch
    from envdoctor.fleet.meeting import Heard, Meeting
    from envdoctor.fleet.steps import Played

PREFIX = "envdoctor/stages"
OPENING = 60.0  # seconds in which a store of torch's must be open
SLOW = 4.0  # what the progress line takes for long


@dataclass
class Staged:
    """One rank's means for it. ``limit``: seconds of each step, where the user has said so.

    ``fell_silent``: rank 0 has conducted some steps, or should have, and was not heard of again.
    """

    launch: Launch
    limit: float | None = None
    fell_silent: bool = False
    _stepper: Stepper | None = None
    _opened: Courier | None = None
    _why_not_opened: str = ""

    @property
    def budget(self) -> float:
        """Give the seconds that all stages can take at the most."""
        return conducting.budget(self.limit)

    def begin(self, stopped: Callable[[], bool]) -> None:
        """Start what needs torch: it is imported while the ranks wait for each other."""
        self._stepper = Stepper(Patient(), stopped)
        if self.launch.rank == 0 and not self.launch.keeps_store:
            try:
                self._opened = Courier(
                    Patient(), self.launch.address, 0, PREFIX, seconds=OPENING, patience=SLOW, opens=True
                )
            except CourierError as error:
                self._why_not_opened = str(error)

    def measured(self, meeting: Meeting, heard: Sequence[Heard]) -> FleetStages:
        """Conduct the tests as rank 0; in its place, give what it has left of them."""
        if self.launch.rank:
            return _fact(playing.recalled(meeting))
        player = self._player(meeting)
        conductor = conducting.Conductor(player, self._store(), self.limit, self._why_not_opened)
        conductor.conduct([each.rank for each in heard if each.snapshot is not None])
        return _fact(conductor.played)

    def follow(self, meeting: Meeting, until: float) -> bool:
        """Take part in what rank 0 conducts, the first step being waited for until then; False when it fell silent."""
        self.fell_silent = not self._player(meeting).follow(until)
        return not self.fell_silent

    def _player(self, meeting: Meeting) -> playing.Player:
        from envdoctor.cli.progress import Progress

        stepper = self._stepper or Stepper(Patient())
        progress, place = Progress(), Place(socket.gethostname(), self.launch.local_rank, self.launch.node)

        def tell(what: str) -> None:
            if meeting.rank == 0:
                progress({"event": "waiting", "seconds": SLOW, "on": (f"staged test {what}",)})

        return playing.Player(meeting, place, f"{PREFIX}/{self.launch.run}", stepper.do, tell)

    def _store(self) -> tuple[str, int]:
        """Give where the ranks meet for a collective: the launcher's store, or the one that was opened here."""
        if self._opened is not None:
            try:
                self._opened.join()
            except CourierError as error:
                self._why_not_opened = f"no store could be opened for it: {error}"
            return self.launch.address, self._opened.port
        return self.launch.address, self.launch.port

    def close(self) -> None:
        """End the processes."""
        for each in (self._stepper, self._opened):
            if each is not None:
                each.close()


def _fact(played: Sequence[Played]) -> FleetStages:
    return stages_of(played, conducting.node_names(conducting.places_of(played)))
