"""What ranks of one machine see alike is looked for once: the first that asks shares it with the others."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
import zlib
from typing import TYPE_CHECKING

from envdoctor.gate.fingerprint import environment, interpreter

if TYPE_CHECKING:
    from envdoctor.ranks.meeting import Meeting
    from envdoctor.snapshot import Snapshot

GRACE = 2.0  # seconds beyond the budget that a rank waits for the one that looks for it too
# Which of its machine's ranks a process is: it changes nothing of what the machine answers.
ONE_RANKS_OWN = frozenset({"LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"})
# What each process has for itself, beside what it tells in place: limits, CPUs, the NUMA nodes it is bound to.
OWN_PROBES = frozenset({"resources", "pci-bus", "fabric"})
BOOT = "/proc/sys/kernel/random/boot_id"


def view(level: str) -> str:
    """Name what this rank sees: two ranks with one name would get the same answers from their machine."""
    variables = [each for each in environment(os.environ) if each[0] not in ONE_RANKS_OWN]
    told = (socket.gethostname(), _boot(), level, interpreter(), variables)
    return hashlib.sha256(json.dumps(told, default=repr).encode()).hexdigest()[:24]


def _boot() -> str:
    try:
        with open(BOOT, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def is_first(meeting: Meeting, seen: str) -> bool:
    """Tell whether this rank is the first with this view, and so the one that looks for all of them."""
    return meeting.count(f"views/{seen}") == 1


def share(meeting: Meeting, seen: str, facts: str) -> None:
    """Leave a snapshot's JSON for the ranks with the same view; an empty text where the look failed."""
    meeting.put(f"facts/{seen}", zlib.compress(facts.encode(), 1))


def shared(meeting: Meeting, seen: str, seconds: float) -> Snapshot | None:
    """Give what the first rank with this view has found; None when it found nothing in time."""
    from envdoctor.snapshot import SnapshotError, load

    packed = meeting.get(f"facts/{seen}", time.monotonic() + seconds + GRACE)
    text = zlib.decompress(packed) if packed else b""
    try:
        return load(text, source="another rank's look") if text else None
    except SnapshotError:  # of another version of envdoctor: this rank looks for itself
        return None


def with_own(snapshot: Snapshot, own: Snapshot) -> Snapshot:
    """Give what another rank has found with what this one has found out about itself in its place."""
    from dataclasses import replace

    mine = {each.name for each in own.probes}
    probes = (*(each for each in snapshot.probes if each.name not in mine), *own.probes)
    return replace(
        snapshot, facts={**snapshot.facts, **own.facts}, probes=probes, created=own.created,
        elapsed_seconds=own.elapsed_seconds, overhead_seconds=own.overhead_seconds,
    )  # fmt: skip
