"""[payload] One fork as the supervisor sees it: what it was asked, what it said, and what became of it."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

from envdoctor.child import forking, vitals
from envdoctor.child.answering import CANNOT_ANSWER
from envdoctor.child.pipes import Kept, Lines, Pipes, read

if TYPE_CHECKING:
    from envdoctor.child.forking import Question
    from envdoctor.child.jobs import Job, Setting
    from envdoctor.child.paths import Paths

NO_TIME = {"outcome": "timed-out", "reason": "not started: the time of the whole run was over"}
KILL_WAIT = 2.0
_FORKING = 5.0  # how long the process that imported torch may take to fork: an atfork handler may hang
_LAST_WORDS = 5.0  # what a process that watches has for its answer, once nothing is left to be watched
_SETTLE = 0.05  # a stack dump is complete this long after its first bytes
_DUMP = 1 << 16
_FINAL = 4 << 20


class Forked:
    """A process under watch. ``jobs[0]`` is what it is doing; ``questions`` are forked from it later."""

    def __init__(self, jobs: Sequence[Job], pipes: Pipes, questions: Sequence[Question] = ()) -> None:
        self.pid = 0
        self.jobs = list(jobs)
        self.first = tuple(jobs)
        self.pipes = pipes
        self.questions = {job.name: (job, theirs) for job, theirs in questions}
        self.steps: List[str] = []
        self.began, self.allowed = time.monotonic(), 0.0
        self.killed_at: Optional[float] = None
        self.stopped_by = ""
        self._killed_in: List[Job] = []
        self.waits_for: Optional[int] = None  # the parent whose end this process waits for
        self.last: Dict[str, Any] = {}
        self._hung = self._told = False
        self._evidence: Dict[str, str] = {}
        self.sample_due: Optional[float] = None
        self._samples: List[Tuple[str, vitals.Vitals]] = []
        self._lines, self._dumped, self._dump = Lines(), 0, b""
        self._printed = {pipes.stdout: Kept(), pipes.stderr: Kept()}

    def begin(self, now: float, left: float) -> None:
        """Start the clock of the current job."""
        self.began, self.steps, self._samples = now, [], []
        self.allowed = min(self.jobs[0].seconds, left) if self.jobs else _FORKING
        self.sample_due = None

    @property
    def pending(self) -> bool:
        """Tell whether something is still expected of this process."""
        return bool(self.jobs or self.questions)

    @property
    def alone(self) -> bool:
        """Tell whether it, or a question to be forked from it, measures and must have the machine to itself."""
        return any(job.alone for job in (*self.jobs, *(job for job, _ in self.questions.values())))

    @property
    def beside(self) -> bool:
        """Tell whether it watches what others measure."""
        return any(job.beside for job in self.jobs)

    def tell_that_it_is_over(self) -> None:
        """Tell a process that watches that there is nothing left to watch, and give it a moment for its answer."""
        if not self._told:
            self._told = True
            self.allowed = min(self.allowed, time.monotonic() - self.began + _LAST_WORDS)
            self.pipes.go()

    @property
    def due(self) -> float:
        """Give the time at which the supervisor has to look at this process again, whatever it does."""
        if self.waits_for is not None:
            return float("inf")
        if self.killed_at is not None:
            return self.killed_at + KILL_WAIT
        return min(self.began + self.allowed, self.sample_due or self.began + self.allowed)

    def feed(self, fd: int) -> Tuple[List[Dict[str, Any]], bool]:
        """Read one chunk; give the events it completes, and whether the stream goes on."""
        data = read(fd)
        if fd == self.pipes.answer:
            return [event for event in map(_event, self._lines.feed(data)) if event], bool(data)
        if fd == self.pipes.dump:
            self._dumped += len(data)
            self._dump = (self._dump + data)[-_DUMP:]
            if data and self.sample_due is None:
                self.sample_due = time.monotonic() + _SETTLE
        else:
            self._printed[fd].feed(data)
        return [], bool(data)

    def drain(self) -> List[Dict[str, Any]]:
        """Read what is left in the pipes, without waiting and without end only up to a limit."""
        events: List[Dict[str, Any]] = []
        for fd in self.pipes.ours:
            for _ in range(_FINAL >> 16):
                found, more = self.feed(fd)
                events += found
                if not more:
                    break
        return events

    def sample(self) -> None:
        """Keep the stack that was just written down, and what the process had used by then."""
        self._samples = [*self._samples[-1:], (self._take_dump(), vitals.look(self.pid, self._dumped))]
        self.sample_due = None

    def _take_dump(self) -> str:
        taken, self._dump = self._dump.decode("utf-8", "replace"), b""
        return taken

    def take_questions(self) -> List[Question]:
        """Give the questions that were not forked yet, and have none from now on."""
        taken = list(self.questions.values())
        self.questions = {}
        return taken

    def note(self, event: Dict[str, Any]) -> None:
        """Follow which call into the patient's code is under way."""
        what = str(event.get("what", ""))
        if event["event"] == "enter":
            self.steps.append(what)
        elif event["event"] == "leave" and what in self.steps:
            del self.steps[len(self.steps) - 1 - self.steps[::-1].index(what) :]

    @property
    def culprit(self) -> str:
        """Name what the process was doing: the innermost call under way, or else the probe."""
        return self.steps[-1] if self.steps else f"probe {self.jobs[0].name}" if self.jobs else "forking"

    def look_closely(self) -> None:
        """Look at the process once more before it is killed: whether it hung, and what the kernel says of it."""
        self._killed_in = self.jobs[:1]
        self._hung = bool(self.stopped_by) or self._did_nothing()
        found = {"state": vitals.state(self.pid), "waits_in": vitals.waits_in(self.pid)}
        self._evidence = {name: value for name, value in found.items() if value}

    def _did_nothing(self) -> bool:
        """Tell whether nothing at all happened from one stack dump to the next, and since."""
        if len(self._samples) < 2:
            return False
        (stack, before), (later_stack, later) = self._samples
        now = vitals.look(self.pid, self._dumped)
        return stack == later_stack and later.same_as(before) and now.same_as(later)

    def timed_out(self, *, unkillable: bool = False) -> Dict[str, Any]:
        """Give the outcome of a process that was killed at its deadline, or because it had stopped itself.

        It is empty where the answer came in the last moment: what was to be done next has had no time at all.
        """
        if self.jobs[:1] != self._killed_in and not self.stopped_by:
            return {}
        if self.allowed <= 0:
            return dict(NO_TIME)
        after = time.monotonic() - self.began if self.stopped_by else self.allowed
        how = "it hung: no CPU, I/O or page faults" if self._hung else "it was not seen to hang"
        reason = f"no answer within {self.allowed:.1f} s in {self.culprit}; {how}"
        if self.stopped_by:
            reason = f"stopped by {self.stopped_by} in {self.culprit}"
        if unkillable:
            reason += "; SIGKILL did not end it"
        outcome = {"outcome": "timed-out", "reason": reason, "after_seconds": after, "hung": self._hung}
        # The dump that falls on the deadline may have been cut off by the kill: the one before is whole.
        whole = self._samples[-1][0] if self._samples else ""
        return {**outcome, "unkillable": unkillable, "detail": self.detail(whole), "evidence": self._evidence}

    def crashed(self, status: int) -> Dict[str, Any]:
        """Give the outcome of a process that died before it answered."""
        name = _signal_name(status)
        code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        how = name or f"exit code {code} without an answer"
        if code == CANNOT_ANSWER:
            how += " (its answer pipe was closed)"
        reason = f"{how} in {self.culprit}"
        return {"outcome": "crashed", "reason": reason, "signal": name, "exit_code": code, "detail": self.detail()}

    def detail(self, stack: str = "") -> str:
        """Give a stack, the last one unless another is given, and what the process printed."""
        stack = stack or self._dump.decode("utf-8", "replace") or (self._samples[-1][0] if self._samples else "")
        out, err = self._printed.values()
        parts = (("Python stack", _without_our_frames(stack)), ("stderr", err.text()), ("stdout", out.text()))
        return "\n".join(f"{title}:\n{said.strip()}" for title, said in parts if said.strip())


