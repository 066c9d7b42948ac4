"""[payload] One suite under way: every measurement gets a state, whatever happens, and is answered with at once."""

from __future__ import annotations

import contextlib
import gc
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

from envdoctor.facts.bench import Measured
from envdoctor_probes.bench.stopping import CPU_RULE, GPU_RULE, QUICK_GPU_RULE, Rule
from envdoctor_probes.bench.stopwatch import Samples, take

if TYPE_CHECKING:
    from envdoctor.probe import Context
    from envdoctor_probes.bench.place import Operation, Place
    from envdoctor_probes.bench.wanted import Deadline, Wanted

__all__ = ["GivenUp", "NotApplicable", "Suite", "Task", "Work", "is_out_of_memory", "words"]

_WORDS = 2000
NO_TIME = "the time for this suite was over"


class NotApplicable(Exception):  # noqa: N818 - an answer, not an error
    """This device, or this torch, does not have what is to be measured; the words say why."""


class GivenUp(Exception):  # noqa: N818 - an answer, not an error
    """Making it ready took longer than there was time; the words say how long."""


@dataclass(frozen=True)
class Work:
    """An operation that is ready to be timed.

    ``amount`` of ``unit`` is what it does once. ``check``: compares the result with a reference, gives (correct,
    relative rms error), and runs before anything is timed. ``within``: what must be switched on meanwhile. ``flush``,
    ``unbroken`` and ``singles``: see ``take``.
    """

    operation: Operation
    amount: float
    unit: str
    check: Optional[Callable[[], Tuple[bool, Optional[float]]]] = None
    within: Callable[[], Any] = contextlib.nullcontext
    flush: bool = True
    unbroken: bool = False
    singles: bool = False
    warm_seconds: float = 0.0


@dataclass(frozen=True)
class Task:
    """What is to be measured: its name, how it is made ready, and the memory it will take at least."""

    name: str
    prepare: Callable[[], Work]
    config: Dict[str, str]
    precision: str
    needs_bytes: float = 0.0
    rule: Optional[Rule] = None


class Suite:
    """The measurements of one suite. ``answer`` makes its fact of those that there are."""

    def __init__(
        self, name: str, context: Context, place: Place, wanted: Wanted, answer: Callable[[Suite], Any]
    ) -> None:
        self.name, self.context, self.place, self.wanted = name, context, place, wanted
        self.deadline = wanted.deadline(name)
        self.measured: List[Measured] = []
        self.label = ""
        self._answer = answer
        self._dead = ""

    @property
    def fact(self) -> Any:
        """Give the fact as it is known by now."""
        return self._answer(self)

    @property
    def rule(self) -> Rule:
        """Give the stopping rule of this device and budget."""
        if not self.place.is_cuda:
            return CPU_RULE
        return QUICK_GPU_RULE if self.wanted.budget == "quick" else GPU_RULE

    def tell(self, note: str = "") -> None:
        """Answer with what is known by now."""
        self.context.so_far(self.fact, note)

    def measure(self, task: Task, parts: float = 0.0) -> Measured:
        """Measure, keep what was found, and answer with it.

        ``parts``: how many measurements are still to come, this one included; it then takes its share of the time.
        """
        found = self.once(task, parts)
        self.measured.append(found)
        self.tell(f"{task.name} {task.precision} {found.state}")
        return found

    def keep(self, task: Task, state: str, reason: str) -> None:
        """Keep that something was not measured, and why."""
        self.measured.append(self.unmeasured(task, state, reason))
        self.tell()

    def unmeasured(self, task: Task, state: str = "", reason: str = "") -> Measured:
        """Give what is known before anything was measured."""
        now = time.monotonic()
        return Measured(
            task.name, self.name, task.config, task.precision, state, reason, label=self.label, began=now, ended=now,
            clock="cuda-events" if self.place.is_cuda else "wall",
        )  # fmt: skip

    def once(self, task: Task, parts: float = 0.0) -> Measured:
        """Measure without keeping it: a state and its reason, or samples."""
        refusal = self._refusal(task)
        if refusal:
            return self.unmeasured(task, *refusal)
        deadline = self.deadline.part(parts) if parts else self.deadline
        what = " ".join(filter(None, (task.name, task.precision, *task.config.values())))
        with self.context.calling(f"{self.name}: {what}"):
            found = self._attempt(task, self.unmeasured(task, "measured"), deadline)
        return replace(found, ended=time.monotonic())

    def _refusal(self, task: Task) -> Optional[Tuple[str, str]]:
        if self._dead:
            return "failed", self._dead
        if self.deadline.left <= 0:
            return "skipped", NO_TIME
        if task.needs_bytes > self.place.allowed_bytes:
            needs, allowed = (each / (1 << 20) for each in (task.needs_bytes, self.place.allowed_bytes))
            return "refused", f"it needs about {needs:,.0f} MiB, and {allowed:,.0f} MiB may be used"
        return None

    def _attempt(self, task: Task, bare: Measured, deadline: Deadline) -> Measured:
        try:
            self.place.release()
            return self._run(task, bare, deadline)
        except NotApplicable as why:
            return replace(bare, state="not-applicable", reason=str(why))
        except GivenUp as why:
            state, reason = "skipped", str(why)
        except (Exception, SystemExit) as error:
            state = "out-of-memory" if is_out_of_memory(error) else "failed"
            reason = words(error)
        self._clean_up(state, reason)
        return replace(bare, state=state, reason=reason, peak_memory_mib=self._peak())

    def _run(self, task: Task, bare: Measured, deadline: Deadline) -> Measured:
        work = task.prepare()
        with work.within():
            correct, error = _checked(work)
            samples: Samples = take(
                self.place, work.operation, task.rule or self.rule, deadline, flush=work.flush,
                unbroken=work.unbroken, singles=work.singles, warm_seconds=work.warm_seconds,
                warmed=work.check is not None,
            )  # fmt: skip
        return replace(
            bare, seconds=samples.seconds, dispatch_seconds=samples.dispatch_seconds,
            wall_seconds=samples.wall_seconds, repeats=samples.repeats, stopped_because=samples.stopped_because,
            work=float(work.amount), work_unit=work.unit, correct=correct, rms_error=error,
            peak_memory_mib=self._peak(), waited_seconds=samples.waited_seconds,
        )  # fmt: skip

    def _peak(self) -> Optional[float]:
        return None if self._dead else self.place.peak_mib()

    def _clean_up(self, state: str, reason: str) -> None:
        """Free what the failed attempt held; after some errors a GPU answers nothing more in this process."""
        gc.collect()
        try:
            self.place.synchronize()
            self.place.release()
        except Exception as error:
            said = reason if state == "failed" else words(error)
            self._dead = f"the GPU does not answer this process any more, since: {said}"


def _checked(work: Work) -> Tuple[Optional[bool], Optional[float]]:
    if work.check is None:
        return None, None
    correct, error = work.check()
    if error is not None and not 0 <= error < float("inf"):
        return False, None  # not a number: nothing of it can be right
    return correct, error


def is_out_of_memory(error: BaseException) -> bool:
    """Tell an allocation that failed from every other error, in whatever words this torch says it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = str(error)
    return any(each in said for each in ("out of memory", "can't allocate memory", "not enough memory"))


def words(error: BaseException) -> str:
    """Give an error's type and words, whatever its ``__str__`` does."""
    try:
        said = str(error)
    except Exception as another:
        said = f"(its words cannot be had: {type(another).__name__})"
    return f"{type(error).__name__}: {said[:_WORDS]}" if said else type(error).__name__
