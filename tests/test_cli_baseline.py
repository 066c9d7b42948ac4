"""``envdoctor baseline`` and ``check --against``: saved where it should be, compared, and clear when that cannot be."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from envdoctor import demo
from envdoctor.baseline import Shelf
from envdoctor.snapshot import save as document
from tests.command import Done, environment, fresh, here, valid
from tests.stands.fakes import may_unshare

MACHINE = "h100x8-healthy"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a state directory of its own."""
    folder = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Give a healthy machine as a saved snapshot."""
    file = tmp_path / "now.json"
    file.write_bytes(document(demo.load(MACHINE)))
    return file


def changed(saved: Path, **facts: dict[str, Any]) -> Path:
    """Give the same machine with other values in some facts."""
    plain = json.loads(saved.read_text())
    for key, values in facts.items():
        plain["facts"][key] |= values
    file = saved.with_name("changed.json")
    file.write_text(json.dumps(plain))
    return file


def fired(done: Done) -> dict[str, str]:
    """Give what a check found about the baseline, with how bad it is."""
    found = (each for each in done.json["findings"] if each["id"] == "differs-from-baseline")
    return {each["subject"]: each["severity"] for each in found}


def check(*arguments: str) -> Done:
    """Check with JSON on stdout."""
    return here("check", "--format", "json", *arguments)


# Save


def test_a_baseline_is_saved_for_its_owner_alone(saved: Path, state: Path) -> None:
    """Below XDG_STATE_HOME, named after machine and environment; a whole, valid snapshot."""
    done = here("baseline", "save", "--from", str(saved))
    (file,) = (state / "envdoctor" / "baselines").iterdir()
    assert (0, "", True) == (done.code, done.out, str(file) in done.err)
    assert file.name.startswith("hgx-03-train-")
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert "envdoctor.snapshot/1" == valid(file.read_text())["schema"]


def test_a_baseline_can_live_in_the_project(saved: Path, tmp_path: Path, state: Path) -> None:
    """-o names a file; the user's directory stays as it is."""
    done = here("baseline", "save", "--from", str(saved), "-o", "base.json")
    assert (0, True, False) == (done.code, (tmp_path / "base.json").exists(), state.exists())


def test_this_machine_is_saved_and_does_not_differ_from_itself(tmp_path: Path) -> None:
    """A real one, end to end, in processes of their own."""
    assert 0 == fresh("baseline", "save", "--level", "quick", cwd=tmp_path).code
    done = fresh("baseline", "check", "--level", "quick", "--format", "json", cwd=tmp_path)
    assert {} == fired(done)
    status = {each["id"]: each["status"] for each in done.json["checks"]}
    assert "passed" == status["differs-from-baseline"]


def test_each_environment_has_its_own(saved: Path, state: Path) -> None:
    """Another prefix, another baseline."""
    other = changed(saved, packages={"prefix": "/opt/venvs/eval"})
    for file in (saved, other):
        here("baseline", "save", "--from", str(file))
    assert 2 == len(Shelf.of_user().names())
    listed = here("baseline", "list")
    assert (0, 2) == (listed.code, listed.out.count("baseline of 20"))


def test_nothing_saved_is_said(state: Path) -> None:
    """The list of nothing is no error; comparing with nothing is one, before anything is collected."""
    assert "Nothing is saved in" in here("baseline", "list").out
    done = here("baseline", "check")
    assert (2, True) == (done.code, "'envdoctor baseline save' saves one" in done.err)


def test_another_environments_baseline_is_not_taken(saved: Path) -> None:
    """The one that is saved is of somebody else."""
    here("baseline", "save", "--from", str(saved))
    done = here("baseline", "check", "--from", str(changed(saved, packages={"prefix": "/opt/other"})))
    assert (2, True) == (done.code, "no baseline of this environment is saved" in done.err)


