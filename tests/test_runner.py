"""The runner: every planned probe gets an outcome, whatever becomes of the interpreter that was to ask it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from envdoctor.ending import TOO_OLD, Ending
from envdoctor.gathered import covered
from envdoctor.outcome import Crashed, Failed, Got, TimedOut
from envdoctor.probe import Roots
from envdoctor.runner.collection import Collection, collect
from envdoctor.runner.starting import Ready
from envdoctor.snapshot import Target, load, save
from envdoctor.target import Patient
from tests.stands.engine import HERE, ask, by_name, collect_from, nothing_left, plan, wait_for_the_end_of_all
from tests.stands.misbehaving import Thing

pytestmark = pytest.mark.usefixtures("nothing_left")
__all__ = ["nothing_left"]
REPOSITORY = Path(__file__).parent.parent
PAYLOAD = {"misbehaving": HERE}
GRACE = 5.0  # what a run may last beyond its timeout


def interpreter(version: str) -> str:
    """Give a real interpreter of this version, or skip."""
    pyenv = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
    candidates = [str(pyenv[-1])] if pyenv else [found] if (found := shutil.which(f"python{version}")) else []
    for each in candidates:
        if subprocess.run([each, "-c", ""], capture_output=True, check=False).returncode == 0:
            return each
    pytest.skip(f"no Python {version} here")


def site(folder: Path, code: str) -> dict[str, str]:
    """Give an environment in which every interpreter runs this code when it starts."""
    (folder / "sitecustomize.py").write_text(textwrap.dedent(code))
    return {**os.environ, "PYTHONPATH": str(folder)}


def outcomes(planned: list[Any] | None = None, **how: Any) -> set[Any]:
    """Give the different outcomes of two plain probes."""
    return {each.outcome for each in collect_from(planned or [plan("fine"), plan("absent")], **how).probes}


# Interpreters


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.12", "3.13"])
def test_other_interpreters_are_asked_without_envdoctor_installed(version: str) -> None:
    """The same payload answers on every Python from 3.8 on; crashes and hangs are told there too."""
    asked = ["fine", "segfault", "hang", "run_a_command", "strange_values", "leave_an_orphan"]
    snapshot = collect_from(
        [plan(each, seconds=1.5 if each == "hang" else 10.0) for each in asked],
        python=interpreter(version),
        timeout=30.0,
    )
    found = ["got", "crashed", "timed-out", "got", "got", "got"]
    assert found == [each.outcome.name for each in snapshot.probes]
    assert snapshot.target.key == snapshot.target.python == interpreter(version)


def test_a_python_that_is_too_old_says_so() -> None:
    """3.7 starts, and refuses in words."""
    python = interpreter("3.7")
    (outcome,) = outcomes(python=python)
    assert f"{python} did not begin: exit code 1: Python 3.7 is too old to be examined: 3.8 or newer is needed" == (
        outcome.reason
    )


def test_python_2_is_a_failure_of_every_probe() -> None:
    """Python 2 knows none of our options: what it says of them would not tell a person why."""
    python = interpreter("2.7")
    (outcome,) = outcomes(python=python)
    assert isinstance(outcome, Failed)
    assert f"{python} did not begin: exit code 2: {TOO_OLD}" == outcome.reason


def test_the_refusal_of_an_option_is_read_without_a_python_2() -> None:
    """Its last line is advice on usage; a line before it tells that it is Python 2."""
    said = "-X is reserved for implementation-specific arguments\nusage: python [option] ...\nTry `python -h'"
    ended = Ending("/usr/bin/python", 20.0, begun=False, code=2, said=said)
    assert f"/usr/bin/python did not begin: exit code 2: {TOO_OLD}" == ended.outcome("host").reason


@pytest.mark.parametrize(
    ("python", "words"),
    [
        ("/nowhere/python", "/nowhere/python cannot be started: [Errno 2] No such file or directory"),
        ("/etc/passwd", "/etc/passwd cannot be started: [Errno 13] Permission denied"),
        ("", "no interpreter cannot be started"),
        ("/bin/true", "/bin/true did not begin: exit code 0: it said nothing"),
        ("/bin/false", "/bin/false did not begin: exit code 1: it said nothing"),
    ],
)
def test_what_is_no_interpreter_is_a_failure_of_every_probe(python: str, words: str) -> None:
    """Each probe has failed, with the system's or the program's own words."""
    (outcome,) = outcomes(python=python)
    assert isinstance(outcome, Failed)
    assert outcome.reason.startswith(words)


def test_an_interpreter_without_its_library_says_what_it_misses() -> None:
    """A broken PYTHONHOME is told by the error's line, not by the last of many."""
    environ = {**os.environ, "PYTHONHOME": "/nowhere"}
    (outcome,) = outcomes(environ=environ)
    assert outcome.reason.endswith("did not begin: exit code 1: ModuleNotFoundError: No module named 'encodings'")


