"""[payload] A process that has imported torch, and does one step after the other as it is told through a socket.

Each step runs in a fork of its own, in a session of its own, until it ends or its time is over: then it is killed, and
what it had said by then is kept. The process itself computes nothing. Where the import makes it unfit to be forked, it
does one step itself and ends; who speaks to it then starts another one.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NoReturn, Optional

from envdoctor.child import kernel
from envdoctor.child.answering import words
from envdoctor.child.forking import fork_quietly, unfit

if TYPE_CHECKING:
    from envdoctor.child.paths import Paths

Run = Callable[[Dict[str, Any], Callable[[Dict[str, Any]], None]], None]
_BROKEN = 70
_WORDS = 2000
_TICK = 0.005
_LINGER = 2.0  # seconds beyond its time in which a process must be gone; what it said is known without that


def serve(request: Dict[str, Any], paths: Paths) -> None:
    """Import what ``request["imports"]`` names, then do steps by the function that ``request["runs"]`` names."""
    channel = socket.socket(fileno=request["channel_fd"])
    paths.become_the_patient()
    try:
        __import__(request["imports"])
        run: Run = paths.load(request["runs"])
    except BaseException as error:
        _tell(channel, {"error": "%s cannot be imported: %s" % (request["imports"], _said(error))})
        return
    why = unfit()
    _tell(channel, {"unfit": why})
    with channel.makefile("rb") as asked:
        for line in asked:
            step = json.loads(line)
            _tell(channel, _done_here(run, step) if why else _Fork(run, step, channel).answer())
            if why:
                return


def _tell(channel: socket.socket, said: Dict[str, Any]) -> None:
    channel.sendall(json.dumps(said).encode("ascii") + b"\n")


def _said(error: BaseException) -> str:
    """Give an error's type and words on one line."""
    return " ".join(words(error).split())


def _done_here(run: Run, step: Dict[str, Any]) -> Dict[str, Any]:
    """Do a step in this very process: nothing but the end of the process could stop it."""
    said: List[Dict[str, Any]] = []
    try:
        run(step, said.append)
    except Exception as error:
        return {"state": "failed", "reason": _said(error), "said": said}
    return {"state": "done", "reason": "", "said": said}


class _Fork:
    """One step in a process of its own: its rows come through a pipe, its prints go into a file."""

    def __init__(self, run: Run, step: Dict[str, Any], channel: socket.socket) -> None:
        self._step, self._channel, self._text = step, channel, b""
        self._until = time.monotonic() + float(step["seconds"])
        self._printed = _nameless_file()
        self._rows, theirs = os.pipe()
        parent = os.getpid()
        self._pid = fork_quietly()
        if self._pid == 0:
            _be(run, step, theirs, self._printed, parent)
        os.close(theirs)

    def answer(self) -> Dict[str, Any]:
        """Wait for the end of the step, or bring it about; say how it ended and what was said before."""
        timed_out = not self._heard_all()
        if timed_out:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)  # it may have had no session of its own yet
        code = self._reap()
        said, ended = self._parted()
        last = _tail(self._printed)
        for fd in (self._rows, self._printed):
            os.close(fd)
        if ended is not None:
            return {**ended, "said": said}
        if timed_out:
            return {"state": "timed-out", "reason": "no end within %g s" % self._step["seconds"], "said": said}
        return {
            "state": "failed",
            "reason": "the process ended (%s)%s" % (_how(code), last and ": " + last),
            "said": said,
        }

    def _heard_all(self) -> bool:
        """Read until the process has closed its end; False when the time is over, or nobody listens to us any more."""
        while True:
            left = self._until - time.monotonic()
            ready = select.select([self._rows, self._channel.fileno()], [], [], max(0.0, left))[0]
            if self._rows in ready:
                data = os.read(self._rows, 1 << 16)
                if not data:
                    return True
                self._text += data
            elif ready or left <= 0:  # nothing is asked while a step runs: the other end is gone
                return False

    def _reap(self) -> Optional[int]:
        """Say how it ended; None of one that does not end although it was killed: it hangs inside a driver."""
        latest = max(self._until, time.monotonic()) + _LINGER
        while True:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            if time.monotonic() >= latest:
                return None
            time.sleep(_TICK)

    def _parted(self) -> Any:
        """Give what was said, and the word on how it ended, if there is one; a line that was cut off is left out."""
        lines = [json.loads(each) for each in self._text.split(b"\n")[:-1]]
        ended = lines.pop() if lines and "state" in lines[-1] else None
        return lines, ended


def _how(code: Optional[int]) -> str:
    if code is None:
        return "it closed its answer and hangs"
    return "killed by signal %d" % -code if code < 0 else "exit code %d" % code


def _be(run: Run, step: Dict[str, Any], rows: int, printed: int, parent: int) -> NoReturn:
    """Be the process of one step."""
    code = _BROKEN
    try:
        os.setsid()
        kernel.die_with_parent(signal.SIGKILL)
        kernel.write_no_core()
        if os.getppid() != parent:
            os._exit(_BROKEN)
        for fd in (1, 2):
            os.dup2(printed, fd)

        def say(row: Dict[str, Any]) -> None:
            _write(rows, row)

        try:
            run(step, say)
        except Exception as error:
            _write(rows, {"state": "failed", "reason": _said(error)})
        else:
            _write(rows, {"state": "done", "reason": ""})
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def _write(fd: int, row: Dict[str, Any]) -> None:
    line = json.dumps(row).encode("ascii") + b"\n"
    while line:
        line = line[os.write(fd, line) :]


def _nameless_file() -> int:
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _tail(fd: int) -> str:
    """Give the last line that was printed."""
    size = os.lseek(fd, 0, os.SEEK_END)
    os.lseek(fd, max(0, size - _WORDS), os.SEEK_SET)
    lines = os.read(fd, _WORDS).decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
