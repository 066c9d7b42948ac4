"""Through a real ssh: keys, strangers, passwords, banners, links that are cut, several hops, several hosts at once."""

from __future__ import annotations

import importlib.util
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envdoctor.far import FarPatient
from envdoctor.outcome import Crashed, Failed, Got
from envdoctor.runner.collection import collect
from envdoctor.snapshot import Snapshot
from tests.command import Done, fresh
from tests.stands.engine import HERE, plan
from tests.stands.misbehaving import Thing
from tests.stands.sshd import Server, server
from tests.stands.wheels import Wheel, install

PAYLOAD = {"misbehaving": HERE}


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give an sshd that takes our key, shows a banner, and would ask a stranger for a password."""
    folder = tmp_path_factory.mktemp("sshd")
    (folder / "banner").write_bytes(b"Authorised use only \xff\xfe.\n")
    with server(
        folder, f"Banner {folder}/banner\nPasswordAuthentication yes\nKbdInteractiveAuthentication no"
    ) as found:
        yield found


def ask(via: str, *functions: str, timeout: float = 30.0, **how: Any) -> Snapshot:
    """Put misbehaving probes to the interpreter behind a command."""
    planned = [plan(each, **how) for each in functions]
    patient = FarPatient(python=sys.executable, via=via, payload=PAYLOAD)
    return collect(patient, planned, timeout=timeout, kinds={each.fact: Thing for each in planned})  # type: ignore[misc]


def test_probes_are_asked_through_ssh(sshd: Server) -> None:
    """Facts, crashes, hangs and output that is no UTF-8 come through; the banner is no answer."""
    snapshot = ask(sshd.way(), "fine", "segfault", "hang", "not_utf8", "leave_an_orphan", seconds=2.0)
    assert ["got", "crashed", "timed-out", "crashed", "got"] == [each.outcome.name for each in snapshot.probes]
    assert Thing(words="fine", number=1.5) == snapshot.facts["fine"]


def test_two_hops_are_asked_through(sshd: Server) -> None:
    """From one host to the next, with a shell on each."""
    assert [Got("fresh-process")] == [each.outcome for each in ask(f"{sshd.way()} {sshd.way()}", "fine").probes]


def test_a_container_behind_a_host_is_asked_through(sshd: Server) -> None:
    """A command on the other side that takes words and no shell."""
    assert [Got("fresh-process")] == [each.outcome for each in ask(f"{sshd.way()} env -i", "fine").probes]


def test_a_stranger_is_refused_and_not_asked_for_a_password(sshd: Server, tmp_path: Path) -> None:
    """Neither a terminal nor a window: it fails at once, in ssh's words, and the finding says what to do."""
    asked, ask_pass = tmp_path / "asked", tmp_path / "ask"
    ask_pass.write_text(f"#!/bin/sh\ntouch {asked}\necho secret\n")
    ask_pass.chmod(0o755)
    windows = {"DISPLAY": ":0", "SSH_ASKPASS": str(ask_pass)}
    arguments = ("check", "--level", "quick", "--format", "json", "--timeout", "60", "--via", sshd.way(key="stranger"))
    began = time.monotonic()
    done = fresh(*arguments, cwd=tmp_path, seconds=70, **windows)
    assert time.monotonic() - began < 30.0
    (finding,) = done.json["findings"]
    assert (3, "snapshot-partial", False) == (done.code, finding["key"], asked.exists())
    assert "Permission denied (publickey,password)" in finding["title"]
    assert "ssh -o BatchMode=yes" in finding["fixes"][0]["commands"][0]["shell"]


def test_an_unknown_host_key_is_refused(sshd: Server) -> None:
    """A person would be asked by ssh whether to trust it; here nobody can answer."""
    (result,) = ask(sshd.way(known="none"), "fine").probes
    assert isinstance(result.outcome, Failed)
    assert "Host key verification failed" in result.outcome.reason


def test_a_port_without_a_server_is_told(sshd: Server) -> None:
    """Connection refused, in ssh's words."""
    (result,) = ask(sshd.way(port=1), "fine").probes
    assert "Connection refused" in result.outcome.reason


def test_a_python_that_is_not_there_is_told(sshd: Server) -> None:
    """The remote shell's words."""
    patient = FarPatient(python="/nowhere/python3", via=sshd.way(), payload=PAYLOAD)
    (result,) = collect(patient, [plan("fine")], timeout=30.0).probes
    assert "exit code 127" in result.outcome.reason
    assert "/nowhere/python3: No such file or directory" in result.outcome.reason


