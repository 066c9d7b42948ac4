"""[payload] A limit for what nothing else ends: compiling goes on until it is done."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import Any, Iterator

__all__ = ["TookTooLong", "given_up_after"]

_AGAIN = 5.0  # seconds: what is raised inside a finalizer is lost


class TookTooLong(BaseException):
    """The time was over. No ``Exception``: compilers catch those, and say that the model cannot be compiled."""


@contextlib.contextmanager
def given_up_after(seconds: float) -> Iterator[None]:
    """Raise ``TookTooLong`` in what runs here once the time is over; outside the main thread there is no limit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(*_: Any) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001), _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
