"""Every command that is printed can be pasted: a shell reads it, specifiers are quoted, the builds it names exist."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from envdoctor.finding import Command, Finding, Fix, Report
from envdoctor.knowledge.errors import messages
from envdoctor.snapshot import of
from tests import fix_commands
from tests.pasted import A100_CU121, UNSEEN, judged
from tests.pasted_facts import NAMES, paste

UBUNTU = "Ubuntu 22.04.4 LTS (x86_64)"
MIXED = "[pip3] torchaudio==2.1.0+cu118\n[pip3] nvidia-nccl-cu11==2.19.3\n[pip3] nvidia-nccl-cu12==2.20.5\n"
CONDA = "[conda] pytorch 2.3.1 py3.10_cuda12.1_cudnn8.9.2_0 pytorch\n[conda] mkl 2024.1.0 h1 defaults\n"
# Environments in which something is wrong, so that fixes are printed; with each, every message of the table.
FACTS = {
    "healthy": A100_CU121,
    "unseen": UNSEEN,
    "cpu": A100_CU121.replace("+cu121", "+cpu").replace("build PyTorch: 12.1", "build PyTorch: None"),
    "old driver": A100_CU121.replace("550.54.15", "470.57.02"),
    "new card": A100_CU121.replace("NVIDIA A100-SXM4-80GB", "NVIDIA GeForce RTX 5090"),
    "old card": A100_CU121.replace("NVIDIA A100-SXM4-80GB", "Tesla K80"),
    "mixed": A100_CU121 + MIXED,
    "windows": A100_CU121.replace(UBUNTU, "Microsoft Windows 11 Pro").replace("Linux-5.15.0", "Windows-10"),
    "wsl": UNSEEN.replace(UBUNTU, "Ubuntu 22.04 on WSL2"),
    "conda": A100_CU121 + CONDA,
    "red hat": UNSEEN.replace(UBUNTU, "Rocky Linux release 9.4 (x86_64)"),
    "new python": A100_CU121.replace("3.10.12", "3.13.1"),
    "nothing": "Is debug build: False\nOS: Linux\n",
}  # fmt: skip


def _reports() -> Iterator[Report]:
    yield from (judged(paste(name)) for name in NAMES)
    for facts in FACTS.values():
        yield judged(facts)
        yield judged(facts, "\n".join(message.example for message in messages()))


@pytest.fixture(scope="module")
def reports() -> list[Report]:
    """Give reports that print as many different fixes as texts can bring about."""
    return list(_reports())


def test_a_shell_reads_every_command(reports: list[Report]) -> None:
    """``sh -n`` reads each command that is printed, and there are many of them."""
    shells = {command.shell for report in reports for command in fix_commands.commands(report)}
    assert len(shells) > 100
    assert [] == fix_commands.unreadable(sorted(shells))


def test_every_specifier_is_quoted(reports: list[Report]) -> None:
    """No ``>`` or ``=`` of a specifier stands where a shell would read it."""
    shells = {command.shell for report in reports for command in fix_commands.commands(report)}
    assert [] == fix_commands.unquoted(sorted(shells))


def test_no_build_is_named_that_does_not_exist(reports: list[Report]) -> None:
    """A torch that is named was published for this Python and in this variant, its companions with it."""
    assert [] == [wrong for report in reports for wrong in fix_commands.not_existing(report)]


def test_every_finding_of_a_text_can_be_acted_on(reports: list[Report]) -> None:
    """Whatever a text brings about has evidence and a fix."""
    bare = {f.id for report in reports for f in report.findings if not f.evidence}
    helpless = {f.id for report in reports for f in report.findings if not f.fixes and f.severity.value != "info"}  # type: ignore[union-attr]
    assert (set(), set()) == (bare, helpless)


@pytest.mark.parametrize(
    ("shell", "argv"),
    [
        ("python -m pip install torch>=2.1", ("python", "-m", "pip", "install", "torch>=2.1")),
        ("python -m pip install 'torch==2.3.9'", ("python", "-m", "pip", "install", "torch==2.3.9")),
        ("echo 'unfinished", ("echo",)),
        (
            "python -m pip install 'torch==2.3.1' --index-url https://download.pytorch.org/whl/cu130",
            ("python", "-m", "pip", "install", "torch==2.3.1", "--index-url", "https://download.pytorch.org/whl/cu130"),
        ),
        (
            "python -m pip install 'torch==2.3.1' 'torchvision==0.21.0'",
            ("python", "-m", "pip", "install", "torch==2.3.1", "torchvision==0.21.0"),
        ),
    ],
)
def test_the_checks_themselves_see_what_is_wrong(shell: str, argv: tuple[str, ...]) -> None:
    """Each of the three checks refuses a command that is wrong in its way."""
    finding = Finding("x", fixes=(Fix("y", (Command(argv, shell),)),))
    report = Report(of(), (finding,), (), None, judged(A100_CU121).verdict)
    seen = [fix_commands.unreadable([shell]), fix_commands.unquoted([shell]), fix_commands.not_existing(report)]
    assert any(seen)
