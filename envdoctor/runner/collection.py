"""One run: sends the request to the patient's supervisor and gathers what it says.

The supervisor keeps each probe's deadline and names the culprit. Here is only the outer deadline, for a supervisor
that never begins, dies, or cannot be heard; and Ctrl-C.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from envdoctor.child import TOKEN, vitals
from envdoctor.child.pipes import Kept
from envdoctor.ending import Ending
from envdoctor.listening import Streams
from envdoctor.plan import with_prerequisites
from envdoctor.runner.starting import KILL_WAIT, start, wait_for

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence

    from envdoctor.facts import Fact
    from envdoctor.plan import Planned
    from envdoctor.runner.starting import Ready
    from envdoctor.snapshot import Snapshot
    from envdoctor.target import Patient

    Progress = Callable[[dict[str, Any]], None]
    Kinds = dict[str, type[Fact]]

LATE = 2.5  # what the supervisor may need beyond the timeout: it waits a while for what SIGKILL does not end
STOP_WAIT = 2.0
TICK = 1.0
WORTH_IT = 0.5  # the time that must be left to ask again what a dying supervisor left unasked
_NAPS = 0.02
_LEAST = 0.1


def collect(
    patient: Patient,
    planned: Sequence[Planned],
    *,
    timeout: float,
    level: str = "standard",
    progress: Progress | None = None,
    kinds: Kinds | None = None,
) -> Snapshot:
    """Ask the patient everything that is planned, and give what was found and what became of each probe.

    This always returns, at most five seconds after ``timeout``. Ctrl-C ends the run early: the snapshot then says
    that it was interrupted. ``progress`` hears every event, and once a second ``{"event": "waiting", …}``.
    """
    return Collection(patient, planned, timeout=timeout, level=level, progress=progress, kinds=kinds).finish()


class Collection:
    """A run under way. It begins when this is made, so that the caller can do other work before ``finish``."""

    def __init__(
        self,
        patient: Patient,
        planned: Sequence[Planned],
        *,
        timeout: float,
        level: str = "standard",
        progress: Progress | None = None,
        kinds: Kinds | None = None,
        ready: Ready | None = None,
    ) -> None:
        self._patient, self._timeout, self._progress, self._ready = patient, timeout, progress, ready
        self._began = ready.began if ready else time.monotonic()
        self._planned = with_prerequisites(planned)
        self._token = ready.token if ready else os.urandom(12).hex()
        self._interrupted = self._flooded = False
        self._starts, self._noise = 0, Kept()
        self._answers: dict[str, Callable[[], None]] = {}  # what to do on hearing an event, once
        self._under_way: tuple[subprocess.Popen[bytes], Streams] | None = None
        refused = self._start(self._planned)
        from envdoctor.gathered import Gathered  # the interpreter starts meanwhile

        self._gathered = Gathered(self._planned, patient.target(), level, kinds)
        self._gathered.refuse(refused)

    def _start(self, planned: Sequence[Planned]) -> str:
        """Start a supervisor and send it the request; give the words of why it cannot be started, or nothing."""
        self._starts += 1
        try:
            given = self._ready.took(self._patient) if self._ready else None
            process, answer, theirs = given or start(self._patient, self._token)
        except (OSError, ValueError) as error:
            return f"{self._patient.name} cannot be started: {error}"

        def request(seconds: float) -> bytes:
            told = self._patient.request(planned, answer_fd=theirs, began=self._began, seconds=seconds)
            return json.dumps(told).encode() + b"\n"

        far = self._patient.answers_on_stdout
        sent = self._patient.opening() if far else request(self._timeout)
        stdin, *printed = (stream for stream in (process.stdin, process.stdout, process.stderr) if stream)
        streams = Streams(answer, stdin, printed, sent, self._hear, lasting=far)
        if far:  # how much time is left is known when it is ready; some commands wait for the end of their input
            self._answers = {"ready": lambda: streams.send(request(self._left())), "end": streams.hang_up}
        self._under_way = process, streams
        return ""

    def _left(self) -> float:
        return max(_LEAST, self._began + self._timeout - time.monotonic())

    def stop(self) -> None:
        """End the run early, from another thread, as Ctrl-C does."""
        self._interrupted = True

    def finish(self, meanwhile: Callable[[], object] = lambda: None) -> Snapshot:
        """Wait for the end and give the snapshot. What a dying supervisor left unasked is asked by another one.

        ``meanwhile`` is called before the waiting: work of the caller's that Ctrl-C may cut short as well.
        """
        while self._under_way is not None:
            (process, streams), self._under_way = self._under_way, None
            try:
                meanwhile()
                self._listen(process, streams)
            except KeyboardInterrupt:
                self._interrupted = True
            except BaseException:  # the callback's own: it is not called again
                self._progress = None
                raise
            finally:
                self._end(process, streams)
            unasked = self._gathered.unfinished()
            if unasked and self._is_over:
                refused = "interrupted before it was asked"
            else:
                refused = self._start(with_prerequisites(unasked, self._planned)) if unasked else ""
            self._gathered.refuse(refused)
        elapsed = time.monotonic() - self._began
        return replace(self._gathered.snapshot(elapsed), interrupted=self._interrupted)

    def _listen(self, process: subprocess.Popen[bytes], streams: Streams) -> None:
        """Read until the supervisor has ended, or must have."""
        notice = time.monotonic() + TICK
        while process.poll() is None and (now := time.monotonic()) < self._deadline and not self._is_over:
            if now >= notice:
                self._tell({"event": "waiting", "seconds": now - self._began, "on": self._gathered.under_way()})
                notice = now + TICK
            streams.attend(min(notice, self._deadline) - now)
            if streams.answer_ended:
                wait_for(process, _NAPS)
            self._flooded |= self._gathered.flooded or (self._gathered.begun and streams.endless)

    @property
    def _is_over(self) -> bool:
        return self._interrupted or self._flooded

    @property
    def _deadline(self) -> float:
        """The outer deadline; a supervisor that has not begun has nothing to name, and gets no extra time."""
        return self._began + self._timeout + (LATE if self._gathered.begun else 0.0)

    def _hear(self, line: bytes) -> None:
        event = self._gathered.hear(line)
        if event is None:
            self._noise.feed(line + b"\n")
            return
        if event["event"] in self._answers:
            self._answers.pop(event["event"])()
        self._tell(event)

    def _tell(self, event: dict[str, Any]) -> None:
        if self._progress:
            self._progress({name: value for name, value in event.items() if name != "fact"})

    # Ending

    def _end(self, process: subprocess.Popen[bytes], streams: Streams) -> None:
        """Leave no process, whatever it takes and however often Ctrl-C is pressed; then judge what is missing."""
        late = process.poll() is None and not self._interrupted
        for step in (self._ask_to_stop, self._kill):
            try:
                step(process, streams)
            except KeyboardInterrupt:  # noqa: PERF203 - two rounds
                self._interrupted = True
        streams.drain()
        said = "\n".join(filter(None, (self._noise.text().strip(), streams.said)))
        ending = Ending(self._patient.name, self._timeout, self._gathered.begun, process.poll(), said)
        streams.close()
        far = self._patient.answers_on_stdout
        self._judge(replace(ending, interrupted=self._interrupted, killed=late, flooded=self._flooded, far=far))

    def _judge(self, ending: Ending) -> None:
        """Say what became of the probes that have no outcome: all of them, or only those that are to blame."""
        left = self._began + self._timeout - time.monotonic()
        if ending.by_itself and left > WORTH_IT and self._starts < self._patient.most_starts:
            self._gathered.blame(ending.outcome)
        else:
            under_way = self._gathered.started
            self._gathered.give_up(lambda n: ending.outcome(self._gathered.culprit(n), asked=n in under_way))

    def _ask_to_stop(self, process: subprocess.Popen[bytes], streams: Streams) -> None:
        if process.poll() is not None:
            return
        if self._patient.answers_on_stdout:  # the other side ends by itself when its stdin does, and says how
            streams.hang_up()
        else:
            # SIGABRT has an interpreter that never came to us write down its Python stack
            process.send_signal(signal.SIGTERM if self._gathered.begun else signal.SIGABRT)
        end = time.monotonic() + (STOP_WAIT if self._interrupted else KILL_WAIT)
        while process.poll() is None and (left := end - time.monotonic()) > 0:
            streams.attend(min(left, _NAPS))

    def _kill(self, process: subprocess.Popen[bytes], _streams: Streams) -> None:
        """Kill the supervisor and, when it did not clear up after itself, every process that bears our mark."""
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            wait_for(process, KILL_WAIT)
        if process.poll() != 0:
            vitals.end_all_marked(f"{TOKEN}={self._token}", KILL_WAIT)
