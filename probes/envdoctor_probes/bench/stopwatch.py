"""[payload] Times one operation until enough is known of it: warm-up, repeats, stopping rule, dispatch and wall."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, List, Optional, Tuple

if TYPE_CHECKING:
    from envdoctor_probes.bench.place import Operation, Place
    from envdoctor_probes.bench.stopping import Rule
    from envdoctor_probes.bench.wanted import Deadline

__all__ = ["Samples", "dispatch_and_wall", "in_turn", "take", "waiting_seconds", "warm_up"]

SHORTEST = 1e-3  # of a sample on the CPU's clock; shorter operations are timed together
SHORTEST_ON_GPU = 5e-5
_WARM_CALLS = 3
_SINGLES, _FEWEST_SINGLES, _SINGLES_SECONDS = 20, 3, 3.0


@dataclass(frozen=True)
class Samples:
    """What the stopwatch read: seconds of one operation, by the device and by the host."""

    seconds: Tuple[float, ...] = ()
    dispatch_seconds: Tuple[float, ...] = ()
    wall_seconds: Tuple[float, ...] = ()
    repeats: int = 1
    stopped_because: str = ""
    waited_seconds: Optional[float] = None


def take(
    place: Place,
    operation: Operation,
    rule: Rule,
    deadline: Deadline,
    *,
    flush: bool = True,
    unbroken: bool = False,
    singles: bool = False,
    warm_seconds: float = 0.0,
    warmed: bool = False,
) -> Samples:
    """Warm up, then time the operation until the rule or the deadline says so.

    ``flush``: empty the device's cache before each. ``unbroken``: one after the other without a gap, as training
    steps are. ``singles``: afterwards synchronise some one by one, to tell the host's time from the device's.
    ``warmed``: it has been run before, once is enough to see how long it takes.
    """
    if warmed and unbroken and deadline.left <= 0:  # its check took all of its share: it is long, and it is warm
        once = SHORTEST
    else:
        once = warm_up(place, operation, warm_seconds, deadline, 1 if warmed else _WARM_CALLS)
    repeats = 1 if unbroken else repeats_for(once, SHORTEST_ON_GPU if place.is_cuda else SHORTEST)
    timed = operation if repeats == 1 else repeated(operation, repeats)
    before = place.flusher() if flush and repeats == 1 else None
    waited = None if place.is_cuda else waiting_seconds()
    seconds, why = _until(place, timed, before, rule, deadline, unbroken=unbroken)
    if waited is not None:
        waited = max(0.0, (waiting_seconds() or 0.0) - waited)
    dispatch, wall = dispatch_and_wall(place, operation, deadline) if singles and place.is_cuda else ((), ())
    return Samples(tuple(each / repeats for each in seconds), dispatch, wall, repeats, why, waited)


def _until(
    place: Place, operation: Operation, before: Optional[Operation], rule: Rule, deadline: Deadline, *, unbroken: bool
) -> Tuple[List[float], str]:
    began = time.monotonic()
    seconds: List[float] = []
    why = ""
    for each in place.times(operation, before, unbroken=unbroken):
        seconds.append(each)
        why = rule.verdict(seconds, time.monotonic() - began, deadline.left, exhausted=deadline.exhausted)
        if why:
            break
    place.synchronize()
    return seconds, why


def warm_up(place: Place, operation: Operation, seconds: float, deadline: Deadline, least: int = _WARM_CALLS) -> float:
    """Run the operation a few times, and for so long; give the seconds that the last run took."""
    began = time.monotonic()
    calls = 0
    while True:
        started = time.perf_counter()
        operation()
        place.synchronize()
        took = time.perf_counter() - started
        calls += 1
        elapsed = time.monotonic() - began
        enough = calls >= least or elapsed >= max(1.0, seconds)
        if (enough and elapsed >= seconds) or deadline.left <= 0:
            return took


def waiting_seconds(tasks: str = "/proc/self/task") -> Optional[float]:
    """Give how long this process's threads have waited for a CPU by now, together; None where the kernel is silent."""
    total = 0
    try:
        for thread in os.listdir(tasks):
            with open(os.path.join(tasks, thread, "schedstat"), encoding="ascii") as file:
                total += int(file.read().split()[1])
    except (OSError, ValueError, IndexError):  # a kernel without it, or a thread that has just ended
        return None
    return total / 1e9


def repeats_for(once: float, shortest: float) -> int:
    """Say how many operations a sample must hold to be long enough for the clock."""
    return 1 if once >= shortest else min(1000, int(shortest / max(once, 1e-7)) + 1)


def repeated(operation: Operation, times: int) -> Operation:
    """Give an operation that is this one, so many times."""

    def run() -> None:
        for _ in range(times):
            operation()

    return run


def in_turn(operations: List[Operation]) -> Operation:
    """Give an operation that is the next of these each time, so that no run finds the last one's data in a cache."""
    if len(operations) == 1:
        return operations[0]
    number = len(operations)
    state = [0]

    def run() -> Any:
        at = state[0]
        state[0] = (at + 1) % number
        return operations[at]()

    return run


def dispatch_and_wall(
    place: Place, operation: Operation, deadline: Deadline, most: int = _SINGLES
) -> Tuple[Tuple[float, ...], Tuple[float, ...]]:
    """Run the operation alone, some times: until the call returns, and until the device is done."""
    dispatch: List[float] = []
    wall: List[float] = []
    clock: Callable[[], float] = time.perf_counter
    end = time.monotonic() + _SINGLES_SECONDS
    while len(wall) < most and (len(wall) < _FEWEST_SINGLES or (time.monotonic() < end and not deadline.exhausted)):
        place.synchronize()
        started = clock()
        operation()
        returned = clock()
        place.synchronize()
        dispatch.append(returned - started)
        wall.append(clock() - started)
    return tuple(dispatch), tuple(wall)
