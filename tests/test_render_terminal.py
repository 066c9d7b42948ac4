"""The terminal report: whole texts of four reports, then widths, colour, hostile text and the rarer parts."""

# ruff: noqa: RUF001 - the multiplication sign is the one that the report shows

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest
from rich.cells import cell_len

from envdoctor import snapshot
from envdoctor.facts.gpu import PciBus, PciDevice
from envdoctor.facts.host import Host
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Check, Command, Evidence, Finding, Fix, Report, Safety, Severity, Status, Verdict
from envdoctor.outcome import Absent, Crashed, TimedOut
from envdoctor.render import machine_words
from envdoctor.render.terminal import render
from envdoctor.snapshot import ProbeResult
from tests import canonical_reports as canonical

FINDINGS_TEXT = """\
envdoctor 0.1.0   standard   2.3 s (0.3 s ours)
Ubuntu 22.04.5 LTS · Python 3.11.7 · torch 2.9.0+cu130 · 2 × A100-SXM4-80GB
driver 535.183.01

✗ PyTorch cannot use the GPUs: the driver is too old for this build      certain
  driver-too-old-for-cuda-build
    torch was built with     CUDA 13.0                       torch/version.py
    driver 535 supports      CUDA 12.2                       cuDriverGetVersion
    libcudart.so.13 answers  35 cudaErrorInsufficientDriver  asked in a child
  Also follows from it: cuda-unavailable

  Fix A · change the wheel, keep the driver      this environment only, undoable
      python -m pip install 'torch==2.9.0' --index-url https://index.example/whl/cu126

  Fix B · raise the driver to 580 or newer               needs root and a reboot
      sudo apt-get install nvidia-driver-580-server
      sudo reboot

  Prove it   envdoctor check --only driver-too-old-for-cuda-build
  More       envdoctor explain driver-too-old-for-cuda-build

! /dev/shm is 64 MiB: DataLoader workers will die with "Bus error"        likely
  shm-too-small
    /dev/shm holds (MiB)  64  statvfs /dev/shm
  Fix · give the container more shared memory                    a new container
      docker run --shm-size=8g IMAGE
  More       envdoctor explain shm-too-small

i fp32 matrix products run in IEEE mode                                 tf32-off

✓ libraries 14   ✓ packages 22
45 checks: 2 errors · 1 warning · 1 info · 36 passed · 5 not applicable
✗ 2 errors, 1 warning. Start with driver-too-old-for-cuda-build; 1 more follows
  from it.
More: envdoctor check --show all · --format json · envdoctor explain ID
"""

FINDINGS_AND_UNKNOWN_TEXT = """\
envdoctor 0.1.0   standard   2.3 s (0.3 s ours)
Ubuntu 22.04.5 LTS · Python 3.11.7 · torch 2.9.0+cu130 · 2 × A100-SXM4-80GB
driver 535.183.01

! /dev/shm is 64 MiB: DataLoader workers will die with "Bus error"        likely
  shm-too-small
    Workers hand batches over through shared memory.
    /dev/shm holds (MiB)  64  statvfs /dev/shm

  Fix · give the container more shared memory                    a new container
      docker run --shm-size=8g IMAGE

  Prove it   envdoctor check --only shm-too-small
  More       envdoctor explain shm-too-small

- tf32-off is ignored: chosen for this model (by pyproject.toml)

? libraries 2 of 16 unknown   ? fabric 3 unknown
25 checks: 1 warning · 14 passed · 5 unknown · 4 skipped · 1 ignored
! 1 warning. Start with shm-too-small. 5 checks could not be judged.
More: envdoctor check --show all · --format json · --level deep
envdoctor explain ID
"""

NONE_TEXT = """\
envdoctor 0.1.0   standard   1.8 s (0.2 s ours)
Ubuntu 22.04.5 LTS · Python 3.11.7 · torch 2.13.0+cpu · no NVIDIA GPU

✓ libraries 14   ✓ packages 22
67 checks: 36 passed · 31 not applicable
✓ Everything that could be checked is healthy.
More: envdoctor check --show all · --format json · envdoctor explain ID
"""

