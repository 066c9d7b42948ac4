"""The storage probe: which file system lies under each place, and what a dead file server costs."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from envdoctor_probes.storage import places, storage

from envdoctor.facts.storage import Mount, Storage
from envdoctor.plan import BUILT_IN
from envdoctor.probe import Context, Roots
from envdoctor.runner.collection import collect as run
from envdoctor.target import Patient
from envdoctor.testing import collect
from tests.stands import trees

MOUNTINFO = (
    "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
    "23 22 0:30 / /tmp rw,nosuid,nodev,noexec - tmpfs tmpfs rw,size=4g\n"
    "24 22 0:50 /home /home rw,nosuid - nfs4 filer:/home rw,vers=4.2,hard\n"
)
ENVIRON = {"HOME": "/home/ada", "TRITON_CACHE_DIR": "/scratch/triton", "TMPDIR": "/tmp/ada"}


def test_places_follow_the_environment() -> None:
    """Caches and temporary files lie where the variables say, else where programs look by default."""
    site = "/venv/lib/python3.11/site-packages"
    context = Context(path=("/usr/lib/python3.11", site), environ=ENVIRON, cwd="/home/ada/run")
    expected = {
        "temporary files": "/tmp/ada", "packages": site, "triton cache": "/scratch/triton",
        "caches": "/home/ada/.cache", "working directory": "/home/ada/run", "shared memory": "/dev/shm",
    }  # fmt: skip
    assert expected == dict(places(context))


def test_recorded_machine_tells_kinds_and_no_sizes(tmp_path: Path) -> None:
    """Kind, options and mount point come from the list of mounts; sizes are unknown, with the reason."""
    tree = trees.write(tmp_path, {"proc/self/mountinfo": MOUNTINFO})
    fact = collect(storage, tree, environ=ENVIRON)
    assert isinstance(fact, Storage)
    by_purpose = {each.purpose: each for each in fact.mounts}
    temporary = Mount(
        "/tmp/ada", "tmpfs", "rw,nosuid,nodev,noexec,size=4g", mount_point="/tmp", purpose="temporary files"
    )
    assert temporary == by_purpose["temporary files"]
    assert ("nfs4", "/home") == (by_purpose["caches"].filesystem, by_purpose["caches"].mount_point)
    assert "recorded" in fact.unknown["mounts"]


def test_this_machine_has_sizes(tmp_path: Path) -> None:
    """A live place has free and total MiB; one that is not there yet those of its nearest ancestor."""
    later = tmp_path / "made" / "later"
    fact = storage.collect(Context(environ={"TMPDIR": str(tmp_path), "HF_HOME": str(later)}, cwd=str(tmp_path)))
    assert isinstance(fact, Storage)
    by_purpose = {each.purpose: each for each in fact.mounts}
    status = os.statvfs(tmp_path)
    assert status.f_frsize * status.f_blocks >> 20 == by_purpose["temporary files"].total_mib
    assert by_purpose["temporary files"].total_mib == by_purpose["model cache"].total_mib
    assert str(later) == by_purpose["model cache"].path


def said_on_the_way(top: Path, monkeypatch: pytest.MonkeyPatch, mountinfo: str) -> list[dict[str, Any]]:
    """Ask as on a live machine with these mounts; give what the probe says before it answers."""
    shown = trees.write(top, {"proc/self/mountinfo": mountinfo})
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(Roots, "live", True)
    roots = Roots(proc=str(shown / "proc"))
    storage.collect(Context(roots=roots, environ=ENVIRON, cwd="/home/ada/run", path=(), emit=said.append))
    return said


def test_share_is_asked_last_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies on a file server comes after the local places, and the call that may hang names the place."""
    said = said_on_the_way(tmp_path, monkeypatch, MOUNTINFO)
    asked = [each["what"] for each in said if each["event"] == "enter"]
    assert ["statvfs /home/ada/.cache", "statvfs /home/ada/run"] == asked[-2:]
    first = next(each["fact"] for each in said if each["event"] == "partial")
    assert {"ext4", "tmpfs", "nfs4"} == {each.filesystem for each in first.mounts}
    assert "was asked for its size" in first.unknown["mounts"]


def test_local_machine_says_nothing_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file server there is nothing to wait for, and no time is spent on telling."""
    local = "".join(line for line in MOUNTINFO.splitlines(keepends=True) if "nfs" not in line)
    assert [] == said_on_the_way(tmp_path, monkeypatch, local)


def test_dead_share_costs_its_own_deadline_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place whose look-up hangs ends this probe by its deadline; the kinds of file systems are kept."""
    shown = trees.write(tmp_path, {"proc/self/mountinfo": MOUNTINFO})
    fifo = Path(tmp_path, "hang.py")
    fifo.write_text(
        "import os, time\nfrom envdoctor.probe import Roots\nfrom envdoctor_probes import storage as real\n"
        "Roots.live = True\nos.statvfs = lambda path: time.sleep(60)\nstorage = real.storage\n"
    )
    (planned,) = (each for each in BUILT_IN if each.name == "storage")
    hung = type(planned)(**{**planned.__dict__, "where": "hang:storage", "seconds": 1.0})
    monkeypatch.setenv("HOME", "/home/ada")
    patient = Patient(roots=Roots(proc=str(shown / "proc")), payload={"hang": str(tmp_path)})
    began = time.monotonic()
    snapshot = run(patient, [hung], timeout=10.0, level="quick")
    fact = snapshot.get(Storage)
    assert time.monotonic() - began < 6
    assert "timed-out" == snapshot.probes[0].outcome.name
    assert "statvfs" in snapshot.probes[0].outcome.reason
    assert fact is not None
    assert "nfs4" in {each.filesystem for each in fact.mounts}
