"""A step whose process hangs inside a driver: not even a kill ends it, and what it said must not be lost for that."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from typing import Any

import pytest

from envdoctor.child import stepping


def test_a_process_that_cannot_be_killed_loses_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer comes within its time, with every row and where it hung."""
    monkeypatch.setattr(stepping, "_LINGER", 0.3)
    wait, pids = os.waitpid, list[int]()

    def never(pid: int, _how: int) -> tuple[int, int]:
        pids.append(pid)
        return 0, 0

    def hang(_step: dict[str, Any], say: Any) -> None:
        say({"at": [0, 1]})
        time.sleep(60)

    monkeypatch.setattr("os.waitpid", never)
    here, there = socket.socketpair()
    began = time.monotonic()
    with here, there:
        answer = stepping._Fork(hang, {"seconds": 0.3}, there).answer()
    took = time.monotonic() - began
    with contextlib.suppress(ProcessLookupError):
        os.kill(pids[0], signal.SIGKILL)
    wait(pids[0], 0)
    assert ("timed-out", [{"at": [0, 1]}]) == (answer["state"], answer["said"])
    assert took < 10
