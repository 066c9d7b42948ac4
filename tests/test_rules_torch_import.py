"""Rules about the import of torch: errors in their own words, crashes, hangs, and the causes they are folded under."""

from __future__ import annotations

import pytest

from envdoctor.diagnose import examine
from envdoctor.facts import Fact
from envdoctor.facts.torch import DamagedFile, TorchFiles, TorchImport
from envdoctor.finding import Report, Severity, Status
from envdoctor.outcome import Absent, Crashed, Failed, Got, Outcome, TimedOut
from envdoctor.rules.torch_files import torch_install_damaged
from envdoctor.rules.torch_import import RULES, torch_import_crashes, torch_import_fails, torch_import_hangs
from envdoctor.rules.torch_pins import wheel_pin_drift
from envdoctor.snapshot import ProbeResult, of
from envdoctor.testing import check
from tests.torch_facts import commands, cuda_build, dist, venv

PYTHON = "/opt/venv/bin/python"
TORCH = dist("torch", "2.5.1")
AGAIN = f"{PYTHON} -m pip install --force-reinstall --no-deps 'torch==2.5.1'"


def fails(words: str, kind: str = "ImportError", *earlier: str) -> TorchImport:
    """Make an import that ended with these words."""
    return TorchImport(
        imported=False, error_type=kind, error=words, where="torch/__init__.py:367", earlier_errors=earlier
    )


def report_of(outcome: Outcome, *facts: Fact, level: str = "standard") -> Report:
    """Judge a run whose import of torch ended so."""
    return examine(of(*facts, level=level, probes=(ProbeResult("torch-import", "torch_import", outcome),)), RULES)


def statuses(report: Report) -> tuple[Status, ...]:
    """Give what became of fails, crashes and hangs."""
    return tuple(check.status for check in report.checks)


def test_failed_import_keeps_the_loaders_own_words() -> None:
    """The words and the line of the error are the evidence, the first of them the title."""
    words = "libcusparse.so.12: undefined symbol: __nvJitLinkComplete_12_4, version libnvJitLink.so.12"
    finding = check(torch_import_fails, fails(words), venv(TORCH)).finding
    assert f"PyTorch does not import: ImportError: {words}" == finding.title
    assert [f"ImportError: {words}", "torch/__init__.py:367"] == [each.value for each in finding.evidence]
    assert [AGAIN] == commands(finding)


@pytest.mark.parametrize(
    ("error", "command"),
    [
        ("No module named 'typing_extensions'", f"{PYTHON} -m pip install 'typing-extensions'"),
        ("No module named 'yaml'", f"{PYTHON} -m pip install 'pyyaml'"),
        ("No module named 'torch._C'", AGAIN),
        ("libgomp.so.1: cannot open shared object file: No such file or directory", "sudo apt-get install libgomp1"),
        (
            "libcusparseLt.so.0: cannot open shared object file: No such file or directory",
            f"{PYTHON} -m pip install --force-reinstall --no-deps 'nvidia-cusparselt-cu12==0.6.2'",
        ),
    ],
    ids=["module", "module of another name", "its own module", "system library", "wheel's library"],
)
def test_words_name_the_way_out(error: str, command: str) -> None:
    """A missing module, system library or pinned wheel is installed; otherwise the same torch again."""
    build = cuda_build("2.5.1+cu124", "12.4", "filelock==3.0", "nvidia-cusparselt-cu12==0.6.2")
    assert [command] == commands(check(torch_import_fails, fails(error), venv(TORCH), build).finding)


def test_earlier_errors_and_what_was_printed_are_shown() -> None:
    """The loader's words are often in an earlier error, and NumPy's on stderr."""
    torch = TorchImport(
        imported=False,
        error_type="RuntimeError",
        error="x",
        earlier_errors=("OSError: file too short",),
        printed="a\nb",
    )
    values = [each.value for each in check(torch_import_fails, torch, venv(TORCH)).finding.evidence]
    assert ["RuntimeError: x", "OSError: file too short", "b"] == values


def test_long_words_are_cut_in_the_title_alone() -> None:
    """A title fits on two lines; the evidence keeps everything."""
    finding = check(torch_import_fails, fails("x" * 500), venv(TORCH)).finding
    assert (True, 500 + len("ImportError: ")) == (len(finding.title) < 180, len(finding.evidence[0].value))


