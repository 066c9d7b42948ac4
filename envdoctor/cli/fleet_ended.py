"""What ends a rank of a fleet before its time: Ctrl-C, or the launcher's SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@dataclass
class Ended:
    """Whether something ended the run before its time: a signal's name, empty while nothing has."""

    by: str = ""
    at: float = 0.0
    raises: bool = False  # whether it also interrupts what is under way

    def __call__(self) -> bool:
        """Tell whether the run was ended."""
        return bool(self.by)

    def hear(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal; only while the machine is examined does it also interrupt."""
        first, self.by = not self.by, signal.Signals(number).name
        self.at = time.monotonic() if first else self.at
        if self.raises and first:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Let a signal interrupt what is done here, also one that came before."""
        self.raises = True
        try:
            yield
        finally:
            self.raises = False

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Listen to Ctrl-C and to the launcher's SIGTERM, which is not minded any more afterwards.

        Launchers end all ranks as soon as one has failed: one that has heard the verdict ends with its exit code.
        """
        before = signal.signal(signal.SIGINT, self.hear)
        signal.signal(signal.SIGTERM, self.hear)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, before)
