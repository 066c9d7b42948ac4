"""[payload] Signs of life: which processes descend from one, and whether they got anywhere between two looks.

This always reads the live ``/proc``: it watches processes of this run, never the patient's recorded trees.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional, Set, Tuple

# What taking the samples may cost. The kernel charges a whole tick to whoever runs when it strikes, so that on a busy
# machine a few milliseconds of writing a stack down count as two or three of them.
_CPU_TICKS = 1
_CPU_SHARE = 0.03  # of the time between two looks
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_FAULTS = 32
_KERNEL_LISTS_CHILDREN = os.path.exists("/proc/thread-self/children")


@dataclass(frozen=True)
class Vitals:
    """What a process and its descendants have used so far; ``written`` leaves out our own stack dumps.

    ``at`` is the time of the look, in seconds of the monotonic clock; ``ticks`` are the kernel's, of user and system
    time.
    """

    at: float
    pids: Tuple[int, ...] = ()
    ticks: int = 0
    faults: int = 0
    reads: int = 0
    written: int = 0

    def same_as(self, earlier: Vitals) -> bool:
        """Tell whether nothing happened since: no CPU, no page faults, no I/O, no process begun or ended."""
        costs = _CPU_TICKS + _CPU_SHARE * (self.at - earlier.at) * _TICKS_A_SECOND
        return (
            self.pids == earlier.pids
            and self.ticks - earlier.ticks <= costs
            and self.faults - earlier.faults <= _FAULTS
            and self.reads == earlier.reads
            and self.written <= earlier.written
        )


def look(pid: int, dumped: int = 0) -> Vitals:
    """Sum up what the process and its descendants have used; ``dumped`` bytes of its output are our own doing."""
    pids = tuple(sorted([pid, *descendants(pid)]))
    stats = [found for found in map(_stat, pids) if found]
    counters = [_io(each) for each in pids]
    return Vitals(
        time.monotonic(),
        pids,
        sum(int(n) for stat in stats for n in stat[11:15]),
        sum(int(n) for stat in stats for n in stat[7:11]),
        sum(io.get("rchar", 0) + io.get("syscr", 0) for io in counters),
        sum(io.get("wchar", 0) for io in counters) - dumped,
    )


def state(pid: int) -> str:
    """Give the process's state letter (``R``, ``S``, ``D``, ``T``, ``Z``), or an empty string."""
    stat = _stat(pid)
    return stat[0] if stat else ""


def waits_in(pid: int) -> str:
    """Name the kernel function the process sleeps in, where the kernel tells."""
    found = _read(f"/proc/{pid}/wchan").strip()
    return "" if found == "0" else found


def descendants(pid: int) -> List[int]:
    """List the processes that descend from this one, nearest first."""
    found: List[int] = []
    parents = [pid]
    while parents:
        children = [each for parent in parents for each in children_of(parent)]
        found += children
        parents = children
    return found


def children_of(pid: int) -> List[int]:
    """List the children of a process, from the kernel's own list or else from a look at every process."""
    if not _KERNEL_LISTS_CHILDREN:
        return [child for child, parent in _parents().items() if parent == pid]
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:  # it is gone
        return []
    return [int(each) for task in tasks for each in _read(f"/proc/{pid}/task/{task}/children").split()]


def _parents() -> Dict[int, int]:
    """Map every process to its parent."""
    with contextlib.suppress(OSError):
        numbers = [int(each) for each in os.listdir("/proc") if each.isdigit()]
        return {number: int(stat[1]) for number, stat in ((n, _stat(n)) for n in numbers) if stat}
    return {}


def marked(mark: str) -> List[int]:
    """List the processes whose environment, as it was when they began, holds this ``NAME=value``."""
    wanted, ours = mark.encode(), os.getpid()
    numbers = [int(each) for each in os.listdir("/proc") if each.isdigit()] if os.path.isdir("/proc") else []
    return [n for n in numbers if n != ours and wanted in _environment(n)]


def _environment(pid: int) -> List[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:  # gone, or another user's
        return []


def kill(pids: Iterable[int]) -> None:
    """Send SIGKILL to each process; one that is gone already, or not ours to end, is let be."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def kill_tree(pid: int) -> None:
    """Send SIGKILL to a process, its group and its descendants, until a look finds no further one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    struck: Set[int] = set()
    while True:
        found = {pid, *descendants(pid)} - struck
        if not found:
            return
        kill(found)
        struck |= found


def end_all_children(seconds: float, hopeless: Set[int]) -> None:
    """Kill all that descends from this process and wait for it, at most so long; ``hopeless`` are not waited for."""
    deadline = time.monotonic() + seconds
    with contextlib.suppress(ChildProcessError):  # none is left
        while time.monotonic() < deadline:
            children = set(children_of(os.getpid()))
            for pid in children:
                kill_tree(pid)
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0 and not children - hopeless:
                return
            if pid == 0:
                time.sleep(0.001)


def end_all_marked(mark: str, seconds: float) -> None:
    """Kill every process that bears this mark, and look again until none is left, at most so long."""
    deadline = time.monotonic() + seconds
    while True:
        found = [pid for pid in marked(mark) if state(pid) != "Z"]
        if not found or time.monotonic() > deadline:
            return
        kill(found)
        time.sleep(0.005)


def _stat(pid: int) -> Optional[List[str]]:
    """Give the fields of ``/proc/PID/stat`` from the state on, or None when the process is gone."""
    words = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return words if len(words) > 20 else None


def _io(pid: int) -> Dict[str, int]:
    pairs = (line.partition(":") for line in _read(f"/proc/{pid}/io").splitlines())
    return {name: int(value) for name, _, value in pairs}


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
