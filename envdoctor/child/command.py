"""[payload] The one way in which a probe starts a command: with a deadline, and with its output kept small."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING, Dict, Optional, Sequence

from envdoctor.child import vitals
from envdoctor.child.pipes import CHUNK, Kept
from envdoctor.probe import NotThere, Ran

if TYPE_CHECKING:
    import subprocess

_HEAD, _TAIL = 512 << 10, 64 << 10
_GRACE = 0.2  # for what the command's own helpers still print after it has ended
_LOOK = 0.02


def run(argv: Sequence[str], seconds: float) -> Ran:
    """Run a command, its stdin empty. At the deadline it and all that it started are killed.

    Raises ``NotThere`` when there is no such command, ``OSError`` when it cannot be started for another reason.
    """
    before = set(vitals.descendants(os.getpid()))
    began = time.monotonic()
    process = _start(argv)
    kept = {each.fileno(): Kept(_HEAD, _TAIL) for each in (process.stdout, process.stderr) if each}
    code = _attend(process, kept, began + seconds)
    vitals.kill(set(vitals.descendants(os.getpid())) - before)
    if code is None:
        process.kill()
    _reap(process)
    out, err = kept.values()
    took = time.monotonic() - began
    return Ran(code, out.text(), err.text(), out.dropped + err.dropped, took)


def _start(argv: Sequence[str]) -> subprocess.Popen[bytes]:
    import subprocess

    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    try:
        return subprocess.Popen(list(argv), stdin=nothing, stdout=pipe, stderr=pipe, start_new_session=True)
    except FileNotFoundError:
        raise NotThere(f"{argv[0]} is not on PATH" if "/" not in argv[0] else f"{argv[0]} does not exist") from None


def _attend(process: subprocess.Popen[bytes], kept: Dict[int, Kept], deadline: float) -> Optional[int]:
    """Read what the command prints until it ends; None when the deadline comes first."""
    poll = select.poll()
    for fd in kept:
        os.set_blocking(fd, False)
        poll.register(fd, select.POLLIN)
    open_fds = set(kept)
    while open_fds and time.monotonic() < deadline:
        _read_ready(poll, kept, open_fds)
        if process.poll() is not None:
            deadline = min(deadline, time.monotonic() + _GRACE)
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(_LOOK)
    return process.poll()


def _read_ready(poll: select.poll, kept: Dict[int, Kept], open_fds: set[int]) -> None:
    for fd, _event in poll.poll(_LOOK * 1000):
        data = os.read(fd, CHUNK)
        kept[fd].feed(data)
        if not data:
            poll.unregister(fd)
            open_fds.discard(fd)


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for the command's end for a short time; what SIGKILL does not end is left to the supervisor."""
    end = time.monotonic() + 1.0
    while process.poll() is None and time.monotonic() < end:
        time.sleep(_LOOK)
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()