UNDETERMINED_TEXT = """\
envdoctor 0.1.0   standard   2.3 s (0.3 s ours)
Ubuntu 22.04.5 LTS · Python 3.11.7 · torch 2.9.0+cu130 · 2 × A100-SXM4-80GB
driver 535.183.01

? torch 3 unknown   ✓ libraries 14
17 checks: 14 passed · 3 unknown
? Undetermined: nothing wrong was found, but 3 essential checks could not be
  judged.
    torch-import-fails, torch-import-hangs
      probe torch-import timed-out: no answer within 90 s, last seen in import
      torch
      envdoctor check --only torch-import-fails --timeout 600
    cuda-unavailable
      torch_cuda was not collected
      envdoctor explain cuda-unavailable
More: envdoctor check --show all · --format json · envdoctor explain ID
"""

ANSI = re.compile(r"\x1b\[[0-9;]*m")
COMMAND = re.compile(r"^ {6}\S|^  (Prove it|More) ")
HOSTILE = (
    "evil\x1b]0;title\x07\x1b[31mred\x1b[0m\r\nnew\tline\u202egnp.exe\u200b [bold]x[/bold] \x9b2J\x00\ud800\U000e0041"
)
ALL_REPORTS = [canonical.FINDINGS, canonical.FINDINGS_AND_UNKNOWN, canonical.NONE, canonical.UNDETERMINED]


def one(finding: Finding, **more: object) -> Report:
    """Make a report with one finding."""
    found = replace(finding, id=finding.id or "some-rule", severity=finding.severity or Severity.ERROR)
    check = Check(found.id, "group", True, Status.FIRED)
    return replace(Report(canonical.machine(), (found,), (check,), found.key, Verdict.ERRORS), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        pytest.param(canonical.FINDINGS, FINDINGS_TEXT, id="findings"),
        pytest.param(canonical.FINDINGS_AND_UNKNOWN, FINDINGS_AND_UNKNOWN_TEXT, id="findings and unknown"),
        pytest.param(canonical.NONE, NONE_TEXT, id="none"),
        pytest.param(canonical.UNDETERMINED, UNDETERMINED_TEXT, id="undetermined"),
    ],
)
def test_whole_report(report: Report, expected: str) -> None:
    """Each of the four canonical reports is shown in exactly these words."""
    assert expected == render(report)


@pytest.mark.parametrize("report", ALL_REPORTS)
@pytest.mark.parametrize("show", ["problems", "all"])
@pytest.mark.parametrize("width", [30, 40, 60, 80, 132])
def test_no_line_is_wider_than_the_terminal(report: Report, show: str, width: int) -> None:
    """Only lines that hold a command may be wider than the terminal."""
    lines = render(report, show=show, width=width).splitlines()
    assert [] == [line for line in lines if cell_len(line) > width and not COMMAND.match(line)]


@pytest.mark.parametrize("width", [30, 80])
def test_commands_stay_on_one_line(width: int) -> None:
    """A command can be pasted at any width: it is alone on its line, unbroken and undecorated."""
    lines = [line.strip() for line in render(canonical.FINDINGS, width=width).splitlines()]
    wanted = [command.shell for fix in canonical.TOO_OLD.fixes for command in fix.commands]
    assert wanted == [line for line in lines if line in wanted]


@pytest.mark.parametrize("report", ALL_REPORTS)
def test_colour_adds_nothing_but_colour(report: Report) -> None:
    """With the escapes taken out, the coloured report is the plain one."""
    colored = render(report, color=True)
    assert render(report) == ANSI.sub("", colored)
    assert colored != render(report)


def test_colours_are_readable_on_light_and_dark() -> None:
    """No yellow, white, cyan or bright colour is used, which one of the two backgrounds would swallow."""
    codes = {code for found in re.findall(r"\x1b\[([0-9;]*)m", render(canonical.FINDINGS, color=True, show="all"))
             for code in found.split(";")}  # fmt: skip
    assert codes <= {"0", "1", "2", "31", "32", "35"}


