"""[payload] job: a process that runs now, by its number: what it has really loaded, and what limits it."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Callable, Optional

from envdoctor.probe import Context, NotThere, probe
from envdoctor_probes.maps import parse_maps
from envdoctor_probes.resources import parse_limits
from envdoctor_probes.running import pid_of, refusal
from envdoctor_probes.secret_words import without_secrets_in_command
from envdoctor_probes.tree import Notes, Tree

if TYPE_CHECKING:
    from envdoctor.facts.job import Job

__all__ = ["job", "parse_cgroup_path", "parse_command", "parse_start", "parse_status"]

_LONGEST_MAPS = 32 << 20
_FIELDS = (
    "command", "executable", "libraries", "deleted_libraries", "cgroup", "open_files_soft", "locked_memory_soft_kib",
    "threads", "user_id", "state", "resident_mib", "other_mount_namespace",
)  # fmt: skip


@probe()
def job(context: Context) -> Job:
    """Read a running process and change nothing of it; one that ends meanwhile is said to have."""
    pid = pid_of(context)
    if pid is None:
        raise NotThere("no running job was named (--pid N)")
    from envdoctor.facts import job as facts  # most runs are about none

    notes = Notes(Tree(context.roots))
    notes.put("pid", pid)
    started = _start(notes.tree, pid)
    reader = Reader(notes, pid)
    reader.read_all()
    notes.put("ended", _has_ended(notes, started, pid))
    _read_python(notes, context)
    for each in _FIELDS if notes.values["ended"] else ():
        if each not in notes.values:
            notes.miss(each, f"process {pid} has ended")
    fact: Job = notes.into(facts.Job)
    return fact


def _read_python(notes: Notes, context: Context) -> None:
    """Say whether the doctor has started the job's own Python for the other probes; it knows, for it chose."""
    from envdoctor.facts.job import ANOTHER_ASKED_FOR

    same, reason = context.options.get("job_python"), context.options.get("job_python_why")
    if isinstance(same, bool):
        notes.put("same_python", same)
    if same is not True:
        notes.miss("same_python", str(reason or ANOTHER_ASKED_FOR))


class Reader:
    """Reads the files of one process below /proc into the notes."""

    def __init__(self, notes: Notes, pid: int) -> None:
        self._notes, self._pid = notes, pid

    def read_all(self) -> None:
        """Read what tells most and may end soonest first."""
        self._read("maps", ("libraries", "deleted_libraries"), parse_maps, _LONGEST_MAPS)
        self._read("status", ("state", "user_id", "threads", "resident_mib"), parse_status)
        self._read("cmdline", ("command",), lambda text: (parse_command(text),))
        self._read("cgroup", ("cgroup",), lambda text: (parse_cgroup_path(text),))
        self._read("limits", ("open_files_soft", "locked_memory_soft_kib"), _limits)
        self._link("exe", "executable")
        self._namespace()

    def _read(self, name: str, fields: Any, parse: Callable[[str], Any], limit: int = 1 << 20) -> None:
        path = f"/proc/{self._pid}/{name}"
        try:
            values = parse(self._notes.tree.text(path, limit))
        except OSError as error:
            for field in fields:
                self._notes.miss(field, refusal(error, path, self._pid, self._notes.tree))
            return
        for field, value in zip(fields, values):  # noqa: B905 - strict is newer than 3.8
            if value is None:
                self._notes.miss(field, f"{path} does not say")
            else:
                self._notes.put(field, value, path)

    def _link(self, name: str, field: str) -> None:
        path = f"/proc/{self._pid}/{name}"
        try:
            self._notes.put(field, os.readlink(self._notes.tree.here(f"/proc/{self._pid}") + "/" + name), path)
        except OSError as error:
            self._notes.miss(field, refusal(error, path, self._pid, self._notes.tree))

    def _namespace(self) -> None:
        """Compare what file system tree it sees with our own."""
        path, here = f"/proc/{self._pid}/ns/mnt", self._notes.tree.here
        try:
            theirs = os.readlink(here(f"/proc/{self._pid}/ns") + "/mnt")
            ours = os.readlink(here("/proc/self/ns") + "/mnt")
        except OSError as error:
            self._notes.miss("other_mount_namespace", refusal(error, path, self._pid, self._notes.tree))
            return
        self._notes.put("other_mount_namespace", theirs != ours, path)


def parse_status(text: str) -> Any:
    """Read state, real user id, threads and resident MiB out of /proc/PID/status; None for what is not there."""
    found = dict(re.findall(r"^(State|Uid|Threads|VmRSS):\s*(.*)$", text, re.MULTILINE))
    uid, threads, resident = (found.get(name, "").split() for name in ("Uid", "Threads", "VmRSS"))
    return (
        found.get("State"),
        int(uid[0]) if uid else None,
        int(threads[0]) if threads else None,
        int(resident[0]) // 1024 if resident else None,
    )


def parse_command(text: str) -> Optional[str]:
    """Read /proc/PID/cmdline as one line; None where there is none (a kernel thread, a process that has ended)."""
    return without_secrets_in_command(tuple(text.rstrip("\0").split("\0"))) or None


def parse_cgroup_path(text: str) -> Optional[str]:
    """Give the group of the unified hierarchy, or on an old machine that of the memory controller."""
    rows = [line.split(":", 2) for line in text.splitlines()]
    groups = {row[1]: row[2] for row in rows if len(row) == 3}
    memory = next((groups[each] for each in groups if "memory" in each.split(",")), None)
    return memory or groups.get("") or next(iter(groups.values()), None)


def _limits(text: str) -> Any:
    rows = parse_limits(text)
    files, locked = rows.get("Max open files"), rows.get("Max locked memory")
    return (
        files[0] if files else None,
        None if locked is None else locked[0] if locked[0] < 0 else locked[0] // 1024,
    )


def parse_start(text: str) -> Optional[str]:
    """Read when a process was started out of /proc/PID/stat; its name may hold blanks and parentheses."""
    parts = text.rpartition(")")[2].split()
    return parts[19] if len(parts) > 19 else None


def _start(tree: Tree, pid: int) -> Optional[str]:
    return parse_start(tree.text_or(f"/proc/{pid}/stat"))


def _has_ended(notes: Notes, started: Optional[str], pid: int) -> bool:
    """Tell whether the process is gone, a zombie, or another one that has its number now."""
    tree = notes.tree
    if not tree.exists(f"/proc/{pid}") or str(notes.values.get("state", "")).startswith(("Z", "X")):
        return True
    return started is not None and _start(tree, pid) != started
