"""How the ranks of a fleet compare what may not be shown: rank 0 gives a key, the others answer with keyed hashes.

Key and hashes are on the ranks' board alone, and go with it. No snapshot and no report holds them.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from envdoctor import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from envdoctor.fleet.meeting import Heard, Meeting
    from envdoctor.snapshot import Snapshot

KIND = "private"
PATIENCE = 3.0  # seconds that rank 0 waits for the hashes of ranks that have reported


def give_key(meeting: Meeting) -> str:
    """Leave a new key for all ranks of this run, and give it."""
    from envdoctor.redact.keyed import new_key

    key = new_key()
    meeting.announce({"key": key}, "key")
    return key


def hashes(snapshot: Snapshot, key: str) -> bytes:
    """Give the keyed hashes of this rank's private values, as they travel."""
    from envdoctor.redact.keyed import keyed_variables

    return json.dumps(keyed_variables(os.environ, snapshot, key)).encode()


def answer(
    meeting: Meeting, snapshot: Snapshot, until: float, then: Callable[[Meeting], float]
) -> dict[str, Any] | None:
    """Wait for the verdict; when the key comes before it, answer with the hashes, and do what comes ``then``.

    That gives the time until which the verdict is waited for.
    """
    found = meeting.hear(until, "key", "verdict")
    if found is None or "key" not in found:
        return found
    meeting.bring(hashes(snapshot, str(found["key"])), KIND)
    return meeting.hear(then(meeting), "verdict")


def of_others(meeting: Meeting, heard: Sequence[Heard]) -> dict[int, bytes]:
    """Hear the hashes of the ranks that have reported: they send them as soon as they see the key."""
    if meeting.stopped():
        return {}
    having = [each for each in heard if each.snapshot is not None and each.rank != meeting.rank]
    asked = [each.rank for each in having if each.hello and each.hello.version == __version__]
    told = meeting.gather(time.monotonic() + PATIENCE, KIND, asked)
    return {each.rank: each.snapshot for each in told if each.snapshot}


def read(data: bytes | None) -> dict[str, str] | None:
    """Read one rank's hashes; None where it has told none."""
    import msgspec

    try:
        return msgspec.json.decode(data, type=dict[str, str]) if data else None
    except msgspec.DecodeError:
        return None
