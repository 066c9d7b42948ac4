"""The job probe: another process is read, never touched, and what may not be read is said with the reason."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from envdoctor_probes.environment import environment
from envdoctor_probes.fabric import fabric
from envdoctor_probes.job import job, parse_cgroup_path, parse_command, parse_start, parse_status
from envdoctor_probes.mapped import version_of
from envdoctor_probes.maps import parse_maps
from envdoctor_probes.resources import resources

from envdoctor.facts import fact_fields
from envdoctor.facts.host import Environment, Resources
from envdoctor.facts.job import Job
from envdoctor.facts.surroundings import Fabric
from envdoctor.probe import Context, NotThere, Probe, Roots
from tests.stands import trees
from tests.stands.job import running

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


def ask(probe: Probe, pid: int, roots: Roots | None = None, **options: Any) -> Any:
    """Ask a probe about a process."""
    return probe.collect(Context(roots=roots or Roots(), options={"pid": pid, **options}))


def test_no_job_was_named() -> None:
    """Without --pid there is no job, which is no fault."""
    with pytest.raises(NotThere, match="--pid N"):
        job.collect(Context())


def test_running_job_is_read() -> None:
    """What it was started as, what it has mapped, its limits and its threads."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (300, 400)); import _ctypes"
    with running(limit, arguments=("--api-key", "abc")) as process:
        fact = ask(job, process.pid, job_python=True)
    assert isinstance(fact, Job)
    assert (process.pid, True, False, False) == (
        fact.pid, fact.same_python, fact.ended, fact.other_mount_namespace,
    )  # fmt: skip
    assert (os.path.realpath(sys.executable), 300, 1) == (fact.executable, fact.open_files_soft, fact.threads)
    assert any("_ctypes" in each for each in fact.libraries)
    assert str(fact.command).endswith("--api-key ***")
    assert {} == fact.unknown


def test_library_replaced_on_disk_is_named(tmp_path: Path) -> None:
    """An upgrade under a running job leaves it with files that are gone; the next process gets others."""
    library = tmp_path / "libmine.so.1"
    shutil.copy(next(each for each in parse_maps(Path("/proc/self/maps").read_text())[0] if "libc.so" in each), library)
    with running(f"import mmap; f = open({str(library)!r}); m = mmap.mmap(f.fileno(), 0, prot=1)") as process:
        library.unlink()
        fact = ask(job, process.pid)
    assert (str(library),) == fact.deleted_libraries
    assert str(library) in fact.libraries


def test_environment_is_that_of_the_job() -> None:
    """The variables are those that the job was started with, by the same allow-list, with their source."""
    with running(environ={"NCCL_DEBUG": "WARN", "HF_TOKEN": "abc", "TORCH_TOKEN": "abc"}) as process:
        fact = ask(environment, process.pid)
    assert isinstance(fact, Environment)
    assert {"NCCL_DEBUG": "WARN", "TORCH_TOKEN": "***"} == {each.name: each.value for each in fact.variables}
    assert f"/proc/{process.pid}/environ" == fact.sources["variables"]
    assert 1 <= fact.names_not_collected <= 3


def test_limits_are_those_of_the_job() -> None:
    """Affinity and limits are the job's, not ours."""
    cpu = min(os.sched_getaffinity(0))
    first = (
        f"import os, resource; os.sched_setaffinity(0, [{cpu}]); resource.setrlimit(resource.RLIMIT_NOFILE, (300, 400))"
    )
    with running(first) as process:
        limits, nodes = ask(resources, process.pid), ask(fabric, process.pid)
    assert isinstance(limits, Resources)
    assert isinstance(nodes, Fabric)
    assert (1, 300, 400) == (limits.cpus_affinity, limits.open_files_soft, limits.open_files_hard)
    assert "numa_nodes" in nodes.unknown or 1 == len(nodes.process_numa_nodes)


def test_process_that_has_ended_is_said() -> None:
    """A number without a process gives an answer all the same: it has ended, and each field says so."""
    with running() as process:
        pass
    fact = ask(job, process.pid)
    assert True is fact.ended
    gaps = {"pid", "ended", "same_python"}
    assert {f"process {process.pid} has ended"} == {fact.unknown[each] for each in fact_fields(Job) if each not in gaps}
    assert "has ended" in ask(environment, process.pid).unknown["variables"]


