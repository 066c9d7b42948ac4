"""[payload] The CPU and memory limits that control groups set on a process: the lowest one over its ancestors holds."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import Callable, Dict, Iterator, List, Optional, Tuple

from envdoctor_probes.tree import Notes, Tree, why

__all__ = [
    "Limits", "Mount", "parse_cgroup", "parse_cpu_max", "parse_hierarchical_limit", "parse_memory",
    "parse_mounts", "read_limits",
]  # fmt: skip

_NO_MEMORY_LIMIT = 1 << 60  # v1 writes "no limit" as the largest multiple of the page size


@dataclass(frozen=True)
class Mount:
    """A mounted cgroup hierarchy: ``root`` is the group that is seen at ``point``; v2 has no ``controllers``."""

    version: int
    root: str
    point: str
    controllers: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """What was found; None is "no limit" unless ``unknown`` has the field. ``sources`` names the binding file."""

    version: Optional[int] = None
    cpus: Optional[float] = None
    memory_bytes: Optional[int] = None
    memory_used_bytes: Optional[int] = None
    sources: Dict[str, str] = field(default_factory=dict)
    unknown: Dict[str, str] = field(default_factory=dict)


def parse_mounts(text: str) -> Tuple[Mount, ...]:
    """Find the cgroup hierarchies in the text of /proc/self/mountinfo."""
    found: List[Mount] = []
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        place, kind = before.split(" "), after.split(" ")
        if not dash or len(place) < 5 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        controllers = tuple(kind[2].split(",")) if kind[0] == "cgroup" and len(kind) > 2 else ()
        found.append(Mount(2 if kind[0] == "cgroup2" else 1, place[3], _unescape(place[4]), controllers))
    return tuple(found)


def _unescape(path: str) -> str:
    return path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")


def parse_cgroup(text: str) -> Dict[str, str]:
    """Read /proc/self/cgroup: the process's group by controller; the unified hierarchy's key is empty."""
    groups: Dict[str, str] = {}
    for line in text.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            for controller in parts[1].split(","):
                groups[controller] = parts[2]
    return groups


def parse_cpu_max(text: str) -> Optional[float]:
    """Read ``max 100000`` or ``150000 100000``: the CPUs allowed, None without a limit; raises ``ValueError``."""
    quota, _, period = text.strip().partition(" ")
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period or "100000")


def parse_memory(text: str) -> Optional[int]:
    """Read a number of bytes; None for ``max`` and for v1's "as much as there is"; raises ``ValueError``."""
    value = text.strip()
    if value == "max" or int(value) >= _NO_MEMORY_LIMIT:
        return None
    return int(value)


def parse_hierarchical_limit(text: str) -> Optional[int]:
    """Read the limit that v1's memory.stat gives for all ancestors, those that are not mounted here included."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "hierarchical_memory_limit":
            return parse_memory(value)
    return None


def read_limits(tree: Tree, process: str = "self") -> Limits:
    """Read the limits that hold for a process: this one, or another by its number."""
    notes = Notes(tree)
    try:
        mounts = parse_mounts(tree.text("/proc/self/mountinfo"))
        groups = parse_cgroup(tree.text(f"/proc/{process}/cgroup"))
    except OSError as error:
        reason = f"control groups cannot be read: {why(error)}"
        return Limits(unknown=dict.fromkeys(("version", "cpus", "memory", "memory_used"), reason))
    cpu, memory = _hierarchy(mounts, "cpu"), _hierarchy(mounts, "memory")
    memory_folders = _folders(memory, groups, "memory")
    cpus = _lowest(notes, "cpus", _folders(cpu, groups, "cpu"), _cpu_limit)
    limit = _lowest(notes, "memory", memory_folders, _memory_limit)
    used = _used(notes, memory_folders)
    versions = [mount.version for mount in (cpu, memory) if mount]
    if not versions:
        notes.miss("version", "no control groups are mounted")
    return Limits(
        min(versions) if versions else None, cpus, None if limit is None else int(limit), used,
        notes.sources, notes.unknown,
    )  # fmt: skip


def _hierarchy(mounts: Tuple[Mount, ...], controller: str) -> Optional[Mount]:
    """Give the mount that governs ``controller``: on a hybrid machine that of v1, if it has one."""
    for mount in mounts:
        if controller in mount.controllers:
            return mount
    return next((mount for mount in mounts if mount.version == 2), None)


def _folders(mount: Optional[Mount], groups: Dict[str, str], controller: str) -> Tuple[Tuple[int, str], ...]:
    """Give the process's group and its ancestors as (version, folder), up to what is mounted."""
    if mount is None:
        return ()
    group = groups.get(controller if mount.version == 1 else "", "/")
    inside = posixpath.relpath(group, mount.root)
    if inside.startswith(".."):  # a container that sees the host's names, but only its own groups
        inside = "."
    folder = posixpath.normpath(posixpath.join(mount.point, inside))
    found = []
    while True:
        found.append((mount.version, folder))
        if folder in (mount.point, "/"):
            return tuple(found)
        folder = posixpath.dirname(folder)


Read = Callable[[Tree, int, str], Iterator[Tuple[Optional[float], str]]]


def _lowest(notes: Notes, field: str, folders: Tuple[Tuple[int, str], ...], read: Read) -> Optional[float]:
    """Give the lowest limit over the folders; a file that is missing sets none, one that cannot be read is noted."""
    if not folders:
        notes.miss(field, "no control group hierarchy for it is mounted")
    lowest: Optional[float] = None
    for version, folder in folders:
        try:
            for limit, source in read(notes.tree, version, folder):
                if limit is not None and (lowest is None or limit < lowest):
                    lowest, notes.sources[field] = limit, source
        except FileNotFoundError:  # noqa: PERF203 - the controller is not switched on at this level
            continue
        except (OSError, ValueError, ZeroDivisionError) as error:
            notes.miss(field, why(error, folder))
    return lowest


def _cpu_limit(tree: Tree, version: int, folder: str) -> Iterator[Tuple[Optional[float], str]]:
    if version == 2:
        yield parse_cpu_max(tree.text(folder + "/cpu.max")), folder + "/cpu.max"
        return
    quota, period = tree.text(folder + "/cpu.cfs_quota_us"), tree.text(folder + "/cpu.cfs_period_us")
    yield parse_cpu_max(f"{quota.strip()} {period.strip()}"), folder + "/cpu.cfs_quota_us"


def _memory_limit(tree: Tree, version: int, folder: str) -> Iterator[Tuple[Optional[float], str]]:
    if version == 2:
        yield parse_memory(tree.text(folder + "/memory.max")), folder + "/memory.max"
        return
    yield parse_memory(tree.text(folder + "/memory.limit_in_bytes")), folder + "/memory.limit_in_bytes"
    yield parse_hierarchical_limit(tree.text(folder + "/memory.stat")), folder + "/memory.stat"


def _used(notes: Notes, folders: Tuple[Tuple[int, str], ...]) -> Optional[int]:
    """Give what the group uses whose limit binds, or the process's own group where none does."""
    if not folders:
        notes.miss("memory_used", "no control group hierarchy for it is mounted")
        return None
    version, folder = folders[0]
    if "memory" in notes.sources:
        folder = posixpath.dirname(notes.sources["memory"])
    path = folder + ("/memory.current" if version == 2 else "/memory.usage_in_bytes")
    try:
        used = parse_memory(notes.tree.text(path))
    except (OSError, ValueError) as error:
        notes.miss("memory_used", why(error, path))
        return None
    notes.sources["memory_used"] = path
    return used
