"""A snapshot, its collect_env text and its package list lead to the same findings, as far as their facts reach."""

from __future__ import annotations

import subprocess
import sys

import pytest

from envdoctor import demo, diagnose, readers
from envdoctor.facts.packages import Packages
from envdoctor.finding import Report, Severity, Status, Verdict
from envdoctor.plan import for_level
from envdoctor.render import collect_env
from envdoctor.runner.collection import collect
from envdoctor.snapshot import Snapshot
from envdoctor.target import Patient

REACHES = frozenset({Status.PASSED, Status.FIRED})


def list_of(snapshot: Snapshot) -> str:
    """Write a machine's packages as ``pip list`` does."""
    packages = snapshot.get(Packages)
    assert packages is not None
    rows = [f"{each.name} {each.version}" for each in packages.distributions]
    return "\n".join(("Package Version", "------- -------", *rows))


def keys(report: Report) -> set[str]:
    """Give what counts: notes speak of live settings, which no text carries."""
    return {each.key for each in report.active if each.severity is not Severity.INFO}


def same(snapshot: Snapshot, text: str) -> Report:
    """Hold the findings of a text to those of the snapshot that it tells of; give the text's report."""
    whole, told = diagnose.examine(snapshot), diagnose.examine(readers.read(text, source="a text"))
    judged = {each.id for each in told.checks if each.status in REACHES}
    assert set() == keys(told) - keys(whole)
    assert set() == {key for key in keys(whole) - keys(told) if key.partition("@")[0] in judged}
    return told


@pytest.mark.parametrize("name", demo.ABOUT)
@pytest.mark.parametrize("write", [collect_env.render, list_of], ids=["collect_env", "pip list"])
def test_recorded_machines_say_the_same_in_each_form(name: str, write: object) -> None:
    """What a rule can judge by the text it judges as by the snapshot."""
    machine = demo.load(name)
    same(machine, write(machine))  # type: ignore[operator]


def test_the_recorded_faults_are_found_by_their_text_alone() -> None:
    """The text is not only never wrong: what it carries is enough for what it can show."""
    found = {name: keys(same(demo.load(name), collect_env.render(demo.load(name)))) for name in demo.ABOUT}
    assert "driver-too-old-for-cuda-build" in found["driver-470-under-cu130"]
    assert "torchvision-torch-mismatch" in found["wheel-drift"]
    assert set() == found["h100x8-healthy"] | found["cpu-only"]


@pytest.mark.real_torch
@pytest.mark.parametrize("command", [("torch.utils.collect_env",), ("pip", "list"), ("pip", "freeze")], ids=" ".join)
def test_this_machine_says_the_same_in_each_form(command: tuple[str, ...]) -> None:
    """PyTorch's own script and pip, run here, lead to the findings of our own snapshot; a healthy text ends well."""
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        pytest.skip("torch or pip is not here")
    snapshot = collect(Patient(), for_level("quick"), timeout=60.0)
    told = same(snapshot, done.stdout)
    if not keys(diagnose.examine(snapshot)):
        assert Verdict.OK is told.verdict
