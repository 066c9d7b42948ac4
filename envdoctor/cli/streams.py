"""stdout carries the format asked for and nothing else; stderr carries notices. Pipes may close at any time."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class OwnFailure(Exception):  # noqa: N818 - what happened, in words
    """envdoctor itself cannot go on (a full disk, for instance): exit 4 with these words."""


def notice(text: str) -> None:
    """Say something on stderr; a closed stderr changes nothing."""
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError, ValueError):
        print(_encodable(text, sys.stderr), file=sys.stderr, flush=True)


def write_out(text: str) -> None:
    """Write a document to stdout. A reader that has gone (``| head``) is no fault; a full disk is one (OSError)."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(_encodable(text, sys.stdout))
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer would raise again when Python flushes it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _encodable(text: str, stream: IO[str]) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def unicode_on(stream: IO[str] | None) -> bool:
    """Tell whether the stream can carry the signs that the terminal report uses."""
    encoding = getattr(stream, "encoding", None) or "ascii"
    try:
        "✗✓·…".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def color_on(stream: IO[str] | None) -> bool:
    """Tell whether to colour: NO_COLOR forbids it, FORCE_COLOR asks for it, else a terminal that can."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in {"", "0"}:
        return True
    return redraws(stream)


def redraws(stream: IO[str] | None) -> bool:
    """Tell whether a person reads along on a terminal that obeys escape sequences: on others a line stays for ever."""
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"


def is_terminal(stream: IO[str] | None) -> bool:
    """Tell whether a person reads along; a closed stream is none."""
    with contextlib.suppress(ValueError):
        return stream is not None and stream.isatty()
    return False


def width_of(stream: IO[str] | None) -> int:
    """Give the columns to write for: COLUMNS, else the terminal's, else 80."""
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and int(said):
        return int(said)
    with contextlib.suppress(OSError, ValueError):
        if stream is not None and is_terminal(stream):
            return os.get_terminal_size(stream.fileno()).columns or 80
    return 80


def write_file(path: Path, text: str) -> None:
    """Write a document so that a reader sees the old one or the new one, never a part. Raises OSError.

    A device or a pipe (``/dev/null``, ``/dev/stdout``) is written to, not replaced; a link is followed.
    """
    target = Path(os.path.realpath(path))
    data = text.encode("utf-8", "backslashreplace")
    if target.exists() and not target.is_file():
        with target.open("wb") as out:
            out.write(data)
        return
    with _beside(target) as part:
        part.write_bytes(data)
        part.replace(target)


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """Give a name in the same directory for a part, and leave none behind whatever happens."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def why_unwritable(path: Path) -> str | None:
    """Say why ``path`` cannot be written, before minutes are spent on what would go into it; None when it can."""
    try:
        target = Path(os.path.realpath(path))
    except FileNotFoundError:  # a name without a directory, and no working directory
        return "the working directory has been removed"
    if target.is_dir():
        return "is a directory"
    if not target.parent.is_dir():
        return f"there is no directory {target.parent}"
    if target.exists() and not target.is_file():
        return None if os.access(target, os.W_OK) else "may not be written"
    return None if os.access(target.parent, os.W_OK | os.X_OK) else f"the directory {target.parent} may not be written"


def draw(text: str) -> None:
    """Write to stderr without a line's end: for a line that is drawn again."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(_encodable(text, sys.stderr))
        sys.stderr.flush()


def print_out(text: str) -> None:
    """Write to stdout; when that fails, the run has failed."""
    try:
        write_out(text)
    except OSError as error:
        raise OwnFailure(f"stdout cannot be written: {error.strerror or error}") from None


def save(path: Path, text: str) -> None:
    """Write a file; when that fails, the run has failed."""
    try:
        write_file(path, text)
    except OSError as error:
        raise OwnFailure(f"{path} cannot be written: {error.strerror or error}") from None
