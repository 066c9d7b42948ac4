"""[payload] A job that already runs, when one is asked about."""

from __future__ import annotations

from typing import Optional, Tuple

from envdoctor.facts import Fact, read_from
from envdoctor.facts.dataclass import dataclass

# Why ``same_python`` may not be known although nothing is in the way.
ANOTHER_ASKED_FOR = "another Python was asked for"


@dataclass(frozen=True)
class Job(Fact):
    """A process that runs now (``--pid``): what it really loaded and what limits it."""

    pid: Optional[int] = read_from("--pid")
    command: Optional[str] = read_from("/proc/PID/cmdline", private=True)
    executable: Optional[str] = read_from("/proc/PID/exe", private=True)
    same_python: Optional[bool] = read_from("/proc/PID/exe, cmdline, environ")  # torch below is that of this job
    libraries: Tuple[str, ...] = read_from("/proc/PID/maps", ())
    deleted_libraries: Tuple[str, ...] = read_from("/proc/PID/maps", ())  # replaced on disk since they were mapped
    cgroup: Optional[str] = read_from("/proc/PID/cgroup")
    open_files_soft: Optional[int] = read_from("/proc/PID/limits")  # -1: unlimited
    locked_memory_soft_kib: Optional[int] = read_from("/proc/PID/limits")  # -1: unlimited
    threads: Optional[int] = read_from("/proc/PID/status")
    user_id: Optional[int] = read_from("/proc/PID/status")
    state: Optional[str] = read_from("/proc/PID/status")  # "S (sleeping)", "D (disk sleep)", "Z (zombie)"
    resident_mib: Optional[int] = read_from("/proc/PID/status VmRSS")
    other_mount_namespace: Optional[bool] = read_from("/proc/PID/ns/mnt")  # it sees other files than this process
    ended: Optional[bool] = read_from("/proc/PID")

    @property
    def another_python(self) -> str:
        """Say why torch and packages are not those of this job; empty where they are, or where nobody can tell."""
        return "" if self.same_python is not False else self.unknown.get("same_python", ANOTHER_ASKED_FOR)
