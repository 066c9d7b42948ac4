"""[payload] Whether this rank can get to where the ranks of its job meet. Each step has a deadline of seconds.

Only ``envdoctor fleet`` asks this: it opens a connection to the address that the launcher named. What is known before a
step is said before it, so that a resolver that never answers leaves its own words behind.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import Any, Dict, List, Mapping, Optional, Tuple

from envdoctor.facts.rendezvous import Rendezvous
from envdoctor.probe import Context, probe
from envdoctor_probes.addresses import own_addresses, owner_of_port

__all__ = ["parse_http_head", "rendezvous", "words_of"]

_CONNECT, _ECHO = 3.0, 4.0  # seconds for one attempt
_NAP = 0.3
_LARGE = 1 << 16
_SMALL_SEGMENT = 536  # bytes of payload that every network carries
_CHOSEN = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
_NO_WAY = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL)


@probe(child="rendezvous", seconds=25.0)
def rendezvous(context: Context) -> Rendezvous:
    """Look at the meeting point that the doctor names in its options, from this rank."""
    seen = _Seen(context, context.options["rendezvous"])
    seen.put(own_addresses=own_addresses(), own_name=socket.gethostname())
    seen.put(chosen=tuple((each, context.environ[each]) for each in _CHOSEN if context.environ.get(each)))
    _own_name(seen)
    if _resolve(seen):
        if seen.plan["hosted_here"]:
            _host(seen)
        else:
            _connect(seen)
    return seen.fact()


class _Seen:
    """What was seen so far."""

    def __init__(self, context: Context, plan: Mapping[str, Any]) -> None:
        self.context, self.plan = context, plan
        told = {name: plan.get(name) for name in ("rank", "several_nodes", "address", "port", "hosted_here")}
        self._values: Dict[str, Any] = told

    def put(self, **values: Any) -> None:
        """Write down values, and say them at once."""
        self._values.update(values)
        self.context.so_far(self.fact())

    def fact(self) -> Rendezvous:
        return Rendezvous(**self._values)

    def value(self, name: str) -> Any:
        return self._values.get(name)


def _own_name(seen: _Seen) -> None:
    seen.put(own_name_error="the resolver has not answered")
    try:
        found = _addresses(socket.gethostname())
    except OSError as error:
        seen.put(own_name_error=words_of(error))
    else:
        seen.put(own_name_resolved=found, own_name_error=None)


def _resolve(seen: _Seen) -> bool:
    if not seen.plan["address"]:
        return False
    seen.put(resolve_error="the resolver has not answered")
    try:
        found = _addresses(seen.plan["address"])
    except (OSError, UnicodeError) as error:
        seen.put(resolve_error=words_of(error))
        return False
    seen.put(resolved=found, resolve_error=None)
    return True


def _addresses(name: str) -> Tuple[str, ...]:
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(each[4][0]) for each in found))


def _host(seen: _Seen) -> None:
    """Say what became of listening: the doctor himself has done that, before anything else."""
    refused = seen.plan.get("cannot_listen")
    seen.put(reached="taken" if refused else "listening", words=refused)
    if refused:
        seen.put(port_owner=owner_of_port(seen.plan["port"]))


def _connect(seen: _Seen) -> None:
    """Try to connect until it works, or can be said not to: who hosts it may come later than we do."""
    until = time.monotonic() + seen.plan.get("patience", 10.0)
    while True:
        began = time.monotonic()
        reached, said, way = _attempt(seen.value("resolved"), seen.plan["port"])
        took = time.monotonic() - began
        seen.put(reached=reached, words=said or None, seconds=round(took, 4))
        if way is not None:
            with way:
                _look_around(seen, way)
            return
        if reached == "refused" and time.monotonic() < until:
            time.sleep(_NAP)
        else:
            return


def _attempt(addresses: Tuple[str, ...], port: int, segment: int = 0) -> Tuple[str, str, Optional[socket.socket]]:
    """Try every address once; give how it went, the error's words, and the connection."""
    reached, said = "failed", "no address"
    for address in addresses:
        way = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            if segment:
                way.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
            way.settimeout(_CONNECT)
            way.connect((address, port))
        except OSError as error:
            way.close()
            reached, said = _kind(error), words_of(error)
        else:
            return "connected", "", way
    return reached, said, None