def test_failed_import_is_folded_under_the_damage_that_explains_it() -> None:
    """A damaged file is the cause, and is read first."""
    files = TorchFiles(damaged=(DamagedFile("torch/lib/libtorch_cpu.so", "torch", "empty", "4096 bytes", "0 bytes"),))
    report = examine(of(fails("file too short"), files, venv(TORCH)), (torch_import_fails, torch_install_damaged))
    assert ("torch-install-damaged", ("torch-install-damaged",)) == (report.primary, report.findings[1].caused_by)


def test_failed_import_is_explained_by_a_drifted_wheel_that_it_names() -> None:
    """A pin that the error's words name becomes an error, and the cause."""
    build = cuda_build("2.5.1+cu124", "12.4", "nvidia-nvjitlink-cu12==12.4.127")
    packages = venv(TORCH, dist("nvidia-nvjitlink-cu12", "12.1.105"))
    words = "undefined symbol: __nvJitLinkComplete_12_4, version libnvJitLink.so.12"
    report = examine(of(fails(words), build, packages), (torch_import_fails, wheel_pin_drift))
    assert ("wheel-pin-drift@nvidia-nvjitlink-cu12",) == report.findings[1].caused_by


def test_import_that_works_passes_all_three() -> None:
    """A torch that imports is no finding."""
    report = report_of(Got("fresh-process"), TorchImport(imported=True, seconds=2.0))
    assert (Status.PASSED,) * 3 == statuses(report)


STACK = """Python stack:
Thread 0x1 (most recent call first):
  File "/s/torch/__init__.py", line 290 in _load
stderr:
said
last words"""


def test_crash_is_told_with_signal_line_and_last_words() -> None:
    """A crash gives the signal, the line that faulthandler saw, and what was printed last."""
    report = report_of(Crashed("SIGSEGV in import torch", "SIGSEGV", -11, STACK), venv(TORCH))
    (finding,) = report.findings
    assert (Status.UNKNOWN, Status.FIRED, Status.PASSED) == statuses(report)
    assert "Importing PyTorch kills the process: SIGSEGV in import torch" == finding.title
    assert ["SIGSEGV in import torch", 'File "/s/torch/__init__.py", line 290 in _load', "last words"] == [
        each.value for each in finding.evidence
    ]
    assert [f"{PYTHON} -X faulthandler -c 'import torch'", AGAIN] == commands(finding)


def test_end_without_an_answer_is_a_crash() -> None:
    """A process that ends with code 0 and no answer is reported, without packages too."""
    (finding,) = report_of(Crashed("exit code 0 without an answer in import torch")).findings
    assert ("torch-import-crashes", Severity.ERROR, True) == (finding.id, finding.severity, bool(commands(finding)))


def test_hang_needs_to_be_seen_twice() -> None:
    """A hang is an error with its line; a slow import is unknown, never hung."""
    hung = report_of(TimedOut("no answer within 90.0 s in import torch; it hung", 90, hung=True, detail=STACK))
    slow = report_of(TimedOut("no answer within 90.0 s in import torch; it was not seen to hang", 90))
    assert ["torch-import-hangs"] == [each.id for each in hung.findings]
    assert (Status.UNKNOWN, Status.UNKNOWN, Status.FIRED) == statuses(hung)
    assert ((), (Status.UNKNOWN,) * 3) == (slow.findings, statuses(slow))
    assert "dump_traceback_later(60, exit=True)" in commands(hung.findings[0])[0]


def test_unkillable_import_says_where_it_is_stuck() -> None:
    """What SIGKILL does not end is stuck in the kernel."""
    (finding,) = report_of(TimedOut("no answer", 90, hung=True, unkillable=True)).findings
    assert "kernel" in finding.detail


@pytest.mark.parametrize(
    ("outcome", "status"),
    [(Absent("no torch"), Status.NOT_APPLICABLE), (Failed("OSError: gone"), Status.UNKNOWN)],
)
def test_without_torch_or_with_a_broken_probe_nothing_is_claimed(outcome: Outcome, status: Status) -> None:
    """No torch: not applicable. A probe that itself failed: unknown."""
    assert (status,) * 3 == statuses(report_of(outcome))


def test_quick_level_skips_the_import_rules() -> None:
    """At quick level torch is never imported: the three say which level does."""
    report = examine(of(venv(TORCH), level="quick"), (torch_import_fails, torch_import_crashes, torch_import_hangs))
    assert [(Status.SKIPPED, "needs --level standard")] * 3 == [(each.status, each.reason) for each in report.checks]
