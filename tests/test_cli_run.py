"""``envdoctor run``: a check, and then the command itself, as if envdoctor had never been there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from envdoctor.cli.launching import interpreter_of
from tests.command import Done, environment, fresh, here

PYTHON = sys.executable
ANYWAY = ("run", "--fail-on", "never", "--")
# What a program has from whoever started it, as JSON.
ABOUT = """
import json, os, signal, sys
print(json.dumps({
    "environ": dict(os.environ), "cwd": os.getcwd(), "pid": os.getpid(), "argv": sys.argv[1:],
    "fds": sorted(os.listdir("/proc/self/fd")), "ignored": open("/proc/self/status").read().split("SigIgn:")[1][:20],
    "children": open(f"/proc/self/task/{os.getpid()}/children").read().split(), "stdin": sys.stdin.read(),
}))
"""


def run(*command: str, **how: Any) -> Done:
    """Run a command behind a check that refuses nothing."""
    return fresh(*ANYWAY, *command, **how)


def test_the_exit_code_is_the_commands_own(tmp_path: Path) -> None:
    """Whatever the command ends with, envdoctor ends with; its output is the only output on stdout."""
    done = run(PYTHON, "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)", cwd=tmp_path)
    assert (7, "out\n") == (done.code, done.out)
    assert done.err.splitlines()[-1] == "err"


def test_the_command_finds_everything_as_it_was(tmp_path: Path) -> None:
    """stdin, arguments, environment, directory, descriptors, ignored signals and children: as without envdoctor."""
    arguments = ("--python", "x y", "--debug", "--", "")
    how: dict[str, Any] = {"cwd": tmp_path, "stdin": "all of it\n", "MARK": "ü"}
    plain = subprocess.run(
        [PYTHON, "-c", ABOUT, *arguments], cwd=tmp_path, env=environment(MARK="ü"), input="all of it\n",
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    expected, found = json.loads(plain.stdout), json.loads(run(PYTHON, "-c", ABOUT, *arguments, **how).out)
    assert expected | {"pid": 0} == found | {"pid": 0}
    assert ("all of it\n", []) == (found["stdin"], found["children"])


def test_the_process_is_the_same_one(tmp_path: Path) -> None:
    """The command has envdoctor's own process id, so that whoever started it signals and waits for the right one."""
    command = [PYTHON, "-m", "envdoctor", *ANYWAY, PYTHON, "-c", "import os; print(os.getpid(), flush=True); input()"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.pid == int(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert -signal.SIGTERM == process.wait(60)


def test_a_refusal_is_125_and_the_command_never_runs(tmp_path: Path) -> None:
    """When the check fails, stderr says ids, cause and fix, and what was not started; stdout stays empty."""
    done = fresh("run", "--require", "python>=99", "--", PYTHON, "-c", "open('ran', 'w')", cwd=tmp_path)
    assert (125, "", False) == (done.code, done.out, (tmp_path / "ran").exists())
    assert "This machine is not ready: requirement-not-met@python" in done.err
    assert "uv venv --python '>=99' .venv" in done.err
    assert done.err.endswith("envdoctor: not started: " + f"{PYTHON} -c 'open('\"'\"'ran'\"'\"', '\"'\"'w'\"'\"')'\n")


def test_what_was_required_and_is_not_known_refuses(tmp_path: Path) -> None:
    """A requirement that could not be judged stops the run as one that is not met."""
    done = fresh(
        "run", "--only", "requirement-not-met", "--require", "driver>=1", "--root", str(tmp_path), "--", "true"
    )
    assert 2 == done.code  # a recorded machine starts nothing
    half = fresh("run", "--timeout", "0.001", "--require", "python>=3", "--", PYTHON, "-c", "", cwd=tmp_path)
    assert (125, True) == (half.code, "What is required could not be found out" in half.err)


def test_the_configuration_takes_part(tmp_path: Path) -> None:
    """Requirements of the nearest configuration file are held."""
    (tmp_path / "envdoctor.toml").write_text('[require]\npython = ">=99"\n')
    assert 125 == fresh("run", "--", PYTHON, "-c", "", cwd=tmp_path).code


def test_commands_that_cannot_be_run(tmp_path: Path) -> None:
    """126 and 127 as a shell gives them, with one line that says why."""
    plain, broken = tmp_path / "plain", tmp_path / "broken"
    plain.write_text("text")
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    assert (127, "envdoctor: no-such-command: no such command\n") == _end(run("no-such-command", cwd=tmp_path))
    assert (126, "envdoctor: ./plain: cannot be run: Permission denied\n") == _end(run("./plain", cwd=tmp_path))
    assert (127, "envdoctor: ./broken: no such command\n") == _end(run("./broken", cwd=tmp_path))


def _end(done: Done) -> tuple[int, str]:
    return done.code, done.err.splitlines(keepends=True)[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument '-- COMMAND...'"),
        (("--",), "Missing argument '-- COMMAND...'"),
        (("--levle", "quick", "--", "true"), "did you mean '--level'?"),
        (("--require", "gpu=8", "--", "true"), "did you mean 'gpus'?"),
        (("--ignore", "x", "--", "true"), "expected ID=reason"),
    ],
)
def test_usage_errors_start_nothing(arguments: tuple[str, ...], said: str) -> None:
    """What cannot be understood is exit 2 before anything is looked at."""
    done = here("run", *arguments)
    assert (2, True) == (done.code, said in done.err)


def test_ctrl_c_during_the_check_starts_nothing(tmp_path: Path) -> None:
    """An interrupted check is exit 130: the command that it was to judge for is not started."""
    site, begun = tmp_path / "site", tmp_path / "begun"
    site.mkdir()
    (site / "torch.py").write_text(f"import time\nopen({str(begun)!r}, 'w')\ntime.sleep(600)\n")
    command = [PYTHON, "-m", "envdoctor", "run", "--level", "standard", "--fail-on", "never", "--"]
    process = subprocess.Popen(
        [*command, PYTHON, "-c", "open('ran', 'w')"], cwd=tmp_path, env=environment(PYTHONPATH=str(site)),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    with process:
        while not begun.exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert 130 == process.wait(60)
    assert not (tmp_path / "ran").exists()


def test_the_interpreter_that_the_command_runs_is_examined(tmp_path: Path) -> None:
    """``run -- other/python`` judges that Python, which has no envdoctor, not the one that envdoctor is in."""
    import venv

    venv.create(tmp_path / "other", with_pip=False, symlinks=True)
    python = tmp_path / "other" / "bin" / "python"
    done = fresh("run", "--require", "packages.click=*", "--", str(python), "-c", "", cwd=tmp_path)
    assert (125, True) == (done.code, "click is not installed" in done.err)
    ours = fresh("run", "--fail-on", "never", "--require", "packages.click=*", "--", PYTHON, "-c", "", cwd=tmp_path)
    assert (0, False) == (ours.code, "click" in ours.err)


def test_which_interpreter_a_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python itself, or what a script's first line names; ours under any name, and what is no Python, is None."""
    folder = tmp_path / "bin"
    folder.mkdir()
    lines = {
        "python3.12": "#!/bin/sh", "torchrun": f"#!{folder}/python3.12 -E", "bash-script": "#!/bin/bash",
        "accelerate": "#!/usr/bin/env -S python3.12 -E", "ours": f"#!{PYTHON}", "elf": "\x7fELF",
    }  # fmt: skip
    for name, line in lines.items():
        (folder / name).write_text(f"{line}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin:/bin")
    found = {name: interpreter_of([name]) for name in lines}
    other = str(folder / "python3.12")
    nothing = dict.fromkeys(("bash-script", "ours", "elf"))
    assert {"python3.12": other, "torchrun": other, "accelerate": other, **nothing} == found
    assert (None, None) == (interpreter_of([PYTHON]), interpreter_of(["no-such-command"]))
    assert None is interpreter_of([str(Path(PYTHON).parent / "python3")])
