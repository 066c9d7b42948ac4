"""[payload] What happens inside a fork: it settles in, runs its probes one after the other, and says what they found.

Each step is a line on the fork's own answer pipe, so that what was known before a crash is kept.
"""

from __future__ import annotations

import contextlib
import faulthandler
import math
import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping

from envdoctor.child import TOKEN, command, encode
from envdoctor.child.waiting import GATE
from envdoctor.probe import Context, NotThere, Probe, Ran

if TYPE_CHECKING:
    from envdoctor.child.jobs import Job, Setting
    from envdoctor.child.paths import Paths
    from envdoctor.child.pipes import Pipes

CANNOT_ANSWER = 74
_WORDS = 16384
_FRAMES = 40


class Voice:
    """The answer pipe of this process. A copy of the process that patient code forked off has nothing to say."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pid = os.getpid()

    def say(self, event: Mapping[str, Any]) -> None:
        """Write one event as a line; the process ends when it cannot."""
        self._write(encode.line(event))

    def _write(self, line: bytes) -> None:
        if os.getpid() != self._pid:
            os._exit(0)
        try:
            while line:
                line = line[os.write(self._fd, line) :]
        except OSError:
            os._exit(CANNOT_ANSWER)

    def answer(self, event: Mapping[str, Any]) -> bool:
        """Say the event if it is plain data of a bearable size; otherwise say that the probe failed, and why."""
        try:
            line = encode.line(event)
        except Exception as error:
            self.say({**_blame(event), "reason": f"the answer cannot be written down: {error}"})
            return False
        if len(line) > encode.LARGEST:
            self.say({**_blame(event), "reason": f"the answer is too large: {len(line)} bytes"})
            return False
        self._write(line)
        return True


def _blame(event: Mapping[str, Any]) -> Dict[str, Any]:
    return {"event": "result", "probe": event["probe"], "outcome": "failed", "seconds": event.get("seconds", 0.0)}


def between_dumps(allowed: float) -> float:
    """Give the seconds between two stack dumps: two at least, and the last half a step before the deadline.

    A dump is a sign of life. One that falls on the deadline cannot be told from the process's own doing.
    """
    steps = max(2, math.ceil(allowed / 10.0))
    return max(0.1, allowed / (steps + 0.5))


@dataclass
class Desk:
    """A fork at work: where it runs, what it may import, and what earlier probes of this process found."""

    setting: Setting
    paths: Paths
    voice: Voice
    dump: int
    facts: Dict[str, Any]
    outcome: str = ""
    reason: str = ""
    over: Callable[[float], bool] = bool

    def settle(self, pipes: Pipes, as_patient: bool, keep: tuple[int, ...] = ()) -> None:
        """Make this process one that may die without harm to anyone: own session, own pipes, ended with its parent."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        answer, self.dump = pipes.take_over(keep)
        self.over = pipes.told_within
        self.voice = Voice(answer)
        faulthandler.enable(file=self.dump)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # replaced or absent: then it prints as it likes
                stream.reconfigure(line_buffering=True)  # type: ignore[union-attr] # guarded by the line above
        if as_patient:
            self.paths.become_the_patient()

    def ask(self, job: Job) -> None:
        """Run a probe and say its answer."""
        began = time.monotonic()
        self._watch(job, began)
        for first in job.before:
            result = self._result(first, job.name)
            if result["outcome"] != "got":
                self.voice.say({**cannot_import(result), "event": "result", "probe": job.name})
                return
        result = {**self._result(job, job.name), "event": "result", "probe": job.name}
        result["seconds"] = time.monotonic() - began
        faulthandler.cancel_dump_traceback_later()
        self.outcome, self.reason = result["outcome"], result.get("reason", "")
        self.voice.answer(result)

    def _watch(self, job: Job, now: float) -> None:
        """Have the stack written down now and then: without it nobody can say where a hanging process hangs."""
        allowed = min(job.seconds, self.setting.deadline - now)
        faulthandler.dump_traceback_later(between_dumps(allowed), repeat=True, file=self.dump)

    def _result(self, job: Job, asked: str) -> Dict[str, Any]:
        try:
            probe = self.paths.load(job.where)
            collect: Callable[[Context], Any] = probe.collect if isinstance(probe, Probe) else probe
            fact = collect(self._context(job, asked))
        except NotThere as gone:
            return {"outcome": "absent", "reason": str(gone)}
        except BaseException as error:
            return {"outcome": "failed", "reason": words(error), "detail": stack(error, self.paths)}
        self.facts[job.fact] = fact
        result = {"outcome": "got", "freshness": "fresh-process" if job.child != "static" else "file", "fact": fact}
        if job.name == GATE:
            result["gate"] = {name: bool(getattr(fact, name, False)) for name in ("may_ask_driver", "may_start_cuda")}
        return result

    def _context(self, job: Job, asked: str) -> Context:
        def emit(event: Dict[str, Any]) -> None:
            if event["event"] != "partial":
                self.voice.say({**event, "probe": asked})
            elif asked == job.name:
                self._keep({**event, "probe": asked})

        def run(argv: Any, seconds: float) -> Ran:
            left = max(0.1, self.setting.deadline - time.monotonic())
            with context.calling(os.path.basename(str(argv[0]))):
                return command.run(argv, min(seconds, left))

        environ = {name: value for name, value in os.environ.items() if name != TOKEN}
        context = Context(
            self.setting.roots, self.paths.full, environ, _cwd(), self.setting.options, self.facts, emit, run,
            self.over,
        )  # fmt: skip
        return context

    def _keep(self, event: Mapping[str, Any]) -> None:
        """Say what is known so far; what cannot be said is not worth the probe."""
        with contextlib.suppress(Exception):
            line = encode.line(event)
            if len(line) <= encode.LARGEST:
                self.voice._write(line)  # noqa: SLF001 - same module


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed under our feet
        return ""


def cannot_import(result: Mapping[str, Any]) -> Dict[str, Any]:
    """Say of a question to torch that torch could not be had: absent where it is absent, failed otherwise."""
    reason = str(result.get("reason", ""))
    if result["outcome"] == "absent":
        return {"outcome": "absent", "reason": reason}
    return {"outcome": "failed", "reason": f"torch could not be imported: {reason}"}


def words(error: BaseException) -> str:
    """Give an exception's type and words, whatever its ``__str__`` does."""
    try:
        said = str(error)
    except BaseException as another:
        said = f"(its words cannot be had: {type(another).__name__})"
    name = type(error).__qualname__
    return f"{name}: {said[:_WORDS]}" if said else name


def stack(error: BaseException, paths: Paths) -> str:
    """Give the traceback, its first and last frames, bounded."""
    try:
        with paths.our_imports():
            import traceback
        frames = error.__traceback__ and error.__traceback__.tb_next  # the first one is ours
        lines = traceback.format_exception(type(error), error, frames, limit=-_FRAMES)
        told = "".join(lines)
    except BaseException as another:
        return f"(no traceback: {type(another).__name__})"
    return told if len(told) <= _WORDS else f"{told[: _WORDS // 2]}\n[...]\n{told[-_WORDS // 2 :]}"
