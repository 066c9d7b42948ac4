"""[payload] How a process comes into being: from the clean supervisor, or from the one that has imported torch.

The process that imported torch computes nothing. It forks one process for each question, says their pids and ends;
the supervisor adopts them, so that they are watched, drained and ended like all others.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from typing import TYPE_CHECKING, List, NoReturn, Optional, Sequence, Tuple

from envdoctor.child import kernel
from envdoctor.child.answering import Desk, Voice, words
from envdoctor.child.jobs import Job, Setting
from envdoctor.child.pipes import Pipes

if TYPE_CHECKING:
    from envdoctor.child.paths import Paths

Question = Tuple[Job, Pipes]
_BROKEN = 70
_TICK = 0.0005


def start(setting: Setting, paths: Paths, jobs: Sequence[Job], pipes: Pipes, questions: Sequence[Question]) -> int:
    """Fork a process that runs the jobs, and give its pid."""
    parent = os.getpid()
    pid = fork_quietly()
    if pid == 0:
        _live(Desk(setting, paths, Voice(-1), -1, {}), parent, jobs, pipes, questions)
    return pid


def _live(desk: Desk, parent: int, jobs: Sequence[Job], pipes: Pipes, questions: Sequence[Question]) -> NoReturn:
    code = _BROKEN
    try:
        _separate(parent)
        keep = tuple(fd for _, theirs in questions for fd in theirs.theirs)
        desk.settle(pipes, any(job.as_patient for job in jobs), keep)
        for job in jobs:
            desk.ask(job)
        if questions:
            _hand_on(desk, questions)
        code = 0
    except BaseException as error:
        sys.stderr.write(f"envdoctor: {words(error)}\n")
    finally:
        os._exit(code)


def _separate(parent: int) -> None:
    """Leave the supervisor's session, and end with the supervisor even when it is killed."""
    os.setsid()
    kernel.die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(_BROKEN)
    kernel.adopt_orphans()
    kernel.write_no_core()


def _hand_on(desk: Desk, questions: Sequence[Question]) -> None:
    """Fork a process for each question, or say why none can be asked, or why not from here."""
    refused = _refused(desk)
    if refused:
        desk.voice.say({"event": "closed", "outcome": refused[0], "reason": refused[1]})
        return
    why = unfit()
    if why:
        desk.voice.say({"event": "unfit", "reason": why})
        return
    kernel.adopt_orphans(wanted=False)
    parent = os.getpid()
    for job, pipes in questions:
        pid = fork_quietly()
        if pid == 0:
            _question(desk, parent, job, pipes)
        desk.voice.say({"event": "forked", "probe": job.name, "pid": pid})


def _refused(desk: Desk) -> Optional[Tuple[str, str]]:
    """Say why nothing can be asked of torch: it is absent, or its import failed."""
    if desk.outcome != "got":
        return desk.outcome, desk.reason
    for fact in desk.facts.values():
        if getattr(fact, "imported", True) is False:
            said = (str(getattr(fact, name, None) or "") for name in ("error_type", "error"))
            return "failed", ": ".join(filter(None, said))
    return None


def unfit() -> str:
    """Say why this process must not be forked: another thread may hold a lock that nobody would ever release.

    Threads that end themselves before a fork (OpenBLAS has such a handler) are no obstacle: a trial fork shows it.
    """
    try:
        if _threads() > 1:
            pid = fork_quietly()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
        if _threads() > 1:
            return "the import started threads"
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            return "the import mapped libcuda" if any("/libcuda.so" in line for line in file) else ""
    except OSError as error:
        return f"its threads and maps cannot be read: {error}"


def _threads() -> int:
    """Count this process's threads; one that is just ending gets a moment to do so."""
    for _ in range(10):
        found = len(os.listdir("/proc/self/task"))
        if found == 1:
            return 1
        time.sleep(_TICK)
    return found


def fork_quietly() -> int:
    """Fork without Python's own words about threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of threads, which were counted above
        return os.fork()


def _question(desk: Desk, parent: int, job: Job, pipes: Pipes) -> NoReturn:
    """Be the process of one question: wait until the supervisor has adopted us and calls, then answer."""
    code = _BROKEN
    try:
        desk.settle(pipes, as_patient=False)
        if not pipes.wait_for_go() or os.getppid() == parent:
            os._exit(_BROKEN)
        _separate(os.getppid())
        desk.ask(job)
        code = 0
    except BaseException as error:
        sys.stderr.write(f"envdoctor: {words(error)}\n")
    finally:
        os._exit(code)


def split(jobs: Sequence[Job]) -> Tuple[List[Job], List[Job]]:
    """Part the jobs of one process into those it runs itself and the questions asked after it has imported torch."""
    return [job for job in jobs if not job.after_import], [job for job in jobs if job.after_import]
