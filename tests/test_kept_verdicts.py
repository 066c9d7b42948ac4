"""Kept verdicts: taken while nothing they rest on has changed, and never in the way when they cannot be had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import envdoctor
from envdoctor import demo
from envdoctor.diagnose import examine
from envdoctor.finding import Status, Verdict
from envdoctor.gate import fingerprint, kept
from envdoctor.gate.cleared import Cleared
from envdoctor.gate.fingerprint import size_and_time
from envdoctor.gate.kept import AS_ROOT, MOST_KEPT, Shelf, _problem, shelf
from envdoctor.gate.memory import Memory
from envdoctor.gate.recalled import Recalled, as_kept, recalled, worth_keeping
from envdoctor.outcome import TimedOut
from envdoctor.render import terminal
from envdoctor.render.json import render as to_json
from envdoctor.rules import RULES
from envdoctor.snapshot import ProbeResult
from tests.command import fresh, valid
from tests.stands.fakes import may_unshare
from tests.stands.program import program

HEALTHY = "h100x8-healthy"
VERDICT: dict[str, Any] = {"findings": [], "checks": [], "primary": None, "notes": [], "not_asked": []}


@pytest.fixture(autouse=True)
def _away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the calls away from any configuration file and from torch as other tests have left it."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.delitem(sys.modules, "torch", raising=False)


def preflight(folder: Path, **how: Any) -> Cleared:
    """Call it with a place for verdicts and a budget for a loaded machine; nothing here is refused by chance."""
    how.setdefault("ignore", {"torch-missing": "not what is tested", "duplicate-torch-installs": "nor this"})
    return envdoctor.preflight(**{"budget_seconds": 60.0, "cache": folder, **how})


# Taking a verdict again


def test_the_next_call_takes_the_kept_verdict(tmp_path: Path) -> None:
    """The second report is the first one again, says so, is a whole document, and reads its facts when asked."""
    first, second = preflight(tmp_path / "kept"), preflight(tmp_path / "kept")
    assert (False, True, True) == (first.cached, second.cached, isinstance(second, Recalled))
    assert [c.id for c in first.checks] == [c.id for c in second.checks]
    assert (first.verdict, first.primary) == (second.verdict, second.primary)
    assert [f.key for f in first.findings] == [f.key for f in second.findings]
    assert any(note.startswith("verdict of 2") for note in second.notes)
    assert first.snapshot.facts.keys() == second.snapshot.facts.keys()
    valid(to_json(second))


def test_a_kept_verdict_warns_of_nothing(tmp_path: Path) -> None:
    """That a verdict is an earlier one is worth knowing; on the terminal it does not look like something wrong."""
    preflight(tmp_path / "kept")
    shown = terminal.render(preflight(tmp_path / "kept")).splitlines()
    (told,) = (each for each in shown if "nothing that it rests on has changed" in each)
    assert "i verdict of " == told[:13]


def test_a_fresh_process_takes_it_too(tmp_path: Path) -> None:
    """Another process on the same machine, asked the same, needs no child of its own."""
    source = (
        "import sys, subprocess, json, envdoctor\n"
        "if len(sys.argv) > 2: subprocess.Popen = None\n"
        "r = envdoctor.preflight(cache=sys.argv[1], fail_on='never', budget_seconds=60, ignore=['torch-missing'])\n"
        "print(json.dumps([r.cached, r.verdict.value]))\n"
    )
    told = []
    for more in ([], ["no child"]):
        command = [sys.executable, "-c", source, str(tmp_path / "kept"), *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path / "cwd")
        assert 0 == done.returncode, done.stderr
        told.append(json.loads(done.stdout))
    assert [[False, told[0][1]], [True, told[0][1]]] == told


def test_what_cannot_be_kept_is_named_as_not_asked() -> None:
    """Of a machine with GPUs, what is new at each look is skipped with a reason and named; the rest stands."""
    snapshot = demo.load(HEALTHY)
    report = examine(snapshot)
    told, facts = as_kept(report, RULES)
    again = recalled({"kept": time.time(), "report": told}, facts)
    skipped = {c.id for c in again.checks if "not asked" in c.reason}
    assert {"gpu-lost", "gpu-memory-low", "gpu-in-use", "xid-errors", "ecc-uncorrectable"} <= skipped
    assert {Status.SKIPPED} == {c.status for c in again.checks if c.id in skipped}
    assert all(any(name in note for note in again.notes if note.startswith("not asked")) for name in skipped)
    assert snapshot == again.snapshot
    kept_checks = {c.id: c.status for c in again.checks if c.id not in skipped}
    assert {c.id: c.status for c in report.checks if c.id not in skipped} == kept_checks
    assert "driver-too-old-for-cuda-build" in kept_checks


def test_a_finding_survives_the_shelf() -> None:
    """Evidence, fixes, causes and reasons of a kept finding are those of the report; evidence is no longer live."""
    report = examine(demo.load(demo.FIRST))
    told, facts = as_kept(report, RULES)
    again = recalled({"kept": time.time(), "report": json.loads(json.dumps(told))}, facts)
    assert len(report.findings) > 1
    for old, new in zip(report.findings, again.findings, strict=True):
        assert replace(old, evidence=()) == replace(new, evidence=())
        seen = [(each.fact, each.source, each.label) for each in old.evidence]
        assert seen == [(each.fact, each.source, each.label) for each in new.evidence]
        assert {"file"} == {each.freshness for each in new.evidence}


# When it no longer holds


def key(**asked: Any) -> str:
    """Give the key of a question as the machine is now."""
    return fingerprint.fingerprint(json.dumps(asked, sort_keys=True))


def test_the_fingerprint_is_steady() -> None:
    """Asked twice, nothing having changed, it is the same; another question has another."""
    assert (key(level="quick"), True) == (key(level="quick"), key(level="quick") != key(level="deep"))


@pytest.mark.parametrize(
    "name", ["CUDA_VISIBLE_DEVICES", "NCCL_DEBUG", "LD_LIBRARY_PATH", "LOCAL_RANK", "SLURM_NNODES"]
)
def test_a_variable_that_matters_changes_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that change how drivers, libraries and torch behave are part of it."""
    before = key()
    monkeypatch.setenv(name, "7")
    assert before != key()


