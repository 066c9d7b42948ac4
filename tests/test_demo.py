"""The recorded machines that ship: each decodes, is examined, and tells the story it was made for."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from envdoctor import demo, snapshot
from envdoctor.diagnose import examine
from envdoctor.facts import Fact
from envdoctor.finding import Severity, Verdict
from envdoctor.outcome import Absent
from envdoctor.plan import for_level
from envdoctor.render.terminal import render
from envdoctor.rules import RULES
from tests.demo_machines import MACHINES

SCRIPT = Path(__file__).parent.parent / "scripts" / "make-demo"
PRIMARY = {
    "driver-470-under-cu130": "driver-too-old-for-cuda-build",
    "broken-import": "torch-install-damaged",
    "container-without-gpus": "container-gpu-not-passed",
    "wheel-drift": "cudnn-version-mismatch",
    "sick-gpu": "ecc-uncorrectable@5",
    "h100x8-healthy": None,
    "cpu-only": None,
}


@pytest.mark.parametrize(("name", "primary"), PRIMARY.items())
def test_primary(name: str, primary: str | None) -> None:
    """Each machine yields exactly the primary finding written beside it; the healthy ones no error, no warning."""
    report = examine(demo.load(name))
    assert primary == report.primary
    worst = {f.severity for f in report.active} - {Severity.INFO}
    assert bool(primary) == bool(worst)


@pytest.mark.parametrize("name", [name for name, primary in PRIMARY.items() if primary is None])
def test_healthy_machine_is_judged_whole(name: str) -> None:
    """On a healthy machine nothing essential stays open, so its verdict is ok."""
    assert Verdict.OK is examine(demo.load(name)).verdict


@pytest.mark.parametrize("name", PRIMARY)
def test_machine_is_whole(name: str) -> None:
    """Each probe of a plain check answered or is absent for a reason, and each fact comes from a probe."""
    recorded = demo.load(name)
    assert {each.name for each in for_level("standard")} == {each.name for each in recorded.probes}
    answered = {each.fact for each in recorded.probes if not isinstance(each.outcome, Absent)}
    assert answered == set(recorded.facts)


@pytest.mark.parametrize("name", PRIMARY)
def test_unknown_names_fields(name: str) -> None:
    """The reasons for what is unknown, and the places really read, name fields that are there."""
    for fact in demo.load(name).facts.values():
        assert isinstance(fact, Fact)
        assert set(fact.unknown) | set(fact.sources) <= {each.name for each in fields(fact)}


@pytest.mark.parametrize("name", PRIMARY)
def test_snapshot_round_trip(name: str) -> None:
    """A machine decodes to the facts it was written from, without a loss."""
    assert MACHINES[name]() == demo.load(name)
    assert demo.load(name) == snapshot.load(snapshot.save(demo.load(name)))


def test_names_agree() -> None:
    """The list that ``demo`` shows, the recorded files and the machines they come from are the same."""
    files = {each.stem for each in Path(demo.__file__).parent.glob("*.json")}
    assert files == set(demo.ABOUT) == set(MACHINES) == set(PRIMARY)


def test_unknown_name() -> None:
    """A name that is no machine's is refused."""
    with pytest.raises(KeyError):
        demo.load("../secrets")


@pytest.mark.skipif(not (SCRIPT.parent.parent / "envdoctor").is_dir(), reason="the source is not here, only the wheel")
def test_files_are_fresh() -> None:
    """The recorded files are what scripts/make-demo would write now."""
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize("name", PRIMARY)
def test_report_fits_a_terminal(name: str) -> None:
    """The report of each machine is text for 80 columns; only commands may be wider."""
    wide = [line for line in render(examine(demo.load(name))).splitlines() if len(line) > 80]
    assert [] == [line for line in wide if not line.startswith(("      ", "  Prove it", "  More"))]
    assert RULES
