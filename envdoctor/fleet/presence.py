"""Being there while the machine is examined: joins the board, says hello, and says now and then what is being done."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from envdoctor.fleet.board import BoardError

if TYPE_CHECKING:
    from collections.abc import Callable

    from envdoctor.fleet.meeting import Hello, Meeting

EVERY = 2.0  # seconds between two signs
TRY = 1.0
FAREWELL = 3.0


class Presence(threading.Thread):
    """Speaks for this rank until ``stop``; nothing else may use the board meanwhile.

    ``joining`` waits until the board can be used or the given time is over, and raises ``BoardError``. ``joined`` tells
    whether it could be; ``refused`` has the last words of why not.
    """

    def __init__(self, meeting: Meeting, hello: Hello, joining: Callable[[float], None]) -> None:
        super().__init__(daemon=True)
        self._meeting, self._hello, self._joining = meeting, hello, joining
        self._over, self._began = threading.Event(), time.monotonic()
        self._doing = "beginning"
        self.joined, self.refused = False, ""

    def doing(self, what: str) -> None:
        """Note what this rank is at."""
        self._doing = what

    def run(self) -> None:
        """Join, and then give a sign every two seconds."""
        while not self._over.is_set() and not self.joined:
            self.try_to_join(TRY)
        while not self._over.is_set():
            self._meeting.at(f"{self._doing} ({time.monotonic() - self._began:.0f} s)")
            self._over.wait(EVERY)

    def try_to_join(self, seconds: float) -> bool:
        """Try for so long; tell whether it worked."""
        if self.joined:
            return True
        try:
            self._joining(time.monotonic() + seconds)
        except BoardError as error:
            self.refused = str(error)
            self._over.wait(TRY / 5)  # an answer that comes at once is asked for again in a moment
            return False
        self.joined = True
        self._meeting.hello(self._hello)
        return True

    def stop(self) -> None:
        """Give no more signs. What is under way is waited for, not for ever."""
        self._over.set()
        self.join(FAREWELL)
