"""Asking a person before something is changed. Nobody there to ask means no."""

from __future__ import annotations

import sys

from envdoctor.cli import streams

YES = frozenset({"y", "yes"})


class Asker:
    """Asks on stderr and reads the answer from the terminal; ``yes`` answers everything beforehand."""

    def __init__(self, *, yes: bool = False) -> None:
        self._yes = yes
        self.why_not = ""

    def __call__(self, question: str) -> bool:
        """Tell whether the answer is yes. Anything else, the end of the input included, is no."""
        if self._yes:
            return True
        if not streams.is_terminal(sys.stdin):
            self.why_not = "there is no terminal to ask on; --yes says yes"
            return False
        streams.draw(f"{question} [y/N] ")
        line = sys.stdin.readline()
        if not line:
            streams.notice("")
        self.why_not = "the answer was no"
        return line.strip().lower() in YES
