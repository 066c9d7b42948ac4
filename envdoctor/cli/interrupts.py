"""Ctrl-C while modules load is kept until they are: in the middle of an import Python may lose it or rename it.

A ``KeyboardInterrupt`` that is raised in a callback of the import system is printed and forgotten, one in the body of
a class becomes a ``RuntimeError``, and one in generated code ends the process by a signal after it was caught.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def noted() -> Iterator[list[int]]:
    """Write Ctrl-C down instead of raising it; the caller looks whether there was one. It works in the main thread."""
    pressed: list[int] = []
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield pressed
        return
    signal.signal(signal.SIGINT, lambda number, _frame: pressed.append(number))
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Raise Ctrl-C when the block is over."""
    with noted() as pressed:
        yield
    if pressed:
        raise KeyboardInterrupt
