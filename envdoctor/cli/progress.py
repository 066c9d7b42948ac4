"""What is going on: on stderr one line on a terminal while the run takes long; as JSON lines on stdout when asked."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from envdoctor.cli import streams

if TYPE_CHECKING:
    from envdoctor.target import Patient

SLOW_SECONDS = 1.0
CLEAR = "\r\x1b[K"


class Progress:
    """Hears the events of a run. Once a run is slow, it says on a terminal what is being waited for, every second."""

    def __init__(self) -> None:
        self.watched = streams.redraws(sys.stderr)
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


class Events(Progress):
    """Also writes each probe's end to stdout as it happens, in the format ``jsonl``."""

    def __init__(self, patient: Patient, level: str) -> None:
        super().__init__()
        self.told: set[str] = set()
        from envdoctor import __version__
        from envdoctor.render import jsonl

        self._jsonl = jsonl
        target = patient.target()
        whom = {"key": target.key, "kind": target.kind, "python": target.python, "via": target.via}
        streams.print_out(
            jsonl.line(jsonl.begin(tool={"name": "envdoctor", "version": __version__}, target=whom, level=level))
        )

    def __call__(self, event: dict[str, Any]) -> None:
        """Take one event; a probe that asks again after a crash is told once."""
        super().__call__(event)
        name = event.get("probe")
        if event.get("event") != "result" or not isinstance(name, str) or name in self.told:
            return
        self.told.add(name)
        said = {"name": name, "outcome": event.get("outcome"), "seconds": round(event.get("seconds") or 0.0, 4)}
        streams.print_out(self._jsonl.line(self._jsonl.probe({**said, "reason": event.get("reason", "")})))


TOLD = "envdoctor.told"


def of(format_: str | None, patient: Patient, level: str) -> Progress:
    """Give what hears the events of a run whose report is written in this format."""
    if format_ != "jsonl":
        return Progress()
    events = Events(patient, level)
    click.get_current_context().meta[TOLD] = events.told
    return events


def line(seconds: float, doing: tuple[str, ...], width: int) -> str:
    """Put it in one line that fits the terminal."""
    said = f"{seconds:.0f} s, waiting for {', '.join(doing) or 'the first answer'}"
    hint = " (Ctrl-C shows what is known)"
    return said[: width - 1] if len(said + hint) >= width else said + hint
