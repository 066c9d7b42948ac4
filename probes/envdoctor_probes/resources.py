"""[payload] resources: the CPUs, memory and process limits that hold for this process, beside what the machine has."""

from __future__ import annotations

import os
import re
from typing import Dict, List, Optional, Tuple

from envdoctor.facts.host import Resources
from envdoctor.probe import Context, probe
from envdoctor_probes.cgroups import read_limits
from envdoctor_probes.running import process_of
from envdoctor_probes.tree import Notes, Tree, why

__all__ = ["parse_cpu_list", "parse_cpu_model", "parse_limits", "parse_may_lock", "parse_meminfo", "resources"]

_MIB = 1 << 20
_IPC_LOCK = 14  # linux/capability.h
_EVERY_USER = ["0", "0", "4294967295"]  # the map of users outside any user namespace
_SHM = "/dev/shm"  # noqa: S108 - looked at, not used
# Where /proc/cpuinfo names no model (Arm), its numbers do: implementer and part.
_ARM_PARTS = {
    ("0x41", "0xd08"): "Arm Cortex-A72", ("0x41", "0xd0c"): "Arm Neoverse N1", ("0x41", "0xd40"): "Arm Neoverse V1",
    ("0x41", "0xd42"): "Arm Cortex-A78AE", ("0x41", "0xd49"): "Arm Neoverse N2", ("0x41", "0xd4f"): "Arm Neoverse V2",
    ("0x41", "0xd83"): "Arm Neoverse V3AE", ("0x4e", "0x004"): "NVIDIA Carmel", ("0xc0", "0xac3"): "Ampere One",
}  # fmt: skip
# Row of /proc/PID/limits, name of the resource in Python, field for soft and hard, bytes in one unit.
_LIMITS = (
    ("Max open files", "RLIMIT_NOFILE", ("open_files_soft", "open_files_hard"), 1),
    ("Max locked memory", "RLIMIT_MEMLOCK", ("locked_memory_soft_kib", "locked_memory_hard_kib"), 1024),
    ("Max stack size", "RLIMIT_STACK", ("stack_soft_kib", ""), 1024),
    ("Max processes", "RLIMIT_NPROC", ("processes_soft", ""), 1),
)


@probe()
def resources(context: Context) -> Resources:
    """Say how much of the machine this process may use, or the running job that the doctor was asked about."""
    notes, process = Notes(Tree(context.roots)), process_of(context)
    _read_cpus(notes, process)
    _read_memory(notes)
    _read_cgroups(notes, process)
    _read_shm(notes)
    _read_process_limits(notes, process)
    whole = notes.tree.text_or(f"/proc/{process}/uid_map").split() == _EVERY_USER
    notes.read("may_lock_memory", f"/proc/{process}/status", lambda text: parse_may_lock(text, whole=whole))
    fact: Resources = notes.into(Resources)
    return fact


def _read_cpus(notes: Notes, process: str) -> None:
    notes.read("cpu_model", "/proc/cpuinfo", parse_cpu_model)
    notes.read("cpus_online", "/sys/devices/system/cpu/online", _count)
    if "cpus_online" not in notes.values:  # gVisor and some sandboxes hide /sys
        notes.read("cpus_online", "/proc/cpuinfo", lambda text: len(re.findall(r"(?m)^processor\s*:", text)) or None)
    if notes.tree.live and process == "self" and hasattr(os, "sched_getaffinity"):
        notes.put("cpus_affinity", len(os.sched_getaffinity(0)))
        return
    notes.read("cpus_affinity", f"/proc/{process}/status", _allowed)
    online, allowed = notes.values.get("cpus_online"), notes.values.get("cpus_affinity")
    if online and allowed:  # the kernel also lists CPUs that could be plugged in
        notes.values["cpus_affinity"] = min(online, allowed)


def _count(text: str) -> Optional[int]:
    return len(parse_cpu_list(text)) or None


def _allowed(status: str) -> Optional[int]:
    match = re.search(r"^Cpus_allowed_list:\s*(\S+)", status, re.MULTILINE)
    return _count(match.group(1)) if match else None


