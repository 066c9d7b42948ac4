"""[payload] The supervisor's loop: start the forks, listen to them, keep every deadline, and say what became of it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Sequence, Set

from envdoctor.child import forking, kernel, vitals
from envdoctor.child.answering import cannot_import
from envdoctor.child.ears import Ears
from envdoctor.child.forked import KILL_WAIT, Forked, launch
from envdoctor.child.jobs import Job, Setting
from envdoctor.child.waiting import Waiting
from envdoctor.probe import Roots

if TYPE_CHECKING:
    from envdoctor.child.paths import Paths
    from envdoctor.child.pipes import Pipes

_INTERRUPTED = {"outcome": "failed", "reason": "interrupted before it was asked"}


class Supervisor:
    """One run: what waits to be started, and what is running."""

    def __init__(self, request: Dict[str, Any], paths: Paths, tell: Callable[[Mapping[str, Any]], None]) -> None:
        began, seconds = request.get("began") or time.monotonic(), request["seconds"]
        deadline = began + seconds - min(1.0, seconds / 10)
        self._setting = Setting(Roots(**request["roots"]), request["options"], deadline)
        self._paths, self._tell = paths, tell
        self._waiting = Waiting(request["probes"])
        self._running: Dict[int, Forked] = {}
        self._unkillable: Set[int] = set()
        self._ended_unknown: Dict[int, int] = {}
        self._parallel = max(2, os.cpu_count() or 1)
        self._stopping = False
        self._adopts = kernel.adopt_orphans()
        self._ears = Ears(self._stop, request.get("lifeline"))

    def _stop(self) -> None:
        self._stopping = True

    def run(self) -> None:
        """Ask everything that was requested, and say what became of it."""
        self._start_what_can()
        while self._busy and not self._stopping:
            now = time.monotonic()
            for forked, event in self._ears.listen(min([KILL_WAIT, *(f.due - now for f in self._running.values())])):
                self._hear(forked, event)
            self._reap()
            self._keep_time()
            self._start_what_can()
        if self._stopping:
            self._interrupt()

    @property
    def _busy(self) -> bool:
        return bool(self._waiting or any(each.pending for each in self._running.values()))

    def _result(self, job: Job, outcome: Mapping[str, Any]) -> None:
        """Say what became of one probe."""
        result = {"seconds": 0.0, **outcome, "event": "result", "probe": job.name}
        self._waiting.learn(job.name, result)
        self._tell(result)

    # Starting

    def _start_what_can(self) -> None:
        for jobs in self._waiting.ready():
            self._start_group([job for job in jobs if not self._refused(job)])
        for forked in sorted(self._running.values(), key=lambda each: each.alone):
            if (
                forked.waits_for is not None
                and forked.waits_for not in self._running
                and self._has_room(forked.jobs[0])
            ):
                forked.waits_for = None
                self._begin(forked)
                forked.pipes.go()
        self._waiting.fresh.sort(key=lambda job: job.alone)
        while self._waiting.fresh and self._has_room(self._waiting.fresh[0]):
            self._launch([self._waiting.fresh.pop(0)])
        if not self._measures:
            for forked in (each for each in self._running.values() if each.beside):
                forked.tell_that_it_is_over()

    def _refused(self, job: Job) -> bool:
        refusal = self._waiting.refusal(job)
        if refusal:
            self._result(job, refusal)
        return bool(refusal)

    def _has_room(self, job: Job) -> bool:
        """Tell whether this job may begin beside what is under way; one that measures begins when nothing is.

        A process that has answered still counts until it is gone: it may hold the memory of a GPU until then.
        """
        there = [f for f in self._running.values() if f.waits_for is None and not f.beside]
        if job.alone or any(each.alone for each in there):
            return not there
        return sum(each.jobs[0].after_import for each in there if each.jobs) < self._parallel

    @property
    def _measures(self) -> bool:
        """Tell whether something that runs alone is under way or still to come."""
        return any(each.alone for each in self._running.values()) or any(job.alone for job in self._waiting.jobs())

    def _start_group(self, jobs: Sequence[Job]) -> None:
        own, questions = forking.split(jobs)
        if own and questions and not self._adopts:  # a process that we cannot adopt is one that we cannot watch
            self._waiting.fresh += [job.after(own) for job in questions]
            questions = []
        if own:
            self._launch(own, questions)
        else:
            self._waiting.fresh += questions

    def _launch(self, jobs: Sequence[Job], questions: Sequence[Job] = ()) -> None:
        """Fork a process for these jobs, or say why there is none."""
        forked, refusal = launch(self._setting, self._paths, jobs, questions)
        if forked is None:
            for job in (*jobs, *questions):
                self._result(job, refusal)
            return
        self._running[forked.pid] = forked
        self._ears.attend(forked)
        self._begin(forked)

    def _begin(self, forked: Forked) -> None:
        now = time.monotonic()
        forked.begin(now, self._setting.deadline - now)
        if forked.jobs:
            self._tell({"event": "start", "probe": forked.jobs[0].name, "at": now})

    # Listening

    def _hear(self, forked: Forked, event: Dict[str, Any]) -> None:
        kind = event["event"]
        if kind in ("enter", "leave", "partial") and forked.jobs:
            forked.note(event)
            self._tell({**event, "probe": forked.jobs[0].name})
        elif kind == "result" and forked.jobs and event.get("probe") == forked.jobs[0].name:
            forked.last = event
            self._result(forked.jobs.pop(0), event)
            self._begin(forked)
        elif kind == "forked" and event.get("probe") in forked.questions:
            self._adopt(forked, *forked.questions.pop(event["probe"]), event["pid"])
        elif kind == "closed":
            self._close_questions(forked, event)
        elif kind == "unfit":
            self._ask_freshly(forked)

    def _adopt(self, parent: Forked, job: Job, pipes: Pipes, pid: int) -> None:
        """Take over a question's process, which waits for its parent's end and for our call."""
        forked = Forked([job], pipes)
        forked.pid, forked.waits_for = pid, parent.pid
        self._running[pid] = forked
        self._ears.attend(forked)
        if pid in self._ended_unknown:
            self._ended(forked, self._ended_unknown.pop(pid))

    def _close_questions(self, forked: Forked, outcome: Mapping[str, Any]) -> None:
        for job, pipes in forked.take_questions():
            pipes.close()
            self._result(job, cannot_import(outcome))

    def _ask_freshly(self, forked: Forked) -> None:
        """Give each question a process of its own, which imports torch again."""
        for job, pipes in forked.take_questions():
            pipes.close()
            self._waiting.fresh.append(job.after(forked.first))

    # Ending

    def _reap(self) -> None:
        """Take note of every child that ended or stopped."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
                forked = self._running.get(pid)
                if pid == 0:
                    return
                if forked is None and any(each.questions for each in self._running.values()):
                    self._ended_unknown[pid] = status  # an orphan, or a question that we have not heard of yet
                elif forked is None:
                    continue
                elif os.WIFSTOPPED(status):
                    forked.stopped_by = signal.Signals(os.WSTOPSIG(status)).name
                    self._end(forked)
                else:
                    self._ended(forked, status)

    def _keep_time(self) -> None:
        now = time.monotonic()
        for forked in list(self._running.values()):
            if forked.due > now:
                continue
            if forked.killed_at is not None:
                self._unkillable.add(forked.pid)
                self._conclude(forked, forked.timed_out(unkillable=True))
            elif now >= forked.began + forked.allowed:
                self._end(forked)
            else:
                forked.sample()

    def _end(self, forked: Forked) -> None:
        """Kill a fork with all that descends from it; its end is noted when it comes, or given up on."""
        if forked.killed_at is None:
            forked.look_closely()
            forked.killed_at = time.monotonic()
            for other in [each for each in self._running.values() if each.waits_for == forked.pid]:
                self._withdraw(other, forked)
            vitals.kill_tree(forked.pid)

    def _withdraw(self, question: Forked, importer: Forked) -> None:
        """Ask a question in a process of its own, because the one it was forked from has to be killed."""
        self._waiting.fresh.append(question.jobs.pop().after(importer.first))
        self._conclude(question, {})

    def _ended(self, forked: Forked, status: int) -> None:
        for event in forked.drain():
            self._hear(forked, event)
        self._conclude(forked, forked.timed_out() if forked.killed_at is not None else forked.crashed(status))

    def _conclude(self, forked: Forked, outcome: Dict[str, Any]) -> None:
        """Say what became of a fork that is gone, and give those that it left unasked another process.

        No ``outcome``: nothing that it was doing has failed.
        """
        del self._running[forked.pid]
        self._ears.forget(forked)
        forked.pipes.close()
        self._sweep() if self._adopts else vitals.kill_tree(forked.pid)
        if forked.jobs and outcome:
            forked.last = outcome
            outcome["seconds"] = time.monotonic() - forked.began
            self._result(forked.jobs.pop(0), outcome)
        for job in forked.jobs:
            self._launch([job])
        if forked.last.get("outcome") == "got":
            self._ask_freshly(forked)
        else:
            self._close_questions(forked, forked.last)

    def _sweep(self) -> None:
        """Kill the orphans that we adopted: a fork's descendants stay its own until it ends.

        Questions are no orphans. They become ours when the process that forked them has ended, and by then it has
        told of them: so the look at our children comes before the hearing.
        """
        ours = set(vitals.children_of(os.getpid()))
        for forked in [each for each in self._running.values() if each.questions]:
            for event in forked.drain():
                self._hear(forked, event)
        for pid in ours - set(self._running) - self._unkillable:
            vitals.kill_tree(pid)

    def _interrupt(self) -> None:
        """Say of everything that is unfinished that it was interrupted."""
        for forked in list(self._running.values()):
            for event in forked.drain():
                self._hear(forked, event)
            for job in forked.jobs[:1]:
                self._result(job, {"outcome": "failed", "reason": f"interrupted in {forked.culprit}"})
            for job in (*forked.jobs[1:], *(job for job, _ in forked.take_questions())):
                self._result(job, _INTERRUPTED)
        for job in self._waiting.jobs():
            self._result(job, _INTERRUPTED)

    def clear_away(self) -> None:
        """End every process that descends from us, and wait for that for a short time."""
        for pid in self._running:
            vitals.kill_tree(pid)
        vitals.end_all_children(KILL_WAIT, self._unkillable)
