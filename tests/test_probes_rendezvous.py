"""The look at the meeting point: what one rank sees of it, step by step, each with a deadline."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from envdoctor_probes import rendezvous as probe
from envdoctor_probes.addresses import own_addresses, owner_of_port, parse_if_inet6, parse_listening
from envdoctor_probes.rendezvous import parse_http_head, rendezvous, words_of

from envdoctor import plan
from envdoctor.facts.rendezvous import Rendezvous
from envdoctor.fleet.board import PREFIX, OpenBoard
from envdoctor.probe import Context, NotThere


@pytest.fixture
def board() -> Iterator[OpenBoard]:
    """Give rank 0's board."""
    made = OpenBoard("run-1", "127.0.0.1", 0, everywhere=False)
    made.open()
    yield made
    made.close()


def look(environ: dict[str, str] | None = None, partial: list[Rendezvous] | None = None, **options: Any) -> Rendezvous:
    """Look from rank 1 at 127.0.0.1."""
    told = {"rank": 1, "several_nodes": False, "address": "127.0.0.1", "port": 1, "hosted_here": False, "run": "run-1"}
    told |= {"path": f"{PREFIX}run-1/", "patience": 0.5} | options

    def emit(event: dict[str, Any]) -> None:
        if partial is not None:
            partial.append(event["fact"])

    found: Rendezvous = rendezvous.collect(Context(environ=environ or {}, options={"rendezvous": told}, emit=emit))
    return found


def test_the_plan_is_what_the_probe_declares() -> None:
    """The doctor plans the probe with its own name, process and seconds."""
    module, _, attribute = plan.RENDEZVOUS.where.partition(":")
    assert (module, attribute) == (probe.__name__, "rendezvous")
    assert (plan.RENDEZVOUS.name, plan.RENDEZVOUS.child, plan.RENDEZVOUS.seconds, plan.RENDEZVOUS.level) == (
        rendezvous.name, rendezvous.child, rendezvous.seconds, rendezvous.level,
    )  # fmt: skip
    assert plan.RENDEZVOUS not in plan.BUILT_IN  # only fleet may open connections


def test_a_healthy_meeting_point(board: OpenBoard) -> None:
    """The board answers, 64 KiB come back, and the way there is known."""
    seen = look(port=board.port)
    assert ("connected", "envdoctor", True, None) == (seen.reached, seen.answers_as, seen.large, seen.large_in_small)
    assert ("127.0.0.1", "lo") == (seen.source_address, seen.interface)
    assert (("127.0.0.1",), None, socket.gethostname()) == (seen.resolved, seen.resolve_error, seen.own_name)
    assert seen.mtu
    assert ("lo", "127.0.0.1") in seen.own_addresses


def test_another_run_at_the_port(board: OpenBoard) -> None:
    """A board of another run is something else."""
    assert "something-else" == look(port=board.port, run="run-2", path=f"{PREFIX}run-2/").answers_as


def test_another_program_at_the_port() -> None:
    """Whatever speaks first, or says nothing, is something else; the look ends in seconds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept = []
        threading.Thread(target=lambda: kept.append(server.accept()), daemon=True).start()
        began = time.monotonic()
        assert "something-else" == look(port=server.getsockname()[1]).answers_as
        assert time.monotonic() - began < 60
        for connection, _ in kept:
            connection.close()


def test_nothing_listens() -> None:
    """A refused connection is tried again for a while, and then said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    seen = look(port=port)
    assert ("refused", "Connection refused") == (seen.reached, seen.words)


