"""The commands of a fix: they end, whatever they do, and what they print is told and kept within bounds."""

from __future__ import annotations

import _thread
import os
import sys
import time
from typing import Any

import pytest

from envdoctor.runner.commands import Ended, run_command
from tests.stands.engine import nothing_left, wait_for_the_end_of_all

pytestmark = pytest.mark.usefixtures("nothing_left")
__all__ = ["nothing_left"]


def run(code: str, *, timeout: float = 20.0, **how: Any) -> tuple[Ended, list[str]]:
    """Run Python code as a command; give its end and the lines that were told."""
    heard: list[str] = []
    return run_command([sys.executable, "-c", code], timeout=timeout, hear=heard.append, **how), heard


def test_output_is_told_line_by_line_and_kept() -> None:
    """Both streams are told as they come, the last line also without its end, and kept beside the exit code."""
    ended, heard = run("import sys; print('a', flush=True); print('b', file=sys.stderr, end=''); sys.exit(3)")
    assert (3, ["a", "b"], "a\nb") == (ended.exit_code, heard, ended.said)
    assert (False, False) == (ended.timed_out, ended.interrupted)


def test_a_flood_is_kept_within_bounds() -> None:
    """Ten megabytes of output leave less than 20 kB in memory, beginning and end."""
    ended, heard = run("print('first'); print(('x' * 99 + '\\n') * 100_000); print('last')")
    assert (0, 100_001) == (ended.exit_code, sum(map(bool, heard)) - 1)
    assert len(ended.said) < 20_000
    assert (True, True) == (ended.said.startswith("first\n"), ended.said.rstrip().endswith("last"))


def test_a_command_has_nothing_to_read() -> None:
    """What waits for an answer gets the end of its input at once."""
    ended, heard = run("try: input()\nexcept EOFError: print('no input')")
    assert (0, ["no input"]) == (ended.exit_code, heard)


def test_a_command_that_hangs_is_ended_at_the_deadline() -> None:
    """A command that hears no gentle word is killed, with the child that holds its output."""
    code = (
        "import os, signal, time\nfor s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, signal.SIG_IGN)\n"
        "os.fork()\nos.write(1, b'here\\n')\ntime.sleep(60)"
    )
    began = time.monotonic()
    ended, heard = run(code, timeout=1.0)
    assert (True, -9, ["here", "here"]) == (ended.timed_out, ended.exit_code, heard)
    assert time.monotonic() - began < 8


def test_a_child_left_behind_is_not_awaited() -> None:
    """The command's own end counts; a child that keeps its output open is ended with it."""
    began = time.monotonic()
    ended, _ = run("import os, time\nif os.fork() == 0: time.sleep(60)")
    assert (0, False) == (ended.exit_code, ended.timed_out)
    assert time.monotonic() - began < 8
    wait_for_the_end_of_all()


def test_control_c_stops_the_command_and_is_told() -> None:
    """Ctrl-C reaches the command, which ends gently, and the caller goes on."""
    heard: list[str] = []

    def hear(line: str) -> None:
        heard.append(line)
        if line == "ready":
            _thread.interrupt_main()

    code = "import time\ntry: print('ready', flush=True), time.sleep(60)\nexcept KeyboardInterrupt: print('gently')"
    ended = run_command([sys.executable, "-c", code], timeout=20.0, hear=hear)
    assert (True, ["ready", "gently"]) == (ended.interrupted, heard)


def test_a_program_that_is_not_there_is_told() -> None:
    """What cannot be started has no exit code, and says why."""
    ended = run_command(["/nowhere/at-all"], timeout=1, hear=lambda _: None)
    assert ended.exit_code is None
    assert "cannot be started" in ended.said


def test_the_environment_is_ours_with_what_is_added() -> None:
    """A command sees our variables and those that were added."""
    code = "import os; print(os.environ['STAND_MARK'], os.environ['MORE'])"
    assert [f"{os.environ['STAND_MARK']} x"] == run(code, environ={"MORE": "x"})[1]
