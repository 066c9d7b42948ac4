"""[payload] How much memory of the machine may be used, and a limit so that no more is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envdoctor_probes.resources import resources

if TYPE_CHECKING:
    from envdoctor.probe import Context

__all__ = ["available_bytes", "limit_data", "parse_data_kib"]

MIB = 1 << 20
_WHEN_UNKNOWN = 1024 * MIB


def available_bytes(context: Context) -> int:
    """Give what is available without swapping, by the kernel and by the control group; a GiB where neither tells."""
    found = resources.collect(context)
    left = [found.memory_available_mib]
    if found.memory_cgroup_limit_mib is not None and found.memory_cgroup_used_mib is not None:
        left.append(found.memory_cgroup_limit_mib - found.memory_cgroup_used_mib)
    known = [each for each in left if each is not None]
    return max(0, min(known)) * MIB if known else _WHEN_UNKNOWN


def limit_data(more_bytes: int) -> None:
    """Let this process allocate so much more, and no further: an allocation then fails, and nobody is killed for it.

    Raises ``ValueError`` or ``OSError`` where the system does not have it so.
    """
    import resource

    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        used = parse_data_kib(file.read()) * 1024
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used + more_bytes, hard))


def parse_data_kib(status: str) -> int:
    """Read the size of the private writable memory from the text of /proc/self/status; raises ``ValueError``."""
    match = re.search(r"^VmData:\s+(\d+) kB", status, re.MULTILINE)
    if match is None:
        raise ValueError("VmData is not in /proc/self/status")
    return int(match.group(1))
