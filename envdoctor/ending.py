"""How a supervisor ended, and what that says of the probes that it left without an outcome."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

from envdoctor.outcome import Crashed, Failed, Outcome, TimedOut

MOST_ANSWERED = 16 << 20  # bytes; a machine with eight GPUs answers 100 KB

# What interpreters that know neither f-strings nor all arguments of open() say of the first word they are given.
_REFUSED_BY_OLD = re.compile(r"SyntaxError: invalid syntax|file\(\) takes at most 3 arguments")
_REFUSED_BY_2 = "-X is reserved for"
TOO_OLD = "that is Python 2, or 3.5 or older; 3.8 or newer is needed"


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of the patient's interpreter: ``begun`` it had said hello, ``said`` is what it printed.

    ``far``: between it and us lies a command, and it is that command's end which we see.
    """

    name: str
    timeout: float
    begun: bool
    code: int | None
    said: str
    interrupted: bool = False
    killed: bool = False
    flooded: bool = False
    far: bool = False

    @property
    def by_itself(self) -> bool:
        """Tell whether it had begun and then died, without our doing."""
        return self.begun and not self.interrupted and not self.killed

    def outcome(self, culprit: str, *, asked: bool = True) -> Outcome:
        """Say what became of a probe that was at ``culprit`` when the supervisor ended, or had not been asked yet."""
        if self.interrupted:
            return Failed(f"interrupted in {culprit}", self.said)
        if self.flooded:
            return Failed(f"{self.name} answered more than {MOST_ANSWERED >> 20} MiB", self.said)
        if not self.killed:
            return self._link_ended(culprit, asked=asked) if self.far and self.begun else self._died(culprit)
        if self.begun:
            return TimedOut(f"no answer within {self.timeout:g} s in {culprit}", self.timeout, detail=self.said)
        return TimedOut(f"{self.name} did not begin within {self.timeout:g} s", self.timeout, detail=self.said)

    def _died(self, culprit: str) -> Outcome:
        how, name = self._how()
        if not self.begun and (self.far or not name):
            words = TOO_OLD if self._is_too_old() else self._words()
            return Failed(f"{self.name} did not begin: {how}: {words}", self.said)
        where = f"the supervising process, during {culprit}" if self.begun else "its start"
        return Crashed(f"{how} in {where}", name, self.code or 0, self.said)

    def _is_too_old(self) -> bool:
        return bool(_REFUSED_BY_OLD.search(self.said)) if self.far else _REFUSED_BY_2 in self.said

    def _link_ended(self, culprit: str, *, asked: bool) -> Outcome:
        how, name = self._how()
        ended = f"the link ended, {how}: {self._words()}"
        if not asked:
            return Failed(f"not asked: {ended}", self.said)
        return Crashed(f"{ended} (during {culprit})", name, self.code or 0, self.said)

    def _how(self) -> tuple[str, str]:
        name = signal.Signals(-self.code).name if self.code is not None and self.code < 0 else ""
        return name or f"exit code {self.code}", name

    def _words(self) -> str:
        """Give the line that says what went wrong: the last that names an error, or else the last."""
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        errors = [line for line in lines if re.match(r"Fatal Python error|[\w.]*(Error|Exception)\b", line)]
        return (errors or lines or ["it said nothing"])[-1]