def _kind(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, (socket.timeout, TimeoutError)):
        return "timed-out"
    return "unreachable" if error.errno in _NO_WAY else "failed"


def _look_around(seen: _Seen, way: socket.socket) -> None:
    """See through which interface it goes, who answers, and whether large messages come through."""
    source = str(way.getsockname()[0])
    interface = next((name for name, address in seen.value("own_addresses") if address == source), None)
    seen.put(source_address=source, interface=interface, mtu=_mtu(interface))
    if not seen.plan.get("path"):  # a store of torch's: nothing but torch can speak to it
        return
    seen.put(answers_as=_who(way, seen.plan))
    if seen.value("answers_as") != "envdoctor":
        return
    seen.put(large=False)
    if _echo(way, seen.plan) or _echo_anew(seen, 0):  # tried twice: a busy machine is no hole in the network
        seen.put(large=True)
    else:
        seen.put(large_in_small=_echo_anew(seen, _SMALL_SEGMENT))


def _echo_anew(seen: _Seen, segment: int) -> bool:
    _, _, way = _attempt(seen.value("resolved"), seen.plan["port"], segment)
    if way is None:
        return False
    with way:
        return _echo(way, seen.plan)


def _mtu(interface: Optional[str]) -> Optional[int]:
    try:
        with open(os.path.join("/sys/class/net", interface or "-", "mtu"), encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _who(way: socket.socket, plan: Mapping[str, Any]) -> str:
    """Ask for a notice that nobody leaves: our own board says so, and whose run it is."""
    try:
        code, headers, _ = _http(way, "GET", plan["path"] + "nothing", b"")
    except (OSError, ValueError):
        return "something-else"
    return "envdoctor" if code == 404 and headers.get("x-run") == plan["run"] else "something-else"


def _echo(way: socket.socket, plan: Mapping[str, Any]) -> bool:
    """Leave 64 KiB and read them back."""
    data = bytes(range(256)) * (_LARGE // 256)
    where = "%secho-%s" % (plan["path"], plan["rank"])
    try:
        code, _, _ = _http(way, "PUT", where, data)
        if code != 200:
            return False
        return _http(way, "GET", where, b"")[2] == data
    except (OSError, ValueError):
        return False


def _http(way: socket.socket, method: str, path: str, data: bytes) -> Tuple[int, Dict[str, str], bytes]:
    """Ask once over an open connection. Raises ``ValueError`` for what is no answer, ``OSError`` for none in time."""
    until = time.monotonic() + _ECHO
    head = "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (method, path, len(data))
    way.settimeout(_ECHO)
    way.sendall(head.encode("ascii") + data)
    got: List[bytes] = []
    while b"\r\n\r\n" not in b"".join(got[-2:]) and sum(map(len, got)) < _LARGE:
        got.append(_receive(way, until))
    top, _, body = b"".join(got).partition(b"\r\n\r\n")
    code, headers = parse_http_head(top)
    while len(body) < int(headers.get("content-length", "0")):
        body += _receive(way, until)
    return code, headers, body


def _receive(way: socket.socket, until: float) -> bytes:
    way.settimeout(max(0.01, until - time.monotonic()))
    data = way.recv(_LARGE)
    if not data:
        raise ValueError("the connection was closed")
    return data


def parse_http_head(top: bytes) -> Tuple[int, Dict[str, str]]:
    """Read the first lines of an HTTP answer: its code, and its headers by small names. Raises ``ValueError``."""
    first, *lines = top.decode("latin-1").split("\r\n")
    parts = first.split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/") or not parts[1].isdigit():
        raise ValueError("this is no HTTP answer")
    pairs = (line.partition(":") for line in lines)
    return int(parts[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}


def words_of(error: BaseException) -> str:
    """Give an error's own words, without its number."""
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
