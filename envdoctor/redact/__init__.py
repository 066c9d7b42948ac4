"""What a report gives away, and how it is taken out: credentials always, people and machines when it is shared.

A field that its fact declares ``private`` is replaced whole. Its value, and whatever looks like a path, a UUID or an
address, is replaced by the same label wherever else it stands: in other facts, in evidence, in words, in paths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envdoctor.redact.labels import Removed
from envdoctor.redact.urls import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envdoctor.finding import Report
    from envdoctor.snapshot import Snapshot

__all__ = ["Removed", "own_names", "share", "share_report", "share_with_text", "stated", "without_credentials"]


def share(snapshot: Snapshot, own: dict[str, str] | None = None) -> tuple[Snapshot, tuple[Removed, ...]]:
    """Give the snapshot without what names people and machines, and the list of what was replaced.

    ``own`` maps further names to look for to their kind (``{"bob": "user"}``); see ``own_names``.
    """
    from envdoctor.redact.replace import Replacer

    replacer = Replacer(snapshot, own or {})
    return replacer.snapshot(snapshot), replacer.labels.removed


def share_report(report: Report, own: dict[str, str] | None = None) -> tuple[Report, tuple[Removed, ...]]:
    """Give the whole report without what names people and machines, and the list of what was replaced."""
    from envdoctor.redact.replace import Replacer

    replacer = Replacer(report.snapshot, own or {})
    return replacer.report(report), replacer.labels.removed


def share_with_text(
    report: Report, text: str, own: dict[str, str] | None = None
) -> tuple[Report, str, tuple[Removed, ...]]:
    """Give a report and a text that goes with it (a log) under the same labels, and the list of what was replaced."""
    from envdoctor.redact.replace import Replacer

    replacer = Replacer(report.snapshot, own or {}, text)
    shared = replacer.report(report)
    return shared, "\n".join(map(replacer.text, text.split("\n"))), replacer.labels.removed


def own_names() -> dict[str, str]:
    """Name the user and the host that this process knows: a crash's words may hold them though no fact does."""
    import os
    import socket

    found = dict.fromkeys((os.environ.get(each, "") for each in ("USER", "LOGNAME", "SUDO_USER")), "user")
    found[os.path.basename(os.path.expanduser("~"))] = "user"  # noqa: PTH111, PTH119 - never raises, unlike Path.home
    found[socket.gethostname()] = "host"
    return {name: kind for name, kind in found.items() if name}


def stated(removed: Iterable[Removed], *, shared: bool) -> dict[str, Any]:
    """Say in a document whether it was redacted, and what was replaced by which label."""
    return {
        "redacted": shared,
        "removed": [{"label": each.label, "kind": each.kind, "times": each.times} for each in removed],
    }
