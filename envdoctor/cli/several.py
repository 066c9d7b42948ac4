"""Several patients at once: each is collected in a thread of its own, and one line says how far they all are."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from envdoctor.cli import interrupts, streams
from envdoctor.cli.progress import CLEAR, SLOW_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envdoctor.cli.catalogue import Catalogue
    from envdoctor.cli.patients import Asked
    from envdoctor.cli.settings import Settings
    from envdoctor.runner.collection import Collection
    from envdoctor.snapshot import Snapshot

MOST_AT_ONCE = 32
_TICK = 0.2


def collect(asked: Sequence[Asked], settings: Settings, catalogue: Catalogue) -> tuple[Snapshot, ...]:
    """Collect everybody's facts, and give them in the order asked for. Ctrl-C ends all; what is known is kept."""
    with interrupts.held():
        from envdoctor import diagnose  # noqa: F401 - imported once, not by each thread

        _ = catalogue.rules
    board = Board(len(asked))
    with ThreadPoolExecutor(min(len(asked), MOST_AT_ONCE)) as pool:
        runs = [pool.submit(_one, each, settings, catalogue, board, number) for number, each in enumerate(asked)]
        left = set(runs)
        while left:
            try:
                left = wait(left, _TICK).not_done
                board.draw()
            except KeyboardInterrupt:  # noqa: PERF203 - pressed as often as one likes
                board.stop()
    board.clear()
    return tuple(each.result() for each in runs)


def _one(asked: Asked, settings: Settings, catalogue: Catalogue, board: Board, number: int) -> Snapshot:
    from envdoctor.runner.collection import Collection

    patient, planned = asked
    kinds = catalogue.facts if catalogue.plugins.facts else None
    run = Collection(
        patient, planned, timeout=settings.timeout, level=settings.level, kinds=kinds,
        progress=lambda event: board.hear(number, event),
    )  # fmt: skip
    board.begin(number, patient.target().key, run)
    try:
        return run.finish()
    finally:
        board.end(number)


class Board:
    """How far everybody is, drawn on a terminal once it takes long."""

    def __init__(self, total: int) -> None:
        self._total, self._began = total, time.monotonic()
        self._watched = streams.redraws(sys.stderr)
        self._runs: dict[int, tuple[str, Collection]] = {}
        self._doing: dict[int, str] = {}
        self._ended = 0
        self._stopping = self._drawn = False

    def begin(self, number: int, name: str, run: Collection) -> None:
        """Take note of a run that has begun."""
        self._runs[number] = name, run
        if self._stopping:
            run.stop()

    def hear(self, number: int, event: dict[str, Any]) -> None:
        """Take an event of a run: what it is waiting for."""
        if event.get("event") == "waiting":
            self._doing[number] = ", ".join(event["on"]) or "its first answer"

    def end(self, number: int) -> None:
        """Take note of a run that is over."""
        self._runs.pop(number, None)
        self._doing.pop(number, None)
        self._ended += 1

    def stop(self) -> None:
        """End every run, also those that have not begun."""
        self._stopping = True
        for _name, run in list(self._runs.values()):
            run.stop()

    def draw(self) -> None:
        """Say how many have answered and whom the slowest waits for."""
        seconds = time.monotonic() - self._began
        if self._watched and seconds >= SLOW_SECONDS:
            self._drawn = True
            streams.draw(CLEAR + self._line(seconds)[: streams.width_of(sys.stderr) - 1])

    def _line(self, seconds: float) -> str:
        said = f"{seconds:.0f} s, {self._ended} of {self._total} answered"
        waiting = [f"{self._runs[n][0]} ({doing})" for n, doing in sorted(self._doing.items()) if n in self._runs]
        return f"{said}; waiting for {', '.join(waiting)}" if waiting else said

    def clear(self) -> None:
        """Take the line away: the report comes."""
        if self._drawn:
            streams.draw(CLEAR)
