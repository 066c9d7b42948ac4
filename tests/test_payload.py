"""What travels to the patient: runs on an old Python, and importing it costs next to nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import envdoctor

DOCTOR = Path(envdoctor.__file__).parent
PATIENT = Path(importlib.util.find_spec("envdoctor_probes").origin).parent  # type: ignore[union-attr,arg-type]
PLACES = [DOCTOR / each for each in ("__init__.py", "outcome.py", "probe.py", "facts", "child")]
# What importing the package may bring in, beyond what an interpreter without site packages has loaded already.
ALLOWED = {"envdoctor", "__future__", "typing", "collections", "collections.abc", "contextlib", "functools", "operator"}

IMPORT_ALL = """
import importlib, json, os, pkgutil, sys
sys.path[:0] = json.loads(sys.argv[1])
names = ["envdoctor", "envdoctor.outcome", "envdoctor.probe"]
for package in ("envdoctor.facts", "envdoctor.child", "envdoctor_probes"):
    top = importlib.import_module(package)
    names += [package] + [each.name for each in pkgutil.walk_packages(top.__path__, package + ".")]
names = [name for name in names if not name.endswith("__main__")]
print(json.dumps([name for name in names if importlib.import_module(name)]))
"""


def old_python() -> str | None:
    """Find a real Python 3.8: on PATH, or among pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    found = [shutil.which("python3.8"), *map(str, sorted(pyenv.glob("3.8.*/bin/python3.8")))]
    return next((each for each in found if each and _runs(each)), None)


def _runs(python: str) -> bool:
    """A shim of a version manager may be there without a Python behind it."""
    code = "import sys; sys.exit(sys.version_info[:2] != (3, 8))"
    return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0


def run(python: str, *arguments: str) -> str:
    """Run a Python without our environment and give what it printed."""
    done = subprocess.run([python, *arguments], capture_output=True, text=True, check=False, cwd="/")
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


def test_payload_is_imported_by_an_old_python() -> None:
    """Every payload module is imported by a real Python 3.8, without site packages."""
    python = old_python()
    if python is None:
        pytest.skip("no Python 3.8 on PATH or under pyenv")
    places = json.dumps([str(DOCTOR.parent), str(PATIENT.parent)])
    imported = json.loads(run(python, "-I", "-S", "-B", "-W", "error", "-c", IMPORT_ALL, places))
    assert {"envdoctor.facts.torch", "envdoctor.probe", "envdoctor_probes.elf"} <= set(imported)


def test_an_old_python_is_examined() -> None:
    """A real Python 3.8, in which nothing of ours is installed, answers every static probe."""
    python = old_python()
    if python is None:
        pytest.skip("no Python 3.8 on PATH or under pyenv")
    command = [sys.executable, "-m", "envdoctor", "snapshot", "--python", python, "--level", "quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    told = json.loads(done.stdout)
    wrong = {p["name"]: p["reason"] for p in told["probes"] if p["outcome"] not in {"got", "absent"}}
    assert ({}, "3.8") == (wrong, told["facts"]["packages"]["python_version"][:3])


def test_payload_uses_nothing_newer_than_python_3_8() -> None:
    """Where no old Python is at hand, vermin still says so."""
    vermin = shutil.which("vermin", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    if vermin is None:
        pytest.skip("vermin is not installed")
    options = ("--quiet", "--no-tips", "--violations", "--target=3.8-", "--no-parse-comments")
    command = (vermin, *options, *map(str, PLACES), str(PATIENT))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stdout.strip())


def loaded_by(code: str) -> set[str]:
    """Give the modules that running ``code`` brings into a bare interpreter."""
    probe = f"import sys; before = set(sys.modules); {code}; print(*set(sys.modules) - before)"
    return set(run(sys.executable, "-c", probe).split())


def test_importing_the_package_imports_nothing() -> None:
    """``import envdoctor`` brings in its own name and what typing needs, nothing else."""
    assert set() == {each for each in loaded_by("import envdoctor") if not each.startswith("_")} - ALLOWED - _typing()


def _typing() -> set[str]:
    return loaded_by("import typing")


HELP = """
import io, sys
from envdoctor.cli import main
sys.argv[:] = ["envdoctor", "--help"]
sys.stdout = io.StringIO()
try:
    main()
except SystemExit:
    sys.__stdout__.write(" ".join(sys.modules))
"""


def test_help_imports_neither_torch_nor_rich() -> None:
    """``envdoctor --help`` stays light: neither torch nor rich nor the rules are loaded."""
    heavy = {"torch", "rich", "numpy", "pynvml", "msgspec", "envdoctor.rules", "importlib.metadata", "psutil"}
    loaded = set(run(sys.executable, "-c", HELP).split())
    assert ("click" in loaded, set()) == (True, loaded & heavy)
