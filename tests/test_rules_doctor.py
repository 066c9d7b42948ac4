"""Rules about the run itself, and what every rule of this catalogue owes its reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from envdoctor.diagnose import examine
from envdoctor.facts.run import NOT_ASKED
from envdoctor.finding import Finding, Severity, Status
from envdoctor.outcome import Absent, Crashed, Failed, Got, Outcome, TimedOut
from envdoctor.rule import Rule, rule
from envdoctor.rules import (
    arch,
    cuda_start,
    cuda_unavailable,
    devices,
    doctor,
    driver,
    precision,
    system,
    visibility,
)
from envdoctor.snapshot import ProbeResult, Snapshot

OURS: tuple[Rule, ...] = tuple(
    each
    for module in (arch, cuda_start, cuda_unavailable, devices, doctor, driver, precision, system, visibility)
    for each in module.RULES
)
HEADINGS = ("What it means", "Why it matters", "How it is detected", "What to do", "Sources")


@rule(severity=Severity.ERROR, group="torch")
def torch_import_crashes() -> Iterator[Finding]:
    """The import crashes."""
    yield Finding("import torch dies")


def ended(*outcomes: tuple[str, Outcome], plugin_errors: tuple[str, ...] = ()) -> Snapshot:
    """Make a run in which each named probe ended so."""
    probes = tuple(ProbeResult(name, name.replace("-", "_"), outcome, 1.5) for name, outcome in outcomes)
    return Snapshot(probes=probes, plugin_errors=plugin_errors)


def test_crash_keeps_the_last_words() -> None:
    """A crash is a warning that names the question, how it died and what was printed last."""
    words = "x" * 1000 + "Fatal Python error: Segmentation fault"
    crash = Crashed("SIGSEGV in cuInit", "SIGSEGV", -11, words)
    (finding,) = examine(ended(("cuda-driver", crash)), doctor.RULES).findings
    assert ("probe-crashed@cuda-driver", Severity.WARNING) == (finding.key, finding.severity)
    assert "SIGSEGV in cuInit" in finding.title
    assert finding.detail.endswith("Segmentation fault")


def test_exception_in_a_probe_is_told() -> None:
    """A probe that stopped with an exception is a finding too."""
    (finding,) = examine(ended(("host", Failed("KeyError: 'x'", "Traceback …"))), doctor.RULES).findings
    assert "KeyError: 'x'" in finding.title


def test_slow_hung_and_unkillable_are_different() -> None:
    """A slow question is not called hung, and an unkillable process is a finding of its own."""
    snapshot = ended(
        ("torch-import", TimedOut("deadline", 90.0)),
        ("cuda-driver", TimedOut("deadline", 10.0, hung=True)),
        ("nvidia-smi", TimedOut("deadline", 10.0, hung=True, unkillable=True)),
    )
    titles = {each.key: each.title for each in examine(snapshot, doctor.RULES).findings}
    assert {
        "probe-timed-out@torch-import": "The question torch-import gave no answer in 2 s",
        "probe-timed-out@cuda-driver": "The question cuda-driver hangs",
        "probe-unkillable@nvidia-smi": "The process that asked nvidia-smi cannot be ended",
    } == titles


def test_torchs_crash_follows_from_the_import_finding_and_others_do_not() -> None:
    """Only the questions asked of torch are folded under the finding about the import."""
    crash = Crashed("SIGSEGV", "SIGSEGV", -11)
    report = examine(ended(("torch-import", crash), ("host", crash)), (*doctor.RULES, torch_import_crashes))
    causes = {each.key: each.caused_by for each in report.findings}
    assert ("torch-import-crashes",) == causes["probe-crashed@torch-import"]
    assert () == causes["probe-crashed@host"]
    assert "torch-import-crashes" == report.primary


def test_answers_and_absence_are_no_finding() -> None:
    """An answer and an absent subject are as they should be."""
    report = examine(ended(("host", Got()), ("cuda-driver", Absent("no device nodes"))), doctor.RULES)
    assert [Status.PASSED] * len(doctor.RULES) == [each.status for each in report.checks]


def test_broken_plugins_are_told_once_each() -> None:
    """Two errors of one plug-in are one finding; its name is quoted in the command."""
    errors = ("some-plugin 1.0: probes: x = y: no", "some-plugin 1.0: rules: z = w: no", "o'ther 2: broken")
    findings = examine(ended(plugin_errors=errors), doctor.RULES).findings
    assert ["plugin-broken@some-plugin", "plugin-broken@o'ther"] == [each.key for each in findings]
    assert 2 == len(findings[0].evidence)


@pytest.mark.parametrize("each", OURS, ids=lambda each: each.id)
def test_page_has_its_headings_and_sources(each: Rule) -> None:
    """A rule's docstring is a page: a sentence, then five headings with text, the last one with an address."""
    sections = each.page.split("\n## ")
    assert list(HEADINGS) == [part.partition("\n")[0] for part in sections[1:]]
    assert all(part.partition("\n")[2].strip() for part in sections[1:])
    assert each.summary.endswith(".")
    assert "https://" in sections[-1]


def test_ids_are_unique_and_causes_are_in_the_catalogue_or_planned() -> None:
    """No id is used twice, and no rule explains itself."""
    ids = [each.id for each in OURS]
    assert len(ids) == len(set(ids))
    assert not [each.id for each in OURS if each.id in each.explained_by]


def test_question_that_was_never_put_is_no_crash() -> None:
    """When torch could not be imported, only the import is reported: nothing was asked after it."""
    never = ended(("torch-cuda", Failed(f"{NOT_ASKED}: SIGSEGV in import torch")))
    assert Status.PASSED is examine(never, (doctor.probe_crashed,)).checks[0].status


def test_engine_says_so_in_these_words(tmp_path: Path) -> None:
    """The engine begins the reason of such a question with the words that the rule knows."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("import os; os.abort()")
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "envdoctor", "check", "--format", "json"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    reasons = {each["name"]: each["reason"] for each in json.loads(done.stdout)["probes"]}
    assert reasons["torch-cuda"].startswith(NOT_ASKED)
    assert reasons["torch-settings"].startswith(NOT_ASKED)
