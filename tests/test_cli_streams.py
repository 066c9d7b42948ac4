"""Pipes, terminals and Ctrl-C: stdout is the format's alone, a reader may go at any time, and a run always ends."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from envdoctor.cli import streams
from envdoctor.cli.progress import Progress, line
from tests.command import environment, fresh, valid

COMMAND = (sys.executable, "-m", "envdoctor")
MARK = "ENVDOCTOR_TEST_MARK"


@pytest.fixture
def slow_torch(tmp_path: Path) -> dict[str, str]:
    """Give an environment in which importing torch takes a minute, and a mark to find its processes by."""
    package = tmp_path / "site" / "torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import time\ntime.sleep(60)\n")
    return environment(PYTHONPATH=str(package.parent), **{MARK: str(tmp_path)})


def marked(mark: str) -> list[str]:
    """Name the processes that still have the mark in their environment."""
    found = []
    for each in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if f"{MARK}={mark}".encode() in Path(f"/proc/{each}/environ").read_bytes():
                found.append(each)
    return found


def wait_for(what: object, seconds: float = 20.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def _sleeps(pid: str) -> bool:
    """Tell whether a process sleeps, as only the slow import does."""
    with contextlib.suppress(OSError):
        return "nanosleep" in Path(f"/proc/{pid}/wchan").read_text()
    return False


@pytest.mark.parametrize(
    "arguments", [("list",), ("demo", "--format", "json"), ("--help",), ("explain", "tf32-off")], ids=str
)
def test_a_reader_that_goes_is_no_fault(arguments: tuple[str, ...]) -> None:
    """When the other end of the pipe is closed, nothing is said of it and the exit code is the report's."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        done = subprocess.run(
            [*COMMAND, *arguments], stdout=pipe, stderr=subprocess.PIPE, text=True, env=environment(), check=False
        )
    expected = 1 if arguments[0] == "demo" else 0
    assert (expected, False, False) == (done.returncode, "Broken pipe" in done.stderr, "Traceback" in done.stderr)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("arguments", [("list",), ("demo",), ("--help",), ("demo", "--format", "json")], ids=str)
def test_a_full_disk_is_one_line(arguments: tuple[str, ...]) -> None:
    """A report that cannot be written is a failure of the run: exit 4 and a line that says why."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), check=False
        )
    assert (4, 1) == (done.returncode, done.stderr.count("No space left on device"))
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing(closed: str) -> None:
    """A process started without some of its streams still ends with the report's code."""
    command = f"{sys.executable} -m envdoctor demo {closed}"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, env=environment(), check=False)
    assert (1, False) == (done.returncode, "Traceback" in done.stderr)


@pytest.mark.skipif(sys.platform == "win32", reason="a directory in use cannot be removed there")
def test_a_removed_working_directory_is_no_fault(tmp_path: Path) -> None:
    """The machine is examined all the same; only a file that would have to lie there is refused."""
    gone = tmp_path / "gone"
    command = f"cd {gone} && rmdir {gone} && exec {sys.executable} -m envdoctor check --format json --level quick"
    gone.mkdir()
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, env=environment(), check=False)
    failed = [each for each in valid(done.stdout)["probes"] if each["outcome"] not in {"got", "absent"}]
    assert ([], "") == (failed, done.stderr)
    gone.mkdir()
    command += " --also html:report.html"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, env=environment(), check=False)
    assert (2, "") == (done.returncode, done.stdout)
    assert "--also: 'report.html' cannot be written: the working directory has been removed" in done.stderr


def test_narrow_terminal_is_honoured() -> None:
    """COLUMNS sets the width of a report; only commands, which are never broken, are longer."""
    text = fresh("demo", "cpu-only", COLUMNS="40").out
    assert [] == [each for each in text.splitlines() if len(each) > 40]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "0"}, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
    ids=str,
)
def test_colour_into_a_pipe(environ: dict[str, str], expected: bool) -> None:
    """A pipe gets no colour unless it is asked for; NO_COLOR wins; json never has any."""
    assert expected == ("\x1b[" in fresh("demo", **environ).out)
    assert "\x1b[" not in fresh("demo", "--format", "json", **environ).out


