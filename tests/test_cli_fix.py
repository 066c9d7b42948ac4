"""``envdoctor fix``: the script and the JSON on stdout, the options it refuses, its exit codes; and a real repair."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from envdoctor import demo
from envdoctor.remedy.apply import SCHEMA
from tests.command import Done, fresh, here, valid

RECORDED = Path(demo.__file__).parent
DRIFT, HEALTHY = str(RECORDED / "wheel-drift.json"), str(RECORDED / "h100x8-healthy.json")


def test_the_plan_is_a_script() -> None:
    """Without --apply stdout is one shell script, stderr is silent, and the exit code says that something is left."""
    done = here("fix", "--from", DRIFT)
    assert (1, "", "#!/bin/sh\n# envdoctor fix: ") == (done.code, done.err, done.out[:27])
    assert "\n/home/sam/envs/diffusion/bin/python -m pip install --no-deps 'torchvision==0.22.1' " in done.out


def test_a_healthy_machine_needs_nothing() -> None:
    """Nothing to do is exit 0."""
    done = here("fix", "--from", HEALTHY)
    assert (0, True) == (done.code, done.out.endswith("# Nothing to do.\n"))


def test_named_ids_alone_are_planned_and_count() -> None:
    """An id narrows the plan, and the exit code to what was named."""
    document = here("fix", "torchaudio-torch-mismatch", "--from", DRIFT, "--format", "json").json
    assert [["torchaudio-torch-mismatch"]] == [each["findings"] for each in document["steps"]]
    assert 0 == here("fix", "driver-too-old-for-cuda-build", "--from", DRIFT).code


@pytest.mark.parametrize("name", demo.ABOUT)
@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_json_fits_its_schema(name: str, more: tuple[str, ...]) -> None:
    """The JSON plan of every recorded machine is valid, and holds the same script."""
    file = str(RECORDED / f"{name}.json")
    document = here("fix", "--from", file, "--format", "json", *more).json
    assert ("envdoctor.fix/1", "dry-run" if more else "plan") == (document["schema"], document["mode"])
    assert here("fix", "--from", file).out == document["script"]


def test_a_dry_run_shows_what_would_be_asked() -> None:
    """--dry-run shows the script, each question, and what would be left to the person."""
    done = here("fix", "--from", DRIFT, "--dry-run")
    assert done.out.startswith("#!/bin/sh\n")
    assert "\n1. would ask and run: Install the version that torch asks for" in done.out
    assert "[1/3] Install the version that torch asks for: nvidia-cudnn-cu12==9.5.1.17" in done.err
    would_not = here("fix", "--from", str(RECORDED / "sick-gpu.json"), "--dry-run").out
    assert "would not run: " in would_not


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--apply", "--from", DRIFT), "--apply changes this machine, not --from's"),
        (("--apply", "--root", str(RECORDED)), "--apply changes this machine, not --root's"),
        (("--undo", "last", "--apply"), "use it alone"),
        (("--undo", "last", "no-nvidia-gpu"), "use it alone"),
        (("--yes",), "--yes answers the questions of --apply and --undo"),
        (("torch-mising",), "did you mean 'torch-missing'?"),
        (("--undo", "last"), "there is no record in "),
        (("--undo", "/nowhere.json"), "cannot read /nowhere.json"),
        (("--undo", DRIFT), "expected a record that envdoctor fix --apply wrote"),
        (("--format", "junit"), "unknown format 'junit'"),
        (("--levl", "quick"), "did you mean '--level'?"),
    ],
    ids=str,
)
def test_wrong_use_is_told(
    arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contradictions and wrong words are usage errors that say what is right; nothing is collected for them."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    done = here("fix", *arguments)
    assert (2, "") == (done.code, done.out)
    assert words in done.err


def test_a_record_of_another_schema_is_refused(tmp_path: Path) -> None:
    """A record that a later version wrote in another layout is not guessed at."""
    file = tmp_path / "r.json"
    empty: dict[str, Any] = {"created": "", "python": sys.executable, "prefix": "", "before": [], "after": []}
    file.write_text(json.dumps({"schema": "envdoctor.undo/2"} | empty))
    assert "schema 'envdoctor.undo/2'" in here("fix", "--undo", str(file)).err


def test_a_record_of_another_environment_is_refused(tmp_path: Path) -> None:
    """A record belongs to one environment: when its Python is of another one now, nothing is touched."""
    file = tmp_path / "r.json"
    told: dict[str, Any] = {"created": "", "python": sys.executable, "prefix": "/old", "before": [], "after": []}
    file.write_text(json.dumps({"schema": SCHEMA} | told))
    done = here("fix", "--undo", str(file))
    assert (2, True) == (done.code, "is of the environment '/old', and that is not there now" in done.err)


def test_options_are_those_of_a_check() -> None:
    """Whatever says how a check collects and judges, fix understands too."""
    from envdoctor.cli import check, fix

    mine = {each.name for each in fix.command.params}
    assert set() == {each.name for each in check.command.params} - mine - {"also", "show"}


# The real thing


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a virtual environment with the CPU build of torch and a torchvision that belongs to another torch."""
    folder = tmp_path_factory.mktemp("real") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip(folder, "install", "torch==2.13.0", "numpy")
    pip(folder, "install", "--no-deps", "torchvision==0.19.1")
    return folder