def test_no_escape_without_colour() -> None:
    """The plain report has no escape sequence at all."""
    assert "\x1b" not in render(canonical.FINDINGS, show="all")


@pytest.mark.parametrize("show", ["problems", "all"])
def test_ascii_terminal(show: str) -> None:
    """Where the encoding is not UTF-8, glyphs and text are ASCII; what has no ASCII form is spelled out."""
    report = one(replace(canonical.TOO_OLD, title="Grün · 2 × 中"))
    text = render(report, unicode=False, show=show)
    assert text.isascii()
    assert "x Gr\\xfcn | 2 x \\u4e2d" in text


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("show", ["problems", "all"])
def test_hostile_text_is_harmless_everywhere(show: str, *, unicode: bool) -> None:
    """Control characters, escapes, bidi marks and surrogates never reach the terminal, wherever they come from."""
    report = hostile_report()
    text = render(report, show=show, unicode=unicode)
    assert [] == [c for c in text if c != "\n" and (ord(c) < 32 or 0x7F <= ord(c) < 0xA0)]
    assert [] == [c for c in text if 0xD800 <= ord(c) < 0xE000 or c in "\u202e\u200b\U000e0041"]
    assert "[bold]x[/bold]" in text
    assert text.encode("utf-8")


def hostile_report() -> Report:
    """Make a report in which every text comes from an enemy."""
    fix = Fix(HOSTILE, (Command(None, f"run {HOSTILE}"),), changes=HOSTILE, verify=HOSTILE)
    finding = Finding(HOSTILE, HOSTILE, (Evidence(HOSTILE, [HOSTILE], HOSTILE, "", HOSTILE),), (fix, fix), HOSTILE,
                      affects=(HOSTILE,), id="some-rule", severity=Severity.ERROR)  # fmt: skip
    other = replace(finding, id="other-rule", caused_by=(finding.key,), subject="")
    info = replace(finding, id="third-rule", severity=Severity.INFO)
    probe = ProbeResult(HOSTILE, HOSTILE, TimedOut(HOSTILE), 1.0)
    facts = (Host(os_name=HOSTILE, container=HOSTILE), TorchBuild(version=HOSTILE))
    machine = replace(snapshot.of(*facts, probes=(probe,)), plugin_errors=(HOSTILE,), tool_version=HOSTILE)
    checks = tuple(Check(HOSTILE, HOSTILE, True, status, HOSTILE) for status in Status)
    return Report(machine, (finding, other, info), checks, finding.key, Verdict.ERRORS, True, (HOSTILE,))


def test_newline_in_a_command_cannot_start_a_second_one() -> None:
    """A newline that a fact smuggled into a command is spelled out, so that pasting runs no other command."""
    fix = Fix("go", (Command(None, "pip install 'a\nrm -rf ~'"),))
    assert "      pip install 'a\\x0arm -rf ~'\n" in render(one(Finding("t", fixes=(fix,))))


def test_long_values_are_shortened_in_the_middle() -> None:
    """A very long value keeps its two ends and is marked."""
    text = render(one(Finding("t", evidence=(Evidence("a.b", "start" + "x" * 100_000 + "end", "file"),))))
    assert len(text) < 3000
    assert "start" in text
    assert "…" in text
    assert "end" in text


def test_wide_characters_count_twice() -> None:
    """Chinese text takes two columns a character, and is wrapped by that."""
    report = one(Finding("中文" * 40, evidence=(Evidence("a", "文" * 60, "源" * 30),)))
    assert max(map(cell_len, render(report, width=40).splitlines()[3:6])) <= 40


