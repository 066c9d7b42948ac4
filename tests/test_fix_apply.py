"""``fix --apply`` and ``--undo`` with commands that stand for pip: each step is asked for, judged, and recorded."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from envdoctor.cli import applying, records
from envdoctor.cli.applying import Applied, Means, apply
from envdoctor.cli.asking import Asker
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.finding import Check, Report, Safety, Severity, Status
from envdoctor.remedy.apply import SCHEMA, Effect, Installed, Record, compare, listed, undo
from tests.command import environment, here
from tests.fix_stand import PYTHON, command, finding, packages, python, report, way

WORKS = way("Do it", python("print(1)"))
FAILS = way("Do it", python("raise SystemExit(3)"))
UNKNOWN = Check("b", "torch", True, Status.UNKNOWN, "torch crashed")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the user a state directory of their own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "envdoctor" / "fixes"


def run(first: Report, *later: Report, yes: bool = True, dry: bool = False, ids: tuple[str, ...] = ()) -> Applied:
    """Apply the plan of a report; each look afterwards shows the next of the later reports."""
    looks: Iterator[Report] = iter(later)
    means = Means(lambda: next(looks), Asker(yes=yes), records.Keeper(), dry)
    return apply(first, frozenset(ids), means)


def effects(applied: Applied) -> list[tuple[Effect, str]]:
    """Give what became of each step, and why."""
    return [(each.effect, each.reason) for each in applied.ends]


# Judging


@pytest.mark.parametrize(
    ("after", "effect", "words"),
    [
        (report(), Effect.FIXED, ""),
        (report(finding("a")), Effect.NOT_FIXED, "a is still there"),
        (report(finding("b")), Effect.MADE_WORSE, "b was not there before; what it was for is gone"),
        (report(finding("a"), finding("b")), Effect.MADE_WORSE, "b was not there before"),
        (report(finding("b", severity=Severity.INFO)), Effect.FIXED, ""),
        (report(checks=(UNKNOWN,)), Effect.MADE_WORSE, "b could be judged before and cannot now: torch crashed"),
        (
            report(checks=(Check("a", "torch", False, Status.UNKNOWN, "no facts"),)),
            Effect.NOT_FIXED,
            "a cannot be judged now: no facts",
        ),
    ],
)
def test_what_a_step_did(after: Report, effect: Effect, words: str) -> None:
    """Fixed is what is gone and can be judged, with nothing new beside it."""
    judged = compare(report(finding("a")), after, ("a",))
    assert (effect, words) == (judged.effect, judged.reason)


def test_a_warning_that_became_an_error_is_worse() -> None:
    """A finding that was there counts as new when it became worse."""
    before = report(finding("a"), finding("b", severity=Severity.WARNING))
    assert Effect.MADE_WORSE is compare(before, report(finding("b")), ("a",)).effect


def test_what_happens_on_the_machine_meanwhile_is_nobodys_fault() -> None:
    """A GPU that somebody else uses now is not what a package did."""
    after = report(finding("b"))
    after = replace(after, checks=tuple(replace(each, group="GPUs") for each in after.checks))
    assert Effect.FIXED is compare(report(finding("a")), after, ("a",)).effect


# Steps


def test_a_step_that_works_is_fixed() -> None:
    """The command runs, the check runs again, and the finding is gone."""
    applied = run(report(finding("a", WORKS)), report())
    assert [(Effect.FIXED, "")] == effects(applied)
    assert ["1\n"] == [each.ended.said for each in applied.ends[0].ran]


def test_a_step_that_changes_nothing_is_not_fixed() -> None:
    """A command that ends well and helps nothing is called what it is."""
    applied = run(report(finding("a", WORKS)), report(finding("a", WORKS)))
    assert [(Effect.NOT_FIXED, "a is still there")] == effects(applied)


def test_another_way_out_is_told_and_not_taken() -> None:
    """When the facts ask for other commands afterwards, those are for the next run."""
    applied = run(report(finding("a", WORKS)), report(finding("a", FAILS)))
    assert "a is still there; its way out is another one now: run fix again" == applied.ends[0].reason


def test_a_command_that_fails_ends_its_step_and_the_check_decides() -> None:
    """What comes after a failing command is not run; the exit code is told beside the judgement."""
    fix = way("Do it", *FAILS.commands, python("print(2)"))
    applied = run(report(finding("a", fix)), report(finding("a", fix)))
    assert [(Effect.NOT_FIXED, "its command ended with exit code 3; a is still there")] == effects(applied)
    assert 1 == len(applied.ends[0].ran)


def test_what_made_things_worse_ends_the_run() -> None:
    """After a step that did harm nothing else is run."""
    first = report(finding("a", WORKS), finding("c", FAILS))
    applied = run(first, report(finding("b"), finding("c", FAILS)))
    assert [Effect.MADE_WORSE, Effect.NOT_RUN] == [each.effect for each in applied.ends]
    assert "an earlier step made things worse" == applied.ends[1].reason
    assert ["b"] == [each.key for each in applied.ends[0].new]


def test_what_an_earlier_step_took_away_is_not_run() -> None:
    """A finding that is gone needs no step."""
    applied = run(report(finding("a", WORKS), finding("b", FAILS)), report())
    assert [Effect.FIXED, Effect.GONE] == [each.effect for each in applied.ends]


def test_the_command_is_the_one_that_the_facts_ask_for_now() -> None:
    """A plan made before another step changed the facts is made again."""
    first = report(finding("a", WORKS), finding("b", FAILS))
    applied = run(first, report(finding("b", way("Other", python("print(5)")))), report())
    assert ["5\n"] == [each.ended.said for each in applied.ends[1].ran]


def test_only_safe_steps_are_run() -> None:
    """Root's steps, restarts and a system's Python are left to the person, whatever was answered."""
    admin = way("Ask root", python("print(1)"), safety=Safety.ADMIN)
    assert [Effect.NOT_RUN] == [each.effect for each in run(report(finding("a", admin))).ends]
    system = report(finding("a", WORKS), has=packages("torch==2.13.0", kind="system"))
    assert [Effect.NOT_RUN] == [each.effect for each in run(system).ends]


def test_an_environment_that_may_not_be_written_is_left_alone(state: Path) -> None:
    """An installer would fetch gigabytes before it fails; nothing is run and nothing recorded."""
    has = packages("torch==2.13.0", may_write=False)
    applied = run(report(finding("a", WORKS), has=has))
    assert [(Effect.NOT_RUN, "this user may not write /venv: its owner can run it")] == effects(applied)
    assert not list(state.glob("*.json"))


def test_a_consequence_is_not_touched_before_its_cause() -> None:
    """While a cause is left to the person, what follows from it is left too; named alone it is run."""
    admin = way("Ask root", command("sudo", "x"), safety=Safety.ADMIN)
    first = report(finding("a", WORKS, caused_by=("b",)), finding("b", admin))
    assert [(Effect.NOT_RUN, "admin: this environment only"), (Effect.NOT_RUN, "b comes first")] == effects(run(first))
    assert [Effect.FIXED] == [each.effect for each in run(first, report(finding("b", admin)), ids=("a",)).ends]


def test_without_a_terminal_the_answer_is_no(state: Path) -> None:
    """Nobody to ask means no; nothing is run, and no record is written."""
    applied = run(report(finding("a", WORKS)), yes=False)
    assert [(Effect.DECLINED, "there is no terminal to ask on; --yes says yes")] == effects(applied)
    assert (None, False) == (applied.record, state.exists())


@pytest.mark.parametrize(
    ("line", "runs"), [("y\n", True), ("YES\n", True), ("\n", False), ("", False), ("yo\n", False)]
)
def test_the_default_answer_is_no(line: str, runs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a yes is a yes."""
    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.StringIO(line))
    monkeypatch.setattr("envdoctor.cli.streams.is_terminal", lambda _stream: True)
    applied = run(report(finding("a", WORKS)), report(), yes=False)
    assert runs == bool(applied.ends[0].ran)


