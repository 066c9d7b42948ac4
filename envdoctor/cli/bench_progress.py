"""What a benchmark is doing, on stderr: what runs, what is left, and the clocks it runs at. One line, drawn again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from envdoctor.cli import streams
from envdoctor.cli.progress import CLEAR, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX, WATCHES = "bench-", "bench-clocks"


class BenchProgress(Progress):
    """Hears the events of a benchmark, and draws a line every second where a person reads along."""

    def __init__(self, suites: Sequence[str]) -> None:
        super().__init__()
        self.suites = tuple(suites)
        self.ended: set[str] = set()
        self.now = ""
        self.doing = ""
        self.clocks = ""

    def __call__(self, event: dict[str, Any]) -> None:
        """Take one event."""
        kind, probe = event.get("event"), str(event.get("probe", ""))
        if kind == "waiting":
            self._draw(float(event["seconds"]), event["on"])
        elif probe == WATCHES:
            self.clocks = str(event.get("note") or self.clocks) if kind == "partial" else self.clocks
        elif probe.startswith(PREFIX):
            self._hear(probe.removeprefix(PREFIX), event)

    def _hear(self, suite: str, event: dict[str, Any]) -> None:
        kind = event.get("event")
        if kind == "start":
            self.now, self.doing = suite, ""
        elif kind == "enter":
            self.now, self.doing = suite, str(event.get("what", ""))
        elif kind == "result":
            self.ended.add(suite)

    def _draw(self, seconds: float, under_way: Sequence[str]) -> None:
        if not self.watched:
            return
        self.drawn = True
        text = line(seconds, self.doing or ", ".join(under_way), self.left(), self.clocks, streams.width_of(sys.stderr))
        streams.draw(CLEAR + text)

    def left(self) -> tuple[str, ...]:
        """Name the suites that are still to come."""
        return tuple(each for each in self.suites if each not in self.ended and each != self.now)


def line(seconds: float, doing: str, left: Sequence[str], clocks: str, width: int) -> str:
    """Put it in one line that fits the terminal: what is left goes first when there is no room, then the clocks."""
    begin = f"{seconds:.0f} s  {doing or 'starting'}"
    then = f"  then {', '.join(left)}" if left else ""
    at = f"  [{clocks}]" if clocks else ""
    for said in (begin + at + then, begin + at, begin):
        if len(said) < width:
            return said
    return begin[: max(width - 1, 1)]
