"""Running one program to its end, its output told line by line: what ``fix --apply`` starts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envdoctor.listening import Printed
from envdoctor.runner.starting import KILL_WAIT, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Hear = Callable[[str], object]

STOP_WAIT = 2.0
TICK = 1.0
_NAPS = 0.02


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended. ``exit_code`` is None when it could not be started; ``said`` is its beginning and end."""

    exit_code: int | None
    said: str = ""
    seconds: float = 0.0
    timed_out: bool = False
    interrupted: bool = False


def run_command(
    argv: Sequence[str],
    *,
    timeout: float,
    hear: Hear,
    environ: Mapping[str, str] | None = None,
    keep_open: tuple[int, ...] = (),
) -> Ended:
    """Run a program to its end or to the deadline, and tell each line that it prints as it comes.

    It has no terminal and nothing to read, so that it cannot wait for an answer. Ctrl-C stops it, first gently; what
    has not ended then is killed with all its children. ``keep_open``: files that it holds open as well, until its end.
    """
    began, interrupted = time.monotonic(), False
    try:
        process = subprocess.Popen(
            list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, **(environ or {})}, start_new_session=True, pass_fds=keep_open,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        return Ended(None, f"{argv[0]} cannot be started: {error}")
    assert process.stdout is not None  # noqa: S101 - PIPE gives one
    with process.stdout as stdout:
        printed = Printed(stdout.fileno(), hear)
        try:
            while process.poll() is None and (left := began + timeout - time.monotonic()) > 0:
                if not printed.attend(min(left, TICK / 10)):
                    wait_for(process, _NAPS)
        except KeyboardInterrupt:
            interrupted = True
        late = process.poll() is None and not interrupted
        _stop(process)
        printed.drain()
    return Ended(process.poll(), printed.said, time.monotonic() - began, timed_out=late, interrupted=interrupted)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End what still runs, the gentle way first and whatever is pressed meanwhile; leave none of its children."""
    for number, seconds in ((signal.SIGINT, STOP_WAIT), (signal.SIGTERM, STOP_WAIT), (signal.SIGKILL, KILL_WAIT)):
        if process.poll() is None or number is signal.SIGKILL:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
            with contextlib.suppress(KeyboardInterrupt):
                wait_for(process, seconds)
