"""The only room that starts processes: sends the request to the patient's supervisor and gathers what it says.

The supervisor keeps each probe's deadline and names the culprit. Here is only the outer deadline, for a supervisor
that never begins, dies, or cannot be heard; and Ctrl-C.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from envdoctor.child import vitals
from envdoctor.child.answering import TOKEN
from envdoctor.child.pipes import CHUNK, Kept, Lines, read
from envdoctor.ending import Ending
from envdoctor.outcome import Failed
from envdoctor.plan import with_prerequisites

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from envdoctor.facts import Fact
    from envdoctor.plan import Planned
    from envdoctor.snapshot import Snapshot
    from envdoctor.target import Patient

    Progress = Callable[[dict[str, Any]], None]
    Kinds = dict[str, type[Fact]]

LATE = 2.5  # what the supervisor may need beyond the timeout: it waits a while for what SIGKILL does not end
STOP_WAIT = 2.0
KILL_WAIT = 1.0
TICK = 1.0
_NAPS = 0.02


def collect(
    patient: Patient,
    planned: Sequence[Planned],
    *,
    timeout: float,
    level: str = "standard",
    progress: Progress | None = None,
    kinds: Kinds | None = None,
) -> Snapshot:
    """Ask the patient everything that is planned, and give what was found and what became of each probe.

    This always returns, at most five seconds after ``timeout``. Ctrl-C ends the run early: the snapshot then says
    that it was interrupted. ``progress`` hears every event, and once a second ``{"event": "waiting", …}``.
    """
    return Collection(patient, planned, timeout=timeout, level=level, progress=progress, kinds=kinds).finish()


class Collection:
    """A run under way. It begins when this is made, so that the caller can do other work before ``finish``."""

    def __init__(
        self,
        patient: Patient,
        planned: Sequence[Planned],
        *,
        timeout: float,
        level: str = "standard",
        progress: Progress | None = None,
        kinds: Kinds | None = None,
    ) -> None:
        self._patient, self._timeout, self._progress = patient, timeout, progress
        self._began = time.monotonic()
        self._planned = with_prerequisites(planned)
        self._token = os.urandom(12).hex()
        self._lines = Lines()
        self._kept: dict[int, Kept] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._selector = selectors.DefaultSelector()
        self._answer = -1
        self._interrupted = False
        self._killed = False
        refused = self._start()
        from envdoctor.gathered import Gathered  # the interpreter starts meanwhile

        self._gathered = Gathered(self._planned, patient.target(), level, kinds)
        if refused:
            self._gathered.give_up(lambda _: Failed(refused))

    def _start(self) -> str:
        """Start the supervisor and send it the request; give the words of why it cannot be started, or nothing."""
        self._answer, theirs = os.pipe()
        try:
            self._process = self._popen(theirs)
            self._attend(self._process, theirs)
        except (OSError, ValueError) as error:
            os.close(self._answer)
            self._selector.close()
            return f"{self._patient.python or 'no interpreter'} cannot be started: {error}"
        finally:
            os.close(theirs)
        return ""

    def _popen(self, theirs: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._patient.argv(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(theirs,),
            cwd=self._patient.cwd,
            env=self._patient.environment(self._token),
            start_new_session=True,
        )

    def _attend(self, process: subprocess.Popen[bytes], theirs: int) -> None:
        request = self._patient.request(self._planned, answer_fd=theirs, began=self._began, seconds=self._timeout)
        self._unsent = json.dumps(request).encode()
        for stream in (process.stdout, process.stderr):
            if stream:
                self._kept[stream.fileno()] = Kept()
        for fd in (self._answer, *self._kept):
            os.set_blocking(fd, False)
            self._selector.register(fd, selectors.EVENT_READ)
        if process.stdin:
            os.set_blocking(process.stdin.fileno(), False)
            self._selector.register(process.stdin, selectors.EVENT_WRITE)
        self._send(process)

    def _send(self, process: subprocess.Popen[bytes]) -> None:
        """Write what the pipe takes of the request; close it after the last byte, or when nobody reads it."""
        if process.stdin is None or process.stdin.closed:
            return
        with contextlib.suppress(BlockingIOError):
            try:
                self._unsent = self._unsent[os.write(process.stdin.fileno(), self._unsent) :]
            except BrokenPipeError:
                self._unsent = b""
        if not self._unsent:
            self._selector.unregister(process.stdin)
            process.stdin.close()

    def finish(self) -> Snapshot:
        """Wait for the end and give the snapshot."""
        if self._process is not None:
            try:
                self._listen(self._process)
            except KeyboardInterrupt:
                self._interrupted = True
            except BaseException:  # the callback's own: it is not called again
                self._progress = None
                raise
            finally:
                self._end(self._process)
        elapsed = time.monotonic() - self._began
        return replace(self._gathered.snapshot(elapsed), interrupted=self._interrupted)

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """Read until the supervisor has ended, or must have."""
        notice = time.monotonic() + TICK
        while process.poll() is None and (now := time.monotonic()) < self._deadline:
            if now >= notice:
                self._tell({"event": "waiting", "seconds": now - self._began, "on": self._gathered.under_way()})
                notice = now + TICK
            self._read(process, min(notice, self._deadline) - now)

    @property
    def _deadline(self) -> float:
        """The outer deadline; a supervisor that has not begun has nothing to name, and gets no extra time."""
        return self._began + self._timeout + (LATE if self._gathered.begun else 0.0)

    def _read(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        for key, ready in self._selector.select(max(0.0, seconds)):
            if ready & selectors.EVENT_WRITE:
                self._send(process)
                continue
            data = read(key.fd)
            self._feed(key.fd, data)
            if not data:
                self._selector.unregister(key.fd)
        if self._answer not in self._selector.get_map():  # it has closed its answer, and ends any moment
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_NAPS)

    def _feed(self, fd: int, data: bytes) -> None:
        if fd != self._answer:
            self._kept[fd].feed(data)
            return
        for line in self._lines.feed(data):
            event = self._gathered.hear(line)
            if event:
                self._tell(event)

    def _tell(self, event: dict[str, Any]) -> None:
        if self._progress:
            self._progress({name: value for name, value in event.items() if name != "fact"})

    # Ending

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Leave no process, whatever it takes and however often Ctrl-C is pressed; then judge what is missing."""
        for step in (self._ask_to_stop, self._kill, self._drain):
            try:
                step(process)
            except KeyboardInterrupt:  # noqa: PERF203 - three rounds
                self._interrupted = True
        said = "\n".join(filter(None, (kept.text().strip() for kept in reversed(self._kept.values()))))
        ending = Ending(self._patient.python, self._timeout, self._gathered.begun, process.poll(), said)
        ending = replace(ending, interrupted=self._interrupted, killed=self._killed)
        self._gathered.give_up(lambda name: ending.outcome(self._gathered.culprit(name)))
        self._close(process)

    def _ask_to_stop(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is not None:
            return
        self._killed = not self._interrupted
        began = self._gathered.begun
        process.send_signal(signal.SIGTERM if began else signal.SIGABRT)  # SIGABRT has the Python stack written
        end = time.monotonic() + (STOP_WAIT if self._interrupted else KILL_WAIT)
        while process.poll() is None and (left := end - time.monotonic()) > 0:
            self._read(process, min(left, _NAPS))

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill the supervisor and, when it did not clear up after itself, every process that bears our mark."""
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(KILL_WAIT)
        if process.poll() != 0:
            vitals.end_all_marked(f"{TOKEN}={self._token}", KILL_WAIT)

    def _drain(self, _process: subprocess.Popen[bytes]) -> None:
        for fd in (self._answer, *self._kept):
            while data := read(fd, CHUNK):
                self._feed(fd, data)

    def _close(self, process: subprocess.Popen[bytes]) -> None:
        self._selector.close()
        os.close(self._answer)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
