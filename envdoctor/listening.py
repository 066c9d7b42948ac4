"""The pipes to one supervisor: the request goes out, its answer and what it prints come in, none of them blocks.

``Printed`` is the one pipe of a command that a fix runs.
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
from typing import IO, TYPE_CHECKING

from envdoctor.child.pipes import CHUNK, Kept, Lines, read

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_FINAL = 16 << 20  # what is still read after the end; a process that escaped may go on printing
_NOTHING = memoryview(b"")


class Streams:
    """One supervisor's request, answer, stdout and stderr. ``hear`` is called with each line of the answer.

    ``lasting``: stdin stays open after what is sent; more may follow, and its end means that we have gone.
    """

    def __init__(
        self,
        answer: int,
        stdin: IO[bytes],
        printed: Sequence[IO[bytes]],
        request: bytes,
        hear: Callable[[bytes], None],
        *,
        lasting: bool = False,
    ) -> None:
        self._answer, self._stdin, self._printed, self._lasting = answer, stdin, printed, lasting
        self._unsent, self._hear = memoryview(request), hear
        self._lines = Lines()
        self._kept = {stream.fileno(): Kept() for stream in printed}
        self._selector = selectors.DefaultSelector()
        for fd in (answer, *self._kept):
            os.set_blocking(fd, False)
            self._selector.register(fd, selectors.EVENT_READ)
        os.set_blocking(stdin.fileno(), False)
        self._selector.register(stdin, selectors.EVENT_WRITE)
        self._write()

    def send(self, more: bytes) -> None:
        """Send something after the request, on a stdin that stays open."""
        if self._stdin.closed:
            return
        if not self._unsent:
            self._selector.register(self._stdin, selectors.EVENT_WRITE)
        self._unsent = memoryview(bytes(self._unsent) + more)
        self._write()

    def hang_up(self) -> None:
        """End stdin, whatever is still unsent."""
        self._unsent, self._lasting = _NOTHING, False
        if not self._stdin.closed:
            with contextlib.suppress(KeyError):
                self._selector.unregister(self._stdin)
            self._stdin.close()

    @property
    def answer_ended(self) -> bool:
        """Tell whether the supervisor has closed its answer: it ends any moment."""
        return self._answer not in self._selector.get_map()

    @property
    def endless(self) -> bool:
        """Tell whether a line of the answer has grown longer than any may be."""
        return self._lines.endless

    @property
    def said(self) -> str:
        """Give what the supervisor printed, stderr first."""
        return "\n".join(filter(None, (kept.text().strip() for kept in reversed(self._kept.values()))))

    def attend(self, seconds: float) -> None:
        """Wait at most so long for any stream, and read or write what can be."""
        for key, ready in self._selector.select(max(0.0, seconds)):
            if ready & selectors.EVENT_WRITE:
                self._write()
                continue
            data = read(key.fd)
            self._feed(key.fd, data)
            if not data:
                self._selector.unregister(key.fd)

    def _write(self) -> None:
        """Write what the pipe takes of what is to be sent; close it after the last byte, or when nobody reads it."""
        with contextlib.suppress(BlockingIOError):
            try:
                self._unsent = self._unsent[os.write(self._stdin.fileno(), self._unsent) :]
            except BrokenPipeError:
                self._unsent, self._lasting = _NOTHING, False
        if not self._unsent:
            self._selector.unregister(self._stdin)
            if not self._lasting:
                self._stdin.close()

    def _feed(self, fd: int, data: bytes) -> None:
        if fd != self._answer:
            self._kept[fd].feed(data)
            return
        for line in self._lines.feed(data):
            self._hear(line)

    def drain(self) -> None:
        """Read what is left, after the end, and tell a last line that has no end."""
        for fd in (self._answer, *self._kept):
            for _ in range(_FINAL // CHUNK):
                data = read(fd)
                if not data:
                    break
                self._feed(fd, data)
        self._feed(self._answer, b"\n")

    def close(self) -> None:
        """Close our ends."""
        self._selector.close()
        os.close(self._answer)
        for stream in (self._stdin, *self._printed):
            with contextlib.suppress(OSError):
                stream.close()


class Printed:
    """What a command prints on one pipe: ``hear`` is called with each line; the beginning and the end are kept."""

    def __init__(self, fd: int, hear: Callable[[str], object]) -> None:
        self._fd, self._hear = fd, hear
        self._lines, self._kept = Lines(), Kept()
        os.set_blocking(fd, False)

    @property
    def said(self) -> str:
        """Give what was printed, its middle left out where it is long."""
        return self._kept.text()

    def attend(self, seconds: float) -> bool:
        """Wait at most so long for something; tell whether there was any."""
        select.select([self._fd], [], [], max(0.0, seconds))
        return self._read()

    def _read(self) -> bool:
        data = read(self._fd)
        self._kept.feed(data)
        for line in self._lines.feed(data):
            self._hear(line.decode("utf-8", "replace"))
        return bool(data)

    def drain(self) -> None:
        """Read what is left, after the end, and tell a last line that has no end."""
        for _ in range(_FINAL // CHUNK):
            if not self._read():
                break
        for line in self._lines.feed(b"\n"):
            self._hear(line.decode("utf-8", "replace"))
