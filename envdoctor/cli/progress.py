"""What is going on, on stderr: nothing at first, then one line on a terminal while the run takes long."""

from __future__ import annotations

import sys
from typing import Any

from envdoctor.cli import streams

SLOW_SECONDS = 3.0
CLEAR = "\r\x1b[K"


class Progress:
    """Hears the events of a run. Once a run is slow, it says on a terminal what is being waited for, every second."""

    def __init__(self) -> None:
        self.watched = streams.is_terminal(sys.stderr)
        self.drawn = False

    def __call__(self, event: dict[str, Any]) -> None:
        """Take one event; ``waiting`` comes once a second with what is under way."""
        if self.watched and event.get("event") == "waiting" and event["seconds"] >= SLOW_SECONDS:
            self.drawn = True
            streams.draw(CLEAR + line(event["seconds"], event["on"], streams.width_of(sys.stderr)))

    def clear(self) -> None:
        """Take the line away: the report comes."""
        if self.drawn:
            streams.draw(CLEAR)


def line(seconds: float, doing: tuple[str, ...], width: int) -> str:
    """Put it in one line that fits the terminal."""
    said = f"{seconds:.0f} s, waiting for {', '.join(doing) or 'the first answer'}"
    hint = " (Ctrl-C shows what is known)"
    return said[: width - 1] if len(said + hint) >= width else said + hint