def test_zombie_has_ended() -> None:
    """A process that nobody has waited for is there in name alone."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    fact = ask(job, pid)
    os.waitpid(pid, 0)
    assert (True, "Z") == (fact.ended, str(fact.state)[:1])


def recorded(top: Path, **files: str) -> Roots:
    """Give the roots of a machine with process 77."""
    start = ") S " + " ".join(["0"] * 18) + " 4242 0\n"
    told = {"stat": "77 (py (x" + start, "maps": "", "status": "State:\tR (running)\nThreads:\t3\n", **files}
    return Roots.under(str(trees.write(top, {f"proc/77/{name}": text for name, text in told.items()})))


def test_number_that_another_process_has_taken_is_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the process of this number was started at another time than at first, the one asked for has ended."""
    roots = recorded(tmp_path)
    times = iter(["4242", "9999"])
    monkeypatch.setattr("envdoctor_probes.job.parse_start", lambda _text: next(times))
    assert True is ask(job, 77, roots).ended


def test_process_of_a_recorded_machine_is_read(tmp_path: Path) -> None:
    """Recorded trees answer like a live machine."""
    fact = ask(job, 77, recorded(tmp_path, cgroup="0::/user.slice/job_1\n", limits=trees.LIMITS))
    assert (3, "R (running)", "/user.slice/job_1", 1024, 65536, False) == (
        fact.threads, fact.state, fact.cgroup, fact.open_files_soft, fact.locked_memory_soft_kib, fact.ended,
    )  # fmt: skip


def as_nobody(question: Callable[[], Any]) -> Any:
    """Ask in a fork that has become the user nobody, and give the answer as plain data."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            os.write(writing, json.dumps(asdict(question())).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as stream:
        said = stream.read()
    os.waitpid(pid, 0)
    return json.loads(said)


@as_root
def test_job_of_another_user_is_unknown_with_the_command_for_root() -> None:
    """Its maps and variables are its owner's; the rest is read, and the refusal names who may."""
    with running() as process:
        fact = as_nobody(lambda: ask(job, process.pid))
        variables = as_nobody(lambda: ask(environment, process.pid))
    assert ([], 1, False) == (fact["libraries"], fact["threads"], fact["ended"])
    refused = fact["unknown"]["libraries"]
    assert "Permission denied" in refused
    assert f'sudo "$(command -v envdoctor)" check --pid {process.pid}' in refused
    assert "user id 0" in refused
    assert "sudo" in variables["unknown"]["variables"]


@as_root
def test_root_reads_the_job_of_another_user() -> None:
    """Root may read everyone's maps."""
    ready, done = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setresuid(65534, 65534, 65534)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # readable again after the change of user
        os.write(ready[1], b"x")
        os.read(done[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    fact = ask(job, pid)
    os.write(done[1], b"x")
    os.waitpid(pid, 0)
    for each in (*ready, *done):
        os.close(each)
    assert (65534, True) == (fact.user_id, bool(fact.libraries))


MAPS = (
    "7f00-7f01 r-xp 00000000 08:01 1   /usr/lib/libz.so.1\n"
    "7f01-7f02 r--p 00000000 08:01 1   /usr/lib/libz.so.1\n"
    "7f02-7f03 r-xp 00000000 08:01 2   /opt/my libs/liba.so (deleted)\n"
    "7f03-7f04 rw-p 00000000 00:00 0   [heap]\n"
    "7f04-7f05 rw-s 00000000 00:01 9   /dev/shm/psm.sock (deleted)\n"
    "7f05-7f06 r--p 00000000 08:01 3   /data/x.solution\n"
    "7f06-7f07 rw-p 00000000 00:00 0\n"
)


def test_maps_name_each_library_once() -> None:
    """Blanks in names stay, other files are left out, and what is gone from the disk is known."""
    assert (("/usr/lib/libz.so.1", "/opt/my libs/liba.so"), ("/opt/my libs/liba.so",)) == parse_maps(MAPS)


def test_pure_readers() -> None:
    """The small files below /proc/PID, and None for what they do not say."""
    status = "Name:\tpython\nState:\tS (sleeping)\nUid:\t1000\t0\t0\t0\nVmRSS:\t  2048 kB\nThreads:\t7\n"
    assert ("S (sleeping)", 1000, 7, 2) == parse_status(status)
    assert (None, None, None, None) == parse_status("")
    assert ("python a b", None) == (parse_command("python\0a b\0"), parse_command(""))
    assert ("/a/b", None) == (parse_start("1 (x) S " + "0 " * 18 + "/a/b 0"), parse_start("garbage"))
    both = "4:memory:/docker/abc\n0::/init.scope\n"
    assert ("/docker/abc", "/x", None) == (
        parse_cgroup_path(both), parse_cgroup_path("0::/x\n"), parse_cgroup_path(""),
    )  # fmt: skip


@pytest.mark.parametrize(("number", "expected"), [(22705, "2.27.5"), (21005, "2.10.5"), (2708, "2.7.8")])
def test_number_of_nccl_is_read(number: int, expected: str) -> None:
    """NCCL changed the width of its number with 2.9."""
    assert expected == version_of(number)