def test_a_dry_run_changes_nothing(state: Path) -> None:
    """A dry run asks nobody, runs nothing and writes nothing."""
    applied = run(report(finding("a", WORKS)), dry=True)
    assert [(Effect.NOT_RUN, applying.DRY)] == effects(applied)
    assert (None, False) == (applied.record, state.exists())


def test_control_c_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at a question leaves the rest alone, and the report says that it was interrupted."""

    def pressed(_self: Asker, _question: str) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Asker, "__call__", pressed)
    applied = run(report(finding("a", WORKS), finding("b", FAILS)))
    assert [Effect.INTERRUPTED, Effect.NOT_RUN] == [each.effect for each in applied.ends]
    assert applied.report.interrupted


# Records


def test_the_record_is_the_users_own_and_holds_both_lists(state: Path) -> None:
    """Before the first command there is a file that nobody else can read; afterwards it holds what changed."""
    first = report(finding("a", WORKS), has=packages("torch==2.13.0", "torchvision==0.19.1"))
    applied = run(first, report(has=packages("torch==2.13.0", "torchvision==0.28.0")))
    path, record = records.read("last")
    assert (path, 0o600, 0o700) == (applied.record, _mode(path), _mode(state))
    assert ("0.19.1", "0.28.0") == (record.before[1].version, record.after[1].version)
    assert ("Do it", 0, "") == (record.done[0].step, record.done[0].exit_code, record.under_way)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_step_whose_end_nobody_saw_is_marked(state: Path) -> None:
    """A run that dies in the middle leaves the list from before, and the name of the step."""
    with pytest.raises(StopIteration):
        run(report(finding("a", WORKS)))
    assert "Do it" == records.read("last")[1].under_way


KILLED = """
import sys
from envdoctor.cli import records
from envdoctor.cli.applying import Means, apply
from envdoctor.cli.asking import Asker
from tests.fix_stand import finding, packages, python, report, way
step = python("import pathlib, time; pathlib.Path('began').touch(); [time.sleep(0.05) for _ in iter("
              "lambda: pathlib.Path('end').exists(), True)]; pathlib.Path('done').touch()")
