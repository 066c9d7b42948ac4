"""The first two lines: which doctor looked how closely, and at what machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.render.machine_words import doctor, machine
from envdoctor.render.terminal.layout import flow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from envdoctor.render.terminal.look import Line, Look
    from envdoctor.snapshot import Snapshot


def header(snapshot: Snapshot, look: Look) -> Iterator[Line]:
    """Say which doctor, which level, how long it took, and what the machine is."""
    first, *items = doctor(snapshot)
    yield from flow((*_spans([first], "head", look), *_spans(items, "", look)), look.width, between="   ")
    yield from flow(_spans(machine(snapshot), "", look), look.width, between=f" {look.dot} ")


def _spans(items: Iterable[str], style: str, look: Look) -> list[Line]:
    return [((look.clean(item, 80), style),) for item in items]
