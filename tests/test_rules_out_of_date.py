"""What is newer than the tables, and snapshots that are not complete."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from envdoctor import snapshot
from envdoctor.diagnose import examine
from envdoctor.facts import Fact
from envdoctor.facts.driver import NvidiaSmi
from envdoctor.facts.host import Host
from envdoctor.facts.job import ANOTHER_ASKED_FOR, Job
from envdoctor.facts.libraries import MappedLibraries
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Severity, Status
from envdoctor.knowledge.cuda import branches
from envdoctor.knowledge.torch import releases
from envdoctor.outcome import Failed
from envdoctor.rules.out_of_date import knowledge_out_of_date
from envdoctor.rules.partial import snapshot_partial
from envdoctor.snapshot import ProbeResult, Snapshot
from envdoctor.testing import check
from tests.rule_facts import UBUNTU, WSL, build, module

NEWEST = str(releases()[0].version)
BRANCH = max(each.number for each in branches() if each.system == "linux")
HERE = (TorchBuild(version=NEWEST, cuda="13.2"), module(f"{BRANCH}.10"), MappedLibraries(nccl_version="2.30.7"), UBUNTU)


def test_what_the_tables_know_is_left_alone() -> None:
    """The newest release, branch and NCCL of the tables are no finding, nor is a machine that says nothing."""
    assert (Status.PASSED, Status.PASSED) == tuple(check(knowledge_out_of_date, *facts).status for facts in (HERE, ()))


@pytest.mark.parametrize(
    ("fact", "subject"),
    [
        (TorchBuild(version="99.1.0+cu130", cuda="13.0"), "torch"),
        (TorchBuild(version="99.1.0.dev20270101", cuda="13.0"), "torch"),
        (build("99.4"), "CUDA"),
        (module("999.10"), "driver"),
        (NvidiaSmi(driver_version="999.10"), "driver"),
        (MappedLibraries(nccl_version="2.99.1"), "NCCL"),
    ],
)
def test_newer_than_the_tables_is_info_that_names_what_was_not_judged(fact: Fact, subject: str) -> None:
    """Each subject is one info that says how far the tables go and what could not be judged."""
    finding = check(knowledge_out_of_date, fact, UBUNTU).finding
    assert (Severity.INFO, subject) == (finding.severity, finding.subject)
    assert "Not judged: " in finding.detail
    assert 2 <= len(finding.evidence)


def test_windows_drivers_have_branches_of_their_own() -> None:
    """Under WSL the driver's number is a Windows one, held against the branches of Windows."""
    newest = max(each.number for each in branches() if each.system == "windows")
    facts: tuple[Host, ...] = (WSL,)
    assert Status.PASSED == check(knowledge_out_of_date, NvidiaSmi(driver_version=f"{newest}.99"), *facts).status


def saved(**changes: object) -> bytes:
    """Save a small snapshot, then change keys of the file."""
    plain = snapshot.to_plain(snapshot.of(Host(system="Linux"), TorchBuild(version="2.9.0")))
    return msgspec.json.encode(plain | changes)


def test_complete_file_passes() -> None:
    """A file with what its probes answered, by this version, is complete."""
    report = examine(snapshot.load(saved()), (snapshot_partial,))
    assert ((), Status.PASSED) == (report.findings, report.checks[0].status)


def test_lost_facts_are_named() -> None:
    """A fact that a probe answered and that the file does not hold is a warning."""
    (finding,) = examine(snapshot.load(saved(facts={"host": {"system": "Linux"}})), (snapshot_partial,)).findings
    assert ("snapshot-partial@lost", Severity.WARNING) == (finding.key, finding.severity)
    assert "torch_build" in finding.title


def test_facts_of_another_version_are_info() -> None:
    """Facts that this version does not know are named, with the version that wrote them."""
    plain = msgspec.json.decode(saved(tool={"name": "envdoctor", "version": "9.9"}))
    plain["facts"]["quantum_link"] = {"up": True}
    (finding,) = examine(snapshot.load(msgspec.json.encode(plain)), (snapshot_partial,)).findings
    assert ("snapshot-partial@other-version", Severity.INFO) == (finding.key, finding.severity)
    assert "python -m pip install torch-envdoctor==9.9" == finding.fixes[0].commands[0].shell


def test_interrupted_run_is_a_warning() -> None:
    """Ctrl-C leaves facts behind that are not all: two machines must not be compared by them."""
    cut = ProbeResult("torch-live", "torch_live", Failed("interrupted in import torch"))
    (finding,) = examine(Snapshot(probes=(cut,), interrupted=True), (snapshot_partial,)).findings
    assert ("snapshot-partial@interrupted", Severity.WARNING) == (finding.key, finding.severity)
    assert "1 question without an answer" == finding.evidence[0].value


def test_ctrl_c_after_the_last_answer_lacks_nothing() -> None:
    """Ctrl-C that came when every question had its answer leaves nothing out, and nothing is said to be missing."""
    answered = replace(snapshot.of(Host(system="Linux")), interrupted=True)
    report = examine(answered, (snapshot_partial,))
    assert ((), Status.PASSED) == (report.findings, report.checks[0].status)


NOT_ITS_OWN = Job(
    pid=7, executable="/opt/conda/bin/python3.11", same_python=False, other_mount_namespace=True, ended=False,
    unknown={"same_python": "it runs in a container"},
)  # fmt: skip


def test_torch_of_another_python_is_no_clean_bill_for_a_job() -> None:
    """A job whose Python could not be started is not healthy because the doctor's own torch is."""
    found = check(snapshot_partial, NOT_ITS_OWN).finding
    assert ("snapshot-partial@job", Severity.WARNING) == (found.key, found.severity)
    assert "Torch and packages are not those of process 7: it runs in a container" == found.title
    assert "envdoctor check --via 'sudo -n nsenter --target 7 --all'" == found.fixes[0].commands[0].shell
    outside = check(snapshot_partial, replace(NOT_ITS_OWN, other_mount_namespace=False)).finding
    assert ["envdoctor check --pid 7 --python /path/of/its/python"] == [
        command.shell for fix in outside.fixes for command in fix.commands
    ]


@pytest.mark.parametrize(
    "changes",
    [{"same_python": True, "unknown": {}}, {"unknown": {"same_python": ANOTHER_ASKED_FOR}}, {"same_python": None},
     {"ended": True}],
    ids=("its own", "named on purpose", "behind a command", "ended"),
)  # fmt: skip
def test_python_of_a_job_that_was_asked_or_chosen_is_no_finding(changes: dict[str, Any]) -> None:
    """What was started, what --python names, what nobody looked for, and what is over."""
    assert Status.PASSED is check(snapshot_partial, replace(NOT_ITS_OWN, **changes)).status
