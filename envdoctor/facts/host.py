"""[payload] The machine and the limits it puts on this process."""

from __future__ import annotations

from typing import Optional, Tuple

from envdoctor.facts import Fact, read_from
from envdoctor.facts.dataclass import dataclass


@dataclass(frozen=True)
class Host(Fact):
    """The operating system and what kind of machine this is."""

    hostname: Optional[str] = read_from("uname", private=True)
    system: Optional[str] = read_from("uname")  # Linux, Windows, Darwin
    os_id: Optional[str] = read_from("/etc/os-release ID")
    os_version: Optional[str] = read_from("/etc/os-release VERSION_ID")
    os_name: Optional[str] = read_from("/etc/os-release PRETTY_NAME")
    kernel: Optional[str] = read_from("/proc/sys/kernel/osrelease")
    machine: Optional[str] = read_from("uname")  # x86_64, aarch64
    libc: Optional[str] = read_from("os.confstr CS_GNU_LIBC_VERSION")  # "glibc 2.35", "musl"
    virtualization: Optional[str] = read_from("/sys/class/dmi/id, /proc/cpuinfo")  # kvm, xen, vmware, "none"
    wsl: Optional[bool] = read_from("/proc/version, /dev/dxg")
    jetson: Optional[bool] = read_from("/etc/nv_tegra_release, /proc/device-tree/compatible")
    container: Optional[str] = read_from(
        "/.dockerenv, /run/.containerenv, /proc/1/cgroup, environment"
    )  # "none" if not
    is_root: Optional[bool] = read_from("geteuid")


@dataclass(frozen=True)
class Resources(Fact):
    """CPU, memory and process limits that hold for this process, beside what the machine has."""

    cpu_model: Optional[str] = read_from("/proc/cpuinfo")
    cpus_online: Optional[int] = read_from("/sys/devices/system/cpu/online")
    cpus_affinity: Optional[int] = read_from("sched_getaffinity")
    cpus_cgroup_limit: Optional[float] = read_from("cgroup cpu.max")  # None with no entry in unknown: no limit
    cgroup_version: Optional[int] = read_from("/proc/self/mountinfo")
    memory_total_mib: Optional[int] = read_from("/proc/meminfo MemTotal")
    memory_available_mib: Optional[int] = read_from("/proc/meminfo MemAvailable")
    memory_cgroup_limit_mib: Optional[int] = read_from("cgroup memory.max")
    memory_cgroup_used_mib: Optional[int] = read_from("cgroup memory.current")
    swap_total_mib: Optional[int] = read_from("/proc/meminfo SwapTotal")
    shm_total_mib: Optional[int] = read_from("statvfs /dev/shm")
    shm_free_mib: Optional[int] = read_from("statvfs /dev/shm")
    open_files_soft: Optional[int] = read_from("RLIMIT_NOFILE")  # -1: unlimited
    open_files_hard: Optional[int] = read_from("RLIMIT_NOFILE")
    locked_memory_soft_kib: Optional[int] = read_from("RLIMIT_MEMLOCK")  # -1: unlimited
    locked_memory_hard_kib: Optional[int] = read_from("RLIMIT_MEMLOCK")
    may_lock_memory: Optional[bool] = read_from("/proc/self/status CapEff")  # CAP_IPC_LOCK: that limit does not bind
    stack_soft_kib: Optional[int] = read_from("RLIMIT_STACK")
    processes_soft: Optional[int] = read_from("RLIMIT_NPROC")


@dataclass(frozen=True)
class Variable:
    """One environment variable; ``value`` is redacted where it can carry a secret."""

    name: str = ""
    value: str = ""
    redacted: bool = False


@dataclass(frozen=True)
class Environment(Fact):
    """The environment variables that change how drivers, libraries and torch behave (an allow-list)."""

    variables: Tuple[Variable, ...] = read_from("environment", ())
    names_not_collected: int = read_from("environment", 0)
    unset: Tuple[str, ...] = read_from("environment", ())  # a text says of them that they are not set

    def get(self, name: str) -> Optional[str]:
        """Give the value of ``name``, or None when it is not set."""
        for variable in self.variables:
            if variable.name == name:
                return variable.value
        return None
