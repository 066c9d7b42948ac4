"""Behind a command: the payload travels over stdin, whatever is on the way, and the deadline holds across the link."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from envdoctor.child import vitals
from envdoctor.child.bootstrap import FIRST
from envdoctor.far import FarPatient, NoCommand, split
from envdoctor.outcome import Crashed, Failed, Got, Outcome, TimedOut
from envdoctor.payload import archive
from envdoctor.plan import BUILT_IN, for_level
from envdoctor.runner.collection import collect
from envdoctor.snapshot import Snapshot, Target
from tests.command import Done, environment, fresh
from tests.stands import far_sides as ways
from tests.stands.engine import HERE, by_name, nothing_left, plan
from tests.stands.fakes import may_unshare
from tests.stands.misbehaving import Thing

pytestmark = pytest.mark.usefixtures("nothing_left")
__all__ = ["nothing_left"]
REPOSITORY = Path(__file__).parent.parent
PAYLOAD = {"misbehaving": HERE}
VERSIONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
GRACE = 5.0
MOST_KIB = 100_000


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an empty folder that is not the one for temporary files."""
    return tmp_path_factory.mktemp("far")


def pythons(version: str) -> str:
    """Give a real interpreter of this version, or skip."""
    pyenv = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
    candidates = [str(pyenv[-1])] if pyenv else [found] if (found := shutil.which(f"python{version}")) else []
    for each in candidates:
        if subprocess.run([each, "-c", ""], capture_output=True, check=False).returncode == 0:
            return each
    pytest.skip(f"no Python {version} here")


def ask(via: str, *functions: str, python: str = sys.executable, timeout: float = 10.0, **how: Any) -> Snapshot:
    """Put misbehaving probes to the interpreter behind a command."""
    planned = [plan(each, **how) for each in functions]
    kinds = {each.fact: Thing for each in planned}
    patient = FarPatient(python=python, via=via, payload=PAYLOAD)
    return collect(patient, planned, timeout=timeout, kinds=kinds)  # type: ignore[arg-type]


def outcome(via: str, **how: Any) -> Outcome:
    """Give what became of one plain probe."""
    return ask(via, "fine", **how).probes[0].outcome


# The way there


WAYS = [*((version, number % 2 == 0) for number, version in enumerate(VERSIONS)), ("3.8", False), ("3.13", True)]


@pytest.mark.parametrize(
    ("version", "shell"), WAYS, ids=[f"{v} {'through a shell' if s else 'by words'}" for v, s in WAYS]
)
def test_every_python_from_3_8_on_is_asked(version: str, shell: bool, folder: Path) -> None:
    """The same word starts each of them, whether a shell takes its quotes away or not; crashes are told too."""
    via = ways.script(folder, ways.LIKE_SSH) if shell else "env"
    asked = ("fine", "segfault", "hang", "run_a_command", "strange_values", "not_utf8", "leave_an_orphan")
    snapshot = ask(via, *asked, python=pythons(version), seconds=1.0, timeout=20.0)
    expected = ["got", "crashed", "timed-out", "got", "got", "crashed", "got"]
    assert expected == [each.outcome.name for each in snapshot.probes]
    assert Target(via, "command", pythons(version), via) == snapshot.target


@pytest.mark.parametrize("version", VERSIONS)
def test_every_static_question_is_answered_behind_a_command(version: str) -> None:
    """The real probes run from memory on each Python, with an empty environment and nothing of ours in reach."""
    patient = FarPatient(python=pythons(version), via="env -i")
    snapshot = collect(patient, for_level("quick"), timeout=30.0, level="quick")
    wrong = {each.name: each.outcome.reason for each in snapshot.probes if each.outcome.name not in {"got", "absent"}}
    assert ({}, version) == (wrong, snapshot.facts["packages"].python_version.rpartition(".")[0])  # type: ignore[attr-defined]


def test_words_survive_each_shell_on_the_way(folder: Path) -> None:
    """From one host to the next: what ssh hands to a shell twice is quoted twice."""
    ssh = ways.script(folder / "bin", ways.LIKE_SSH, "ssh")
    assert Got("fresh-process") == outcome(f"{ssh} {ssh}")
    assert Got("fresh-process") == outcome(f"{ssh} {ssh} env")


