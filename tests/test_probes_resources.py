"""The resources probe: what a process may really use, under control groups of both versions."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from envdoctor_probes.cgroups import (
    Mount,
    parse_cgroup,
    parse_cpu_max,
    parse_hierarchical_limit,
    parse_memory,
    parse_mounts,
)
from envdoctor_probes.resources import (
    parse_cpu_list,
    parse_cpu_model,
    parse_limits,
    parse_may_lock,
    parse_meminfo,
    resources,
)

from envdoctor.facts.host import Resources
from envdoctor.probe import Context
from envdoctor.testing import collect
from tests.stands import trees
from tests.stands.trees import Machine


def resources_of(tmp_path: Path, machine: Machine) -> Resources:
    """Collect the resources of a recorded machine."""
    fact = collect(resources, trees.write(tmp_path, machine))
    assert isinstance(fact, Resources)
    return fact


@pytest.mark.parametrize(
    ("machine", "version", "cpus", "limit", "used"),
    [
        (trees.native_8gpu, 2, None, 524288, 1024),
        (trees.rootless_container, 2, 1.5, 2048, 100),
        (trees.docker_v1, 1, 2.0, 4096, 200),
        (trees.native_no_driver, 2, None, None, None),
    ],
)
def test_limits_of_control_groups_hold(
    tmp_path: Path,
    machine: Callable[[], Machine],
    version: int,
    cpus: float | None,
    limit: int | None,
    used: int | None,
) -> None:
    """An ancestor's limit holds, and in a container the root of the mount's; what it uses is read beside it."""
    fact = resources_of(tmp_path, machine())
    found = (fact.cgroup_version, fact.cpus_cgroup_limit, fact.memory_cgroup_limit_mib, fact.memory_cgroup_used_mib)
    assert (version, cpus, limit, used) == found
    assert not {"cgroup_version", "cpus_cgroup_limit", "memory_cgroup_limit_mib"} & set(fact.unknown)


def test_lowest_limit_of_nested_groups_is_named(tmp_path: Path) -> None:
    """Slurm nests job and step: the lowest of all holds, and its file is the source."""
    top = "sys/fs/cgroup/system.slice"
    machine: Machine = {
        "proc/self/cgroup": "0::/system.slice/slurmstepd.scope/job_1/step_0\n",
        "proc/self/mountinfo": "34 24 0:29 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n",
        f"{top}/cpu.max": "max 100000\n",
        f"{top}/slurmstepd.scope/job_1/cpu.max": "400000 100000\n",
        f"{top}/slurmstepd.scope/job_1/step_0/cpu.max": "800000 100000\n",
        f"{top}/slurmstepd.scope/job_1/step_0/memory.max": "max\n",
        f"{top}/slurmstepd.scope/job_1/memory.max": "1073741824\n",
    }
    fact = resources_of(tmp_path, machine)
    assert (4.0, 1024) == (fact.cpus_cgroup_limit, fact.memory_cgroup_limit_mib)
    assert "/sys/fs/cgroup/system.slice/slurmstepd.scope/job_1/cpu.max" == fact.sources["cpus_cgroup_limit"]


def test_hybrid_machine_takes_each_controllers_own_hierarchy(tmp_path: Path) -> None:
    """With v1 controllers beside an empty v2 mount, v1 governs; the v2 mount has no limits."""
    machine: Machine = {
        "proc/self/cgroup": "4:memory:/job\n1:cpu:/\n0::/\n",
        "proc/self/mountinfo": (
            "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
            "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
            "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        ),
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "536870912\n",
        "sys/fs/cgroup/memory/job/memory.stat": "",
    }
    fact = resources_of(tmp_path, machine)
    assert (1, None, 512) == (fact.cgroup_version, fact.cpus_cgroup_limit, fact.memory_cgroup_limit_mib)


def test_damaged_limit_is_unknown_not_unlimited(tmp_path: Path) -> None:
    """Garbage in cpu.max must not read as "no limit"."""
    machine = trees.rootless_container() | {"sys/fs/cgroup/cpu.max": "lots\n"}
    fact = resources_of(tmp_path, machine)
    assert fact.cpus_cgroup_limit is None
    assert "/sys/fs/cgroup" in fact.unknown["cpus_cgroup_limit"]


def test_hidden_control_groups_are_unknown(tmp_path: Path) -> None:
    """A gVisor sandbox shows none: the limit is not known, which is not the same as none."""
    fact = resources_of(tmp_path, trees.gvisor())
    assert {"cgroup_version", "cpus_cgroup_limit", "memory_cgroup_limit_mib", "cpus_affinity"} <= set(fact.unknown)
    assert 4 == fact.cpus_online


def test_recorded_machine_keeps_process_limits_but_no_file_system_sizes(tmp_path: Path) -> None:
    """The ulimits come from /proc/self/limits there; /dev/shm's size is unknown with the reason."""
    fact = resources_of(tmp_path, trees.native_8gpu())
    assert (1024, 1048576, 65536, 8192) == (
        fact.open_files_soft, fact.open_files_hard, fact.locked_memory_soft_kib, fact.stack_soft_kib,
    )  # fmt: skip
    assert "recorded" in fact.unknown["shm_total_mib"]