def test_a_connection_that_is_cut_is_told(sshd: Server) -> None:
    """The server's end dies while a call is under way: that call is to blame, what came before is kept."""
    planned = [plan("fine", child="static"), plan("hang", child="static", seconds=50.0)]
    patient = FarPatient(python=sys.executable, via=sshd.way(), payload=PAYLOAD)

    def cut(event: dict[str, Any]) -> None:
        if event["event"] == "enter":
            for pid in sshd.sessions():
                os.kill(pid, signal.SIGKILL)

    kinds = {each.fact: Thing for each in planned}
    found = collect(patient, planned, timeout=60.0, kinds=kinds, progress=cut)  # type: ignore[arg-type]
    fine, hang = (each.outcome for each in found.probes)
    assert isinstance(fine, Got)
    assert isinstance(hang, Crashed)
    assert hang.reason.startswith("the link ended, exit code 255: ")
    assert hang.reason.endswith("(during cuInit)")


def test_the_far_side_ends_with_the_link(sshd: Server, tmp_path: Path) -> None:
    """A deadline here ends the processes there, though no terminal and no signal tells them."""
    folder = tmp_path / "there"
    folder.mkdir()
    mark = f"STAND_FAR={os.getpid()}-{time.monotonic_ns()}"
    snapshot = ask(f"{sshd.way()} env {mark}", "hang", "hang_with_the_gil", timeout=4.0, seconds=50.0)
    assert {"timed-out"} == {each.outcome.name for each in snapshot.probes}
    end = time.monotonic() + 20.0
    while _marked(mark) and time.monotonic() < end:
        time.sleep(0.1)
    assert [] == _marked(mark)


def _marked(mark: str) -> list[int]:
    from envdoctor.child import vitals

    return [pid for pid in vitals.marked(mark) if vitals.state(pid) not in ("", "Z")]


def test_several_hosts_are_one_document(sshd: Server, tmp_path: Path) -> None:
    """All at once, one of them not reached: one valid document, what differs between them, the worst exit code."""
    good, other = sshd.way(), sshd.way(more="env OMP_NUM_THREADS=3")
    ways = (good, other, sshd.way(key="stranger"))
    vias = [word for way in ways for word in ("--via", way)]
    arguments = ("check", "--level", "quick", "--format", "json", "--skip", "torch-missing", "--python", sys.executable)
    done = fresh(*arguments, *vias, cwd=tmp_path, seconds=100)
    told = done.json
    assert (3, list(ways)) == (done.code, [each["target"]["key"] for each in told["reports"]])
    apart = {each["key"]: each["groups"] for each in told["compare"]["differs"]}
    expected = [{"value": None, "targets": [good]}, {"value": "3", "targets": [other]}]
    assert expected == sorted(apart["variable.OMP_NUM_THREADS"], key=lambda each: str(each["value"] or ""))
    assert [ways[2]] == [each["target"] for each in told["compare"]["not_compared"]]


def test_several_snapshots_are_a_file_each(sshd: Server, tmp_path: Path) -> None:
    """A folder takes one file for each host."""
    folder = tmp_path / "out"
    vias = ("--via", sshd.way(), "--via", "env")
    refused = fresh("snapshot", "--level", "quick", *vias, cwd=tmp_path)
    assert (2, True) == (refused.code, "expected a folder that exists" in refused.err)
    folder.mkdir()
    done = fresh("snapshot", "--level", "quick", *vias, "-o", str(folder), cwd=tmp_path, seconds=100)
    assert (0, 2) == (done.code, len(list(folder.glob("00?-*.json"))))


def test_links_do_not_disturb_each_other(sshd: Server) -> None:
    """Eight patients in eight threads: each gets its own answers."""
    found: dict[int, Snapshot] = {}

    def one(number: int) -> None:
        found[number] = ask(f"{sshd.way()} env LC_ALL=C.{number}", "where_am_i", timeout=60.0)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert {"got"} == {each.probes[0].outcome.name for each in found.values()}
    assert 8 == len(found)


def test_ssh_is_started_without_a_terminal(sshd: Server) -> None:
    """The command line is the user's own words, then Python's."""
    words = FarPatient(via=sshd.way()).argv()
    assert shlex.split(sshd.way()) == words[:-4]
    assert ["python3", "-B", "-c"] == words[-4:-1]


# The same patient, seen in four ways


def seen(done: Done) -> tuple[dict[str, Any], dict[str, str]]:
    """Give a report's findings with how bad and how sure they are, and what became of each check."""
    told = done.json
    found = {each["key"]: (each["severity"], each["confidence"], each["caused_by"]) for each in told["findings"]}
    return found, {each["id"]: each["status"] for each in told["checks"]}


BROKEN_TORCH = {
    "torch/version.py": "__version__ = '2.9.0+cu128'\ncuda = '12.8'\nhip = None\n",
    "torch/__init__.py": "raise OSError('libcudnn.so.9: cannot open shared object file: No such file or directory')\n",
    "torch/lib/libtorch_cuda.so": "version https://git-lfs.github.com/spec/v1\n",
}


