"""A user who may read an environment and write nothing: every command answers, and nothing is left there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import envdoctor
from tests.command import Done
from tests.stands.wheels import Wheel, install

pytestmark = pytest.mark.root
# What setpriv starts may still be started with root's rights; what that starts may not.
NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "env"]
OURS = tuple(dict.fromkeys(Path(each).parents[1] for each in (envdoctor.__file__, msgspec.__file__)))
PREFLIGHT = """
import json, envdoctor
how = {"fail_on": "never", "budget_seconds": 60, "ignore": ["torchvision-torch-mismatch"], "cache": True}
print(json.dumps([[f.key for f in r.findings] + list(r.notes) for r in (envdoctor.preflight(**how) for _ in "12")]))
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """Give an environment of root's that others may read: with us in it, and a torchvision of another torch."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv")
    names = (sys.executable, f"/usr/bin/python3.{sys.version_info[1]}")
    python = next((each for each in names if not _fails([os.path.realpath(each), "-c", ""])), None)
    if python is None or any(_fails(["test", "-r", str(each)]) for each in OURS):
        pytest.skip("another user may not run this Python, or not read what is tested")
    top = Path(tempfile.mkdtemp(prefix="envdoctor-"))
    try:
        top.chmod(0o755)
        made = top / "venv"
        subprocess.run([python, "-m", "venv", "--without-pip", str(made)], check=True)
        (site,) = made.glob("lib/python3*/site-packages")
        probes = OURS[0] / "probes"
        (site / "ours.pth").write_text("".join(f"{each}\n" for each in (*OURS, probes)))
        install(site, Wheel("torch", "2.9.0", {"torch/version.py": "__version__ = '2.9.0'\ncuda = None\n"}))
        install(site, Wheel("torchvision", "0.20.0", {}, ("torch (==2.5.0)",)))
        yield top
    finally:
        shutil.rmtree(top)


def _fails(command: list[str]) -> bool:
    return subprocess.run([*NOBODY, *command], capture_output=True, check=False, cwd="/").returncode != 0


def as_nobody(place: Path, *words: str, **environ: str) -> Done:
    """Run a command with the environment's Python as a user who owns nothing."""
    told = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environ}
    done = subprocess.run(
        [*NOBODY, str(place / "venv" / "bin" / "python"), *words], env=told, cwd="/", capture_output=True, text=True,
        check=False, stdin=subprocess.DEVNULL, timeout=150,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def _state(place: Path) -> dict[str, int]:
    return {str(each): each.lstat().st_mtime_ns for each in place.rglob("*")}


def test_everything_answers_and_nothing_is_written(place: Path) -> None:
    """Check and preflight judge as for anybody; what has to write says where it cannot, and where else it can."""
    before = _state(place)
    check = as_nobody(place, "-m", "envdoctor", "check", "--level", "quick", "--format", "json").json
    assert "torchvision-torch-mismatch" in {each["key"] for each in check["findings"]}
    assert [] == [each["name"] for each in check["probes"] if each["outcome"] not in {"got", "absent"}]
    first, second = json.loads(as_nobody(place, "-c", PREFLIGHT).out)
    assert [True, True] == ["torchvision-torch-mismatch" in each for each in (first, second)]
    saved = as_nobody(place, "-m", "envdoctor", "baseline", "save", "--level", "quick")
    assert (4, True) == (saved.code, "set XDG_STATE_HOME to another place" in saved.err)
    assert before == _state(place)


def test_a_fix_is_left_to_the_owner(place: Path) -> None:
    """No installer is started that would fetch much and fail: the step is shown with its command and the reason."""
    state = place / "state"
    state.mkdir()
    os.chown(state, 65534, 65534)
    before = _state(place / "venv")
    done = as_nobody(
        place, "-m", "envdoctor", "fix", "--level", "quick", "--apply", "--yes", "--format", "json",
        XDG_STATE_HOME=str(state),
    )  # fmt: skip
    steps = {each["findings"][0]: each for each in done.json["steps"]}
    assert (1, {"not-run"}) == (done.code, {each["effect"] for each in steps.values()})
    reason = f"this user may not write {place / 'venv'}: its owner can run it"
    assert reason in steps["torchvision-torch-mismatch"]["reason"]
    assert (before, []) == (_state(place / "venv"), list(state.rglob("*.json")))
