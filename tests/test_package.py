"""The distribution: what is in the wheel, that it is a good guest, and that a plug-in's distribution is found."""

from __future__ import annotations

import email
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
# The oldest versions that the lower bounds allow: an environment that holds them must keep them.
OLDEST = {
    "click": "8.1.0",
    "msgspec": "0.18.6",
    "nvidia-ml-py": "12.535.133",
    "packaging": "22.0",
    "psutil": "5.9.0",
    "rich": "12.6.0",
    "tomli": "2.0.0",
}
BROKEN = """
[project]
name = "envdoctor-broken"
version = "0.1.0"
[project.entry-points."envdoctor.rules"]
broken = "envdoctor_broken:RULES"
[build-system]
requires = ["hatchling>=1.24"]
build-backend = "hatchling.build"
"""


def pip(python: Path | str, *arguments: str) -> str:
    """Run this environment's pip on another one and give its stdout; fail with what it said."""
    command = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def bare_venv(top: Path) -> Path:
    """Make an empty virtual environment and give its interpreter."""
    venv.create(top, with_pip=False, symlinks=True)
    return top / "bin" / "python"


def pretend(python: Path, name: str, version: str, metadata: str = "") -> None:
    """Put a distribution's metadata into an environment: all that pip looks at when it decides what to change."""
    (site,) = python.parent.parent.glob("lib/python3.*/site-packages")
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(metadata or f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "RECORD").write_text("")
    (folder / "INSTALLER").write_text("pip\n")


def would_install(python: Path, wheel: Path) -> dict[str, str]:
    """Ask pip, without installing, which versions it would put in."""
    report = json.loads(pip(python, "install", "--dry-run", "--quiet", "--report", "-", str(wheel)))
    return {each["metadata"]["name"].lower(): each["metadata"]["version"] for each in report["install"]}


def needs(name: str, seen: set[str] | None = None) -> set[str]:
    """Name a distribution of this environment and all that it needs, as far as installed."""
    seen = set() if seen is None else seen
    try:
        declared = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return seen
    seen.add(name)
    for each in declared:
        other = each.partition(";")[0].split("[")[0].split("=")[0].strip(" <>!~(").lower()
        if "extra ==" not in each and other not in seen:
            needs(other, seen)
    return seen


def test_wheel_holds_the_two_packages_and_nothing_else(wheel: Path) -> None:
    """The wheel brings envdoctor, the probes and its own metadata; the data and py.typed are in it."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {"envdoctor", "envdoctor_probes"} == {n.split("/")[0] for n in names if ".dist-info/" not in n}
    expected = {"envdoctor/py.typed", "envdoctor_probes/py.typed", "envdoctor/knowledge/data/cuda_driver.csv"}
    assert set() == expected - set(names)
    assert [] == [n for n in names if "__pycache__" in n or n.endswith(".pyc")]
    assert 1 == sum(n.endswith("licenses/LICENSE") for n in names)


def test_dependencies_have_lower_bounds_only(wheel: Path) -> None:
    """Torch is no dependency, and no dependency has an upper bound or a pin."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        declared = email.message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []
    needed = [each.partition(";")[0].strip() for each in declared if "extra ==" not in each]
    assert [] == [each for each in needed if not set("<~!=").isdisjoint(each.replace(">=", ""))]
    names = {each.partition(">=")[0] for each in needed}
    assert {"click", "rich", "msgspec", "packaging", "psutil", "nvidia-ml-py"} == names - {"tomli"}


@pytest.mark.network
def test_installing_changes_nothing_in_a_torch_environment(wheel: Path, tmp_path: Path) -> None:
    """Beside torch, numpy and all that they need pip would only add packages, never change one."""
    python = bare_venv(tmp_path / "patient")
    present = {}
    for name in sorted(needs("torch") | needs("numpy")):
        found = importlib.metadata.distribution(name)
        present[name] = found.version
        pretend(python, name, found.version, found.read_text("METADATA") or "")
    if "torch" not in present:
        pytest.skip("no torch in the environment that runs the tests")
    added = would_install(python, wheel)
    assert (True, set()) == ("torch-envdoctor" in added, set(added) & set(present))


@pytest.mark.network
def test_installing_keeps_the_oldest_allowed_versions(wheel: Path, tmp_path: Path) -> None:
    """Where old versions of the dependencies are there already, pip would add envdoctor and nothing else."""
    python = bare_venv(tmp_path / "patient")
    for name, version in OLDEST.items():
        pretend(python, name, version)
    assert ["torch-envdoctor"] == list(would_install(python, wheel))


