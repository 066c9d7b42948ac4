"""Where verdicts are kept: one file each in a private directory, written whole or not at all.

Several jobs may read and write at once. What cannot be read, is another user's, or does not hold together is ignored
and told; what cannot be written is told as well, and stops nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
import time
from typing import TYPE_CHECKING, Any

from envdoctor.gate.fingerprint import size_and_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envdoctor.gate.fingerprint import File

SCHEMA = "envdoctor.verdict/1"
# No link is followed, and a pipe in a verdict's place is not waited for; Windows knows neither.
OPEN = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"))
MOST_SECONDS = 24 * 3600.0
MOST_BYTES = 16 << 20
MOST_KEPT = 64
AS_ROOT = "as root no verdict is kept unless a directory is named for it"
NO_HOME = "there is no home directory to keep verdicts in: name a directory for them"


class Shelf:
    """The directory that verdicts are kept in; ``why`` says why there is none. ``notes`` is what went wrong."""

    def __init__(self, folder: str = "", why: str = "") -> None:
        self.folder, self.why = folder, why
        self.notes: list[str] = []

    def find(self, key: str) -> tuple[dict[str, Any], str] | None:
        """Give the verdict kept under this key and its facts as JSON text; None when there is none that holds."""
        path = self._path(key)
        try:
            with open(os.open(path, OPEN), "rb") as file:
                why = _why_not(os.fstat(file.fileno()))
                data = b"" if why else file.read(MOST_BYTES)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                self.notes.append(f"a kept verdict is ignored: {path}: {error.strerror}")
            return None
        why = why or _problem(data, key)
        if why:
            self.notes.append(f"a kept verdict is ignored: {path}: {why}")
            return None
        head, _, facts = data.decode().partition("\n")
        verdict: dict[str, Any] = json.loads(head)
        return (verdict, facts) if _holds(verdict) else None

    def keep(self, key: str, verdict: dict[str, Any], facts: str, files: Sequence[File]) -> None:
        """Keep a verdict under this key. When that fails, the reason is told in ``notes``."""
        head = {"schema": SCHEMA, "key": key, "kept": time.time(), "files": files, "report": verdict}
        head["length"] = len(facts)  # a file that was cut off may end in a brace too
        part = os.path.join(self.folder, f".{secrets.token_hex(8)}.part")
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            try:
                with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(f"{json.dumps(head)}\n{facts}".encode())
                os.replace(part, self._path(key))
            finally:
                with contextlib.suppress(OSError):  # it was replaced, or could not be made
                    os.unlink(part)
            self._tidy()
        except OSError as error:
            self.notes.append(f"the verdict could not be kept in {self.folder}: {error.strerror or error}")

    def _path(self, key: str) -> str:
        return os.path.join(self.folder, f"{key}.json")

    def _tidy(self) -> None:
        """Remove the oldest verdicts beyond a limit, and what jobs that were killed have left half written."""
        with os.scandir(self.folder) as found:
            ours = [(size_and_time(each.path)[1], each) for each in found if each.name.endswith((".json", ".part"))]
        old = [each for made, each in ours if each.name.endswith(".part") and made < (time.time() - 3600) * 1e9]
        kept = sorted((pair for pair in ours if pair[1].name.endswith(".json")), key=lambda pair: pair[0])
        for each in (*old, *(entry for _, entry in kept[:-MOST_KEPT])):
            with contextlib.suppress(FileNotFoundError):  # another job was faster
                os.unlink(each.path)


def shelf(cache: bool | str) -> Shelf:
    """Give the place to keep verdicts in: the named directory, or for True the user's cache directory."""
    if isinstance(cache, str):
        return Shelf(cache)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Shelf(why=AS_ROOT)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    if not os.path.isabs(home):
        return Shelf(why=NO_HOME)
    return Shelf(os.path.join(home, "envdoctor", "verdicts"))


def _why_not(found: os.stat_result) -> str:
    if not stat.S_ISREG(found.st_mode):
        return "it is no file"
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        return "it belongs to another user"
    return "it is too large" if found.st_size >= MOST_BYTES else ""


def _problem(data: bytes, key: str) -> str:
    """Say what is wrong with a file's content; empty when it is one of ours and whole."""
    try:
        head, newline, facts = data.decode().partition("\n")
        told = json.loads(head)
        whole = told["schema"] == SCHEMA and told["key"] == key and isinstance(told["report"], dict)
        whole = whole and float(told["kept"]) > 0 and all(len(each) == 3 for each in told["files"])
        whole = whole and bool(newline) and len(facts) == told["length"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "it cannot be read"
    return "" if whole else "it is not whole"


def _holds(told: dict[str, Any]) -> bool:
    """Tell whether a verdict is young enough and its files are as they were."""
    age = time.time() - told["kept"]
    return 0 <= age <= MOST_SECONDS and all(size_and_time(path) == (size, at) for path, size, at in told["files"])
