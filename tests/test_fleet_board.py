"""Notice boards: what one rank leaves the others read, through rank 0's own board or a store of torch's."""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from envdoctor.fleet.board import LARGEST, PREFIX, BoardError, HttpBoard, OpenBoard, join
from tests.stands import store as stands


@pytest.fixture
def opened() -> Iterator[OpenBoard]:
    """Give rank 0's board on a free port of this machine alone."""
    board = OpenBoard("run-1", "127.0.0.1", 0, everywhere=False)
    board.open()
    yield board
    board.close()


def other(board: OpenBoard, **more: Any) -> HttpBoard:
    """Give another rank's way to a board."""
    return HttpBoard(**{"run": board.run, "address": "127.0.0.1", "port": board.port, **more})


def test_notices_are_read_by_all(opened: OpenBoard) -> None:
    """What rank 1 leaves rank 0 and rank 2 read, bytes unharmed; what is not there is not in the answer."""
    data = bytes(range(256)) * 500
    first, second = other(opened), other(opened)
    first.put("snapshot/1", data)
    opened.put("verdict", b"0")
    assert {"snapshot/1": data} == opened.look(["snapshot/1", "snapshot/2"])
    assert {"snapshot/1": data, "verdict": b"0"} == second.look(["snapshot/1", "verdict", "nothing"])
    first.close()
    second.close()


def test_another_run_is_refused(opened: OpenBoard) -> None:
    """Who comes from another run is told that this is not the place, and leaves nothing."""
    stranger = other(opened, run="run-2")
    with pytest.raises(BoardError, match="not by rank 0 of this run"):
        stranger.put("snapshot/1", b"x")
    assert {} == opened.notices


def answering(text: bytes) -> tuple[int, Callable[[], None]]:
    """Open a port that answers every connection with ``text``; give it, and how to close it."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(1000)
                connection.sendall(text)

    threading.Thread(target=serve, daemon=True).start()
    return server.getsockname()[1], server.close


@pytest.mark.parametrize(
    "text",
    [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 2\r\n\r\nhi", b"\0" * 99],
)
def test_something_else_at_the_port_is_an_error_in_words(text: bytes) -> None:
    """Another program at the port is no board, whatever it says."""
    port, close = answering(text)
    with pytest.raises(BoardError, match=f"127.0.0.1:{port}"):
        HttpBoard("run-1", "127.0.0.1", port).look(["verdict"])
    close()


def test_a_silent_port_ends_at_the_deadline() -> None:
    """A port that accepts and says nothing is given up on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        board = HttpBoard("run-1", "127.0.0.1", server.getsockname()[1], patience=0.3)
        with pytest.raises(BoardError, match="timed out"):
            board.look(["verdict"])


def test_a_closed_port_is_refused_at_once() -> None:
    """Nobody listens: an error in words, after the time to wait for rank 0."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(BoardError, match="refused"):
        join(HttpBoard("run-1", "127.0.0.1", port), time.monotonic() + 0.5)


def test_ranks_wait_for_rank_0() -> None:
    """Who comes early waits until the board is open."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    board = OpenBoard("run-1", "127.0.0.1", port, everywhere=False)
    timer = threading.Timer(0.5, board.open)
    timer.start()
    way = HttpBoard("run-1", "127.0.0.1", port)
    join(way, time.monotonic() + 30)
    way.close()
    timer.join()
    board.close()


def test_a_kept_connection_may_break(opened: OpenBoard) -> None:
    """A connection that was closed on the other side is made anew, unseen."""
    board = other(opened)
    board.put("a", b"1")
    assert board._connection is not None
    assert board._connection.sock is not None
    board._connection.sock.shutdown(socket.SHUT_RDWR)
    assert {"a": b"1"} == board.look(["a"])
    board.close()


def test_a_taken_port_is_an_error() -> None:
    """Two boards cannot have one port."""
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(OSError, match="in use"):
        OpenBoard("run-1", "127.0.0.1", server.getsockname()[1], everywhere=False).open()


def test_the_board_takes_no_more_than_it_can_hold(opened: OpenBoard) -> None:
    """A notice that is too large, without a length or with a long key is refused, and the board goes on."""
    for headers, key in (({"Content-Length": str(LARGEST + 1)}, "a"), ({}, "b"), ({"Content-Length": "1"}, "c" * 200)):
        connection = http.client.HTTPConnection("127.0.0.1", opened.port, timeout=5)
        connection.putrequest("PUT", f"{PREFIX}run-1/{key}")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        assert 400 == connection.getresponse().status
        connection.close()
    assert {} == opened.notices


def test_several_nodes_are_listened_to_on_all_addresses() -> None:
    """A job of several nodes is reached by both families; one of a single node by the loopback alone."""
    board = OpenBoard("run-1", "localhost", 0, everywhere=True)
    board.open()
    for address in ("127.0.0.1", *(["::1"] if socket.has_dualstack_ipv6() and has_ipv6() else [])):
        way = HttpBoard("run-1", address, board.port)
        assert {} == way.look(["nothing"])
        way.close()
    board.close()


def has_ipv6() -> bool:
    """Tell whether the loopback has its newer address."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("kind", [stands.Store, stands.OldStore])
def test_the_courier_serves_old_stores_as_well(kind: type) -> None:
    """Before torch 2.3 a store has no ``check``; what is not there is not waited for all the same."""
    from envdoctor_probes.courier import _answer

    store, (here, there) = kind(), socket.socketpair()
    with here, there, here.makefile("rb") as heard:
        _answer(there, store, {"do": "put", "key": "a", "bytes": 2}, io.BytesIO(b"\0\xff"))
        assert {} == json.loads(heard.readline())
        _answer(there, store, {"do": "look", "keys": ["a", "b"]}, io.BytesIO())
        assert {"found": [["a", 2]]} == json.loads(heard.readline())
        assert b"\0\xff" == heard.read(2)
