"""[payload] The file systems that training reads from and writes to."""

from __future__ import annotations

from typing import Optional, Tuple

from envdoctor.facts import Fact, read_from
from envdoctor.facts.dataclass import dataclass


@dataclass(frozen=True)
class Mount:
    """A mount that matters to training: where temporary and package files live."""

    path: str = ""  # what training uses: it may be made later, then its nearest ancestor was looked at
    filesystem: str = ""
    options: str = ""
    free_mib: Optional[int] = None
    total_mib: Optional[int] = None
    free_inodes: Optional[int] = None  # None where the file system has no fixed number
    mount_point: str = ""
    purpose: str = ""  # temporary files, packages, inductor cache, triton cache, caches, working directory, …


@dataclass(frozen=True)
class Storage(Fact):
    """File systems under /tmp, the environment, the caches and the working directory."""

    mounts: Tuple[Mount, ...] = read_from("/proc/self/mountinfo, statvfs", ())
