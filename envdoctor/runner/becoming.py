"""Becoming another program: what ``envdoctor run`` does when the check lets it. It never returns but for an error."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

# Python ignores these from its start, and an ignored signal stays ignored in the program that follows.
IGNORED_BY_PYTHON = ("SIGPIPE", "SIGXFSZ", "SIGXFZ")


def become(argv: Sequence[str]) -> NoReturn:
    """Replace this process by the command, found as a shell finds it. Raises ``OSError`` when that cannot be done.

    Process id, stdin, environment, working directory and whatever was ignored before Python began are the command's.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none
            stream.flush()
    for name in IGNORED_BY_PYTHON:
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, signal.SIG_DFL)
    os.execvp(argv[0], list(argv))  # noqa: S606 - this is what was asked for
