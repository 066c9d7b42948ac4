"""Starting the patient's interpreter, also before it is known what to ask: it loads while the command line is read."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envdoctor.target import Patient

KILL_WAIT = 1.0


def start(patient: Patient, token: str) -> tuple[subprocess.Popen[bytes], int, int]:
    """Start the patient's interpreter and tell it where our modules are; raises ``OSError`` or ``ValueError``.

    Gives the process, where its answer comes, and the descriptor on which it is to answer.
    """
    if patient.answers_on_stdout:
        return _start_far(patient, token)
    answer, theirs = _pipe()
    try:
        process = _popen(patient, token, theirs)
    except (OSError, ValueError):
        os.close(answer)
        raise
    finally:
        os.close(theirs)
    if process.stdin:
        with contextlib.suppress(BrokenPipeError):  # it died at once: what it says on stderr is read later
            # Past the buffer: what is left in it would fail once more when the stream is closed.
            os.write(process.stdin.fileno(), patient.where())
    return process, answer, theirs


def _pipe() -> tuple[int, int]:
    """Make a pipe whose ends are none of 0, 1 and 2, even where this process has closed those."""
    answer, theirs = os.pipe()
    return _raised(answer), _raised(theirs)


def _raised(fd: int) -> int:
    """Move a descriptor out of the way of the standard streams'."""
    if fd > 2:
        return fd
    import fcntl

    raised = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return raised


def _start_far(patient: Patient, token: str) -> tuple[subprocess.Popen[bytes], int, int]:
    """Start a command that leads to an interpreter; what it is sent waits until the pipe takes it."""
    process = _popen(patient, token)
    assert process.stdout is not None  # noqa: S101 - PIPE gives one
    with process.stdout as stdout:
        answer = os.dup(stdout.fileno())
    process.stdout = None
    return process, answer, 1


def _popen(patient: Patient, token: str, *passed: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        patient.argv(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=passed,
        cwd=patient.cwd,
        env=patient.environment(token),
        start_new_session=True,
    )


def wait_for(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait at most so long for the end; whether it has come is the caller's to ask."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


class Ready:
    """An interpreter of the patient's that was started before it was known what to ask of it.

    It imports our modules meanwhile, and goes when nothing is asked. ``took`` gives it over once.
    """

    def __init__(self, patient: Patient) -> None:
        self.began, self.token = time.monotonic(), os.urandom(12).hex()
        self._patient = replace(patient, options={})  # what is asked for is told only later
        self._started: tuple[subprocess.Popen[bytes], int, int] | None = start(patient, self.token)

    def took(self, patient: Patient) -> tuple[subprocess.Popen[bytes], int, int] | None:
        """Give process, answer and the answer's number there, if this is the patient it was started for."""
        same = replace(patient, options={}) == self._patient
        given, self._started = (self._started, None) if same else (None, self._started)
        return given

    def dismiss(self) -> None:
        """Let it go: its stdin ends, and nobody listens."""
        if self._started is None:
            return
        process, answer, _ = self._started
        os.close(answer)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()
        wait_for(process, KILL_WAIT)
        if process.poll() is None:
            process.kill()
            wait_for(process, KILL_WAIT)
        self._started = None
