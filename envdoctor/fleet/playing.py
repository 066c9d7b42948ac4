"""Every rank's part in the staged tests: hears which step is next, does its own part in it, and leaves what came of it.

A step that hangs is ended by whoever performs it; a rank that hears of no further step goes on without.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from envdoctor.fleet.board import BoardError
from envdoctor.fleet.steps import END, Answer, Place, Played, Step, announced, answer_of, key_of, kind_of, step_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from envdoctor.fleet.meeting import Meeting

SLACK = 6.0  # seconds that an answer may be on its way beyond the step's own time
BETWEEN = 20.0  # seconds in which the next step is announced once the last one is over


@dataclass
class Player:
    """One rank. ``perform`` does a step in the patient and gives its state, reason and rows."""

    meeting: Meeting
    place: Place
    run: str
    perform: Callable[[dict[str, Any]], dict[str, Any]]
    tell: Callable[[str], None] = lambda _what: None

    def take_part(self, number: int, step: Step) -> None:
        """Do this rank's part, if it has one, and leave the answer."""
        part = step.part_of(self.meeting.rank, f"{self.run}/{number}")
        if part is None:
            return
        self.tell(step.stage)
        self.meeting.at(f"staged test {step.stage}")
        found = self.perform({**part, "local_rank": self.place.local_rank})
        self.meeting.bring(msgspec.json.encode({**found, "place": self.place}), kind_of(number))

    def follow(self, until: float) -> bool:
        """Take part in every step until there are no more; the first one is waited for until then.

        False when the one who conducts fell silent before it said so.
        """
        number = 0
        while (told := self.meeting.hear(until, key_of(number))) is not None:
            step, heard = step_of(told), time.monotonic()
            if step is None or step.stage == END or self.meeting.stopped():
                return True
            self.take_part(number, step)
            number, until = number + 1, heard + step.seconds + SLACK + BETWEEN
        return False


def recalled(meeting: Meeting) -> list[Played]:
    """Give what is on the board of steps that another rank has conducted, and did not come to report."""
    try:
        return list(_recalled(meeting))
    except BoardError as error:
        meeting.lost = meeting.lost or str(error)
        return []


def _recalled(meeting: Meeting) -> Iterator[Played]:
    number = 0
    while (step := announced(meeting.board, number)) is not None and step.stage != END:
        heard = meeting.gather(time.monotonic(), kind_of(number), step.members)
        yield Played(step, {each.rank: answer_of(each.snapshot) for each in heard})
        number += 1


def gathered(meeting: Meeting, number: int, step: Step, until: float) -> dict[int, Answer | None]:
    """Wait for the answers of all who take part."""
    heard = meeting.gather(until, kind_of(number), step.members)
    return {each.rank: answer_of(each.snapshot) for each in heard}