def test_what_was_not_reached_is_not_saved(tmp_path: Path, state: Path) -> None:
    """A baseline of nothing would make everything differ."""
    done = here("baseline", "save", "--via", "no-such-command-here")
    assert (4, False) == (done.code, state.exists())
    assert (
        "nothing is saved, because nothing is known: python3 behind no-such-command-here cannot be started" in done.err
    )


# Check


def test_a_changed_driver_is_told(saved: Path) -> None:
    """Baseline check, and check --against with the file, say the same; the exit code is that of a check."""
    here("baseline", "save", "--from", str(saved))
    now = changed(saved, host={"kernel": "6.8.0-99-generic"})
    own = here("baseline", "check", "--from", str(now), "--format", "json")
    named = check("--from", str(now), "--against", str(saved))
    assert (0, {"host.kernel": "warning"}) == (own.code, fired(own))
    assert fired(own) == fired(named)
    assert 1 == check("--from", str(now), "--against", str(saved), "--fail-on", "warning").code
    strict = check("--from", str(now), "--against", str(saved), "--strict")
    assert (1, {"host.kernel": "error"}) == (strict.code, fired(strict))


def test_a_report_is_a_baseline_too(saved: Path, tmp_path: Path) -> None:
    """What check --format json wrote can be compared with."""
    (tmp_path / "report.json").write_text(check("--from", str(saved)).out)
    now = changed(saved, host={"kernel": "6.8.0-99-generic"})
    assert {"host.kernel": "warning"} == fired(check("--from", str(now), "--against", "report.json"))


def test_ignored_differences_do_not_count(saved: Path) -> None:
    """As any finding."""
    now = changed(saved, host={"kernel": "6.8.0-99-generic"})
    done = check("--from", str(now), "--against", str(saved), "--strict", "--ignore", "differs-from-baseline=planned")
    ignored = [each["ignored"]["reason"] for each in done.json["findings"] if each["ignored"]]
    assert (0, ["planned"]) == (done.code, ignored)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        ("", "schema is None"),
        ("{", "not JSON"),
        ('{"schema": "envdoctor.list/1"}', "not a snapshot"),
        ('{"schema": "envdoctor.snapshot/1", "facts": {"host": {"kernel": 6}}}', "fact host"),
        ("\0\1\2", "is not valid TOML"),
    ],
)
def test_what_is_no_baseline_is_a_usage_error(content: str | None, words: str, tmp_path: Path, saved: Path) -> None:
    """File and reason are named, before anything is collected."""
    file = tmp_path / "base.json"
    if content is not None:
        file.write_text(content)
    done = check("--from", str(saved), "--against", str(file))
    assert (2, "", True, True) == (done.code, done.out, words in done.err, str(file) in done.err)


def test_a_damaged_baseline_says_how_to_save_it_anew(saved: Path, state: Path) -> None:
    """A half-written file of another program, say."""
    here("baseline", "save", "--from", str(saved))
    (file,) = (state / "envdoctor" / "baselines").iterdir()
    file.write_text(file.read_text()[:1000])
    done = here("baseline", "check", "--from", str(saved))
    assert (2, True) == (done.code, "not JSON" in done.err and "'envdoctor baseline save' writes it anew" in done.err)


