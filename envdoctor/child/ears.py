"""[payload] What the supervisor listens to: the pipes of its forks, and the signals that wake it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

from envdoctor.child.pipes import read

if TYPE_CHECKING:
    from envdoctor.child.forked import Forked


class Ears:
    """Waits for bytes from any fork, for the end of a child, and for the order to stop.

    ``lifeline``: a descriptor whose end is such an order too.
    """

    def __init__(self, stop: Callable[[], None], lifeline: Optional[int] = None) -> None:
        self._poll = select.poll()
        self._stop, self._lifeline = stop, lifeline
        if lifeline is not None:
            self._poll.register(lifeline, select.POLLIN)
        self._by_fd: Dict[int, Forked] = {}
        self._wake, alarm = os.pipe()
        for fd in (self._wake, alarm):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
        self._handle(signal.SIGCHLD, _nothing)
        self._handle(signal.SIGTERM, lambda *_: stop())
        self._poll.register(self._wake, select.POLLIN)

    @staticmethod
    def _handle(number: signal.Signals, handler: Callable[..., Any]) -> None:
        signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})

    def attend(self, forked: Forked) -> None:
        """Listen to a fork's pipes from now on."""
        for fd in forked.pipes.ours:
            self._poll.register(fd, select.POLLIN)
            self._by_fd[fd] = forked

    def forget(self, forked: Forked) -> None:
        """Stop listening to a fork."""
        for fd in forked.pipes.ours:
            self._hush(fd)

    def _hush(self, fd: int) -> None:
        if self._by_fd.pop(fd, None):
            with contextlib.suppress(KeyError):
                self._poll.unregister(fd)

    def _feel(self, fd: int) -> None:
        """Take what comes on the lifeline, which means nothing, or its end."""
        if not read(fd):
            self._poll.unregister(fd)
            self._stop()

    def listen(self, seconds: float) -> List[Tuple[Forked, Dict[str, Any]]]:
        """Wait at most so long for anything; give the events that arrived."""
        heard: List[Tuple[Forked, Dict[str, Any]]] = []
        for fd, _ in self._poll.poll(max(0.0, seconds) * 1000):
            if fd == self._wake:
                read(fd)
                continue
            if fd == self._lifeline:
                self._feel(fd)
                continue
            forked = self._by_fd[fd]
            events, more = forked.feed(fd)
            heard += [(forked, event) for event in events]
            if not more:
                self._hush(fd)
        return heard


def _nothing(*_: Any) -> None:
    """Do nothing: the signal is handled when the wait returns."""