def test_this_machine_agrees_with_the_system_calls() -> None:
    """Affinity, ulimits and /dev/shm are this process's own."""
    fact = resources.collect(Context())
    assert len(os.sched_getaffinity(0)) == fact.cpus_affinity
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert (-1 if soft == resource.RLIM_INFINITY else soft) == fact.open_files_soft
    status = os.statvfs("/dev/shm")
    assert status.f_blocks * status.f_frsize // 1024**2 in (fact.shm_total_mib, 0)


def test_cpu_lists_are_counted() -> None:
    """Ranges and single numbers; an empty list is empty, words are an error."""
    assert (0, 1, 2, 3, 8) == parse_cpu_list("0-3,8\n")
    assert () == parse_cpu_list("\n")
    with pytest.raises(ValueError, match="all"):
        parse_cpu_list("all")


def test_cpu_model_is_named_on_arm_too() -> None:
    """Arm gives numbers: known ones get a name, others stay raw."""
    assert "AMD EPYC" == parse_cpu_model("processor\t: 0\nmodel name\t: AMD EPYC\n")
    assert "Arm Neoverse V2" == parse_cpu_model("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n")
    assert "Arm implementer 0x48 part 0xd01" == parse_cpu_model("CPU implementer\t: 0x48\nCPU part\t: 0xd01\n")
    assert parse_cpu_model("processor : 0\n") is None


def test_meminfo_is_in_mib() -> None:
    """Only lines in kB count."""
    assert {"MemTotal": 1000, "SwapTotal": 0} == parse_meminfo(
        "MemTotal:     1024000 kB\nSwapTotal:  0 kB\nHugePages_Total:   0\n"
    )


@pytest.mark.parametrize(
    ("status", "whole", "expected"),
    [
        ("CapPrm:\t0\nCapEff:\t00000000a80465fb\n", True, True),
        ("CapEff:\t00000000a80425fb\n", True, False),
        ("CapEff:\t000001ffffffffff\n", True, True),
        ("CapEff:\t000001ffffffffff\n", False, False),
        ("Name:\tpython\n", True, None),
    ],
)
def test_right_to_lock_memory(status: str, whole: bool, expected: bool | None) -> None:
    """Docker's set with IPC_LOCK and without it, root's whole set, and the same inside a user namespace."""
    assert expected is parse_may_lock(status, whole=whole)


def test_limits_table_is_parsed() -> None:
    """Unlimited is -1."""
    assert (1024, 1048576) == parse_limits(trees.LIMITS)["Max open files"]
    assert (8388608, -1) == parse_limits(trees.LIMITS)["Max stack size"]


def test_cgroup_mounts_are_found_among_others() -> None:
    """Optional fields before the dash vary in number; a space in the path is escaped."""
    text = (
        "24 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\nrubbish\n"
        "34 24 0:29 / /sys/fs/cgroup rw shared:9 master:2 - cgroup2 cgroup2 rw\n"
        "35 24 0:30 /docker/x /my\\040groups rw - cgroup cgroup rw,cpu,cpuacct\n"
    )
    expected = (Mount(2, "/", "/sys/fs/cgroup"), Mount(1, "/docker/x", "/my groups", ("rw", "cpu", "cpuacct")))
    assert expected == parse_mounts(text)


def test_process_groups_are_read_by_controller() -> None:
    """Controllers that share a hierarchy share the group; the unified one has the empty name; colons may follow."""
    assert {"cpu": "/a", "cpuacct": "/a", "": "/b:c"} == parse_cgroup("5:cpu,cpuacct:/a\n0::/b:c\nrubbish\n")


@pytest.mark.parametrize(
    ("text", "expected"), [("max 100000", None), ("-1 100000", None), ("150000 100000", 1.5), ("50000", 0.5)]
)
def test_cpu_quota_is_a_number_of_cpus(text: str, expected: float | None) -> None:
    """Quota by period; max and -1 are no limit."""
    assert expected == parse_cpu_max(text)


def test_memory_limits_are_bytes_or_none() -> None:
    """v2 says max, v1 a number beyond any memory; v1's ancestors speak through memory.stat."""
    assert (None, None, 4096) == (parse_memory("max\n"), parse_memory("9223372036854771712\n"), parse_memory("4096\n"))
    assert 4294967296 == parse_hierarchical_limit("cache 0\nhierarchical_memory_limit 4294967296\n")
    assert parse_hierarchical_limit("cache 0\n") is None
