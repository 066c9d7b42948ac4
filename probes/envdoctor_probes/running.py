"""[payload] The process that ``--pid`` names: what may be read of it, and in which words it is refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Dict, Optional

from envdoctor_probes.tree import why

if TYPE_CHECKING:
    from envdoctor.probe import Context
    from envdoctor_probes.tree import Tree

__all__ = ["parse_environ", "pid_of", "process_of", "refusal"]


def pid_of(context: Context) -> Optional[int]:
    """Give the process that this run is about, or None when it is about none that runs already."""
    pid = context.options.get("pid")
    return pid if isinstance(pid, int) and pid > 0 else None


def process_of(context: Context) -> str:
    """Give the name that the process in question has below /proc: its number, or ``self``."""
    return str(pid_of(context) or "self")


def parse_environ(text: str) -> Dict[str, str]:
    """Read /proc/PID/environ: ``NAME=value``, each ended by NUL."""
    pairs = (each.partition("=") for each in text.split("\0"))
    return {name: value for name, equals, value in pairs if equals and name}


def refusal(error: OSError, path: str, pid: int, tree: Tree) -> str:
    """Say why something of a process cannot be read: it has ended, or only its owner and root may."""
    if isinstance(error, (FileNotFoundError, ProcessLookupError)) and not tree.exists(f"/proc/{pid}"):
        return f"process {pid} has ended"
    if not isinstance(error, PermissionError):
        return why(error, path)
    command = f'sudo "$(command -v envdoctor)" check --pid {pid}'
    return f"{why(error, path)}. It belongs to {_owner(tree, pid)}; root may read it: {command}"


def _owner(tree: Tree, pid: int) -> str:
    try:
        uid = os.stat(tree.here(f"/proc/{pid}")).st_uid
    except OSError:
        return "another user"
    return "this user, but is protected" if hasattr(os, "geteuid") and uid == os.geteuid() else f"user id {uid}"
