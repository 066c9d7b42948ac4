"""A process that speaks to a store of torch's for us: the doctor imports no torch, and outlives one that fails.

It is started at once and joins while the machine is examined. Every question has a deadline; a courier that misses one
is ended and asked nothing more.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from envdoctor.runner.spoken import SilentError, Spoken

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from envdoctor.target import Patient

SERVE = "envdoctor_probes.courier:serve"
SMALL = 1024  # bytes that fit into any packet
LATE = 2.0  # what the store's own words may take beyond the time


class CourierError(Exception):
    """The store cannot be reached through it: the words say where and why. ``size``: of the message that got stuck."""

    def __init__(self, words: str, size: int = 0) -> None:
        super().__init__(words)
        self.size = size


class Courier:
    """Joins the store at ``address``:``port`` below ``prefix``. ``patience``: seconds for one answer.

    ``opens``: opens a store there, for as long as it lives; ``port`` 0 takes a free one, and tells it once it joined.
    """

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
        self.where, self.port = f"{address}:{port}", port
        self._patience, self._joined, self._broken = patience, False, ""
        until = time.monotonic() + seconds
        self._ends = until + LATE
        told = {
            "serve": SERVE, "address": address, "port": port, "prefix": prefix, "until": until, "opens": opens,
        }  # fmt: skip
        try:
            self._spoken = Spoken(patient, told)
        except (OSError, ValueError) as error:
            raise CourierError(f"{patient.python} cannot be started: {error}") from error

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
        until = time.monotonic() + self._patience
        try:
            return {key: self._spoken.exactly(size, until) for key, size in answer["found"]}
        except SilentError as error:
            raise self._gone(str(error), 0) from error

    def join(self, until: float | None = None) -> None:
        """Wait until it has joined, or ``until``. Raises ``CourierError`` with what keeps it from that."""
        if self._joined:
            return
        if self._broken:
            raise CourierError(self._broken)
        if until is not None and until < self._ends and not self._spoken.ready(until):
            raise CourierError(f"joining the store at {self.where}: no answer yet")
        try:
            self.port = self._check(self._answer(self._ends, 0)).get("port", self.port)
        except CourierError as error:
            self._broken = str(error)
            raise
        self._joined = True

    def close(self) -> None:
        """Let it end; kill it when it does not."""
        self._spoken.close()

    def _ask(self, asked: dict[str, Any], data: bytes = b"") -> dict[str, Any]:
        self.join()
        if self._broken:
            raise CourierError(self._broken)
        until = time.monotonic() + self._patience
        try:
            self._spoken.send(json.dumps(asked).encode() + b"\n" + data, until)
        except SilentError as error:
            raise self._gone(str(error), len(data)) from error
        return self._check(self._answer(until, len(data)))

    def _check(self, answer: dict[str, Any]) -> dict[str, Any]:
        if "error" in answer:
            raise CourierError(f"the store at {self.where}: {answer['error']}")
        return answer

    def _answer(self, until: float, size: int) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._spoken.line(until))
        except SilentError as error:
            raise self._gone(str(error), size) from error
        return found

    def _gone(self, how: str, size: int) -> CourierError:
        """Remember that it is not to be asked again: what it says now may be the answer to an earlier question."""
        doing = f"the store at {self.where}" if self._joined else f"joining the store at {self.where}"
        message = f", {size} bytes on their way" if size > SMALL else ""
        self._broken = f"{doing}: the process that speaks to it {how}{message}"
        return CourierError(self._broken, size if size > SMALL and self._joined else 0)
