"""A process in the patient that has imported torch and does one step after the other, each with a deadline.

It is started long before the first step, so that the import costs nobody's time. One that misses a deadline is killed,
and so is one that can do a single step only; another one is started for the next.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from envdoctor.runner.spoken import SilentError, Spoken

if TYPE_CHECKING:
    from collections.abc import Callable

    from envdoctor.target import Patient

SERVE = "envdoctor.child.stepping:serve"
RUNS = "envdoctor_probes.staged:run"
LATE = 3.0  # seconds that a step's end may be late in coming here
NAP = 0.2


class Stepper:
    """Does the steps of staged tests in the patient's interpreter."""

    def __init__(self, patient: Patient, stopped: Callable[[], bool] = lambda: False) -> None:
        self._patient, self._stopped = patient, stopped
        self._spoken: Spoken | None = None
        self._ready = self._spent = False
        self.begin()

    def begin(self) -> None:
        """Start the process, where there is none."""
        if self._spoken is None:
            self._ready = self._spent = False
            told = {"serve": SERVE, "imports": "torch", "runs": RUNS}
            try:
                self._spoken = Spoken(self._patient, told)
            except (OSError, ValueError) as error:
                self._refused = f"{self._patient.python} cannot be started: {error}"

    def do(self, step: dict[str, Any]) -> dict[str, Any]:
        """Do a step: give its state (done, failed, timed-out), the reason, and the rows that were said by then."""
        self.begin()
        if self._spoken is None:
            return _ended("failed", self._refused)
        until = time.monotonic() + step["seconds"]
        try:
            return self._become_ready(until) or self._done(self._spoken, step, until)
        except SilentError as error:
            timed_out = time.monotonic() >= until
            self.close()
            words = f"no end within {step['seconds']:g} s" if timed_out else f"the process with torch {error}"
            return _ended("timed-out" if timed_out else "failed", words)

    def _become_ready(self, until: float) -> dict[str, Any] | None:
        """Wait for the import of torch; give the step's end, where that is all there will be of it."""
        if self._ready:
            return None
        hello = json.loads(self._heard(until))
        if "error" in hello:
            self.close()
            return _ended("failed", hello["error"])
        self._ready, self._spent = True, bool(hello["unfit"])
        return None

    def _done(self, spoken: Spoken, step: dict[str, Any], until: float) -> dict[str, Any]:
        left = max(1.0, until - time.monotonic())
        spoken.send(json.dumps({**step, "seconds": left}).encode() + b"\n", until)
        found: dict[str, Any] = json.loads(self._heard(until if self._spent else until + LATE))
        if self._spent:
            self.close()
            self.begin()  # its import goes on meanwhile
        return found

    def _heard(self, until: float) -> bytes:
        """Wait for a line, and look now and then whether the run was ended."""
        spoken = self._spoken
        if spoken is None:
            raise SilentError("was ended")
        while not spoken.ready(min(until, time.monotonic() + NAP)):
            if self._stopped():
                raise SilentError("was ended: so was the run")
            if time.monotonic() >= until:
                raise SilentError("gave no answer in time")
        return spoken.line(until + LATE)

    def close(self) -> None:
        """End the process and what it has started."""
        if self._spoken is not None:
            self._spoken.close()
            self._spoken = None


def _ended(state: str, reason: str) -> dict[str, Any]:
    return {"state": state, "reason": reason, "said": []}