def test_a_script_without_an_interpreter_line_is_a_failure(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A file that the kernel cannot run is told."""
    script = tmp_path_factory.mktemp("bin") / "python"
    script.write_text("hello\n")
    script.chmod(0o755)
    (outcome,) = outcomes(python=str(script))
    assert f"{script} cannot be started: [Errno 8] Exec format error" in outcome.reason


# What an interpreter does before we are asked


def test_an_interpreter_that_crashes_at_start_is_a_crash(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The signal is named, and the detail holds the line of the user's own start-up file."""
    environ = site(tmp_path_factory.mktemp("site"), "import ctypes\nctypes.string_at(8)")
    snapshot = collect_from([plan("fine")], environ=environ)
    outcome = snapshot.probes[0].outcome
    assert isinstance(outcome, Crashed)
    assert ("SIGSEGV", "SIGSEGV in its start") == (outcome.signal, outcome.reason)
    assert "sitecustomize.py" in outcome.detail


def test_an_interpreter_that_hangs_at_start_is_ended_in_time(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An interpreter that never begins has used up the time, and shows where it hung."""
    environ = site(tmp_path_factory.mktemp("site"), "import time\ntime.sleep(60)")
    began = time.monotonic()
    outcome = collect_from([plan("fine")], environ=environ, timeout=3.0).probes[0].outcome
    assert time.monotonic() - began < 3.0 + GRACE
    assert isinstance(outcome, TimedOut)
    assert outcome.reason.endswith("did not begin within 3 s")
    assert "sitecustomize.py" in outcome.detail


def test_an_interpreter_that_chatters_at_start_is_heard_through(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A flood on both streams before the first probe changes nothing."""
    code = "import os\nfor _ in range(50): os.write(1, b'x' * 1048576), os.write(2, b'{}' * 524288)"
    assert {Got("fresh-process")} == outcomes([plan("fine")], environ=site(tmp_path_factory.mktemp("site"), code))


def test_a_users_files_do_not_break_our_imports(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Modules of the user that bear the names of the standard library's are not imported by us."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("json", "select", "ctypes", "dataclasses", "traceback", "signal", "subprocess", "envdoctor", "fcntl"):
        (folder / f"{name}.py").write_text("raise SystemExit('the wrong one')")
    planned = [plan("fine"), plan("os_error"), plan("run_a_command")]
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    snapshot = collect_from(planned, cwd=str(folder), environ=environ)
    assert ["got", "failed", "got"] == [each.outcome.name for each in snapshot.probes]
    assert "Traceback" in getattr(snapshot.probes[1].outcome, "detail", "")


def test_a_probe_that_plays_the_patient_finds_what_a_script_would(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Working directory first, then PYTHONPATH: a user's module that hides one of ours does so for the patient."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "json.py").write_text("WHOSE = 'the user'")
    snapshot = collect_from([plan("whose_json")], cwd=str(folder))
    assert Thing(words="the user") == snapshot.facts["whose_json"]


def test_no_bytecode_is_written_into_the_patient(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Neither start-up files nor imported modules leave a cache beside them."""
    folder = tmp_path_factory.mktemp("project")
    environ = site(folder, "import beside")
    (folder / "beside.py").write_text("")
    (folder / "json.py").write_text("WHOSE = 'the user'")
    collect_from([plan("whose_json")], cwd=str(folder), environ=environ)
    assert [] == list(folder.rglob("*.pyc"))


def test_probes_see_the_patients_directory_environment_roots_and_options(tmp_path: Path) -> None:
    """The context is the patient's; our own mark is not part of its environment."""
    environ = {"PATH": os.environ["PATH"], "STAND_MARK": os.environ["STAND_MARK"], "LC_ALL": "C.UTF-8"}
    patient = {"roots": Roots.under("/recorded"), "options": {"colour": "red"}}
    snapshot = collect_from([plan("where_am_i"), plan("dev_root")], cwd="/", environ=environ, **patient)
    where = snapshot.facts["where_am_i"]
    assert isinstance(where, Thing)
    assert "('/', '/', ['LC_ALL', 'PATH', 'STAND_MARK'], '')" == where.words
    assert Thing(words="/recorded/dev red") == snapshot.facts["dev_root"]


# Time


def test_the_timeout_bounds_the_run_and_the_culprits_are_named() -> None:
    """Everything hanging at once: each call is named, nothing is waited for longer, what never began says so."""
    planned = [plan("hang", f"hang-{n}", child="static" if n < 3 else f"own-{n}", seconds=30) for n in range(6)]
    began = time.monotonic()
    snapshot = collect_from(planned, timeout=4.0)
    assert time.monotonic() - began < 4.0 + GRACE
    reasons = [each.outcome.reason for each in snapshot.probes]
    assert 4 == sum("in cuInit" in each for each in reasons)
    assert 2 == reasons.count("not started: the time of the whole run was over")


def test_time_inside_the_patients_calls_is_not_our_overhead() -> None:
    """A marked call's time is the patient's, also when several overlap."""
    snapshot = collect_from([plan("hang", "one", seconds=3.0), plan("hang", "two", seconds=3.0)])
    assert 3.0 <= snapshot.elapsed_seconds
    assert snapshot.overhead_seconds < snapshot.elapsed_seconds - 2.0


def test_overlapping_intervals_count_once() -> None:
    """The union of intervals is measured."""
    assert 5.0 == covered([(0.0, 2.0), (1.0, 3.0), (1.5, 2.5), (10.0, 12.0)])


def test_progress_is_told_while_one_waits() -> None:
    """Once a second the caller hears what is under way; results come without their facts."""
    heard: list[dict[str, Any]] = []
    collect(Patient(payload=PAYLOAD), [plan("hang", seconds=3.5)], timeout=10.0, progress=heard.append)
    waiting = [each for each in heard if each["event"] == "waiting"]
    assert ("cuInit",) == waiting[-1]["on"]
    assert {"hello", "start", "enter", "waiting", "result", "end"} == {each["event"] for each in heard}


# The end of the supervisor


def test_a_probe_that_kills_the_supervisor_is_told_and_leaves_nothing() -> None:
    """The unfinished probes say what happened; a process in a session of its own is ended too."""
    culprit = by_name(collect_from([plan("kill_its_parent")]))["kill-its-parent"].outcome
    assert isinstance(culprit, Crashed)
    assert "SIGKILL in the supervising process, during import torch" == culprit.reason


def test_what_a_dying_supervisor_left_unasked_is_asked_by_another() -> None:
    """The one that killed it is to blame with those that need it; the others answer as if nothing had been."""
    importer = plan("kill_its_parent", "torch-import", child="torch")
    question = plan("ask_it", child="torch", after_import=True)
    slow = plan("work_slowly", child="static", seconds=0.5)
    others = [slow, plan("fine", child="static"), plan("absent", child="static")]
    found = by_name(collect_from([importer, question, *others], timeout=6.0))
    assert ["crashed", "failed", "timed-out", "got", "absent"] == [each.outcome.name for each in found.values()]
    words = "torch could not be imported: SIGKILL in the supervising process, during import torch"
    assert Failed(words) == found["ask-it"].outcome


def test_a_probe_that_stops_the_supervisor_delays_the_run_by_a_few_seconds_only() -> None:
    """The outer deadline holds without the supervisor, and the call under way is named."""
    began = time.monotonic()
    outcome = collect_from([plan("stop_its_parent")], timeout=3.0).probes[0].outcome
    assert time.monotonic() - began < 3.0 + GRACE
    assert isinstance(outcome, TimedOut)
    assert "no answer within 3 s in import torch" == outcome.reason


def test_a_callers_own_mistake_leaves_no_process() -> None:
    """An exception of the progress callback is the caller's, and everything is ended before it gets there."""

    def stumble(event: dict[str, Any]) -> None:
        raise ZeroDivisionError(event["event"])

    with pytest.raises(ZeroDivisionError):
        collect(Patient(payload=PAYLOAD), [plan("hang")], timeout=5.0, progress=stumble)


def test_what_cannot_be_forked_has_failed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without descriptors for another process the probe has failed with the system's words; others are answered."""
    script = tmp_path_factory.mktemp("bin") / "python"
    script.write_text(f'#!/bin/sh\nulimit -n 22\nexec {sys.executable} "$@"\n')
    script.chmod(0o755)
    snapshot = collect_from([plan("fine"), plan("hang", seconds=0.5), plan("fine_too")], python=str(script))
    words = "no process could be started for it: [Errno 24] Too many open files"
    assert Failed(words) in [each.outcome for each in snapshot.probes]
    assert Got("fresh-process") in [each.outcome for each in snapshot.probes]


INTERRUPTED = """
import json, sys
from tests.stands.engine import collect_from, plan
names = ["fine", "hang", "leave_an_orphan", "hang_with_the_gil"]
planned = [*(plan(each) for each in names), plan("fine_too", child="hang")]
missing = {("result", "fine"), ("result", "leave-an-orphan"), ("enter", "hang"), ("start", "hang-with-the-gil")}

def hear(event):
    if missing and (event.get("event"), event.get("probe")) in missing:
        missing.remove((event["event"], event["probe"]))
        if not missing:
            print("under way", flush=True)

snapshot = collect_from(planned, timeout=30.0, progress=hear)
print(json.dumps([snapshot.interrupted, [[each.outcome.name, each.outcome.reason] for each in snapshot.probes]]))
"""


def start_and_signal(number: int, times: int = 1) -> tuple[Any, float]:
    """Run a collection in a process of its own and, once it is under way, send it a signal; give what it printed."""
    command = [sys.executable, "-c", INTERRUPTED]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout
    assert b"under way\n" == process.stdout.readline()
    began = time.monotonic()
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.05)
    out, _ = process.communicate(timeout=20)
    return json.loads(out or "null"), time.monotonic() - began


@pytest.mark.parametrize("times", [1, 3])
def test_ctrl_c_ends_everything_and_keeps_what_is_known(times: int) -> None:
    """The snapshot is returned at once, marked, with an outcome for every probe, however often it is pressed."""
    (interrupted, results), seconds = start_and_signal(signal.SIGINT, times)
    assert interrupted
    assert seconds < 10.0  # the run itself would last thirty
    assert ["got", "", "got"] == [results[0][0], results[0][1], results[2][0]]
    assert {"failed"} == {results[n][0] for n in (1, 3, 4)}
    if times == 1:
        assert ["failed", "interrupted in cuInit"] == results[1]


def test_a_doctor_that_is_killed_leaves_nothing() -> None:
    """The supervisor ends everything when the doctor is gone, without having been told."""
    assert None is start_and_signal(signal.SIGKILL)[0]
    wait_for_the_end_of_all()


def test_the_answer_can_travel_on_stdout() -> None:
    """Behind a command that has only stdin and stdout, what probes print still does not mix with the answer."""
    patient = Patient(payload=PAYLOAD)
    planned = [plan("not_utf8"), plan("fine"), plan("hang", seconds=0.5)]
    request = patient.request(planned, answer_fd=1, began=0.0, seconds=5.0)
    del request["began"], request["parent"]
    sent = patient.where() + json.dumps(request).encode()
    done = subprocess.run(patient.argv(), input=sent, capture_output=True, check=True, start_new_session=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    results = {each["probe"]: each["outcome"] for each in events if each["event"] == "result"}
    assert {"not-utf8": "crashed", "fine": "got", "hang": "timed-out"} == results
    assert ["hello", "end"] == [events[0]["event"], events[-1]["event"]]


def test_an_interpreter_made_ready_answers_for_its_own_patient_only() -> None:
    """What was started before the question answers it; for another patient a new one is started, and it goes."""
    ready = Ready(Patient(payload=PAYLOAD))
    assert None is ready.took(Patient(payload=PAYLOAD, cwd="/"))
    ready.dismiss()
    asked = [plan("fine")]
    ready = Ready(Patient(payload=PAYLOAD))
    kinds = {each.fact: Thing for each in asked}
    run = Collection(Patient(payload=PAYLOAD), asked, timeout=5.0, ready=ready, kinds=kinds)
    assert None is ready.took(Patient(payload=PAYLOAD))
    assert ["got"] == [each.outcome.name for each in run.finish().probes]
    ready.dismiss()


def test_an_interpreter_that_nobody_asks_goes_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dismissed before a request has come, the interpreter ends by itself."""
    monkeypatch.setattr("envdoctor.runner.starting.KILL_WAIT", 60.0)  # after which it would be killed
    ready = Ready(Patient())
    began = time.monotonic()
    ready.dismiss()
    assert time.monotonic() - began < 30.0
    assert None is ready.took(Patient())


# The snapshot


def test_an_interrupted_and_crashed_snapshot_is_saved_and_loaded() -> None:
    """What the engine gives goes through the file format unchanged."""
    snapshot = collect_from([plan("segfault", fact="host"), plan("hang", seconds=0.5), plan("absent")])
    assert [each.outcome for each in snapshot.probes] == [each.outcome for each in load(save(snapshot)).probes]


def test_our_own_interpreter_is_this_target() -> None:
    """Without an interpreter given, the patient is the doctor's own environment."""
    assert Target("this", "interpreter", sys.executable) == Patient().target()


def test_an_answer_of_the_wrong_type_costs_one_probe() -> None:
    """The others of the same run stay."""
    found = by_name(collect_from([plan("wrong_type"), plan("fine")]))
    assert ["failed", "got"] == [each.outcome.name for each in found.values()]


def test_nothing_planned_is_an_empty_snapshot() -> None:
    """A run without probes ends at once."""
    assert () == collect_from([]).probes


def test_memory_runs_out_in_the_child_only() -> None:
    """A memory bomb under a limit is that probe's failure."""
    assert Failed("MemoryError") == Failed(ask("no_memory")[0].outcome.reason)
