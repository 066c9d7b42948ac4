"""[payload] The pipes between the supervisor and one of its forks: how they are made, read and kept small."""

from __future__ import annotations

import contextlib
import os
import select
from typing import Iterable, List, Tuple

from envdoctor.child.encode import LARGEST

CHUNK = 1 << 16
_HIGH = 900  # where a patient that closes every small descriptor does not reach


class Kept:
    """What a process printed: its beginning and its end are kept, what lies between is counted."""

    def __init__(self, head: int = 8192, tail: int = 8192) -> None:
        self._head, self._tail = bytearray(), b""
        self._limits = (head, tail)
        self.total = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self.total += len(data)
        room = self._limits[0] - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail = (self._tail + data if len(data) < self._limits[1] else data)[-self._limits[1] :]

    @property
    def dropped(self) -> int:
        """Count the bytes that were not kept."""
        return self.total - len(self._head) - len(self._tail)

    def text(self) -> str:
        """Give what was kept, with a line that counts what was not."""
        gap = f"\n[... {self.dropped} bytes left out ...]\n".encode() if self.dropped else b""
        return (bytes(self._head) + gap + self._tail).decode("utf-8", "replace")


class Lines:
    """Bytes split into lines. A line that is longer than the limit is left out and counted."""

    def __init__(self, limit: int = LARGEST + CHUNK) -> None:
        self._limit = limit
        self._parts: List[bytes] = []
        self._size = 0
        self.too_long = 0

    @property
    def endless(self) -> bool:
        """Tell whether the line that is coming in is longer than any may be."""
        return self._size > self._limit

    def feed(self, data: bytes) -> List[bytes]:
        """Give the lines that these bytes complete."""
        *complete, rest = data.split(b"\n")
        lines = [each for each in map(self._complete, complete) if each]
        self._add(rest)
        return lines

    def _complete(self, end: bytes) -> bytes:
        self._add(end)
        line = b"".join(self._parts)
        self.too_long += self._size > self._limit
        self._parts, self._size = [], 0
        return line

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._limit:
            self._parts = []
        elif part:
            self._parts.append(part)


class Pipes:
    """Answer, stdout, stderr and stack dumps of a fork, and the pipe on which a waiting fork is told to go on."""

    def __init__(self) -> None:
        pairs = [os.pipe() for _ in range(4)]
        self.answer, self.stdout, self.stderr, self.dump = (pair[0] for pair in pairs)
        self._theirs = [pair[1] for pair in pairs]
        self._wait, self._go = os.pipe()
        for fd in self.ours:
            os.set_blocking(fd, False)

    @property
    def ours(self) -> Tuple[int, int, int, int]:
        """Name the ends that the supervisor reads."""
        return self.answer, self.stdout, self.stderr, self.dump

    @property
    def theirs(self) -> Tuple[int, ...]:
        """Name the ends that belong to the fork."""
        return (*self._theirs, self._wait)

    def close_theirs(self) -> None:
        """Close the fork's ends in the supervisor."""
        for fd in self.theirs:
            os.close(fd)

    def close(self) -> None:
        """Close the supervisor's ends."""
        for fd in (*self.ours, self._go):
            os.close(fd)

    def go(self) -> None:
        """Tell a waiting fork to go on."""
        with contextlib.suppress(OSError):  # it has died; its end is told elsewhere
            os.write(self._go, b"g")

    def wait_for_go(self) -> bool:
        """Wait, in the fork, until the supervisor says so; False when it has died instead."""
        return bool(os.read(self._wait, 1))

    def told_within(self, seconds: float) -> bool:
        """Wait, in the fork, at most so long; True when the supervisor has told it to go on, or has died."""
        return bool(select.select([self._wait], [], [], max(0.0, seconds))[0])

    def take_over(self, keep: Iterable[int] = ()) -> Tuple[int, int]:
        """Make the fork's ends its stdout and stderr, close everything foreign, and give (answer, dump)."""
        answer, stdout, stderr, dump = self._theirs
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        answer, dump = _raise(answer), _raise(dump)
        close_all_but({0, 1, 2, answer, dump, self._wait, *keep})
        return answer, dump


def _raise(fd: int) -> int:
    """Move a descriptor up, out of the way of code that closes what it did not open."""
    import fcntl

    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    except OSError:  # a limit below that: it stays where it is
        return fd


def close_all_but(keep: Iterable[int]) -> None:
    """Close every descriptor of this process that is not named."""
    kept = set(keep)
    try:
        there = [int(each) for each in os.listdir("/proc/self/fd")]
    except OSError:
        there = list(range(1024))
    for fd in there:
        if fd not in kept:
            with contextlib.suppress(OSError):  # the listing's own descriptor is closed already
                os.close(fd)


def read(fd: int, most: int = CHUNK) -> bytes:
    """Read what is there now; empty at the end of the stream and when nothing is there."""
    try:
        return os.read(fd, most)
    except OSError:
        return b""