def _without_our_frames(stack: str) -> str:
    """Leave out the frames of this package and of the text that ``python -c`` runs."""
    ours = (f'  File "{os.path.dirname(__file__)}', '  File "<string>"')
    return "\n".join(line for line in stack.splitlines() if not line.startswith(ours))


def launch(
    setting: Setting, paths: Paths, jobs: Sequence[Job], questions: Sequence[Job]
) -> Tuple[Optional[Forked], Dict[str, Any]]:
    """Fork a process for these jobs, with pipes for the questions that it forks later; or say why there is none."""
    if time.monotonic() >= setting.deadline:
        return None, NO_TIME
    try:
        forked = Forked(jobs, Pipes(), [(job, Pipes()) for job in questions])
        asked = list(forked.questions.values())
        forked.pid = forking.start(setting, paths, jobs, forked.pipes, asked)
    except OSError as error:  # no more processes, or no more descriptors
        return None, {"outcome": "failed", "reason": f"no process could be started for it: {error}"}
    for each in (forked.pipes, *(pipes for _, pipes in asked)):
        each.close_theirs()
    return forked, {}


def _event(line: bytes) -> Optional[Dict[str, Any]]:
    """Read a line of the answer pipe; what is no event of ours is dropped."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def _signal_name(status: int) -> str:
    if not os.WIFSIGNALED(status):
        return ""
    number = os.WTERMSIG(status)
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