@pytest.mark.parametrize("command", [("baseline", "check"), ("baseline", "list"), ("diff", "--since", "yesterday")])
def test_a_state_directory_that_cannot_be_read_is_named(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HOME may be another user's, or there is none."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    done = here(*command)
    assert (4, True) == (done.code, f"{tmp_path / 'file' / 'envdoctor'} cannot be read: Not a directory" in done.err)

    def unknown(_self: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "expanduser", unknown)
    done = here(*command)
    assert (4, True) == (done.code, "there is no home directory to keep baselines in" in done.err)


def test_strict_alone_says_what_is_missing() -> None:
    """An option that needs another one names it."""
    done = check("--strict")
    assert (2, True) == (done.code, "--against FILE" in done.err)


# A lock file


def test_a_lock_file_is_written_checked_and_violated(saved: Path, tmp_path: Path) -> None:
    """The team's way: write, commit, check; a violation is an error and exit 1."""
    done = here("baseline", "save", "--lock", "--from", str(saved))
    assert (0, True) == (done.code, (tmp_path / "envdoctor.lock").exists())
    held = check("--from", str(saved), "--against", "envdoctor.lock")
    assert (0, {}) == (held.code, fired(held))
    text = (tmp_path / "envdoctor.lock").read_text()
    (tmp_path / "envdoctor.lock").write_text(text.replace('numpy = "', 'numpy = "9.'))
    broken = check("--from", str(saved), "--against", "envdoctor.lock")
    assert (1, {"package.numpy": "error"}) == (broken.code, fired(broken))


def test_tolerances_survive_a_new_lock(saved: Path, tmp_path: Path) -> None:
    """What somebody wrote about tolerances is taken over when the values are written anew."""
    here("baseline", "save", "--lock", "--from", str(saved))
    file = tmp_path / "envdoctor.lock"
    file.write_text(file.read_text().replace("[tolerance]\n", '[tolerance]\npackage = "same-minor"\n'))
    here("baseline", "save", "--lock", "--from", str(saved))
    assert 'package = "same-minor"' in file.read_text()


def test_a_broken_lock_is_not_overwritten(saved: Path, tmp_path: Path) -> None:
    """Somebody's unfinished merge is theirs to end."""
    file = tmp_path / "envdoctor.lock"
    file.write_text("<<<<<<< HEAD\n")
    done = here("baseline", "save", "--lock", "--from", str(saved))
    assert (2, "<<<<<<< HEAD\n") == (done.code, file.read_text())


def test_patterns_say_what_to_lock(saved: Path, tmp_path: Path) -> None:
    """--key belongs to --lock, and must fit something."""
    assert 2 == here("baseline", "save", "--from", str(saved), "--key", "package.*").code
    done = here("baseline", "save", "--lock", "--from", str(saved), "--key", "packge.*")
    assert (2, True) == (done.code, "nothing here is called packge.*" in done.err)
    assert 0 == here("baseline", "save", "--lock", "--from", str(saved), "--key", "host.kernel").code
    assert 'kernel = "6.8.0-79-generic"' in (tmp_path / "envdoctor.lock").read_text()


# Where nothing can be written

FULL = "mount --make-rprivate / && mount -t tmpfs -o size=16k{more} none {folder} && exec {command}"


def boxed(folder: Path, more: str, *arguments: str) -> Done:
    """Run a command with a file system of its own in the place of the state directory."""
    folder.mkdir(exist_ok=True)
    command = shlex.join([sys.executable, "-m", "envdoctor", *arguments])
    inside = FULL.format(more=more, folder=folder, command=command)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", inside], env=environment(XDG_STATE_HOME=str(folder)), capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.root
@pytest.mark.skipif(not may_unshare(), reason="needs root and mount namespaces")
@pytest.mark.parametrize(("more", "words"), [(",ro", "Read-only file system"), ("", "No space left on device")])
def test_a_home_that_takes_nothing_is_said(more: str, words: str, saved: Path, state: Path) -> None:
    """Read-only or full: exit 4, what happened, where, and where else it can go."""
    for arguments in (("baseline", "save"), ("baseline", "save", "-o", os.devnull, "--keep")):
        done = boxed(state, more, *arguments, "--from", str(saved))
        assert (4, True, True) == (done.code, words in done.err, "set XDG_STATE_HOME to another place" in done.err)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_may_not_be_written_is_said(saved: Path, state: Path) -> None:
    """Permission denied: exit 4 and where else it can go."""
    state.mkdir(mode=0o500)
    done = here("baseline", "save", "--from", str(saved))
    assert (4, True) == (done.code, "Permission denied" in done.err)


def test_a_file_in_the_place_of_the_directory_is_said(saved: Path, state: Path) -> None:
    """Nothing is removed to make room."""
    state.write_text("mine")
    done = here("baseline", "save", "--from", str(saved))
    assert (4, "mine") == (done.code, state.read_text())
    assert "nothing can be kept in" in done.err
