"""A notice board: where the ranks of one run leave what the others are to read. Two kinds, one use.

Where a launcher keeps a store, that is the board, and the courier of the runner speaks to it. Else rank 0 opens one:
the standard library's HTTP server, from which notices are read by GET and on which they are put by PUT, for the few
seconds of the run.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PREFIX = "/envdoctor-fleet/"
SERVER = "envdoctor-fleet/1"
LARGEST = 32 << 20  # one notice
MOST = 1 << 30  # all notices
KEY_LENGTH = 120
ANSWER = 5.0  # seconds in which a board must answer
NAP = 0.2


class BoardError(Exception):
    """The board cannot be reached, or answers what it should not: the words say which, and where."""


class StuckError(BoardError):
    """A large message got stuck where small ones come through."""


class Board(Protocol):
    """What a board that rank 0 opens, and the runner's courier, can do."""

    def put(self, key: str, data: bytes) -> None:
        """Leave a notice. Raises ``BoardError``."""

    def look(self, keys: Iterable[str]) -> Mapping[str, bytes]:
        """Give those of the notices that are there. Raises ``BoardError``."""

    def close(self) -> None:
        """Let the board go; a board that was opened here is gone then."""


@dataclass
class OpenBoard:
    """The board that rank 0 opens. It reads and writes it directly; the others come through the network."""

    run: str
    address: str
    port: int
    everywhere: bool
    notices: dict[str, bytes] = field(default_factory=dict)
    _server: http.server.ThreadingHTTPServer | None = None

    def open(self) -> None:
        """Listen. Raises ``OSError`` as bind does: the port is taken, or may not be used."""
        handler = type("Handler", (_Handler,), {"board": self})
        kind = type("Server", (_Server,), {"address_family": self._family()})
        self._server = kind(("" if self.everywhere else "127.0.0.1", self.port), handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(NAP,), daemon=True).start()

    def _family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if self.everywhere and socket.has_dualstack_ipv6() else socket.AF_INET

    def put(self, key: str, data: bytes) -> None:
        """Leave a notice."""
        self.notices[key] = data

    def look(self, keys: Iterable[str]) -> Mapping[str, bytes]:
        """Give the notices that are there."""
        return {key: self.notices[key] for key in keys if key in self.notices}

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024  # all ranks of a large job come at once

    def server_bind(self) -> None:
        """Bind for both families where the address is of the newer one; no name is looked up for it."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of somebody who went away in the middle: the roll call says who is missing."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = SERVER, ""
    timeout = 60  # of an idle connection
    board: OpenBoard

    def do_GET(self) -> None:
        """Give a notice, or 404 while it is not there."""
        data = self.board.notices.get(self._key())
        self._answer(404 if data is None else 200, data or b"")

    def do_PUT(self) -> None:
        """Take a notice of a reasonable size."""
        key, length = self._key(), self.headers.get("Content-Length", "")
        held = sum(map(len, self.board.notices.values()))
        if not key or not length.isdecimal() or int(length) > LARGEST or held + int(length) > MOST:
            self.close_connection = True
            self._answer(400, b"")
            return
        self.board.notices[key] = self.rfile.read(int(length))
        self._answer(200, b"")

    def _key(self) -> str:
        """Give the key that the path names in this run; empty for any other path."""
        key = self.path.removeprefix(f"{PREFIX}{self.board.run}/")
        return key if key != self.path and len(key) <= KEY_LENGTH else ""

    def _answer(self, code: int, data: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Run", self.board.run)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_words: Any) -> None:
        """Print nothing."""


@dataclass
class HttpBoard:
    """The board that rank 0 has opened, from any other rank. Its connection is kept, and made anew when it breaks."""

    run: str
    address: str
    port: int
    patience: float = ANSWER
    _connection: http.client.HTTPConnection | None = None

    def put(self, key: str, data: bytes) -> None:
        """Leave a notice."""
        code, _ = self._ask("PUT", key, data)
        if code != 200:
            raise BoardError(f"{self.address}:{self.port} does not take a notice of {len(data)} bytes: HTTP {code}")

    def look(self, keys: Iterable[str]) -> Mapping[str, bytes]:
        """Give the notices that are there."""
        answers = {key: self._ask("GET", key) for key in keys}
        return {key: data for key, (code, data) in answers.items() if code == 200}

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, method: str, key: str, data: bytes | None = None) -> tuple[int, bytes]:
        for again in (True, False):
            kept = self._connection is not None
            try:
                return self._once(method, key, data)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if not (again and kept):  # a connection that was kept may have been closed meanwhile
                    said = str(error) or type(error).__name__
                    raise BoardError(f"{self.address}:{self.port}: {said}") from error
        raise AssertionError  # the loop ends by return or raise

    def _once(self, method: str, key: str, data: bytes | None) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self.address, self.port, timeout=self.patience)
        self._connection.request(method, f"{PREFIX}{self.run}/{key}", body=data)
        answer = self._connection.getresponse()
        if answer.headers.get("X-Run") != self.run:
            self.close()
            who = answer.headers.get("Server") or "something else"
            raise BoardError(f"{self.address}:{self.port} is answered by {who}, not by rank 0 of this run")
        return answer.status, answer.read()


def join(board: HttpBoard, until: float) -> None:
    """Wait until rank 0 has opened the board. Raises ``BoardError`` with the last words when the time is over."""
    while True:
        try:
            board.look(["hello/0"])
        except BoardError:
            if time.monotonic() + NAP >= until:
                raise
        else:
            return
        with contextlib.suppress(InterruptedError):
            time.sleep(NAP)
