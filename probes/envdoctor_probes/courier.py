"""[payload] Speaks to a store of torch's for the doctor, who does not import torch himself.

The launcher's own store (torchrun's agent keeps one) can only be spoken to through torch. This process imports torch,
joins the store below a prefix of ours, and then does what it is told through a socket: one JSON line each way, followed
by as many bytes as the line says. It starts no collective and touches no GPU. It ends when the socket closes.
"""

from __future__ import annotations

import json
import socket
import time
from typing import Any, BinaryIO, Dict, List

__all__ = ["serve"]

# A counter beside each key tells that it is there: torch shows a store's check() to Python only since 2.3.
_THERE = "/there"


def serve(request: Dict[str, Any], paths: Any) -> None:
    """Join the store that the request names, say whether that worked, and serve until nobody asks any more."""
    channel = socket.socket(fileno=request["channel_fd"])
    paths.become_the_patient()
    try:
        whole = _join(request)
        store = _below(whole, request["prefix"])
    except BaseException as error:
        _say(channel, {"error": _words(error)})
        return
    _say(channel, {"port": int(whole.port)})
    with channel.makefile("rb") as asked:
        for line in asked:
            _answer(channel, store, json.loads(line), asked)


def _join(request: Dict[str, Any]) -> Any:
    """Import torch and become one more reader of the store, or open it; nobody waits for us there."""
    import datetime as dt

    import torch.distributed as dist

    limit = dt.timedelta(seconds=max(1.0, request["until"] - time.monotonic()))
    return dist.TCPStore(
        request["address"], request["port"], is_master=request.get("opens", False), timeout=limit,
        wait_for_workers=False,
    )  # fmt: skip


def _below(store: Any, prefix: str) -> Any:
    import torch.distributed as dist

    return dist.PrefixStore(prefix, store)


def _answer(channel: socket.socket, store: Any, asked: Dict[str, Any], body: BinaryIO) -> None:
    try:
        if asked["do"] == "put":
            store.set(asked["key"], body.read(asked["bytes"]))
            store.add(asked["key"] + _THERE, 1)
            # A store sends and does not wait: ask whether it arrived.
            _say(channel, {} if _is_there(store, asked["key"]) else {"error": "what was put there is not there"})
        else:
            found = {key: bytes(store.get(key)) for key in asked["keys"] if _is_there(store, key)}
            sizes: List[Any] = [[key, len(data)] for key, data in found.items()]
            _say(channel, {"found": sizes}, b"".join(found.values()))
    except Exception as error:
        _say(channel, {"error": _words(error)})


def _is_there(store: Any, key: str) -> bool:
    return bool(store.check([key]) if hasattr(store, "check") else store.add(key + _THERE, 0) > 0)


def _say(channel: socket.socket, said: Dict[str, Any], data: bytes = b"") -> None:
    channel.sendall(json.dumps(said).encode("ascii") + b"\n" + data)


def _words(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return "%s: %s" % (type(error).__name__, first[:300])