@pytest.mark.parametrize("name", ["RANK", "MASTER_PORT", "SLURM_JOB_ID", "TORCHELASTIC_RUN_ID", "EDITOR", "SSH_TTY"])
def test_a_variable_of_one_job_does_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each job has another id and port; the verdict of its machine stays."""
    before = key()
    monkeypatch.setenv(name, "7")
    assert before == key()


def test_a_wheel_changes_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A package that is installed, or a file that would hide one, makes it another; data files do not."""
    monkeypatch.syspath_prepend(str(tmp_path))
    keys = [key()]
    for name in ("numpy-9.9.dist-info", "torch.py"):
        (tmp_path / name).mkdir()
        keys.append(key())
    (tmp_path / "checkpoint-000100.pt").mkdir()
    assert (3, keys[-1]) == (len(set(keys)), key())


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/proc/sys/kernel/random/boot_id", "another boot"),
        ("/proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05"),
        ("/sys/module/nvidia/version", "580.95.05"),
        ("/etc/os-release", "ID=other"),
    ],
)
def test_the_machine_changes_it(path: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart, another driver or another system make it another."""
    before, read = key(), fingerprint._text
    monkeypatch.setattr(fingerprint, "_text", lambda asked: text if asked == path else read(asked))
    assert before != key()


def test_another_gpu_changes_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A card that was swapped has another UUID; one that came has a directory of its own."""
    entries, text = fingerprint._entries, fingerprint._text
    monkeypatch.setattr(fingerprint, "_entries", lambda at: entries(str(tmp_path) if at.endswith("/gpus") else at))
    card = tmp_path / "0000:17:00.0" / "information"
    keys = [key()]
    for uuid in ("GPU-1", "GPU-2"):
        card.parent.mkdir(exist_ok=True)
        card.write_text(f"GPU UUID: {uuid}\n")
        keys.append(key())
    assert (3, f"GPU UUID: {uuid}\n") == (len(set(keys)), text(str(card)))


def test_another_doctor_changes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version, and a rule or table that somebody has edited, would judge otherwise."""
    keys, real = [key()], fingerprint.size_and_time
    edited = ("rules/limits.py", "knowledge/data/torch_releases.csv")
    for name in edited:
        with monkeypatch.context() as patch:
            patch.setattr(
                fingerprint, "size_and_time", lambda path, name=name: (1, 1) if path.endswith(name) else real(path)
            )
            keys.append(key())
    monkeypatch.setattr(envdoctor, "__version__", "99.0")
    keys.append(key())
    assert 4 == len(set(keys))


def test_a_configuration_file_changes_it() -> None:
    """A new configuration file, or another content, is another question."""
    keys = [key()]
    for text in ("[ignore]\n", "[require]\ngpus = 1\n"):
        Path("pyproject.toml").write_text(text)
        keys.append(key())
    assert 3 == len(set(keys))


def test_a_changed_library_ends_a_verdict(tmp_path: Path) -> None:
    """A library that would be mapped has another size or time: the verdict of the same key no longer holds."""
    library = tmp_path / "libcudnn.so.9"
    library.write_text("old")
    place = Shelf(str(tmp_path / "kept"))
    place.keep("k", VERDICT, "{}", fingerprint.state_of([str(library), "/no/such/library"]))
    assert place.find("k") is not None
    library.write_text("newer")
    assert (None, []) == (place.find("k"), place.notes)


@pytest.mark.parametrize("age", [25 * 3600.0, -3600.0])
def test_an_old_verdict_ends(age: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a day it is asked again, and so it is when the clock was put back."""
    place = Shelf(str(tmp_path))
    place.keep("k", VERDICT, "{}", [])
    now = time.time()
    monkeypatch.setattr(kept.time, "time", lambda: now + age)
    assert None is place.find("k")


# What is kept


def test_only_a_sound_report_is_kept() -> None:
    """Errors, open ends and questions that ended badly are looked at anew each time; a warning may be kept."""
    report = examine(demo.load(HEALTHY))
    warned = replace(report, verdict=Verdict.WARNINGS)
    late = (*report.snapshot.probes, ProbeResult("x", "x", TimedOut("late")))
    bad = [
        replace(report, verdict=Verdict.ERRORS), replace(report, verdict=Verdict.UNDETERMINED),
        replace(report, interrupted=True), replace(report, snapshot=replace(report.snapshot, probes=late)),
    ]  # fmt: skip
    assert ([True, True], [False] * 4) == (
        [worth_keeping(each) for each in (report, warned)],
        list(map(worth_keeping, bad)),
    )


def test_a_refusal_is_never_taken_from_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept warning does not stop a run for which warnings count: the machine is looked at again first."""
    monkeypatch.setenv("NCCL_DEBUGG", "x")
    warned = preflight(tmp_path)
    assert Verdict.WARNINGS is warned.verdict
    assert preflight(tmp_path).cached
    with pytest.raises(envdoctor.NotReady) as caught:
        preflight(tmp_path, fail_on="warning")
    assert isinstance(caught.value.report, Cleared)
    assert not caught.value.report.cached


def test_wrong_arguments_are_refused_beside_a_kept_verdict(tmp_path: Path) -> None:
    """A kept verdict does not let an argument pass that cannot be meant."""
    preflight(tmp_path)
    for how in ({"fail_on": "warn"}, {"fail_on": ["error"]}, {"budget_seconds": -1}, {"sync_timeout_seconds": 0}):
        with pytest.raises(ValueError, match=next(iter(how))):
            preflight(tmp_path, **how)


# When the shelf is not as it should be


DAMAGE = {
    "empty": b"",
    "cut": None,
    "no JSON": b"\xff\xfe not JSON\n{}",
    "no facts": b'{"schema": "envdoctor.verdict/1"}',
    "another schema": b'{"schema": "other/1", "key": "k", "kept": 1, "files": [], "report": {}}\n{}',
    "another key": b'{"schema": "envdoctor.verdict/1", "key": "other", "kept": 1, "files": [], "report": {}}\n{}',
    "a list": b"[]\n{}",
    "deep": b"[" * 100_000 + b"\n{}",
}


def test_a_verdict_cut_off_anywhere_is_not_taken(tmp_path: Path) -> None:
    """Also where what is left ends in a brace, as a whole one does."""
    preflight(tmp_path)
    (file,) = tmp_path.glob("*.json")
    whole = file.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole[:-1]) if byte == ord("}")]
    assert len(ends) > 100
    for end in (*ends[:: len(ends) // 50], ends[-1]):
        assert "" != _problem(whole[:end], file.stem)
    assert "" == _problem(whole, file.stem)


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_verdict_is_ignored_with_a_word_and_replaced(name: str, tmp_path: Path) -> None:
    """Whatever is in the file, the look is made, the note says why, and the next call finds a whole one."""
    preflight(tmp_path)
    (file,) = tmp_path.glob("*.json")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if DAMAGE[name] is None else DAMAGE[name])
    report = preflight(tmp_path)
    assert (False, True) == (report.cached, any("a kept verdict is ignored" in note for note in report.notes))
    assert preflight(tmp_path).cached


@pytest.mark.parametrize("broken", [{}, {**VERDICT, "checks": [1]}, {**VERDICT, "findings": [{"id": "x"}]}])
def test_a_verdict_of_another_shape_is_ignored(broken: dict[str, Any], tmp_path: Path) -> None:
    """A file that is whole and says something else than a report is ignored with a word."""
    memory = Memory(str(tmp_path))
    memory._shelf.keep(memory._key, broken, "{}", [])
    assert (None, True) == (memory.recall(), "a kept verdict is ignored" in memory.notes[0])


def test_a_link_and_a_strangers_file_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verdict must be a file of this user's own."""
    place = Shelf(str(tmp_path))
    place.keep("k", VERDICT, "{}", [])
    (tmp_path / "l.json").symlink_to(tmp_path / "k.json")
    os.mkfifo(tmp_path / "p.json")
    assert (None, None) == (place.find("l"), place.find("p"))
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert None is place.find("k")
    assert ["Too many levels of symbolic links", "it is no file", "it belongs to another user"] == [
        note.rpartition(": ")[2] for note in place.notes
    ]


def test_a_place_that_cannot_be_written_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where the directory should be, and a full disk, are notes; no part of a verdict is left."""
    (tmp_path / "file").write_text("")
    report = preflight(tmp_path / "file" / "kept")
    assert any("could not be kept" in note and "Not a directory" in note for note in report.notes)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    place = Shelf(str(tmp_path / "kept"))
    place.keep("k", VERDICT, "{}", [])
    assert [f"the verdict could not be kept in {tmp_path / 'kept'}: No space left on device"] == place.notes
    assert [] == list((tmp_path / "kept").iterdir())


MOUNTED = """
import envdoctor, json, sys
how = {"ignore": ["torch-missing", "duplicate-torch-installs"], "budget_seconds": 60, "cache": sys.argv[1]}
print(json.dumps([[r.cached, list(r.notes)] for r in (envdoctor.preflight(**how) for _ in range(2))]))
"""


@pytest.mark.root
@pytest.mark.skipif(not may_unshare(), reason="mounting a small or read-only home needs root")
@pytest.mark.parametrize(("options", "said"), [("ro", "Read-only file system"), ("size=8k", "No space left on device")])
def test_a_read_only_and_a_full_home_stop_nothing(options: str, said: str, tmp_path: Path) -> None:
    """On a real file system that is read-only, or full, each call looks at the machine and says why."""
    home = tmp_path / "home"
    home.mkdir()
    mount = f'mount -t tmpfs -o {options} none "$0" && exec "$@"'
    told = program(
        MOUNTED, str(home), cwd=tmp_path / "cwd",
        around=lambda command: ["unshare", "-m", "sh", "-c", mount, str(home), *command],
    )  # fmt: skip
    assert [[False, True], [False, True]] == [[cached, any(said in note for note in notes)] for cached, notes in told]


def test_many_jobs_at_once(tmp_path: Path) -> None:
    """Jobs that write and read the same verdict at the same time see whole ones only."""
    seen: list[object] = []
    place = str(tmp_path / "kept")

    def work(number: int) -> None:
        mine = Shelf(place)
        for turn in range(25):
            mine.keep("k", {**VERDICT, "notes": [f"{number} " * 2000]}, json.dumps({"n": [turn] * 5000}), [])
            found = mine.find("k")
            seen.append(found is not None and len(json.loads(found[1])["n"]))
        seen.extend(mine.notes)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [5000] * 150 == seen
    assert ["k.json"] == [each.name for each in Path(place).iterdir()]


def test_the_shelf_stays_small_and_private(tmp_path: Path) -> None:
    """Old verdicts, and what killed jobs left half written, go; what is there is for this user's eyes only."""
    place = Shelf(str(tmp_path / "kept"))
    place.keep("first", VERDICT, "{}", [])
    (tmp_path / "kept" / ".dead.part").write_text("")
    for number, name in enumerate(("first.json", ".dead.part")):
        os.utime(tmp_path / "kept" / name, (number, number))
    for number in range(MOST_KEPT):
        place.keep(f"k{number}", VERDICT, "{}", [])
    names = {each.name for each in (tmp_path / "kept").iterdir()}
    assert (MOST_KEPT, False, False) == (len(names), "first.json" in names, ".dead.part" in names)
    assert (0o700, {0o600}) == (
        (tmp_path / "kept").stat().st_mode & 0o777,
        {each.stat().st_mode & 0o777 for each in (tmp_path / "kept").iterdir()},
    )


# Where


def test_root_keeps_nothing_unless_told_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root, True keeps nothing and says so; a directory that is named is used."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert (AS_ROOT, str(tmp_path)) == (shelf(True).why, shelf(str(tmp_path)).folder)
    report = preflight(tmp_path, cache=True)
    assert (True, False) == (AS_ROOT in report.notes, (tmp_path / "cache").exists())


def test_a_user_keeps_them_in_the_cache_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """True is the user's cache directory, as XDG_CACHE_HOME or the home says; without either nothing is kept."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert str(tmp_path / ".cache" / "envdoctor" / "verdicts") == shelf(True).folder
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert str(tmp_path / "c" / "envdoctor" / "verdicts") == shelf(True).folder
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert ("", "there is no home directory to keep verdicts in: name a directory for them") == (
        shelf(True).folder, shelf(True).why,
    )  # fmt: skip


# The command line


def test_check_takes_a_kept_verdict(tmp_path: Path) -> None:
    """``check --cache-dir`` gives the same document again, with a note, and the same exit code."""
    options = ("--level", "quick", "--cache-dir", str(tmp_path / "kept"), "--format", "json")
    options += ("--ignore", "torch-missing=x", "--ignore", "duplicate-torch-installs=x")
    first, second = (fresh("check", *options, cwd=tmp_path / "cwd") for _ in range(2))
    assert ([], 1) == ([n for n in first.json["notes"] if "verdict of" in n], second.err.count("verdict of"))
    assert (first.code, first.json["verdict"]) == (second.code, second.json["verdict"])
    other = fresh("check", *options, "--skip", "precision", cwd=tmp_path / "cwd")
    assert "verdict of" not in other.err


def test_run_takes_a_kept_verdict(tmp_path: Path) -> None:
    """``run --cache-dir`` starts the command on a kept verdict; that of another interpreter is not kept."""
    options = ("run", "--cache-dir", str(tmp_path / "kept"), "--fail-on", "never", "--ignore", "torch-missing=x", "--")
    done = [fresh(*options, "echo", "ran", cwd=tmp_path / "cwd") for _ in range(2)]
    assert [("ran\n", False), ("ran\n", True)] == [(each.out, "verdict of" in each.err) for each in done]
    shebang = tmp_path / "python3"
    shebang.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    shebang.chmod(0o755)
    other = fresh(*options, str(shebang), "-c", "print('ran')", cwd=tmp_path / "cwd")
    assert ("ran\n", True) == (other.out, f"no kept verdict: the command runs {shebang}" in other.err)


@pytest.mark.parametrize("option", [("--python", sys.executable), ("--pid", "1"), ("--from", "-")])
def test_a_kept_verdict_is_this_interpreters_alone(option: tuple[str, str], tmp_path: Path) -> None:
    """Together with an option that examines somebody else it is a usage error."""
    done = fresh("check", "--cache-dir", str(tmp_path), *option, cwd=tmp_path)
    assert (2, True) == (done.code, "--cache keeps the verdict of this interpreter" in done.err)


def test_size_and_time_of_what_is_not_there() -> None:
    """A file that is not there has a state too: it may come."""
    assert ((-1, -1), (-1, -1)) == (size_and_time("/no/such/file"), size_and_time("\0"))
