"""``check --pid N``: the job's own Python is found and examined as it was started, and nobody else's is run."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from envdoctor import running as module
from envdoctor.facts.job import Job
from envdoctor.facts.libraries import Libraries, MappedLibraries
from envdoctor.running import NoProcess, Running, look
from envdoctor.snapshot import from_plain
from tests.command import fresh, here
from tests.stands.job import running

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an empty virtual environment: its interpreter is a link to the one it was made from."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True, with_pip=False)
    return folder


@pytest.mark.parametrize("how", ["by path", "by name", "renamed"])
def test_virtual_environment_of_a_job_is_found(environment: Path, how: str) -> None:
    """The executable alone is the base Python; command, PATH and variables lead to the environment."""
    python = environment / "bin" / "python"
    environ = {"PATH": f"{environment}/bin:/usr/bin"} if how == "by name" else {}
    environ |= {"VIRTUAL_ENV": str(environment)} if how == "renamed" else {}
    first = "python" if how == "by name" else "VLLM::Worker" if how == "renamed" else str(python)
    with running(python=python, name=first, environ=environ) as process:
        found = look(process.pid)
    assert (str(python), environ, "") == (found.python, {k: (found.environ or {}).get(k) for k in environ}, found.why)


def test_environment_and_directory_of_a_job_are_taken(tmp_path: Path) -> None:
    """The probes run with the variables that the job was started with, and where it is."""
    with running(environ={"LD_LIBRARY_PATH": "/nowhere"}, cwd=tmp_path) as process:
        found = look(process.pid)
    assert (str(tmp_path), "/nowhere") == (found.cwd, (found.environ or {}).get("LD_LIBRARY_PATH"))
    assert os.path.realpath(sys.executable) == os.path.realpath(found.python or "")


def test_process_that_is_no_python_leaves_ours() -> None:
    """A job of another kind is read, and packages are those of this Python; that is said."""
    with subprocess.Popen(["sleep", "30"]) as process:
        found = look(process.pid)
        process.kill()
    assert (None, None) == (found.python, found.environ)
    assert "which is no Python" in found.why


def test_number_without_a_process_is_refused() -> None:
    """A process that is not there is a usage error."""
    with running() as process:
        pass
    with pytest.raises(NoProcess, match=str(process.pid)):
        look(process.pid)
    done = here("check", "--pid", str(process.pid))
    assert (2, True) == (done.code, f"--pid: there is no process {process.pid} here" in done.err)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["--pid", "0"], "0 is not in the range"), (["--pid", "x"], "'x' is not a valid integer"),
     (["--pid", "1", "--from", "-"], "--pid says how to collect")],
)  # fmt: skip
def test_bad_number_is_refused(arguments: list[str], expected: str) -> None:
    """A number that is none, and one beside a saved snapshot."""
    done = here("check", *arguments)
    assert (2, True) == (done.code, expected in done.err)


def recorded(top: Path, owner: int, **links: str) -> Path:
    """Write a /proc with one process in it."""
    for name in ("77", "self"):
        (top / name / "ns").mkdir(parents=True)
        (top / name / "ns" / "mnt").symlink_to("mnt:[1]")
    for name, target in links.items():
        (top / "77" / name).symlink_to(target)
    (top / "77" / "cmdline").write_bytes(b"VLLM::Engine\0")
    os.chown(top / "77", owner, -1)
    return top


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file to another user")


@as_root
def test_python_of_another_user_is_never_started(tmp_path: Path) -> None:
    """Root reads the job, but does not run a user's interpreter, nor with a user's LD_PRELOAD."""
    proc = recorded(tmp_path, 1000, exe="/home/ada/venv/bin/python3.11")
    (proc / "77" / "environ").write_bytes(b"LD_PRELOAD=/home/ada/evil.so\0")
    found = look(77, proc)
    assert (None, None, None) == (found.python, found.environ, found.cwd)
    assert "user id 1000" in found.why


@as_root
def test_shared_python_of_another_user_is_ours_without_the_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the job runs the very Python that runs the doctor, that is examined, with our own environment."""
    monkeypatch.setattr(sys, "executable", "/opt/shared/bin/python3.11")
    proc = recorded(tmp_path, 1000, exe="/opt/shared/bin/python3.11")
    (proc / "77" / "environ").write_bytes(b"LD_PRELOAD=/home/ada/evil.so\0")
    assert Running(77, "/opt/shared/bin/python3.11") == look(77, proc)


def test_job_in_another_container_is_read_from_outside(tmp_path: Path) -> None:
    """Its paths mean other files there: its Python is not looked for among ours."""
    proc = recorded(tmp_path, os.geteuid(), exe="/usr/bin/python3.11")
    (proc / "77" / "ns" / "mnt").unlink()
    (proc / "77" / "ns" / "mnt").symlink_to("mnt:[2]")
    found = look(77, proc)
    assert (None, True) == (found.python, "nsenter" in found.why)


def test_mapped_torch_leads_to_its_environment(tmp_path: Path) -> None:
    """A job that has renamed itself and has no variables is found by the torch that it has mapped."""
    base, prefix = tmp_path / "base" / "python3.11", tmp_path / "venv"
    base.parent.mkdir()
    base.write_text("")
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "python").symlink_to(base)
    proc = recorded(tmp_path / "proc", os.geteuid(), exe=str(base))
    torch_file = f"{prefix}/lib/python3.11/site-packages/torch/lib/libtorch_cpu.so"
    (proc / "77" / "maps").write_text(f"7f00-7f01 r-xp 00000000 08:01 1   {torch_file}\n")
    assert str(prefix / "bin" / "python") == look(77, proc).python


def test_check_of_a_running_job_shows_what_it_has_loaded(tmp_path: Path) -> None:
    """End to end: a job that has imported torch; its maps fill the ledger, its variables are the environment."""
    environ = {**os.environ, "NCCL_DEBUG": "WARN", "LD_LIBRARY_PATH": str(tmp_path)}
    with running("import torch", environ=environ) as process:
        done = fresh("check", "--pid", str(process.pid), "--level", "quick", "--format", "json")
    report = done.json
    found = from_plain(report["facts"])
    job, libraries = found.get(Job), found.get(Libraries)
    assert job is not None
    assert libraries is not None
    assert (process.pid, True, False) == (job.pid, job.same_python, job.ended)
    assert f"process {process.pid}" == found.target.key
    gomp = libraries.row("gomp")
    assert gomp is not None
    assert gomp.first is not None
    assert (os.path.realpath(gomp.first.path),) == tuple(map(os.path.realpath, gomp.mapped))
    assert {"NCCL_DEBUG": "WARN", "LD_LIBRARY_PATH": str(tmp_path)}.items() <= _variables(report).items()


def test_fresh_import_fills_the_ledger_without_a_job() -> None:
    """At the standard level a process that has just imported torch says what is mapped."""
    found = from_plain(fresh("snapshot", "--level", "standard").json)
    mapped, libraries = found.get(MappedLibraries), found.get(Libraries)
    assert mapped is not None
    assert libraries is not None
    assert any(each.endswith("/torch/lib/libtorch_cpu.so") for each in mapped.paths)
    gomp = libraries.row("gomp")
    assert gomp is not None
    assert set(gomp.mapped) <= set(mapped.paths)
    assert () != gomp.mapped


def _variables(report: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in report["facts"]["facts"]["environment"]["variables"]}


def test_proc_is_read_by_its_own_words() -> None:
    """What cannot be read of a process is an empty answer, and not an error."""
    assert {} == module._environ(Path("/nowhere"))
    assert () == module._prefixes_of_torch(Path("/nowhere"))