def pip(venv: Path, *arguments: str) -> None:
    """Run a virtual environment's own pip, or skip where it can fetch nothing."""
    command = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        pytest.skip(f"pip cannot do it here: {done.stderr.strip()[-300:]}")


def wheelhouse(folder: Path) -> str:
    """Make a torchvision for the CPU build, pure metadata, for where PyTorch's own index cannot be reached."""
    info = "torchvision-0.28.0+cpu.dist-info"
    files = {
        "torchvision/__init__.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: torchvision\nVersion: 0.28.0+cpu\n"
        "Requires-Dist: torch==2.13.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: stand\nRoot-Is-Purelib: false\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / "torchvision-0.28.0+cpu-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD")))
    return str(folder)


def fix(venv: Path, state: Path, *arguments: str, **environ: str) -> Done:
    """Run fix over the virtual environment from outside, with nobody at the terminal."""
    links = " ".join(filter(None, (wheelhouse(state), os.environ.get("PIP_FIND_LINKS"))))
    environ = {"XDG_STATE_HOME": str(state), "PIP_FIND_LINKS": links, "PIP_RETRIES": "0"} | environ
    return fresh("fix", *arguments, seconds=280, **environ)


def versions(venv: Path) -> dict[str, str]:
    """Ask the environment itself what it holds."""
    code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    done = subprocess.run([venv / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.network
def test_a_real_mismatch_is_repaired_and_undone(venv: Path, tmp_path: Path) -> None:
    """A wrong torchvision is replaced by the one that belongs to torch; the check is healthy; the undo undoes it."""
    python = ("--python", str(venv / "bin" / "python"))
    before = versions(venv)
    assert 1 == fresh("check", *python).code
    asked = fix(venv, tmp_path, "--apply", *python)
    assert (1, before) == (asked.code, versions(venv)), asked.err
    assert "there is no terminal to ask on" in asked.out

    done = fix(venv, tmp_path, "--apply", "--yes", *python, "--format", "json")
    document = valid(done.out)
    assert (0, ["fixed"]) == (done.code, [each["effect"] for each in document["steps"]]), done.err
    assert (0, "0.28.0") == (fresh("check", *python).code, versions(venv)["torchvision"].partition("+")[0])
    assert 0o600 == Path(document["record"]).stat().st_mode & 0o777

    undone = fix(venv, tmp_path, "--undo", "last", "--yes", "--format", "json")
    assert ("fixed", before) == (valid(undone.out)["effect"], versions(venv)), undone.err
    assert (0, "nothing is left to undo\n") == ((again := fix(venv, tmp_path, "--undo", "last")).code, again.out)


@pytest.mark.network
def test_a_damaged_torch_and_a_missing_dependency_are_repaired(venv: Path, tmp_path: Path) -> None:
    """Torch's own files come back by the same version; what follows from their loss is not touched before."""
    python = ("--python", str(venv / "bin" / "python"))
    pip(venv, "uninstall", "-y", "torchvision")
    pip(venv, "uninstall", "-y", "typing_extensions")
    next(venv.glob("lib/python*/site-packages/torch/_tensor.py")).unlink()
    done = fix(venv, tmp_path, "--apply", "--yes", *python, "--format", "json")
    ends = {each["findings"][0]: each["effect"] for each in valid(done.out)["steps"]}
    assert {"torch-install-damaged": "fixed", "torch-import-fails": "fixed"} == ends, done.err
    assert (0, 0) == (done.code, fresh("check", *python).code)


@pytest.mark.network
def test_a_repair_that_cannot_be_fetched_is_not_fixed(venv: Path, tmp_path: Path) -> None:
    """Where pip fails, the step is not fixed, its exit code is told, and nothing has changed."""
    python = ("--python", str(venv / "bin" / "python"))
    pip(venv, "install", "--no-deps", "torchvision==0.19.1")
    before = versions(venv)
    done = fix(venv, tmp_path, "--apply", "--yes", *python, "--format", "json", PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    (step,) = valid(done.out)["steps"]
    assert (1, "not-fixed", before) == (done.code, step["effect"], versions(venv))
    assert "its command ended with exit code 1" in step["reason"]