def test_a_path_with_blanks_stays_one_word(folder: Path) -> None:
    """Through no shell, one, and two; one that is quoted for the shell already is left as it is."""
    ssh = ways.script(folder / "bin", ways.LIKE_SSH, "ssh")
    python = folder / "my env (new)" / "python"
    python.parent.mkdir()
    ways.script(python.parent, f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n', "python")
    for via in ("env", str(ssh), f"{ssh} {ssh}"):
        assert Got("fresh-process") == outcome(via, python=str(python)), via
    assert Got("fresh-process") == outcome(str(ssh), python=shlex.quote(str(python)))


def test_a_path_from_the_home_there_is_left_to_the_shell() -> None:
    """What stands for the far side's home keeps its meaning."""
    assert "~/env/bin/python3" == FarPatient(python="~/env/bin/python3", via="ssh node7").argv()[2]


def test_the_first_word_is_one_word() -> None:
    """It holds nothing that a shell splits, expands or ends at, outside its quotes."""
    assert 1 == len(shlex.split(FIRST))
    assert set() == set(" \t\n$`\\!") & set(FIRST)


def test_the_archive_holds_what_travels_and_nothing_of_the_doctor() -> None:
    """The payload rooms, pynvml and what plug-ins send along; the same sources make the same bytes."""
    names = zipfile.ZipFile(BytesIO(archive())).namelist()
    assert {"envdoctor/__init__.py", "envdoctor/probe.py", "envdoctor_probes/elf.py", "pynvml.py"} <= set(names)
    assert [] == [each for each in names if each.startswith(("envdoctor/rules", "envdoctor/cli", "envdoctor/runner"))]
    assert archive() == archive.__wrapped__()
    assert "misbehaving.py" in zipfile.ZipFile(BytesIO(archive(tuple(PAYLOAD.items())))).namelist()


@pytest.mark.parametrize("via", ["", "  ", "ssh 'node7"])
def test_what_is_no_command_is_refused(via: str) -> None:
    """An empty one, and one whose quotes do not end."""
    with pytest.raises(NoCommand):
        split(via)


def test_a_banner_is_no_answer(folder: Path) -> None:
    """What a login prints on both streams, without an end of its line and not in UTF-8, changes nothing."""
    assert Got("fresh-process") == outcome(ways.script(folder, ways.BANNER))


def test_a_users_files_do_not_break_our_imports(folder: Path) -> None:
    """Modules in the far side's working directory that bear the names of the standard library's are not ours."""
    for name in ("json", "zipfile", "io", "traceback", "select", "envdoctor"):
        (folder / f"{name}.py").write_text("raise SystemExit('the wrong one')")
    patient = FarPatient(python=sys.executable, via="env", payload=PAYLOAD, cwd=str(folder))
    planned = [plan("fine"), plan("os_error")]
    found = collect(patient, planned, timeout=10.0, kinds={each.fact: Thing for each in planned})  # type: ignore[misc]
    assert ["got", "failed"] == [each.outcome.name for each in found.probes]
    assert "Traceback" in getattr(found.probes[1].outcome, "detail", "")
    assert [] == list(folder.rglob("*.pyc"))


def test_what_is_answered_is_the_same_as_without_a_command() -> None:
    """A fact goes through the link unchanged, and time is counted on our clock."""
    snapshot = ask("env", "hang", "fine", seconds=3.0)
    assert Thing(words="fine", number=1.5) == snapshot.facts["fine"]
    assert snapshot.overhead_seconds < snapshot.elapsed_seconds - 2.0


# What goes wrong on the way


def test_a_command_that_is_not_there_is_told() -> None:
    """The system's own words."""
    found = outcome("no-such-command-here node7")
    assert isinstance(found, Failed)
    assert "cannot be started: [Errno 2] No such file or directory: 'no-such-command-here'" in found.reason


def test_a_far_side_without_python_is_told() -> None:
    """The exit code and the words of whoever looked for it."""
    found = outcome("env PATH=/nowhere", python="python3")
    assert isinstance(found, Failed)
    assert found.reason.startswith("python3 behind env did not begin: exit code 127: ")


@pytest.mark.parametrize("shell", [False, True], ids=["by words", "through a shell"])
def test_pythons_that_are_too_old_are_told(shell: bool, folder: Path) -> None:
    """3.7 refuses in our words; of Python 2 we read it from what it says of the first word."""
    via = ways.script(folder, ways.LIKE_SSH) if shell else "env"
    assert "Python 3.7 is too old to be examined: 3.8 or newer is needed" in outcome(via, python=pythons("3.7")).reason
    assert outcome(via, python=pythons("2.7")).reason.endswith(
        "that is Python 2, or 3.5 or older; 3.8 or newer is needed"
    )


def test_a_python3_that_is_something_else_is_told_in_its_own_words(folder: Path) -> None:
    """A wrapper that says so."""
    old = ways.script(folder, ways.OLD, "python3")
    assert outcome("env", python=old).reason.endswith("exit code 1: Python 2.7.18 is installed as python3 here")


def test_a_command_that_passes_no_input_on_is_told(folder: Path) -> None:
    """As docker exec does without -i: Python reads nothing, says nothing, and ends well."""
    found = outcome(ways.script(folder, ways.NO_INPUT))
    assert found.reason.endswith("did not begin: exit code 0: it said nothing")


@pytest.mark.parametrize("asks", [ways.ASKS_ON_TERMINAL, ways.ASKS_ON_INPUT], ids=["terminal", "input"])
def test_what_asks_for_a_password_gets_none(asks: str, folder: Path) -> None:
    """There is neither a terminal nor a person, so it fails at once and is not waited for."""
    began = time.monotonic()
    found = outcome(ways.script(folder, asks), timeout=30.0)
    assert time.monotonic() - began < 15.0
    assert isinstance(found, Failed)
    assert "did not begin: exit code" in found.reason


def test_a_way_that_hangs_is_ended_in_time(folder: Path) -> None:
    """It never began, and says so."""
    began = time.monotonic()
    found = outcome(ways.script(folder, ways.HANGS), timeout=1.5)
    assert time.monotonic() - began < 1.5 + GRACE
    assert isinstance(found, TimedOut)
    assert found.reason.endswith("did not begin within 1.5 s")


def test_a_link_that_stalls_is_ended_in_time(folder: Path) -> None:
    """What was answered before is kept; what was under way names its culprit."""
    via = ways.until(folder, '"cuInit"', ways.THEN_STALL)
    began = time.monotonic()
    found = by_name(ask(via, "fine", "hang", child="static", seconds=30.0, timeout=6.0))
    assert time.monotonic() - began < 6.0 + GRACE
    assert [Got("fresh-process").name, "timed-out"] == [each.outcome.name for each in found.values()]
    assert "no answer within 6 s in cuInit" == found["hang"].outcome.reason


def test_a_link_that_dies_midway_is_tried_once_more(folder: Path) -> None:
    """The call under way is to blame, what was not asked is asked again, and a second death ends it."""
    via = ways.until(folder, '"cuInit"', ways.THEN_DIE)
    planned = [plan("hang", child="static"), plan("hang", "hang-too", child="static"), plan("fine", child="static")]
    patient = FarPatient(python=sys.executable, via=via, payload=PAYLOAD)
    found = by_name(collect(patient, planned, timeout=20.0, kinds={each.fact: Thing for each in planned}))  # type: ignore[misc]
    first, second, third = (each.outcome for each in found.values())
    words = "the link ended, exit code 255: Connection to node7 closed by remote host."
    assert (f"{words} (during cuInit)", 255) == (first.reason, getattr(first, "exit_code", 0))
    assert isinstance(second, Crashed)
    assert Failed(f"not asked: {words}", third.detail) == third  # type: ignore[union-attr]


def test_what_a_broken_link_left_unasked_is_asked_over_another(folder: Path) -> None:
    """A second link that holds answers the rest."""
    via = ways.until(folder, '"cuInit"', ways.THEN_DIE, once=folder / "second")
    found = by_name(ask(via, "segfault", "fine", child="static", timeout=20.0))
    assert ["crashed", "got"] == [each.outcome.name for each in found.values()]


def test_noise_is_heard_through(folder: Path) -> None:
    """100 MB before the answer, without the end of a line, are bounded in memory and change nothing."""
    exec_it = "import os\nout.write('\\n')\nout.flush()\nos.execvp(sys.argv[1], sys.argv[1:])"
    assert Got("fresh-process") == outcome(ways.flood(folder, megabytes=100, filler="x", after=exec_it), timeout=60.0)


@pytest.mark.parametrize("end", ["", "\n"], ids=["one line", "many lines"])
def test_an_answer_without_end_is_cut_off(end: str, folder: Path) -> None:
    """Whoever answers more than any machine has to say is not listened to for longer."""
    hello = "out.write(json.dumps({'event': 'hello', 'pid': 1}) + '\\n')"
    via = ways.flood(folder, megabytes=100, filler="{}" + end if end else "x", before=hello)
    assert "answered more than 16 MiB" in outcome(via, timeout=60.0).reason


# What we leave behind


@pytest.mark.skipif(not may_unshare(), reason="needs root and mount namespaces")
@pytest.mark.root
def test_nothing_is_written_on_the_far_side(folder: Path) -> None:
    """Every file system there is read-only, and every static question is answered all the same."""
    inside = 'mount --make-rprivate / && mount -o remount,ro,bind / && mount -t tmpfs -o ro none /tmp && exec "$@"'
    via = shlex.join(["unshare", "-m", "sh", "-c", inside, "sh"])
    patient = FarPatient(python=pythons("3.12"), via=via)
    snapshot = collect(patient, for_level("quick"), timeout=30.0, level="quick")
    assert set() == {each.outcome.name for each in snapshot.probes} - {"got", "absent"}


@pytest.mark.skipif(not may_unshare(), reason="needs root and mount namespaces")
@pytest.mark.root
def test_another_root_is_examined_with_chroot(folder: Path) -> None:
    """The far side is a tree of its own: its /etc/os-release is read, not ours."""
    inside = (
        f"mount --make-rprivate / && mount -t tmpfs none {folder} && mkdir {folder}/root && cd {folder}/root"
        " && for each in bin lib lib64 usr proc root dev sys; do"
        " if [ -L /$each ]; then cp -P /$each $each; else mkdir $each && mount --rbind /$each $each; fi; done"
        " && mkdir etc && echo 'PRETTY_NAME=\"Far Linux 7\"' > etc/os-release"
        f' && exec chroot {folder}/root "$@"'
    )
    via = shlex.join(["unshare", "-m", "sh", "-ec", inside, "sh"])
    python = os.path.realpath(pythons("3.11"))
    if not python.startswith(("/root/", "/usr/")):
        pytest.skip("the interpreter lies outside of what is mounted there")
    snapshot = collect(FarPatient(python=python, via=via), for_level("quick"), timeout=30.0, level="quick")
    assert "Far Linux 7" == snapshot.facts["host"].os_name  # type: ignore[attr-defined]


STOPPED = """
import json, os, sys
from tests.test_via import FarPatient, PAYLOAD, Thing, collect, plan
waited = {"hang", "hang-with-the-gil"}
def hear(event):
    if event["event"] == ("enter" if event.get("probe") == "hang" else "start"):
        waited.discard(event.get("probe"))
    if event["event"] == "waiting" and not waited:
        os.close(2)  # all hang: now is the time
planned = [plan(each, seconds=50.0) for each in ("fine", "hang", "leave_an_orphan", "hang_with_the_gil")]
patient = FarPatient(python=sys.executable, via="env", payload=PAYLOAD)
snapshot = collect(patient, planned, timeout=60.0, kinds={each.fact: Thing for each in planned}, progress=hear)
print(json.dumps([snapshot.interrupted, [[each.outcome.name, each.outcome.reason] for each in snapshot.probes]]))
"""


def stopped(number: int) -> tuple[Any, float]:
    """Ask behind a command in a process of its own, send that a signal when all hang; give what it printed and when."""
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert b"" == process.stderr.read()
    began = time.monotonic()
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    return json.loads(out or "null"), time.monotonic() - began


def test_ctrl_c_ends_the_far_side_and_keeps_what_is_known() -> None:
    """The end of our line is the order to stop: what was under way is told as interrupted."""
    (interrupted, results), seconds = stopped(signal.SIGINT)
    assert interrupted
    assert seconds < 10.0
    assert ["got", "failed"] == [results[0][0], results[1][0]]
    assert "interrupted in cuInit" == results[1][1]


def test_a_doctor_that_is_killed_leaves_nothing_on_the_far_side() -> None:
    """Nobody listens any more, so the far side ends everything and itself."""
    assert None is stopped(signal.SIGKILL)[0]
    mark, end = f"STAND_MARK={os.environ['STAND_MARK']}", time.monotonic() + 20.0
    while vitals.marked(mark) and time.monotonic() < end:
        time.sleep(0.1)  # the fixture looks for what is left


# The whole command


def check(via: str, *more: str, cwd: Path) -> Done:
    """Run one check behind a command, as a user does; its report is valid."""
    arguments = ("check", "--level", "quick", "--format", "json", "--via", via, *more)
    return fresh(*arguments, cwd=cwd, seconds=100)


def test_a_check_behind_a_command_is_a_report(folder: Path) -> None:
    """The report names the command, and its proofs lead there again."""
    done = check("env", "--python", sys.executable, cwd=folder)
    told = done.json
    target = {"key": "env", "kind": "command", "python": sys.executable, "via": "env"}
    assert (target, "") == (told["target"], done.err)
    proofs = {fix["verify"] for each in told["findings"] for fix in each["fixes"]}
    assert all(" --via env --python " in each for each in proofs)


UNREACHED = {
    "no python": ("env PATH=/nowhere", "exit code 127"),
    "password": (ways.ASKS_ON_TERMINAL, "exit code 255"),
    "hangs": (ways.HANGS, "did not begin within 2 s"),
}


@pytest.mark.parametrize("case", UNREACHED)
def test_whom_we_cannot_reach_is_one_finding_and_undetermined(case: str, folder: Path) -> None:
    """Exit 3, a valid report, and one finding that says why and what to do, instead of one for each question."""
    way, words = UNREACHED[case]
    via = ways.script(folder, way) if way.startswith("#!") else way
    done = check(via, "--timeout", "2", cwd=folder)
    told = done.json
    assert (3, "undetermined") == (done.code, told["verdict"])
    (finding,) = told["findings"]
    assert ("snapshot-partial", "warning", True) == (finding["key"], finding["severity"], words in finding["title"])
    assert all(each["commands"] for each in finding["fixes"])
    assert {"failed", "timed-out"} >= {each["outcome"] for each in told["probes"]}


PEAK = """
import os, re, runpy
try:
    runpy.run_module("envdoctor", run_name="__main__", alter_sys=True)
finally:
    with open("/proc/self/status") as status, open(os.environ["STAND_PEAK"], "w") as peak:
        peak.write(re.search(r"VmHWM:\\s+(\\d+)", status.read())[1])
"""


@pytest.mark.parametrize("kind", ["noise", "claims"])
def test_an_answer_of_100_mb_is_bounded_in_memory(kind: str, folder: Path) -> None:
    """Noise, or a far side that answers each question with megabytes: a valid report below 100 MB."""
    names = [each.name for each in BUILT_IN if each.level == "quick"]
    if kind == "noise":
        via = ways.flood(folder, megabytes=100, filler="x")
    else:
        via = ways.claims(folder, names, (100 << 20) // len(names) // 2)
    command = [sys.executable, "-c", PEAK, "check", "--level", "quick", "--format", "json", "--timeout", "60"]
    done = subprocess.run(
        [*command, "--via", via], cwd=folder, env=environment(STAND_PEAK=str(folder / "peak")), capture_output=True,
        text=True, check=False, timeout=100,
    )  # fmt: skip
    told = Done(done.returncode, done.stdout, done.stderr)
    assert (3, "undetermined") == (told.code, told.json["verdict"])
    assert int((folder / "peak").read_text()) < MOST_KIB


def test_via_contradicts_what_reads_files(folder: Path) -> None:
    """Options that cannot be meant together are usage errors that name both."""
    for more in (("--from", "x.json"), ("--root", str(folder))):
        done = check("env", *more, cwd=folder)
        assert (2, True) == (done.code, more[0] in done.err and "--via" in done.err)


def test_an_empty_command_is_a_usage_error(folder: Path) -> None:
    """The message says what was expected."""
    done = check("", cwd=folder)
    assert (2, True) == (done.code, "expected a command such as 'ssh node7'" in done.err)