first = report(finding("a", way("Install it", step)), has=packages("torch==2.13.0", prefix=sys.argv[1]))
with records.held(sys.argv[1]) as held:
    apply(first, frozenset(), Means(lambda: first, Asker(yes=True), records.Keeper(), held=held))
"""


def test_a_doctor_that_is_killed_in_the_middle_leaves_a_whole_record(state: Path, tmp_path: Path) -> None:
    """Kill -9: the installer ends in peace and keeps others out until then; the next run says what happened."""
    path = os.pathsep.join((str(Path(__file__).parent.parent), *sys.path))
    environ = environment(XDG_STATE_HOME=str(tmp_path), PYTHONPATH=path)
    doctor = subprocess.Popen(
        [sys.executable, "-c", KILLED, sys.prefix], cwd=tmp_path, env=environ, stderr=subprocess.PIPE
    )
    waited_for(tmp_path / "began", doctor)
    doctor.kill()
    doctor.communicate()
    assert records.is_held(sys.prefix)
    assert "" == here("fix", "--level", "quick").err
    (tmp_path / "end").touch()
    waited_for(tmp_path / "done", doctor)
    until = time.monotonic() + 60
    while records.is_held(sys.prefix) and time.monotonic() < until:
        time.sleep(0.05)
    file, record = records.read("last")
    assert ("Install it", [file.name]) == (record.under_way, [each.name for each in state.glob("*[!k]")])
    said = here("fix", "--level", "quick").err
    assert ("in the middle of a step (Install it)" in said, f"--undo {file}" in said) == (True, True)


def waited_for(file: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a file is there; a process that has failed before it says why."""
    until = time.monotonic() + 60
    while not file.exists() and time.monotonic() < until:
        assert process.poll() in {None, -9}, process.communicate()[1]
        time.sleep(0.05)
    assert file.exists()


def test_a_run_that_is_taken_back_or_followed_by_another_is_told_no_more(state: Path) -> None:
    """The newest record of an environment counts, and one that was undone says so."""

    def record(under_way: str) -> Record:
        same = (Installed("torch", "2.13.0"),)
        return Record(SCHEMA, "now", PYTHON, "/venv", same, same, (), under_way)

    keep = records.Keeper()
    keep(record("Install it"))
    found = records.left_open("/venv")
    assert found is not None
    assert records.left_open("/other") is None
    records.close(*found)
    assert records.left_open("/venv") is None
    records.Keeper()(record("Install it"))
    records.Keeper()(record(""))
    assert records.left_open("/venv") is None


def test_without_a_record_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state directory that cannot be written ends the run before the first command."""
    from envdoctor.cli.streams import OwnFailure

    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(blocked))
    with pytest.raises(OwnFailure, match="no record can be kept"):
        run(report(finding("a", way("Do it", python("open('never', 'w')")))))
    assert not Path("never").exists()


def test_where_no_record_can_be_read_none_was_left_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HOME may be another user's: the plan is printed all the same, and --undo says why there is nothing to take."""
    from envdoctor.cli.streams import OwnFailure

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert records.left_open("/venv") is None
    with pytest.raises(OwnFailure, match=r"--undo: .* cannot be read: .*; set XDG_STATE_HOME to another place"):
        records.read("last")


