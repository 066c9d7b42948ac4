"""How a supervisor ended, and what that says of the probes that it left without an outcome."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

from envdoctor.outcome import Crashed, Failed, Outcome, TimedOut


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of the patient's interpreter: ``begun`` it had said hello, ``said`` is what it printed."""

    python: str
    timeout: float
    begun: bool
    code: int | None
    said: str
    interrupted: bool = False
    killed: bool = False

    @property
    def by_itself(self) -> bool:
        """Tell whether it had begun and then died, without our doing."""
        return self.begun and not self.interrupted and not self.killed

    def outcome(self, culprit: str) -> Outcome:
        """Say what became of a probe that was at ``culprit`` when the supervisor ended."""
        if self.interrupted:
            return Failed(f"interrupted in {culprit}", self.said)
        if not self.killed:
            return self._died(culprit)
        if self.begun:
            return TimedOut(f"no answer within {self.timeout:g} s in {culprit}", self.timeout, detail=self.said)
        return TimedOut(f"{self.python} did not begin within {self.timeout:g} s", self.timeout, detail=self.said)

    def _died(self, culprit: str) -> Outcome:
        name = signal.Signals(-self.code).name if self.code is not None and self.code < 0 else ""
        how = name or f"exit code {self.code}"
        if not self.begun and not name:
            return Failed(f"{self.python} did not begin: {how}: {self._words()}", self.said)
        where = f"the supervising process, during {culprit}" if self.begun else "its start"
        return Crashed(f"{how} in {where}", name, self.code or 0, self.said)

    def _words(self) -> str:
        """Give the line that says what went wrong: the last that names an error, or else the last."""
        lines = [line for line in self.said.splitlines() if line.strip()]
        errors = [line for line in lines if re.match(r"Fatal Python error|[\w.]*(Error|Exception)\b", line)]
        return (errors or lines or ["it said nothing"])[-1]
