"""A process in the patient's interpreter that stays and is spoken to through a socket: lines each way, and bytes.

It is started at once and says by itself when it is ready. Whoever speaks to it keeps the deadlines, and ends it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING, Any

from envdoctor.runner.starting import KILL_WAIT, wait_for

if TYPE_CHECKING:
    from envdoctor.target import Patient

WORDS = 2000


class SilentError(Exception):
    """It did not answer in time, cannot be heard, or has ended: the words say which."""


class Spoken:
    """One such process; ``told`` is what its request says beyond the channel. Raises ``OSError`` or ``ValueError``."""

    def __init__(self, patient: Patient, told: dict[str, Any]) -> None:
        self._buffer = b""
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._channel, theirs = socket.socketpair()
        request = {**told, "channel_fd": theirs.fileno(), "parent": os.getpid(), "path": list(patient.path)}
        try:
            self._process = self._start(patient, theirs, request)
        except (OSError, ValueError):
            self._channel.close()
            self._printed.close()
            raise
        finally:
            theirs.close()

    def _start(self, patient: Patient, theirs: socket.socket, request: dict[str, Any]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            patient.argv(), stdin=subprocess.PIPE, stdout=self._printed, stderr=self._printed,
            pass_fds=(theirs.fileno(),), cwd=patient.cwd, env=patient.environment(""), start_new_session=True,
        )  # fmt: skip
        if process.stdin:
            with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
                stdin.write(patient.where() + json.dumps(request).encode())
        return process

    def send(self, data: bytes, until: float) -> None:
        """Send it. Raises ``SilentError``."""
        try:
            self._channel.settimeout(max(0.01, until - time.monotonic()))
            self._channel.sendall(data)
        except OSError as error:
            raise SilentError(f"cannot be sent to: {error}") from error

    def ready(self, until: float) -> bool:
        """Wait until there is something to hear, or the end of it; tell whether there is."""
        return bool(self._buffer or select.select([self._channel], [], [], max(0.0, until - time.monotonic()))[0])

    def line(self, until: float) -> bytes:
        """Give its next line. Raises ``SilentError``."""
        while b"\n" not in self._buffer:
            self._more(until)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def exactly(self, size: int, until: float) -> bytes:
        """Give its next bytes. Raises ``SilentError``."""
        while len(self._buffer) < size:
            self._more(until)
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _more(self, until: float) -> None:
        self._channel.settimeout(max(0.01, until - time.monotonic()))
        try:
            data = self._channel.recv(1 << 16)
        except TimeoutError:
            raise SilentError("gave no answer in time") from None
        except OSError as error:
            raise SilentError(f"cannot be heard: {error}") from error
        if not data:
            raise SilentError(f"ended ({self._ending()})")
        self._buffer += data

    def _ending(self) -> str:
        wait_for(self._process, KILL_WAIT)
        self._printed.seek(0)
        said = self._printed.read().decode("utf-8", "replace").strip()[-WORDS:].splitlines()
        code = self._process.poll()
        return f"exit code {code}{': ' + said[-1] if said else ''}"

    def close(self) -> None:
        """Let it end; kill it when it does not."""
        self._channel.close()
        wait_for(self._process, KILL_WAIT / 2)
        if self._process.poll() is None:
            self._process.kill()
            wait_for(self._process, KILL_WAIT)
        self._printed.close()