def test_a_user_without_a_home_has_no_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run as a number that no user has, without HOME."""
    from envdoctor.cli.streams import OwnFailure

    def unknown(_self: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "expanduser", unknown)
    assert records.left_open("/venv") is None
    with pytest.raises(OwnFailure, match="there is no home directory to keep records in"):
        records.read("last")


def test_one_environment_is_changed_by_one_run_at_a_time(state: Path) -> None:
    """While one run changes an environment a second one is refused, another environment is not; then it is free."""
    import click

    with records.held("/venv"):
        with (
            pytest.raises(click.UsageError, match=r"another envdoctor fix, .* changes /venv now"),
            records.held("/venv"),
        ):
            pass
        with records.held("/other"):
            pass
    with records.held("/venv"):
        assert 2 == len(list(state.glob("*.lock")))
    with pytest.raises(click.UsageError, match="there is no record"):
        records.read("last")


def test_a_lock_that_is_a_link_is_not_followed(state: Path, tmp_path: Path) -> None:
    """Nobody can have another file opened in the place of a lock."""
    from envdoctor.cli.streams import OwnFailure

    with records.held("/venv"):
        (lock,) = state.glob("*.lock")
    lock.unlink()
    lock.symlink_to(tmp_path / "target")
    with pytest.raises(OwnFailure), records.held("/venv"):
        pass
    assert not (tmp_path / "target").exists()


# Undoing


def record(before: Packages, after: Packages, **more: object) -> Record:
    """Make a record of a run between two lists."""
    return Record(SCHEMA, "", PYTHON, "/venv", listed(before), listed(after), **more)  # type: ignore[arg-type]


def shells(found: object) -> list[str]:
    """Give the commands of an undo as text."""
    return [each.shell for each in found.commands]  # type: ignore[attr-defined]


def test_undo_brings_back_exact_versions() -> None:
    """Changed and removed ones come back by version, from the index of their variant; added ones go."""
    before = packages("torch==2.13.0+cu126", "numpy==1.26.4", "gone==1.0")
    after = packages("torch==2.12.0", "numpy==2.4.6", "added==3.0")
    expected = [
        f"{PYTHON} -m pip uninstall -y 'added'",
        f"{PYTHON} -m pip install --no-deps 'gone==1.0' 'numpy==1.26.4'",
        f"{PYTHON} -m pip install --no-deps 'torch==2.13.0+cu126' --index-url https://download.pytorch.org/whl/cu126",
    ]
    assert expected == shells(undo(record(before, after), after))


def test_undo_brings_back_another_build_of_the_same_release() -> None:
    """An installer takes 0.28.0+cpu for 0.28.0: the text itself is asked for, and by force."""
    found = undo(record(packages("x==0.28.0"), packages("x==0.28.0+cpu")), packages("x==0.28.0+cpu"))
    assert [f"{PYTHON} -m pip install --force-reinstall --no-deps 'x===0.28.0'"] == shells(found)


def test_undo_leaves_what_somebody_changed_since() -> None:
    """A version that is neither from before nor from after is somebody's choice."""
    found = undo(record(packages("x==1"), packages("x==2")), packages("x==3"))
    assert ([], ("x was changed since, so it stays as it is",)) == (shells(found), found.impossible)


def test_undo_of_what_is_back_already_does_nothing() -> None:
    """A second undo finds nothing to do."""
    found = undo(record(packages("x==1"), packages("x==2")), packages("x==1"))
    assert ([], ()) == (shells(found), found.impossible)


@pytest.mark.parametrize(
    ("each", "words"),
    [
        (Installed("x", "1.0", "pip", editable=True), "a source tree under development"),
        (Installed("x", "1.0", "conda"), "it came by conda, as 1.0"),
        (Installed("x", "1.0+mine"), "it came by pip, as 1.0+mine"),
        (Installed("x", "not a version"), "it came by pip, as not a version"),
        (Installed("-r evil", "1.0"), "it came by pip, as 1.0"),
    ],
)
def test_undo_says_what_it_cannot_bring_back(each: Installed, words: str) -> None:
    """What no index has is told, not guessed; a name that is none never reaches a command line."""
    found = undo(Record(SCHEMA, "", PYTHON, "/venv", (each,), ()), packages())
    assert ([], (f"{each.name} {each.version} is on no index ({words})",)) == (shells(found), found.impossible)


def test_undo_of_a_run_that_died_compares_with_what_is_there() -> None:
    """Where nobody saw the end of a step, whatever differs now counts as changed by it."""
    died = record(packages("x==1"), packages("x==1"), under_way="Do it")
    assert [f"{PYTHON} -m pip install --no-deps 'x==1'"] == shells(undo(died, packages("x==2")))


def test_the_copy_that_is_imported_is_listed() -> None:
    """Of two distributions of one name the first on the path counts."""
    twice = Packages(distributions=(Distribution("x", "1"), Distribution("x", "2")))
    assert (Installed("x", "1"),) == listed(twice)
