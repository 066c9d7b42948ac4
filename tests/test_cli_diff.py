"""``envdoctor diff``: two files, one with now, or now with an earlier day."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from envdoctor import demo
from envdoctor.baseline import Shelf, name_of
from envdoctor.snapshot import load
from envdoctor.snapshot import save as document
from tests.command import Done, fresh, here


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a state directory of its own."""
    folder = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def machine(folder: Path, name: str, **facts: dict[str, Any]) -> str:
    """Write a recorded machine with other values in some facts; give the file."""
    plain = json.loads(document(demo.load("h100x8-healthy")))
    for key, values in facts.items():
        plain["facts"][key] |= values
    (folder / name).write_text(json.dumps(plain))
    return str(folder / name)


def diff(*arguments: str) -> Done:
    """Compare with JSON on stdout."""
    return here("diff", "--format", "json", *arguments)


def test_two_snapshots_are_compared(tmp_path: Path) -> None:
    """The driver went back: what changed, what is new because of it, and exit 0 while that is no error."""
    before = machine(tmp_path, "before.json")
    after = machine(tmp_path, "after.json", kernel_module={"version": "470.57.02", "on_disk_version": "470.57.02"})
    done = diff(before, after)
    told = done.json
    assert (0, True, [before, after]) == (
        done.code,
        told["same_machine"],
        [told[x]["source"] for x in ("before", "after")],
    )
    assert "driver 580.95.05 -> 470.57.02" in told["headlines"]
    assert ["kernel_module.version"] in [each["because"] for each in told["findings"]["new"]]
    text = here("diff", before, after)
    assert "New: Driver branch 470 reached its end of life" in text.out
    assert "because of driver" in text.out


def test_a_new_error_is_exit_1(tmp_path: Path) -> None:
    """By --fail-on, and only for what is new."""
    before = machine(tmp_path, "before.json")
    after = machine(
        tmp_path, "after.json", torch_import={"imported": False, "error_type": "OSError", "error": "libcudnn"}
    )
    assert (1, 0, 0) == (diff(before, after).code, diff(after, before).code, diff(after, after).code)
    assert 0 == diff(before, after, "--fail-on", "never").code


def test_reports_are_compared_as_snapshots(tmp_path: Path) -> None:
    """What check --format json wrote holds one."""
    before = machine(tmp_path, "before.json")
    (tmp_path / "report.json").write_text(here("check", "--from", before, "--format", "json").out)
    told = diff(before, "report.json").json
    assert ([], []) == (told["changes"], told["findings"]["new"])


def test_the_difference_is_also_written_to_a_file(tmp_path: Path) -> None:
    """-o takes JSON beside what the terminal shows."""
    before = machine(tmp_path, "before.json")
    done = here("diff", before, before, "-o", "diff.json")
    assert "Nothing differs but what changes by itself." in done.out
    assert "envdoctor.diff/1" == json.loads((tmp_path / "diff.json").read_text())["schema"]


def test_one_file_is_compared_with_now(tmp_path: Path) -> None:
    """This machine, really: a snapshot of a moment ago differs in nothing settled."""
    assert 0 == fresh("snapshot", "--level", "quick", "-o", "before.json", cwd=tmp_path).code
    done = fresh("diff", "before.json", "--format", "json", cwd=tmp_path)
    told = done.json
    assert (0, "this machine now", "quick") == (done.code, told["after"]["source"], told["after"]["level"])
    assert [] == told["changes"]


def test_now_is_compared_with_an_earlier_day(tmp_path: Path, state: Path) -> None:
    """--since takes what was kept by then; a damaged one is named and the one before it taken."""
    assert 0 == fresh("baseline", "save", "--keep", "--level", "quick", cwd=tmp_path).code
    (kept,) = state.rglob("history/*/*.json")
    text = kept.read_text()
    kept.unlink()
    stamps = [dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=days) for days in (9, 3, 2)]
    files = [kept.with_name(f"{when:%Y%m%dT%H%M%S.%fZ}-0a.json") for when in stamps]
    for number, file in enumerate(files):
        plain = json.loads(text)
        plain["facts"]["host"]["kernel"] = f"6.{number}"
        file.write_text(json.dumps(plain))
    files[2].write_text("{")

    done = fresh("diff", "--since", "yesterday", "--level", "quick", "--format", "json", cwd=tmp_path)
    assert f"{stamps[1].astimezone():kept %Y-%m-%d %H:%M}" == done.json["before"]["source"]
    assert ["6.1"] == [each["before"] for each in done.json["changes"] if each["key"] == "host.kernel"]
    assert f"{files[2]}: not JSON" in done.err
    early = fresh("diff", "--since", "4 weeks ago", "--level", "quick", "--format", "json", cwd=tmp_path)
    assert (True, "6.0") == ("this is the oldest" in early.err, early.json["changes"][0]["before"])


def test_nothing_kept_is_said_before_anything_is_collected(state: Path) -> None:
    """And how something is kept."""
    done = diff("--since", "yesterday")
    assert (2, True) == (done.code, "'envdoctor baseline save --keep' keeps a dated snapshot" in done.err)


def test_what_was_kept_of_others_is_not_taken(tmp_path: Path) -> None:
    """Of another environment there is nothing to compare with."""
    other = load(Path(machine(tmp_path, "x.json")).read_bytes())
    Shelf.of_user().keep(name_of(other), "{}")
    done = diff("--since", "yesterday", "--level", "quick")
    assert (2, True) == (done.code, "nothing is kept of this environment" in done.err)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name two files, one to compare this machine with, or --since"),
        (("a.json", "--since", "yesterday"), "--since names what to compare this machine with"),
        (("--since", "some day"), "names no moment"),
        (("nothing.json", "x"), "BEFORE: 'nothing.json' cannot be read: No such file"),
        (("a.json", "a.json", "--level", "quick"), "two files need no look"),
        (("a.json", "text.txt"), "AFTER: text.txt: not JSON"),
        (("a.json", "list.json"), "AFTER: list.json: not a snapshot"),
        (("a.json", "a.json", "--formt", "json"), "did you mean '--format'"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    """The message names what was given and what was expected."""
    machine(tmp_path, "a.json")
    (tmp_path / "text.txt").write_text("hello\n")
    (tmp_path / "list.json").write_text('{"schema": "envdoctor.list/1"}')
    done = here("diff", *arguments)
    assert (2, "", True) == (done.code, done.out, words in done.err), done.err