def test_value_without_room_wraps_in_its_column() -> None:
    """A long value wraps under itself, and its source follows below it."""
    error = "/opt/venv/lib/python3.11/site-packages/torch/lib/../../nvidia/cusparse/lib/libcusparse.so.12: undefined symbol: __nvJitLinkComplete_12_4, version libnvJitLink.so.12"  # noqa: E501 - as the loader says it
    report = one(Finding("t", evidence=(Evidence("a", error, "import torch", "", "the loader says"),)))
    expected = """\
    the loader says  /opt/venv/lib/python3.11/site-packages/torch/lib/../../
                     nvidia/cusparse/lib/libcusparse.so.12: undefined symbol:
                     __nvJitLinkComplete_12_4, version libnvJitLink.so.12
                     (import torch)
"""
    assert expected in render(report)


def test_consequences_of_consequences_fold_under_the_root() -> None:
    """Whatever follows from the root cause, at any distance, is one line under it."""
    second = replace(canonical.UNAVAILABLE, id="second", caused_by=("cuda-unavailable",))
    report = replace(canonical.FINDINGS, findings=(canonical.TOO_OLD, canonical.UNAVAILABLE, second))
    assert "  Also follows from it: cuda-unavailable, second\n" in render(report)


def test_a_circle_of_causes_is_shown() -> None:
    """Findings that explain each other are shown all the same, each on its own."""
    first = Finding("one", id="one", severity=Severity.ERROR, caused_by=("two",))
    second = Finding("two", id="two", severity=Severity.ERROR, caused_by=("one",))
    text = render(Report(canonical.machine(), (first, second), (), "one", Verdict.ERRORS))
    assert ["✗ one", "✗ two"] == [line[:5] for line in text.splitlines() if line.startswith(("✗ one", "✗ two"))]


def test_primary_leads_whatever_the_order() -> None:
    """The finding that the report calls primary is the first on the screen."""
    report = replace(canonical.FINDINGS, primary="shm-too-small")
    titles = [line for line in render(report).splitlines() if line.startswith(("✗ ", "! "))]
    assert titles[0].startswith("! /dev/shm is 64 MiB")


def test_findings_of_one_rule_are_listed_together() -> None:
    """Eight GPUs with one trouble are one finding, six titles and a count, not eight blocks."""
    found = tuple(
        Finding(f"GPU {n} is lost", id="gpu-lost", subject=f"gpu{n}", severity=Severity.ERROR) for n in range(8)
    )
    text = render(Report(canonical.machine(), found, (), "gpu-lost@gpu0", Verdict.ERRORS))
    assert "  ✗ GPU 6 is lost\n    and 1 more of gpu-lost\n" in text
    assert 1 == text.count("envdoctor explain gpu-lost")
    assert 8 == render(
        replace(Report(canonical.machine(), found, (), "gpu-lost@gpu0", Verdict.ERRORS)), show="all"
    ).count("envdoctor explain gpu-lost")


def test_interruption_and_broken_plugins_are_said_at_the_top() -> None:
    """A partial report says so before anything else; a plug-in that could not be loaded is named."""
    broken = replace(canonical.machine(), plugin_errors=("acme-probes: no module named acme",))
    text = render(replace(canonical.NONE, snapshot=broken, interrupted=True, notes=("facts are from a file",)))
    expected = """\
! Interrupted: what follows is what was known by then.
! facts are from a file
! A plug-in is broken: acme-probes: no module named acme

"""
    assert expected in text


def test_show_all_lists_checks_and_probes() -> None:
    """``--show all`` gives each check its status and reason, and each probe its outcome and seconds."""
    text = render(canonical.UNDETERMINED, show="all")
    expected = """\
torch
  ? torch-import-fails  unknown  probe torch-import timed-out: no answer within
                                 90 s, last seen in import torch
"""
    assert expected in text
    assert "  ? torch-import   timed-out, 90.000 s  no answer within 90 s\n" in text
    assert "  ✓ host           got, 0.000 s\n" in text


def test_show_all_gives_a_fired_check_the_sign_of_its_severity() -> None:
    """A check that fired is listed with the sign of the worst that it found."""
    text = render(canonical.FINDINGS, show="all")
    assert "  ✗ driver-too-old-for-cuda-build  fired\n" in text
    assert "  ! shm-too-small  fired\n" in text
    assert "  i tf32-off  fired\n" in text


