"""Ctrl-C while modules load: kept until they are, and nobody else's handler is touched."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest

from envdoctor.cli import interrupts


def press() -> None:
    """Press Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


def press_and(then: Callable[[], object]) -> None:
    """Press Ctrl-C while it is held, then do something."""
    with interrupts.held():
        press()
        then()


def test_ctrl_c_is_raised_when_the_block_is_over() -> None:
    """What stands in the block is done to its end; afterwards Ctrl-C raises where it is pressed again."""
    done: list[bool] = []
    with pytest.raises(KeyboardInterrupt):
        press_and(lambda: done.append(True))
    assert ([True], signal.default_int_handler) == (done, signal.getsignal(signal.SIGINT))


def test_nothing_is_raised_when_nothing_was_pressed() -> None:
    """Without Ctrl-C the block changes nothing, one block inside another either."""
    with interrupts.held(), interrupts.held():
        pass
    assert signal.default_int_handler is signal.getsignal(signal.SIGINT)


def test_caller_may_look_instead() -> None:
    """Ctrl-C is only written down where the caller has something to end first."""
    with interrupts.noted() as pressed:
        press()
    assert [signal.SIGINT] == pressed


def test_error_of_the_block_is_not_hidden() -> None:
    """What goes wrong inside is told, not the key that was pressed meanwhile."""
    with pytest.raises(ZeroDivisionError):
        press_and(lambda: 1 // 0)


def test_ignored_ctrl_c_stays_ignored() -> None:
    """A process in the background is not to react."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.held():
            press()
        assert signal.SIG_IGN is signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_are_let_be() -> None:
    """Only the main thread may handle signals: elsewhere the block just runs."""
    ran: list[bool] = []

    def run() -> None:
        with interrupts.held():
            ran.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert [True] == ran
