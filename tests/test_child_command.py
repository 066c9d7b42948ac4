"""Commands that a probe runs: told as soon as they end, ended at the deadline, and waited for without a stir."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pytest

from envdoctor.child import command, vitals
from envdoctor.child.answering import between_dumps
from envdoctor.probe import NotThere, Ran
from tests.stands.engine import nothing_left

pytestmark = pytest.mark.usefixtures("nothing_left")
__all__ = ["nothing_left"]
SLEEP = "import time; time.sleep(60)"


@pytest.fixture(params=["told by the kernel", "has to look"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give both ways of learning of a command's end: Python 3.8 and kernels before 5.3 know no pidfd."""
    if request.param == "has to look":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    elif not hasattr(os, "pidfd_open"):
        pytest.skip("this Python has no os.pidfd_open")
    return str(request.param)


def run(code: str, seconds: float = 20.0) -> Ran:
    """Run Python code as a command."""
    return command.run([sys.executable, "-S", "-c", code], seconds)


@pytest.mark.usefixtures("way")
def test_exit_code_and_both_streams_are_given() -> None:
    """What is printed until the end is there, and the end is not waited out to the deadline."""
    ran = run("import os, sys; os.write(1, b'out'); os.write(2, b'err'); sys.exit(3)")
    assert (3, "out", "err", 0) == (ran.exit_code, ran.stdout, ran.stderr, ran.dropped_bytes)
    assert ran.seconds < 10


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("first", ["", "import os; os.close(1); os.close(2)\n"], ids=["silent", "closes its output"])
def test_a_command_that_hangs_is_killed_at_the_deadline(first: str) -> None:
    """A command without an end has no exit code, whether it keeps its output open or not."""
    ran = run(first + SLEEP, 1.0)
    assert ran.exit_code is None
    assert 1.0 <= ran.seconds < 5


@pytest.mark.usefixtures("way")
def test_a_helper_that_keeps_the_output_open_is_not_waited_for() -> None:
    """The command's own end is the end, although its child lives on and holds the pipes."""
    ran = run(f"import os\nchild = os.fork()\nif not child:\n    {SLEEP}\nos.write(1, b'%d' % child)")
    os.kill(int(ran.stdout), signal.SIGKILL)  # an orphan, which only the supervisor could find
    while vitals.state(int(ran.stdout)) not in ("", "Z"):
        time.sleep(0.01)
    assert 0 == ran.exit_code
    assert ran.seconds < 10


@pytest.mark.usefixtures("way")
def test_a_flood_is_read_to_its_end() -> None:
    """Ten megabytes do not block the command; what is not kept is counted."""
    ran = run("import os\nfor _ in range(160): os.write(1, b'x' * 65536)")
    assert 0 == ran.exit_code
    kept = 160 * 65536 - ran.dropped_bytes
    assert kept == ran.stdout.count("x") > 65536


@pytest.mark.usefixtures("way")
def test_no_such_command_is_absent() -> None:
    """A command that is not there is no failure."""
    with pytest.raises(NotThere, match="envdoctor-no-such is not on PATH"):
        command.run(["envdoctor-no-such"], 1.0)


def test_waiting_costs_hardly_a_stir(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a command hangs, the process that waits for it sleeps, so that it looks as hung as it is."""
    reap, stirs = command._reap, [_stirs()]

    def counted(process: subprocess.Popen[bytes]) -> None:
        stirs.append(_stirs())
        reap(process)

    monkeypatch.setattr(command, "_reap", counted)
    began = time.monotonic()
    run(SLEEP, 2.0)
    took = time.monotonic() - began
    allowed = 12 if way == "told by the kernel" else 12 + 30 * took
    assert stirs[1] - stirs[0] <= allowed


def _stirs() -> int:
    """Count how often this process has gone to sleep."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw


@pytest.mark.parametrize("allowed", [0.3, 1.0, 2.5, 5.143, 9.99, 10.0, 20.0, 30.0, 59.9, 60.0, 95.0, 600.0])
def test_no_stack_is_written_down_near_the_deadline(allowed: float) -> None:
    """Two stacks at least, ten seconds apart at most, and none within a third of a step before or after the end."""
    step = between_dumps(allowed)
    times = [step * n for n in range(1, 2 + int(allowed / step))]
    assert sum(each < allowed for each in times) >= 2
    assert all(abs(each - allowed) > step / 3 for each in times)
    assert all(later - earlier <= 10.0 for earlier, later in pairwise(times))