def test_ignored_finding_is_named_with_its_reason() -> None:
    """An ignored finding is one line, with why and by whom."""
    assert "- tf32-off is ignored: chosen for this model (by pyproject.toml)\n" in render(
        canonical.FINDINGS_AND_UNKNOWN
    )


def test_nothing_judged_is_undetermined() -> None:
    """A report without a judged check says so instead of calling the machine healthy."""
    report = Report(canonical.machine(), (), (), None, Verdict.UNDETERMINED)
    assert "? Undetermined: no check could be judged.\n" in render(report)


def test_safety_is_said_where_a_fix_says_nothing_of_its_own() -> None:
    """A fix that names no change is shown with what its safety class means."""
    text = render(one(Finding("t", fixes=(Fix("stop the jobs", safety=Safety.DISRUPTIVE),))))
    assert re.search(r"Fix · stop the jobs +interrupts what runs there\n", text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "unknown"), (True, "yes"), (False, "no"), ((), "none"), ("", "(empty)"), (1.5, "1.5"),
     (("a", 2), "a, 2"), ({"a": None}, "a unknown")],
)  # fmt: skip
def test_values_in_words(value: object, expected: str) -> None:
    """Evidence is shown in words, not in Python's notation."""
    assert f"    b  {expected}  file\n" in render(one(Finding("t", evidence=(Evidence("a.b", value, "file"),))))


def test_machine_without_facts() -> None:
    """Where nothing is known the header says so, item by item."""
    report = Report(snapshot.of(), (), (), None, Verdict.UNDETERMINED)
    second = render(report).splitlines()[1]
    assert "OS unknown · Python unknown · torch unknown · GPUs unknown · driver unknown" == second


def test_machine_line_of_a_container_without_torch() -> None:
    """A container is named; torch that is not there is "no torch"; cards are counted on the bus."""
    absent = ProbeResult("torch-build", "torch_build", Absent("no torch on the path"))
    bus = PciBus(gpus=(PciDevice("0000:01:00.0", "10de"), PciDevice("0000:02:00.0", "10de")))
    facts = snapshot.of(Host(os_id="debian", os_version="12", container="docker", wsl=True), bus, probes=(absent,))
    second = render(Report(facts, (), (), None, Verdict.UNDETERMINED), width=120).splitlines()[1]
    expected = "debian 12 (docker) (WSL) · Python unknown · no torch · 2 NVIDIA GPUs on the bus · driver unknown"
    assert expected == second


def test_cuda_of_a_wheel_without_a_tag_is_said() -> None:
    """A torch whose version does not tell its CUDA is shown with it."""
    assert "torch 2.9.0 (CUDA 12.8)" == machine_words.torch(snapshot.of(TorchBuild(version="2.9.0", cuda="12.8")))


def test_another_target_is_named() -> None:
    """A report about another target begins with its name."""
    there = snapshot.with_target(canonical.machine(), snapshot.Target("node7"))
    first = render(replace(canonical.NONE, snapshot=there)).splitlines()[0]
    assert "envdoctor 0.1.0   node7   standard   2.3 s (0.3 s ours)" == first


def test_crashed_probe_is_listed_with_its_words() -> None:
    """A probe that crashed shows how in the full list."""
    crashed = ProbeResult("cuda-driver", "cuda_driver", Crashed("SIGSEGV in cuInit", "SIGSEGV"), 0.5)
    text = render(replace(canonical.NONE, snapshot=canonical.machine(crashed)), show="all")
    assert "  ? cuda-driver    crashed, 0.500 s  SIGSEGV in cuInit\n" in text


def test_rendering_is_quick() -> None:
    """A report of usual size takes less than 50 ms once rich is imported."""
    render(canonical.FINDINGS, color=True)
    began = time.process_time()  # what other programs do meanwhile does not count
    for _ in range(5):
        render(canonical.FINDINGS, color=True, show="all")
    assert (time.process_time() - began) / 5 < 0.05