def test_a_host_that_comes_late_is_waited_for() -> None:
    """Rank 0 may need longer than this rank to get there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    late = OpenBoard("run-1", "127.0.0.1", port, everywhere=False)
    timer = threading.Timer(0.7, late.open)
    timer.start()
    assert "connected" == look(port=port, patience=60).reached
    timer.join()
    late.close()


def test_the_host_says_what_became_of_listening() -> None:
    """On the host itself nothing is connected to: it listens, or the port is taken, and by whom."""
    assert "listening" == look(hosted_here=True, rank=0).reached
    with socket.create_server(("127.0.0.1", 0)) as server:
        seen = look(hosted_here=True, rank=0, port=server.getsockname()[1], cannot_listen="Address already in use")
    assert ("taken", "Address already in use") == (seen.reached, seen.words)
    assert seen.port_owner is not None
    assert seen.port_owner.endswith(f"(pid {os.getpid()})")


def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver's own words are kept."""

    def refuse(name: str, *_more: Any, **_options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, f"{name} not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    seen = look(address="nodee1")
    assert ("nodee1 not known", (), None) == (seen.resolve_error, seen.resolved, seen.reached)


def test_what_is_known_is_said_before_each_step(board: OpenBoard) -> None:
    """A resolver or a network that never answers leaves words behind, though the process is killed."""
    said: list[Rendezvous] = []
    look(port=board.port, partial=said)
    assert any(each.resolve_error == "the resolver has not answered" for each in said)
    assert any(each.own_name_error == "the resolver has not answered" for each in said)
    assert any(each.large is False for each in said)
    assert said[-1].large


def test_large_messages_that_get_stuck_are_tried_in_small_packets(
    board: OpenBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ways swallow what is large, the third, in small packets, does not."""
    real, tries = probe._echo, []

    def echo(way: socket.socket, told: Any) -> bool:
        tries.append(way.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
        return len(tries) > 2 and real(way, told)

    monkeypatch.setattr(probe, "_echo", echo)
    seen = look(port=board.port)
    assert (False, True) == (seen.large, seen.large_in_small)
    assert tries[2] <= 536 < tries[0]


def test_a_store_of_torchs_is_not_spoken_to() -> None:
    """Only torch can: that it can be connected to is all that is said of it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        seen = look(port=server.getsockname()[1], path="")
    assert ("connected", None, None) == (seen.reached, seen.answers_as, seen.large)


def test_chosen_interfaces_are_kept() -> None:
    """What gloo and NCCL are told is part of what is seen."""
    seen = look({"GLOO_SOCKET_IFNAME": "eth7", "NCCL_SOCKET_IFNAME": "", "OTHER": "x"})
    assert (("GLOO_SOCKET_IFNAME", "eth7"),) == seen.chosen


def test_outside_a_command_nothing_is_run() -> None:
    """The look needs no command at all."""
    with pytest.raises(NotThere):
        Context().run(["ip", "addr"], 1.0)


LISTENING = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:733C 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11111 1 0 100 0 0 10 0
   1: 0100007F:733C 0100007F:AAAA 01 00000000:00000000 00:00000000 00000000     0        0 22222 1 0 100 0 0 10 0
   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 33333 1 0 100 0 0 10 0
"""


def test_listening_sockets_are_found() -> None:
    """Only sockets that listen, and only at this port."""
    assert ("11111",) == parse_listening(LISTENING, 29500)
    assert () == parse_listening("", 29500)


def test_the_owner_of_a_port_may_be_hidden(tmp_path: Any) -> None:
    """A port held by a process that we may not see is held all the same; one that nobody holds is free."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(LISTENING)
    (tmp_path / "77").mkdir()
    assert "a process of another user or container" == owner_of_port(29500, str(tmp_path))
    assert owner_of_port(29501, str(tmp_path)) is None


def test_newer_addresses_are_read() -> None:
    """Link-local addresses lead nowhere by themselves."""
    text = (
        "00000000000000000000000000000001 01 80 10 80       lo\n"
        "fe800000000000000250b6fffe9d6ac1 02 40 20 80     eth0\n20010db8000000000000000000000005 02 40 00 80     eth0\n"
    )
    assert (("lo", "::1"), ("eth0", "2001:db8::5")) == parse_if_inet6(text)
    assert ("lo", "127.0.0.1") in own_addresses()


@pytest.mark.parametrize("top", [b"", b"SSH-2.0-x", b"HTTP/1.1", b"HTTP/1.1 ok", b"\xff\xfe"])
def test_what_is_no_http_is_refused(top: bytes) -> None:
    """Anything but an HTTP answer is none."""
    with pytest.raises(ValueError, match="no HTTP"):
        parse_http_head(top)


def test_an_http_head_is_read() -> None:
    """Header names are in small letters, values trimmed."""
    assert (404, {"x-run": "run-1", "content-length": "0"}) == parse_http_head(
        b"HTTP/1.1 404 Not Found\r\nX-Run:  run-1\r\nContent-Length: 0"
    )


def test_words_of_errors() -> None:
    """An error's words without its number; one without words is named by its type."""
    missing = FileNotFoundError(2, "No such file or directory")
    assert ("No such file or directory", "TimeoutError") == (words_of(missing), words_of(TimeoutError()))