def parse_cpu_list(text: str) -> Tuple[int, ...]:
    """Read ``0-3,8`` as (0, 1, 2, 3, 8); raises ``ValueError``."""
    cpus: List[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return tuple(cpus)


def parse_cpu_model(cpuinfo: str) -> Optional[str]:
    """Read the first CPU's model; on Arm by its numbers, raw where they are not known here."""
    pairs: Dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            pairs.setdefault(name.strip(), value.strip())
    if pairs.get("model name"):
        return pairs["model name"]
    implementer, part = pairs.get("CPU implementer"), pairs.get("CPU part")
    if implementer and part:
        return _ARM_PARTS.get((implementer, part), f"Arm implementer {implementer} part {part}")
    return pairs.get("cpu") or pairs.get("Processor")


def _read_memory(notes: Notes) -> None:
    fields = (
        ("memory_total_mib", "MemTotal"), ("memory_available_mib", "MemAvailable"), ("swap_total_mib", "SwapTotal"),
    )  # fmt: skip
    for field, name in fields:
        notes.read(field, "/proc/meminfo", lambda text, name=name: parse_meminfo(text).get(name))  # type: ignore[misc]


def parse_meminfo(text: str) -> Dict[str, int]:
    """Read /proc/meminfo into MiB."""
    rows = re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)
    return {name: int(kib) // 1024 for name, kib in rows}


def _read_cgroups(notes: Notes, process: str) -> None:
    limits = read_limits(notes.tree, process)
    fields = (
        ("cgroup_version", "version", limits.version),
        ("cpus_cgroup_limit", "cpus", None if limits.cpus is None else round(limits.cpus, 3)),
        ("memory_cgroup_limit_mib", "memory", _mib(limits.memory_bytes)),
        ("memory_cgroup_used_mib", "memory_used", _mib(limits.memory_used_bytes)),
    )
    for field, key, value in fields:
        notes.put(field, value, limits.sources.get(key, ""))
        if key in limits.unknown:
            notes.miss(field, limits.unknown[key])


def _mib(number: Optional[int]) -> Optional[int]:
    return None if number is None else number // _MIB


def _read_shm(notes: Notes) -> None:
    reason = "a recorded machine does not keep the sizes of its file systems"
    if notes.tree.live and hasattr(os, "statvfs"):
        try:
            status = os.statvfs(notes.tree.here(_SHM))
        except OSError as error:
            reason = why(error, _SHM)
        else:
            if status.f_blocks:
                notes.put("shm_total_mib", status.f_frsize * status.f_blocks // _MIB)
                notes.put("shm_free_mib", status.f_frsize * status.f_bavail // _MIB)
                return
            reason = f"{_SHM}: the file system names no size"
    for each in ("shm_total_mib", "shm_free_mib"):
        notes.miss(each, reason)


def _read_process_limits(notes: Notes, process: str) -> None:
    live = notes.tree.live and process == "self"
    rows = _limits_of_this_process() if live else parse_limits(notes.tree.text_or(f"/proc/{process}/limits"))
    for row, _, fields, unit in _LIMITS:
        for field, value in zip(fields, rows.get(row, (None, None))):  # noqa: B905 - strict is newer than 3.8
            if field and value is None:
                notes.miss(field, "this system does not say")
            elif field and value is not None:
                notes.put(field, value if value < 0 else value // unit)


def parse_may_lock(status: str, *, whole: bool) -> Optional[bool]:
    """Read CAP_IPC_LOCK out of /proc/PID/status; the kernel heeds it outside user namespaces alone (``whole``)."""
    match = re.search(r"^CapEff:\s*([0-9a-f]{1,16})$", status, re.MULTILINE)
    return whole and bool(int(match.group(1), 16) >> _IPC_LOCK & 1) if match else None


def _limits_of_this_process() -> Dict[str, Tuple[int, int]]:
    """Ask the system for soft and hard limits; -1 is unlimited."""
    try:
        import resource
    except ImportError:  # Windows
        return {}
    found = {}
    for row, name, _, _ in _LIMITS:
        if hasattr(resource, name):
            soft, hard = resource.getrlimit(getattr(resource, name))
            found[row] = (
                -1 if soft == resource.RLIM_INFINITY else soft,
                -1 if hard == resource.RLIM_INFINITY else hard,
            )
    return found


def parse_limits(text: str) -> Dict[str, Tuple[int, int]]:
    """Read the rows of /proc/PID/limits, soft and hard; -1 is unlimited."""
    rows = re.findall(r"^(Max [a-z ]*?)\s{2,}(\d+|unlimited)\s+(\d+|unlimited)", text, re.MULTILINE)
    return {name: (_limit(soft), _limit(hard)) for name, soft, hard in rows}


def _limit(text: str) -> int:
    return -1 if text == "unlimited" else int(text)
