"""Which Python a running process is, so that ``--pid`` examines that one and with the environment it was started with.

A process of another user is read and never imitated: its interpreter and its variables (LD_PRELOAD, PYTHONPATH) would
run somebody else's code with our rights.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PYTHON = re.compile(r"(python|pypy)[\d.]*[a-z]?$")
_TORCH = re.compile(r"\s(/\S.*)/lib(?:64)?/python[\d.]+/(?:site|dist)-packages/torch/lib/")
_DELETED = " (deleted)"


class NoProcess(Exception):  # noqa: N818 - a usage error for the command line to word
    """There is no process of this number to be seen."""


@dataclass(frozen=True)
class Running:
    """What a process was started as. ``python`` is None where its own cannot or must not be started; ``why`` says it.

    ``environ`` and ``cwd`` are None where ours have to do.
    """

    pid: int
    python: str | None = None
    environ: Mapping[str, str] | None = None
    cwd: str | None = None
    why: str = ""


def look(pid: int, proc: Path = Path("/proc")) -> Running:
    """Look at a process. Raises ``NoProcess``."""
    folder = proc / str(pid)
    try:
        owner = folder.stat().st_uid
    except OSError:
        raise NoProcess(f"there is no process {pid} here; a container sees its own processes alone") from None
    try:
        executable = str((folder / "exe").readlink()).removesuffix(_DELETED)
        elsewhere = (folder / "ns" / "mnt").readlink() != (proc / "self" / "ns" / "mnt").readlink()
    except OSError as error:
        return Running(pid, why=f"its executable cannot be read ({error.strerror}); it belongs to user id {owner}")
    if elsewhere:
        return Running(pid, why="it runs in a container or with its own /tmp: start envdoctor inside, or with nsenter")
    if not _PYTHON.match(Path(executable).name):
        return Running(pid, why=f"its executable is {executable}, which is no Python")
    return _of_python(Running(pid, executable), folder, ours=owner == os.geteuid(), owner=owner)


def _of_python(found: Running, folder: Path, *, ours: bool, owner: int) -> Running:
    """Find the environment whose interpreter runs: the executable alone is the one that a venv was made from."""
    environ = _environ(folder)
    cwd = _link(folder / "cwd")
    executable = found.python or ""
    python = next((each for each in _candidates(folder, environ, cwd) if os.path.realpath(each) == executable), "")
    python = python or executable
    if ours:
        return Running(found.pid, python, environ or None, cwd if cwd and Path(cwd).is_dir() else None)
    if python == sys.executable:  # one environment for several users: it is started anyway
        return Running(found.pid, python)
    return Running(found.pid, why=f"it belongs to user id {owner}, and {python} is not started for another user")


def _environ(folder: Path) -> dict[str, str]:
    """Read what the process was started with; nothing where that is not to be read."""
    try:
        raw = (folder / "environ").read_bytes()
    except OSError:
        return {}
    pairs = (each.partition(b"=") for each in raw.split(b"\0"))
    return {os.fsdecode(name): os.fsdecode(value) for name, equals, value in pairs if equals and name}


def _link(path: Path) -> str | None:
    try:
        return str(path.readlink())
    except OSError:
        return None


def _candidates(folder: Path, environ: Mapping[str, str], cwd: str | None) -> Iterator[str]:
    """Give the paths under which the interpreter may have been started, the most telling first."""
    first = _first_word(folder)
    if "/" in first:
        yield os.path.normpath(Path(cwd or "/") / first)
    elif first:
        yield shutil.which(first, path=environ.get("PATH")) or ""
    for prefix in (*_prefixes_of_torch(folder), environ.get("VIRTUAL_ENV"), environ.get("CONDA_PREFIX")):
        if prefix:
            yield str(Path(prefix) / "bin" / "python")


def _first_word(folder: Path) -> str:
    """Give the name it was started by; one that renames itself (Ray, vLLM) has none that is a path."""
    try:
        return os.fsdecode((folder / "cmdline").read_bytes().partition(b"\0")[0])
    except OSError:
        return ""


def _prefixes_of_torch(folder: Path) -> tuple[str, ...]:
    """Give the environment whose torch is mapped."""
    try:
        text = (folder / "maps").read_text("utf-8", "replace")
    except OSError:
        return ()
    return tuple(dict.fromkeys(match.group(1) for match in map(_TORCH.search, text.splitlines()) if match))