@pytest.fixture(scope="module")
def doctor(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the interpreter of an environment with the wheel, the example plug-in and a broken plug-in."""
    python = bare_venv(tmp_path_factory.mktemp("doctor"))
    broken = tmp_path_factory.mktemp("broken")
    (broken / "pyproject.toml").write_text(BROKEN)
    (broken / "envdoctor_broken").mkdir()
    (broken / "envdoctor_broken" / "__init__.py").write_text("raise RuntimeError('no licence found')\n")
    pip(python, "install", "--quiet", str(wheel), str(REPOSITORY / "examples" / "plugin"), str(broken))
    return python


def envdoctor(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command."""
    command = [str(python.parent / "envdoctor"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


@pytest.mark.network
def test_installed_command_and_module_say_the_same(doctor: Path) -> None:
    """``envdoctor`` and ``python -m envdoctor`` are one program."""
    module = subprocess.run([str(doctor), "-m", "envdoctor", "--version"], capture_output=True, text=True, check=False)
    assert (0, module.stdout) == (module.returncode, envdoctor(doctor, "--version").stdout)
    assert "0.1.0" in module.stdout


@pytest.mark.network
def test_plugin_shows_up_in_the_lists(doctor: Path) -> None:
    """The example's rule and probe are listed beside the built-in ones."""
    assert "scratch-not-mounted" in envdoctor(doctor, "list", "findings").stdout
    assert "scratch-mount" in envdoctor(doctor, "list", "probes").stdout
    assert "/scratch" in envdoctor(doctor, "explain", "scratch-not-mounted").stdout


@pytest.mark.network
def test_plugin_takes_part_in_a_check(doctor: Path) -> None:
    """The example's probe runs in a child and its rule judges what the probe found."""
    report = json.loads(envdoctor(doctor, "check", "--level", "quick", "--format", "json").stdout)
    (probe,) = [each for each in report["probes"] if each["name"] == "scratch-mount"]
    (check,) = [each for each in report["checks"] if each["id"] == "scratch-not-mounted"]
    assert "got" == probe["outcome"], probe
    assert report["facts"]["facts"]["scratch_mount"]["mounted"] is (check["status"] == "passed")


@pytest.mark.network
def test_plugins_probe_travels_to_an_interpreter_without_it(doctor: Path, tmp_path: Path) -> None:
    """A probe that may travel answers from another interpreter, in which neither it nor envdoctor is installed."""
    other = bare_venv(tmp_path / "other")
    said = envdoctor(doctor, "check", "--python", str(other), "--level", "quick", "--format", "json")
    (probe,) = [each for each in json.loads(said.stdout)["probes"] if each["name"] == "scratch-mount"]
    assert "got" == probe["outcome"], probe


@pytest.mark.network
def test_broken_plugin_is_a_finding(doctor: Path) -> None:
    """A plug-in that cannot be imported is named with its own words, and the rest of the report is there."""
    report = json.loads(envdoctor(doctor, "check", "--level", "quick", "--format", "json").stdout)
    (finding,) = [each for each in report["findings"] if each["id"] == "plugin-broken"]
    words = json.dumps(finding)
    assert ("envdoctor-broken" in words, "RuntimeError: no licence found" in words) == (True, True), words


@pytest.mark.network
def test_examples_own_tests_pass(doctor: Path, tmp_path: Path) -> None:
    """The example's tests, written with envdoctor.testing, pass where the example is installed."""
    pip(doctor, "install", "--quiet", "pytest")
    tests = REPOSITORY / "examples" / "plugin" / "tests"
    (tmp_path / "pytest.ini").write_text("[pytest]\n")  # its own settings, not ours
    command = [str(doctor), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "pytest.ini", str(tests)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, stdin=subprocess.DEVNULL)
    assert 0 == done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("asked", "active"),
    [(("--level", "quick"), True), (("--via", "ssh node7"), False), (("--pid", "7"), False),
     (("--root=/srv/tree",), False), (("--from", "paste.txt"), False), (("--python", "/usr/bin/python3"), False)],
)  # fmt: skip
def test_check_script_examines_the_active_environment_unless_another_patient_is_named(
    asked: tuple[str, ...], active: bool, tmp_path: Path
) -> None:
    """Behind a command, and for a job that runs, the path of this shell's Python means nothing."""
    for name, text in (("envdoctor", 'for each; do echo "$each"; done'), ("python", "exit 0")):
        for folder in ("repository/.venv/bin", "active/bin"):
            file = tmp_path / folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"#!/bin/sh\n{text}\n")
            file.chmod(0o755)
    script = tmp_path / "repository" / "scripts" / "check"
    script.parent.mkdir()
    shutil.copy(REPOSITORY / "scripts" / "check", script)
    environ = {"PATH": os.environ["PATH"], "VIRTUAL_ENV": str(tmp_path / "active")}
    done = subprocess.run([script, *asked], env=environ, capture_output=True, text=True, check=True)
    named = ("--python", str(tmp_path / "active" / "bin" / "python")) if active else ()
    assert ["check", *named, *asked] == done.stdout.splitlines()
