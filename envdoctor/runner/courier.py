"""A process that speaks to a store of torch's for us: the doctor imports no torch, and outlives one that fails.

It is started at once and joins while the machine is examined. Every question has a deadline; a courier that misses one
is ended and asked nothing more.
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
    from collections.abc import Iterable, Mapping

    from envdoctor.target import Patient

SERVE = "envdoctor_probes.courier:serve"
SMALL = 1024  # bytes that fit into any packet
WORDS = 2000
LATE = 2.0  # what the store's own words may take beyond the time


class CourierError(Exception):
    """The store cannot be reached through it: the words say where and why. ``size``: of the message that got stuck."""

    def __init__(self, words: str, size: int = 0) -> None:
        super().__init__(words)
        self.size = size


class Courier:
    """Joins the store at ``address``:``port`` below ``prefix``. ``patience``: seconds for one answer."""

    def __init__(
        self,
        patient: Patient,
        address: str,
        port: int,
        prefix: str,
        *,
        seconds: float,
        patience: float,
        opens: bool = False,
    ) -> None:
        self.where = f"{address}:{port}"
        self._patience, self._joined, self._broken, self._buffer = patience, False, "", b""
        until = time.monotonic() + seconds
        self._ends = until + LATE
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._channel, theirs = socket.socketpair()
        request = {
            "serve": SERVE, "channel_fd": theirs.fileno(), "parent": os.getpid(), "address": address, "port": port,
            "prefix": prefix, "until": until, "opens": opens, "path": list(patient.path),
        }  # fmt: skip
        try:
            self._process = self._start(patient, theirs, request)
        except (OSError, ValueError) as error:
            self._channel.close()
            raise CourierError(f"{patient.python} cannot be started: {error}") from error
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

    @property
    def alive(self) -> bool:
        """Tell whether it may still be asked."""
        return not self._broken

    def put(self, key: str, data: bytes) -> None:
        """Leave something in the store. Raises ``CourierError``."""
        self._ask({"do": "put", "key": key, "bytes": len(data)}, data)

    def look(self, keys: Iterable[str]) -> Mapping[str, bytes]:
        """Give what is there of these keys. Raises ``CourierError``."""
        answer = self._ask({"do": "look", "keys": list(keys)})
        return {key: self._exactly(size, self._until()) for key, size in answer["found"]}

    def join(self, until: float | None = None) -> None:
        """Wait until it has joined, or ``until``. Raises ``CourierError`` with what keeps it from that."""
        if self._joined:
            return
        if self._broken:
            raise CourierError(self._broken)
        if until is not None and until < self._ends and not self._ready(until):
            raise CourierError(f"joining the store at {self.where}: no answer yet")
        try:
            self._check(self._answer(self._ends, 0))
        except CourierError as error:
            self._broken = str(error)
            raise
        self._joined = True

    def _ready(self, until: float) -> bool:
        return bool(select.select([self._channel], [], [], max(0.0, until - time.monotonic()))[0])

    def close(self) -> None:
        """Let it end; kill it when it does not."""
        self._channel.close()
        wait_for(self._process, KILL_WAIT / 2)
        if self._process.poll() is None:
            self._process.kill()
            wait_for(self._process, KILL_WAIT)
        self._printed.close()

    def _until(self) -> float:
        return time.monotonic() + self._patience

    def _ask(self, asked: dict[str, Any], data: bytes = b"") -> dict[str, Any]:
        self.join()
        if self._broken:
            raise CourierError(self._broken)
        until = self._until()
        message = json.dumps(asked).encode() + b"\n" + data
        try:
            self._channel.settimeout(max(0.01, until - time.monotonic()))
            self._channel.sendall(message)
        except OSError as error:
            raise self._gone(f"cannot be sent to: {error}", len(data)) from error
        return self._check(self._answer(until, len(data)))

    def _check(self, answer: dict[str, Any]) -> dict[str, Any]:
        if "error" in answer:
            raise CourierError(f"the store at {self.where}: {answer['error']}")
        return answer

    def _answer(self, until: float, size: int) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            self._more(until, size)
        line, _, self._buffer = self._buffer.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def _exactly(self, size: int, until: float) -> bytes:
        while len(self._buffer) < size:
            self._more(until, size)
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _more(self, until: float, size: int) -> None:
        self._channel.settimeout(max(0.01, until - time.monotonic()))
        try:
            data = self._channel.recv(1 << 16)
        except TimeoutError:
            raise self._gone("gave no answer in time", size) from None
        except OSError as error:
            raise self._gone(f"cannot be heard: {error}", size) from error
        if not data:
            raise self._gone(f"ended ({self._ending()})", size)
        self._buffer += data

    def _gone(self, how: str, size: int) -> CourierError:
        """Remember that it is not to be asked again: what it says now may be the answer to an earlier question."""
        doing = f"the store at {self.where}" if self._joined else f"joining the store at {self.where}"
        message = f", {size} bytes on their way" if size > SMALL else ""
        self._broken = f"{doing}: the process that speaks to it {how}{message}"
        return CourierError(self._broken, size if size > SMALL and self._joined else 0)

    def _ending(self) -> str:
        wait_for(self._process, KILL_WAIT)
        self._printed.seek(0)
        said = self._printed.read().decode("utf-8", "replace").strip()[-WORDS:].splitlines()
        code = self._process.poll()
        return f"exit code {code}{': ' + said[-1] if said else ''}"
