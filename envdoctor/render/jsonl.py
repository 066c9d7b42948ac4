"""render(report) -> JSON lines, schema ``envdoctor.event/1``: begin, probe, check, finding, end; for tools that follow.

The command line writes ``begin`` and each ``probe`` as it happens, and leaves out of ``render`` what it has written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from envdoctor.render import json as report_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.finding import Report

SCHEMA = "envdoctor.event/1"
HEAD = ("tool", "target", "level")
TAIL = ("verdict", "primary", "interrupted", "notes", "redacted", "created", "elapsed_seconds", "overhead_seconds")
PROBE = ("name", "outcome", "seconds", "reason")


def render(report: Report, *, told: frozenset[str] | None = None, **_view: Any) -> str:
    """Give the report as events, one a line; ``told``: the probes already written, and with them the beginning."""
    return "".join(line(each) for each in _events(report_json.plain(report), told))


def _events(plain: dict[str, Any], told: frozenset[str] | None) -> Iterator[dict[str, Any]]:
    if told is None:
        yield begin(**{name: plain[name] for name in HEAD})
    yield from (probe(each) for each in plain["probes"] if each["name"] not in (told or ()))
    yield from ({"event": "check", **each} for each in plain["checks"])
    yield from ({"event": "finding", **each} for each in plain["findings"])
    counted: dict[str, int] = {}
    for each in plain["checks"]:
        counted[each["status"]] = counted.get(each["status"], 0) + 1
    yield {"event": "end", **{name: plain[name] for name in TAIL}, "counts": counted}


def begin(*, tool: dict[str, str], target: dict[str, str], level: str) -> dict[str, Any]:
    """Give the first event: which doctor looks at whom, and how closely."""
    return {"event": "begin", "tool": tool, "target": target, "level": level}


def probe(said: dict[str, Any]) -> dict[str, Any]:
    """Give the event of a probe that has ended, from its line in a report."""
    return {"event": "probe", **{name: said[name] for name in PROBE}}


def line(event: dict[str, Any]) -> str:
    """Give an event as one line of strict JSON that ends with a newline."""
    return msgspec.json.encode(report_json.clean({"schema": SCHEMA, **event}), enc_hook=str).decode() + "\n"
