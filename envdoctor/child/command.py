"""[payload] The one way in which a probe starts a command: with a deadline, and with its output kept small."""

from __future__ import annotations

import math
import os
import select
import time
from typing import TYPE_CHECKING, Callable, Dict, Optional, Sequence, Set

from envdoctor.child import vitals
from envdoctor.child.pipes import CHUNK, Kept
from envdoctor.probe import NotThere, Ran

if TYPE_CHECKING:
    import subprocess

_HEAD, _TAIL = 512 << 10, 64 << 10
_GRACE = 0.2  # for what the command's own helpers still print after it has ended
_LOOK = 0.02
_SLOW_LOOK = 0.2


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
    """Read what the command prints until it ends; None when the deadline comes first.

    It sleeps until something happens. A process that looked at the clock all the time would not look hung.
    """
    poll, end = select.poll(), _pidfd(process.pid)
    began = time.monotonic()
    for fd in kept:
        os.set_blocking(fd, False)
    waited_for = {*kept, *([] if end is None else [end])}
    for fd in waited_for:
        poll.register(fd, select.POLLIN)
    try:
        while (waited_for - {end} or process.poll() is None) and (now := time.monotonic()) < deadline:
            look = deadline - now if end in waited_for else min(deadline - now, _next_look(now - began))
            _read_ready(poll, kept, waited_for, look)
            if end not in waited_for and process.poll() is not None:
                deadline = min(deadline, time.monotonic() + _GRACE)
    finally:
        if end is not None:
            os.close(end)
    return process.poll()


def _pidfd(pid: int) -> Optional[int]:
    """Give a descriptor that is ready once the process has ended; None before Python 3.9 and Linux 5.3."""
    opened: Optional[Callable[[int], int]] = getattr(os, "pidfd_open", None)
    try:
        return opened(pid) if opened else None
    except OSError:
        return None


def _next_look(so_far: float) -> float:
    """Give the time until the next look at a process whose end wakes nobody: ever longer, so that it costs little."""
    return min(max(_LOOK, so_far / 10), _SLOW_LOOK)


def _read_ready(poll: select.poll, kept: Dict[int, Kept], waited_for: Set[int], seconds: float) -> None:
    """Read what there is; a stream that is closed, and the descriptor of a process that ended, is done with."""
    for fd, _event in poll.poll(math.ceil(seconds * 1000)):
        data = os.read(fd, CHUNK) if fd in kept else b""
        if data:
            kept[fd].feed(data)
        else:
            poll.unregister(fd)
            waited_for.discard(fd)


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for the command's end for a short time; what SIGKILL does not end is left to the supervisor."""
    end = time.monotonic() + 1.0
    while process.poll() is None and time.monotonic() < end:
        time.sleep(_LOOK)
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()