def test_poor_encoding_is_no_fault() -> None:
    """Where stdout cannot carry the signs, the report is written in ASCII."""
    done = fresh("demo", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (1, True) == (done.code, done.out.isascii())


@pytest.mark.parametrize(
    ("columns", "expected"), [("40", 40), ("0", 80), ("-1", 80), ("wide", 80), ("", 80), ("²", 80)]
)
def test_nonsense_width_is_eighty(columns: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A COLUMNS that is no number is not believed."""
    monkeypatch.setenv("COLUMNS", columns)
    assert expected == streams.width_of(None)


@pytest.mark.parametrize("format_", ["terminal", "json"])
def test_ctrl_c_prints_what_is_known(format_: str, slow_torch: dict[str, str], tmp_path: Path) -> None:
    """Ctrl-C during a slow import ends the run at once, with the report so far, exit 130 and no process left."""
    with subprocess.Popen(
        [*COMMAND, "check", "--format", format_],
        cwd=tmp_path, env=slow_torch, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as run:  # fmt: skip
        wait_for(lambda: any(map(_sleeps, marked(str(tmp_path)))))
        began = time.monotonic()
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=20)
    assert (130, "") == (run.returncode, err)
    assert time.monotonic() - began < 5
    if format_ == "json":
        document = valid(out)
        outcomes = {each["name"]: each for each in document["probes"]}
        assert (True, "got") == (document["interrupted"], outcomes["host"]["outcome"])
        assert "interrupted in import torch" == outcomes["torch-import"]["reason"]
    else:
        assert "Interrupted: what follows is what was known by then." in out
    wait_for(lambda: not marked(str(tmp_path)))


@pytest.mark.parametrize("milliseconds", [20, 40, 60, 80, 100])
def test_early_ctrl_c_is_no_traceback(milliseconds: int, slow_torch: dict[str, str], tmp_path: Path) -> None:
    """Ctrl-C while the command line is still being loaded ends with 130, in silence, and leaves no process."""
    program = f"from envdoctor.cli import main; print(flush=True); main({['check', '--format', 'json']!r})"
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, env=slow_torch, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout
        run.stdout.readline()  # the command line has begun; before, Python itself answers
        time.sleep(milliseconds / 1000)
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=20)
    assert (130, b"") == (run.returncode, err.strip())
    wait_for(lambda: not marked(str(tmp_path)))


def test_killed_doctor_leaves_no_patient(slow_torch: dict[str, str], tmp_path: Path) -> None:
    """When the doctor itself is killed, the processes it started end soon after."""
    with subprocess.Popen([*COMMAND, "check"], cwd=tmp_path, env=slow_torch, stdout=subprocess.DEVNULL) as run:
        wait_for(lambda: any(map(_sleeps, marked(str(tmp_path)))))
        run.kill()
    wait_for(lambda: not marked(str(tmp_path)))


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Give the two ends of a terminal."""
    ends = pty.openpty()
    yield ends
    for each in ends:
        with contextlib.suppress(OSError):
            os.close(each)


def test_slow_run_says_on_a_terminal_what_it_waits_for(
    terminal: tuple[int, int], slow_torch: dict[str, str], tmp_path: Path
) -> None:
    """Within seconds stderr names what is under way, on one line that is cleared before the report."""
    said = told(terminal, {**slow_torch, "TERM": "xterm"}, tmp_path)
    assert "s, waiting for import torch (Ctrl-C shows what is known)" in said.decode()
    assert said.endswith(b"\r\x1b[K")
    assert b"\n" not in said


def told(terminal: tuple[int, int], environ: dict[str, str], folder: Path) -> bytes:
    """Give what a slow check writes to a terminal that is its stderr."""
    ours, theirs = terminal
    command = [*COMMAND, "check", "--timeout", "5"]
    with subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=theirs) as run:
        run.communicate(timeout=30)
    said = b""
    while select.select([ours], [], [], 0.1)[0]:
        said += os.read(ours, 65536)
    return said


def test_a_terminal_that_cannot_redraw_gets_no_escape_sequence(
    terminal: tuple[int, int], slow_torch: dict[str, str], tmp_path: Path
) -> None:
    """An editor's shell says TERM=dumb: it would show the signs that take a line away."""
    assert b"" == told(terminal, {**slow_torch, "TERM": "dumb"}, tmp_path)


def test_quick_run_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Before a run is slow, and where nobody watches, progress is silent."""
    progress = Progress()
    progress({"event": "waiting", "seconds": 60.0, "on": ("import torch",)})
    progress.clear()
    assert ("", "") == tuple(capsys.readouterr())


@pytest.mark.parametrize("width", [20, 40, 80])
def test_progress_fits_one_line(width: int) -> None:
    """The line never wraps, or it could not be cleared."""
    assert len(line(12.3, ("import torch", "cuInit"), width)) < width


def test_part_is_removed_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that could not be written whole leaves the old one and nothing beside it."""
    target = tmp_path / "r.json"
    target.write_text("old")

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(streams.OwnFailure, match=r"r\.json cannot be written: No space left on device"):
        streams.save(target, "new")
    assert (["r.json"], "old") == ([each.name for each in tmp_path.iterdir()], target.read_text())
