"""What the patient's supervisor has said so far, made into facts and outcomes. Every planned probe gets one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from envdoctor.ending import MOST_ANSWERED
from envdoctor.ledger import complete
from envdoctor.outcome import Absent, Crashed, Failed, Got, Outcome, TimedOut
from envdoctor.snapshot import BY_KEY, ProbeResult, Snapshot, SnapshotError, Target, decode_fact, now

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from envdoctor.facts import Fact
    from envdoctor.plan import Planned

_OUTCOMES: dict[str, type[Outcome]] = {each.name: each for each in (Got, Absent, Failed, Crashed, TimedOut)}
_LINE = 100  # bytes that a line counts for beside its own: many empty ones are a flood too
_NOT_OUTCOME = frozenset({"event", "probe", "outcome", "seconds", "fact", "gate"})


class Gathered:
    """Events in, a snapshot out."""

    def __init__(
        self, planned: Sequence[Planned], target: Target, level: str, kinds: dict[str, type[Fact]] | None
    ) -> None:
        self._planned = {each.name: each for each in planned}
        self._target, self._level, self._kinds = target, level, BY_KEY if kinds is None else kinds
        self._facts: dict[str, Fact] = {}
        self._results: dict[str, ProbeResult] = {}
        self._started: dict[str, float] = {}
        self._steps: dict[str, list[tuple[str, float]]] = {}
        self._theirs: list[tuple[float, float]] = []
        self.begun = False
        self._heard = 0
        self._ahead = 0.0  # the difference of our clock to theirs

    @property
    def flooded(self) -> bool:
        """Tell whether more was answered than any patient has to say."""
        return self._heard > MOST_ANSWERED

    @property
    def started(self) -> frozenset[str]:
        """Name the probes that were begun."""
        return frozenset(self._started)

    def hear(self, line: bytes) -> dict[str, Any] | None:
        """Take one line; give the event it holds, or None when it is none of ours."""
        self._heard += len(line) + _LINE if self.begun else 0
        if self.flooded:
            return None
        try:
            event = msgspec.json.decode(line)
        except msgspec.DecodeError:
            return None
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            return None
        self.begun |= event["event"] == "hello"
        if event["event"] == "ready" and isinstance(event.get("at"), float):  # another machine counts from another day
            self._ahead = time.monotonic() - event["at"]
        name = event.get("probe")
        if isinstance(name, str) and name in self._planned and name not in self._results:
            try:
                self._take(self._planned[name], event)
            except (KeyError, TypeError, ValueError):  # a line that looks like ours and is not
                return None
        return event

    def _take(self, planned: Planned, event: dict[str, Any]) -> None:
        kind, name = event.get("event"), planned.name
        if kind == "start":
            self._started[name] = float(event["at"]) + self._ahead
        elif kind == "enter":
            self._steps.setdefault(name, []).append((str(event["what"]), float(event["at"]) + self._ahead))
        elif kind == "leave":
            self._leave(name, float(event["at"]) + self._ahead)
        elif kind == "partial":
            self._decode(planned, event)
        elif kind == "result":
            self._conclude(planned, event)

    def _leave(self, name: str, at: float) -> None:
        if self._steps.get(name):
            self._theirs.append((self._steps[name].pop()[1], at))

    def _decode(self, planned: Planned, event: dict[str, Any]) -> str:
        """Keep the event's fact; give the words of what is wrong with it, or nothing."""
        try:
            self._facts[planned.fact] = decode_fact(planned.fact, event.get("fact"), kinds=self._kinds)
        except SnapshotError as error:
            return str(error)
        return ""

    def _conclude(self, planned: Planned, event: dict[str, Any]) -> None:
        outcome = self._outcome(event)
        if isinstance(outcome, Got):
            wrong = self._decode(planned, event)
            outcome = Failed(f"probe {planned.name} answered with a wrong type: {wrong}") if wrong else outcome
        self._finish(planned, outcome, float(event.get("seconds") or 0.0))

    def _outcome(self, event: dict[str, Any]) -> Outcome:
        kind = _OUTCOMES.get(str(event.get("outcome")), Failed)
        try:
            return msgspec.convert({k: v for k, v in event.items() if k not in _NOT_OUTCOME}, kind)
        except msgspec.ValidationError as error:
            return Failed(f"probe {event.get('probe')}: its outcome cannot be read: {error}")

    def _finish(self, planned: Planned, outcome: Outcome, seconds: float) -> None:
        at = time.monotonic()
        self._theirs += [(began, at) for _, began in self._steps.pop(planned.name, ())]
        self._results[planned.name] = ProbeResult(planned.name, planned.fact, outcome, seconds)

    def under_way(self) -> tuple[str, ...]:
        """Name what is being done right now, the longest first."""
        names = sorted((n for n in self._started if n not in self._results), key=lambda n: self._started[n])
        return tuple(self.culprit(name) for name in names)

    def culprit(self, name: str) -> str:
        """Name what this probe is doing: the innermost call under way, or else the probe itself."""
        steps = self._steps.get(name)
        return steps[-1][0] if steps else f"probe {name}"

    def give_up(self, why: Callable[[str], Outcome]) -> None:
        """Give every probe that has no outcome the one that ``why`` says."""
        for name, planned in self._planned.items():
            if name not in self._results:
                outcome = why(name)
                self._finish(planned, outcome, time.monotonic() - self._started[name] if name in self._started else 0.0)

    def refuse(self, why: str) -> None:
        """Await another supervisor's hello; if there is none, for this reason, everything unfinished has failed."""
        self.begun = False
        if why:
            self.give_up(lambda _: Failed(why))

    def unfinished(self) -> tuple[Planned, ...]:
        """Give the probes that have no outcome."""
        return tuple(each for name, each in self._planned.items() if name not in self._results)

    def blame(self, why: Callable[[str], Outcome]) -> None:
        """Give an outcome to those that were under way when the supervisor died, and to those that need them.

        A call into the patient's code is to blame before a probe that made none. The others can be asked again.
        """
        left = [each.name for each in self.unfinished()]
        started = [name for name in left if name in self._started]
        blamed = [name for name in started if self._steps.get(name)] or started or left
        for name in blamed:
            self._lose(self._planned[name], why(self.culprit(name)))
        for name in left:
            self._started.pop(name, None)
            self._steps.pop(name, None)

    def _lose(self, planned: Planned, outcome: Outcome) -> None:
        self._finish(planned, outcome, time.monotonic() - self._started.get(planned.name, time.monotonic()))
        for each in self.unfinished():
            if each.after_import and not planned.after_import and each.child == planned.child:
                self._finish(each, Failed(f"torch could not be imported: {outcome.reason}"), 0.0)

    def snapshot(self, elapsed: float) -> Snapshot:
        """Give the snapshot; what was not the patient's time is our overhead."""
        overhead = max(0.0, elapsed - covered(self._theirs))
        results = tuple(self._results[name] for name in self._planned)
        return complete(Snapshot(self._target, self._level, now(), self._facts, results, elapsed, overhead))


def covered(intervals: Sequence[tuple[float, float]]) -> float:
    """Give the length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for began, ended in sorted(intervals):
        total += max(0.0, ended - max(began, reached))
        reached = max(reached, ended)
    return total
