"""Where this machine's own normal is kept: the last saved snapshot of an environment, and dated ones when asked for.

A baseline is a snapshot, or a benchmark's result, which holds one. Files are for their owner alone, written beside
their place and then moved there: a reader sees the old one or the new one, whoever else saves at the same time.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envdoctor.snapshot import Snapshot

MOST_KEPT = 100  # dated snapshots of one environment; a snapshot has 50 to 100 KB
_STAMP = "%Y%m%dT%H%M%S.%fZ"
_FILE = re.compile(r"(\d{8}T\d{6}\.\d{6}Z)-[0-9a-f]+\.json")


@dataclass(frozen=True, slots=True)
class Kept:
    """One dated snapshot: its file, and when it was kept."""

    path: Path
    when: dt.datetime


@dataclass(frozen=True)
class Shelf:
    """The user's state directory, as far as baselines lie in it."""

    top: Path

    @classmethod
    def of_user(cls, environ: Mapping[str, str] = os.environ) -> Shelf:
        """Give the shelf below XDG_STATE_HOME, or below ~/.local/state."""
        said = environ.get("XDG_STATE_HOME", "")
        state = Path(said) if said.startswith("/") else Path("~/.local/state").expanduser()
        return cls(state / "envdoctor")

    def current(self, name: str) -> Path:
        """Give the file of an environment's baseline."""
        return self.top / "baselines" / f"{name}.json"

    def names(self) -> tuple[str, ...]:
        """Name every environment that has a baseline."""
        return tuple(sorted(each.stem for each in _listed(self.top / "baselines") if each.suffix == ".json"))

    def save(self, name: str, document: str) -> Path:
        """Make the document the baseline of an environment. Raises ``OSError``."""
        return write_private(self.current(name), document)

    def keep(self, name: str, document: str, *, most: int = MOST_KEPT) -> Kept:
        """Keep the document under today's date, and let the oldest go beyond ``most``. Raises ``OSError``."""
        now = dt.datetime.now(dt.timezone.utc)
        path = write_private(self.top / "history" / name / f"{now:{_STAMP}}-{os.urandom(3).hex()}.json", document)
        for old in self.history(name)[:-most]:
            with contextlib.suppress(FileNotFoundError):  # somebody else saved at the same time
                old.path.unlink()
        return Kept(path, now)

    def history(self, name: str) -> tuple[Kept, ...]:
        """Give what is kept of an environment, the oldest first; what is no file of ours is left out."""
        found = []
        for each in _listed(self.top / "history" / name):
            match = _FILE.fullmatch(each.name)
            if match:
                when = dt.datetime.strptime(match.group(1), _STAMP).replace(tzinfo=dt.timezone.utc)
                found.append(Kept(each, when))
        return tuple(sorted(found, key=lambda each: each.when))

    def kept_names(self) -> tuple[str, ...]:
        """Name every environment of which something dated is kept."""
        return tuple(sorted(each.name for each in _listed(self.top / "history") if self.history(each.name)))


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def name_of(snapshot: Snapshot) -> str:
    """Name the environment that a snapshot is of: its machine, and the folder that its Python lives in.

    A home directory may be shared by several machines, and a machine has several environments.
    """
    host, packages = snapshot.facts.get("host"), snapshot.facts.get("packages")
    machine = str(getattr(host, "hostname", None) or snapshot.target.via or "unnamed")
    prefix = str(getattr(packages, "prefix", None) or snapshot.target.python or "")
    digest = hashlib.sha256(f"{machine}\n{prefix}".encode("utf-8", "surrogatepass")).hexdigest()[:8]
    parts = (machine.partition(".")[0], PurePath(prefix).name, digest)
    return "-".join(filter(None, (re.sub(r"[^A-Za-z0-9_.]+", "-", each).strip("-.")[:40] for each in parts)))


def at(history: tuple[Kept, ...], moment: dt.datetime) -> tuple[Kept, ...]:
    """Give what is kept, the one to take first: the newest that is not newer than the moment, then older ones.

    Where all are newer, the oldest of them comes first.
    """
    before = [each for each in history if each.when <= moment]
    return tuple(reversed(before)) or history


def write_private(path: Path, text: str) -> Path:
    """Write a file that only its owner may read, whole or not at all. Raises ``OSError``."""
    _make_private(path.parent)
    part = path.with_name(f".{path.name}.{os.urandom(6).hex()}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as out:
            out.write(text.encode("utf-8", "backslashreplace"))
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _make_private(folder: Path) -> None:
    """Make a directory, and those above it that are missing, for the owner alone."""
    if not folder.is_dir():
        _make_private(folder.parent)
        folder.mkdir(exist_ok=True, mode=0o700)
