"""What becomes of probes that crash, hang, flood and lie: each has one outcome, and the run goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from envdoctor.outcome import Absent, Crashed, Failed, Got, TimedOut
from tests.stands.engine import ask, by_name, collect_from, nothing_left, plan, slowed
from tests.stands.misbehaving import Thing

pytestmark = pytest.mark.usefixtures("nothing_left")
__all__ = ["nothing_left"]
REPOSITORY = Path(__file__).parent.parent

DEATHS = {
    "segfault": ("SIGSEGV", "SIGSEGV in cuInit"),
    "bus_error": ("SIGBUS", "SIGBUS in probe bus-error"),
    "abort": ("SIGABRT", "SIGABRT in probe abort"),
    "kill_itself": ("SIGKILL", "SIGKILL in probe kill-itself"),
    "exit_0": ("", "exit code 0 without an answer in probe exit-0"),
    "close_its_stderr_and_crash": ("SIGSEGV", "SIGSEGV in cuInit"),
    "not_utf8": ("", "exit code 3 without an answer in probe not-utf8"),
}


@pytest.mark.parametrize("function", DEATHS)
def test_a_death_is_a_crash_that_names_signal_and_culprit(function: str) -> None:
    """A process that dies before it answers is crashed, with the signal and what it was doing."""
    result, _ = ask(function)
    assert isinstance(result.outcome, Crashed)
    assert DEATHS[function] == (result.outcome.signal, result.outcome.reason)


def test_a_crash_shows_the_python_stack_without_our_own_frames() -> None:
    """The detail of a crash names the line that crashed, and no line of the engine."""
    result, _ = ask("segfault")
    assert isinstance(result.outcome, Crashed)
    assert "in segfault" in result.outcome.detail
    assert "envdoctor/child" not in result.outcome.detail


def test_a_crash_keeps_the_words_that_were_printed() -> None:
    """What the process said on stderr before it died is kept."""
    result, _ = ask("abort")
    assert isinstance(result.outcome, Crashed)
    assert "terminate called after throwing an instance of 'c10::Error'" in result.outcome.detail


def test_output_that_is_no_utf8_is_kept_readable() -> None:
    """Bytes that are no text do not spoil the outcome."""
    result, _ = ask("not_utf8")
    assert isinstance(result.outcome, Crashed)
    assert "\N{REPLACEMENT CHARACTER} broken" in result.outcome.detail


def test_what_was_known_before_a_crash_is_kept() -> None:
    """A partial answer stays in the snapshot though the probe crashed."""
    result, fact = ask("segfault_after_a_part")
    assert isinstance(result.outcome, Crashed)
    assert Thing(words="half") == fact


def test_no_answer_is_absent_with_the_probes_words() -> None:
    """A subject that is not there is absent, not failed."""
    result, _ = ask("absent")
    assert Absent("no such thing here") == result.outcome


FAILURES = {
    "exit_7_politely": "SystemExit: 7",
    "recurse": "RecursionError: maximum recursion depth exceeded",
    "os_error": "OSError: libcudnn.so.9: cannot open shared object file: No such file or directory",
    "interrupt": "KeyboardInterrupt",
    "no_memory": "MemoryError",
    "unspeakable": "unspeakable.<locals>.Rude: (its words cannot be had: RuntimeError)",
    "huge_answer": "the answer is too large: ",
    "not_a_fact": "the answer cannot be written down: fact.words is of type object, which is no plain data",
    "wrong_type": "probe wrong-type answered with a wrong type: fact wrong_type: Expected `float | null`, got `str`",
}  # fmt: skip


@pytest.mark.parametrize("function", FAILURES)
def test_an_exception_is_a_failure_with_its_type_and_words(function: str) -> None:
    """Whatever is raised, and whatever cannot be an answer, fails that probe and says why."""
    result, _ = ask(function)
    assert isinstance(result.outcome, Failed)
    assert result.outcome.reason.startswith(FAILURES[function])


def test_a_failure_shows_a_bounded_traceback() -> None:
    """A thousand frames are shortened, the last one is there."""
    result, _ = ask("recurse")
    assert isinstance(result.outcome, Failed)
    assert "in recurse" in result.outcome.detail
    assert len(result.outcome.detail) < 20_000


def test_a_hang_is_told_from_slow_work_and_names_the_call() -> None:
    """A process that does nothing is hung; the reason names the call and the detail its line."""
    result, _ = ask("hang", seconds=3.0)
    assert isinstance(result.outcome, TimedOut)
    assert result.outcome.hung
    assert result.outcome.reason.startswith("no answer within 3.0 s in cuInit")
    assert "in hang" in result.outcome.detail
    assert "S" == result.outcome.evidence["state"]


def test_a_hang_that_holds_the_gil_yields_its_line_too() -> None:
    """The stack is written down by a thread that needs no GIL; SIGTERM being ignored helps nothing."""
    result, _ = ask("hang_with_the_gil", seconds=3.0)
    assert isinstance(result.outcome, TimedOut)
    assert result.outcome.hung
    assert "in hang_with_the_gil" in result.outcome.detail


@pytest.mark.parametrize("function", ["work_slowly", "print_slowly", "let_a_helper_work"])
def test_slow_work_is_timed_out_but_not_hung(function: str) -> None:
    """CPU time, output or a working descendant show that a process is alive, only too slow."""
    result, _ = ask(function, seconds=1.2)
    assert isinstance(result.outcome, TimedOut)
    assert not result.outcome.hung


def test_a_stopped_process_is_ended_early_and_says_so() -> None:
    """A process that stopped itself cannot go on; nobody waits for its deadline."""
    began = time.monotonic()
    result, _ = ask("stop_itself", seconds=8.0)
    assert isinstance(result.outcome, TimedOut)
    assert ("stopped by SIGSTOP in import torch", True) == (result.outcome.reason, result.outcome.hung)
    assert time.monotonic() - began < 5.0


@pytest.fixture
def freezer() -> Iterator[Path]:
    """Give a control group whose processes can be frozen: SIGKILL does not end those until they thaw."""
    group = Path(f"/sys/fs/cgroup/freezer/envdoctor-test-{os.getpid()}")
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no freezer control group (version 1) that we may use")
    yield group
    (group / "freezer.state").write_text("THAWED")
    for _ in range(100):
        if not (group / "tasks").read_text():
            break
        time.sleep(0.02)
    group.rmdir()


@pytest.mark.root
def test_a_process_that_sigkill_does_not_end_is_reported_and_left(freezer: Path) -> None:
    """The wait after SIGKILL is bounded, the run goes on and ends in time."""
    began = time.monotonic()
    planned = [plan("freeze_itself", child="static", seconds=0.5), plan("fine", child="static")]
    found = by_name(collect_from(planned, timeout=4.0, options={"freezer": str(freezer)}))
    assert time.monotonic() - began < 9.0
    outcome = found["freeze-itself"].outcome
    assert isinstance(outcome, TimedOut)
    assert outcome.unkillable
    assert outcome.reason.endswith("SIGKILL did not end it")
    assert "got" == found["fine"].outcome.name
    (freezer / "freezer.state").write_text("THAWED")
    time.sleep(0.2)


FINE = {
    "leave_a_child_with_the_pipes": "left one",
    "leave_an_orphan": "left one",
    "fork_and_both_answer": "once",
    "read_stdin": "''",
    "huge_part": "fine",
    "run_a_command": "3 'out\\n' 'err\\n'",
    "run_a_killed_command": "-11",
    "leave_a_hanging_command": "None 'begun\\n'",
    "strange_values": "lib\\xff.so\N{REPLACEMENT CHARACTER}",
}


@pytest.mark.parametrize("function", FINE)
def test_a_mess_beside_the_answer_does_not_spoil_it(function: str) -> None:
    """Left-over processes, foreign lines, odd text and commands do not keep an answer from arriving."""
    began = time.monotonic()
    result, fact = ask(function)
    assert isinstance(result.outcome, Got)
    assert FINE[function] == fact.words
    assert time.monotonic() - began < 4.0


def test_numbers_that_json_cannot_hold_are_unknown() -> None:
    """A float that is not finite arrives as None."""
    assert ask("strange_values")[1].number is None


def test_a_probe_that_closes_everything_costs_only_itself() -> None:
    """A closed answer pipe is a crash that says so."""
    result, _ = ask("close_everything")
    assert isinstance(result.outcome, Crashed)
    assert "its answer pipe was closed" in result.outcome.reason


def test_junk_on_the_answer_pipe_is_dropped() -> None:
    """Lines that are no events of ours neither answer nor disturb."""
    assert Thing(words="fine") == ask("junk_on_every_descriptor")[1]


def test_a_command_that_does_not_exist_is_absent() -> None:
    """A missing command is no failure."""
    assert Absent("no-such-command-anywhere is not on PATH") == ask("run_nothing")[0].outcome


def test_a_command_that_floods_is_cut() -> None:
    """Head and tail of 300 MB are kept, the rest is counted."""
    assert Thing(words="0 True", number=1000.0) == ask("run_a_flood", seconds=9.0)[1]


def test_a_flood_is_drained_and_its_first_and_last_words_are_kept() -> None:
    """300 MB on both streams neither block the probe nor stay in memory."""
    code = (
        "import json, re; from tests.stands.engine import ask\n"
        "result, _ = ask('flood_and_crash', seconds=9.0)\n"
        "peak = re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]\n"  # getrusage tells of pytest
        "print(json.dumps([result.outcome.detail, int(peak)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=REPOSITORY)
    detail, kib = json.loads(done.stdout)
    assert "first words" in detail
    assert "bytes left out" in detail
    assert "last words" in detail
    assert kib < 100_000


def test_a_crash_costs_its_neighbours_nothing() -> None:
    """Probes that share a process with one that dies or hangs are asked again without it."""
    names = ["fine", "segfault", "fine_too", "hang", "absent"]
    found = by_name(
        collect_from([plan(each, child="static", seconds=0.6 if each == "hang" else 5.0) for each in names])
    )
    assert ["got", "crashed", "got", "timed-out", "absent"] == [each.outcome.name for each in found.values()]


def test_an_answer_in_the_last_moment_costs_the_next_probe_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A probe that answers while it is about to be killed has answered; the next one has its own time, not none."""
    environ = slowed(tmp_path_factory.mktemp("site"), "envdoctor.child.forked", "Forked.look_closely", 1.0)
    planned = [plan("answer_late", child="static", seconds=0.8), plan("hang_a_little", child="static")]
    snapshot = collect_from(planned, environ=environ)
    assert [Got("file"), Got("file")] == [each.outcome for each in snapshot.probes]


def test_probes_of_one_process_see_each_others_facts() -> None:
    """What an earlier probe of the same process found is at hand by its fact's key."""
    planned = [plan("fine", child="static", fact="host"), plan("what_came_before", child="static")]
    assert Thing(words="host") == collect_from(planned).facts["what_came_before"]


def test_a_probe_that_does_not_exist_has_failed() -> None:
    """A plan that the patient cannot follow is told, with Python's words."""
    result, _ = ask("no_such_probe")
    assert isinstance(result.outcome, Failed)
    assert "has no attribute 'no_such_probe'" in result.outcome.reason


def test_a_fork_inherits_no_foreign_descriptors() -> None:
    """A probe finds its answer and dump pipes, and nothing of the supervisor or of its neighbours."""
    snapshot = collect_from([plan("left_open"), plan("fine")])
    words = snapshot.facts["left_open"]
    assert isinstance(words, Thing)
    assert 3 >= len((words.words or "").split())
