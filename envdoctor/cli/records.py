"""The records of what ``fix --apply`` changed: in the user's state directory, for nobody else to read."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from envdoctor.cli.keeping import ELSEWHERE
from envdoctor.cli.streams import OwnFailure
from envdoctor.remedy.apply import SCHEMA, Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MOST_LOOKED_AT = 50  # the newest records; an environment whose last change is older is not asked about
LARGEST = 4 << 20  # a list of ten thousand packages is 1 MB
EXPECTED = "expected a record that envdoctor fix --apply wrote, or 'last'"


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Give the directory of the records: below XDG_STATE_HOME, or ~/.local/state."""
    said = environ.get("XDG_STATE_HOME", "")
    try:
        top = Path(said) if said.startswith("/") else Path("~/.local/state").expanduser()
    except RuntimeError:  # a user that the system does not know, without HOME
        raise OwnFailure(f"there is no home directory to keep records in; {ELSEWHERE}") from None
    return top / "envdoctor" / "fixes"


class Keeper:
    """Writes one record, and again after each step. ``path`` is None until there is something to keep."""

    def __init__(self) -> None:
        self.path: Path | None = None

    def __call__(self, record: Record) -> Path:
        """Write the record where only its owner can read it; a run that cannot keep one must change nothing."""
        try:
            if self.path is None:
                self.path = _new()
            part = self.path.with_suffix(".part")
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as out:
                out.write(msgspec.json.format(msgspec.json.encode(record), indent=2))
            part.replace(self.path)
        except OSError as error:
            raise _cannot_keep(error) from None
        return self.path


@contextlib.contextmanager
def held(prefix: str) -> Iterator[tuple[int, ...]]:
    """Keep one environment for one run at a time: two that install into it at once leave neither's packages.

    Gives what an installer has to hold open: the lock ends with the last process that does, however that ends. An
    installer may outlive a doctor that was killed. Where no lock can be made, none is held.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield ()
        return
    name = hashlib.sha256(prefix.encode("utf-8", "replace")).hexdigest()[:16]
    try:
        folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(folder() / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _cannot_keep(error) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        said = f"another envdoctor fix, or an installer that it has started, changes {prefix} now"
        raise click.UsageError(f"{said}: wait until it has ended") from None
    try:
        yield (handle,)
    finally:
        os.close(handle)


def is_held(prefix: str) -> bool:
    """Tell whether a run, or an installer that one has started, changes this environment now."""
    try:
        with held(prefix):
            return False
    except click.UsageError:
        return True
    except OwnFailure:  # where no lock can be made, nobody has one
        return False


def _cannot_keep(error: OSError) -> OwnFailure:
    return OwnFailure(f"no record can be kept in {folder()}: {error.strerror or error}; {ELSEWHERE}")


def _new() -> Path:
    where = folder()
    where.mkdir(parents=True, exist_ok=True, mode=0o700)
    now = dt.datetime.now(dt.timezone.utc)
    return where / f"{now:%Y%m%dT%H%M%S.%f}Z-{os.getpid()}.json"


def left_open(prefix: str) -> tuple[Path, Record] | None:
    """Give the newest record of an environment if nobody saw the end of its last step; None when all is well.

    Where no record can be read, this user has written none.
    """
    try:
        found = _all()
    except (OSError, OwnFailure):
        return None
    for path in reversed(found[-MOST_LOOKED_AT:]):
        try:
            record = msgspec.json.decode(path.read_bytes(), type=Record)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            continue  # somebody else's, or a later version's
        if record.prefix == prefix:
            return (path, record) if record.under_way else None
    return None


def close(path: Path, record: Record) -> None:
    """Write down that what a record says was taken back: nothing is under way any more, and nothing changed."""
    keeper = Keeper()
    keeper.path = path
    keeper(replace(record, after=record.before, under_way=""))


def read(word: str) -> tuple[Path, Record]:
    """Read the record that ``word`` names, or the newest for ``last``. What is none is a usage error."""
    path = _last() if word == "last" else Path(word)
    try:
        if path.stat().st_size > LARGEST:
            raise click.UsageError(f"--undo: {path} is too large; {EXPECTED}")
        record = msgspec.json.decode(path.read_bytes(), type=Record)
    except OSError as error:
        raise click.UsageError(f"--undo: cannot read {path}: {error.strerror or error}; {EXPECTED}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise click.UsageError(f"--undo: {path}: {error}; {EXPECTED}") from None
    if record.schema != SCHEMA:
        raise click.UsageError(f"--undo: {path} has schema {record.schema!r}; {EXPECTED}")
    return path, record


def _all() -> list[Path]:
    """Name the records, the oldest first. Raises ``OSError`` where the directory is another user's."""
    try:
        return sorted(each for each in folder().iterdir() if each.suffix == ".json")
    except FileNotFoundError:
        return []


def _last() -> Path:
    try:
        found = _all()
    except OSError as error:
        raise OwnFailure(f"--undo: {folder()} cannot be read: {error.strerror or error}; {ELSEWHERE}") from None
    if not found:
        raise click.UsageError(f"--undo: there is no record in {folder()}: no --apply of this user changed anything")
    return found[-1]