def test_one_environment_is_judged_alike_however_it_is_reached(sshd: Server, tmp_path: Path) -> None:
    """Its own interpreter, --python, through ssh, and its saved snapshot: the same findings, the same checks."""
    install(tmp_path / "site", Wheel("torch", "2.9.0+cu128", BROKEN_TORCH))
    around = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(tmp_path / "site")}
    words = shlex.join(["env", "-i", *(f"{name}={value}" for name, value in around.items())])
    other = str(Path(sys.executable).with_name("python3"))  # another name: not taken for our own
    where = {
        "own": (),
        "--python": ("--python", other),
        "ssh": ("--via", sshd.way(more=f"cd {tmp_path} '&&' {words}"), "--python", sys.executable),
    }
    found = {}
    for name, options in where.items():
        command = [sys.executable, "-m", "envdoctor", "check", "--format", "json", *options]
        command = ["env", "-i", *(f"{n}={v}" for n, v in around.items()), *command] if name != "ssh" else command
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=150)
        found[name] = seen(Done(done.returncode, done.stdout, done.stderr))
        (tmp_path / "saved.json").write_text(done.stdout)
    found["saved"] = seen(fresh("check", "--format", "json", "--from", str(tmp_path / "saved.json"), cwd=tmp_path))
    assert {"torch-import-fails", "torch-install-damaged"} <= set(found["own"][0])
    for name, (findings, checks) in found.items():
        assert (name, found["own"][0]) == (name, findings)
        assert (name, {}) == (name, {key: status for key, status in checks.items() if found["own"][1][key] != status})


# The same patient as before, asked from inside: the program has imported torch, so that torch has to be a real one.

IN_PROCESS = """
import sys, torch, envdoctor
from envdoctor.render import json as as_json
for level in ("quick", "standard"):
    report = envdoctor.preflight(level=level, fail_on="never", budget_seconds=100)
    open(level, "w").write(as_json.render(report))
"""
# What quick does not ask, as it would have to import torch, and what a program that has imported it tells of itself.
LIVE_AT_QUICK = {
    "anomaly-or-debug-mode-on", "cudnn-disabled", "fused-attention-unavailable", "tf32-overridden-by-environment",
    "torch-import-crashes", "torch-import-fails", "torch-import-hangs",
}  # fmt: skip
ODD = {"NCCL_DEBGU": "INFO", "OMP_NUM_THREADS": "1", "TORCH_DISTRIBUTED_DEBUG": "DETAIL"}


@pytest.mark.real_torch
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="no torch in this environment")
def test_one_environment_is_judged_alike_from_inside(sshd: Server, tmp_path: Path) -> None:
    """preflight() in a program with torch finds what check finds, and more at quick only where the program is live."""
    install(tmp_path / "site", Wheel("torchvision", "0.20.0", {}, ("torch (==2.5.0)",)))
    around = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(tmp_path / "site"), **ODD}
    clean = ["env", "-i", *(f"{name}={value}" for name, value in around.items())]
    ours = [*clean, sys.executable, "-m", "envdoctor", "check", "--format", "json", "--level"]
    way = sshd.way(more=f"cd {tmp_path} '&&' {shlex.join(clean)}")
    ways = {
        "own": [*ours, "quick"],
        "--python": [*ours, "quick", "--python", str(Path(sys.executable).with_name("python3"))],
        "ssh": [*ours, "quick", "--via", way, "--python", sys.executable],
        "saved": [*ours[:-1], "--from", str(tmp_path / "own")],
        "own standard": [*ours, "standard"],
    }
    for name, command in ways.items():
        (tmp_path / name).write_text(_out(command, tmp_path))
    _out([*clean, sys.executable, "-c", IN_PROCESS], tmp_path)
    found = {name: seen(Done(0, (tmp_path / name).read_text(), "")) for name in (*ways, "quick", "standard")}
    findings, checks = found["own"]
    assert {"environment-variable-unknown@NCCL_DEBGU", "torchvision-torch-mismatch"} <= set(findings)
    assert {"own"} == {"own" if found[name] == found["own"] else name for name in ("--python", "ssh", "saved")}
    assert found["own standard"] == found["standard"]
    inside, live = found["quick"]
    assert LIVE_AT_QUICK == {id_ for id_, status in live.items() if status != checks[id_]}
    assert {"skipped"} == {checks[id_] for id_ in LIVE_AT_QUICK}
    assert findings == {key: told for key, told in inside.items() if key.partition("@")[0] not in LIVE_AT_QUICK}


def _out(command: list[str], cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=150)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout
