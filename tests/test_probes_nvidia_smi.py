"""The nvidia-smi probe: its tables parsed, its failures kept in its own words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from envdoctor_probes.nvidia_smi import nvidia_smi, parse_header, parse_query

from envdoctor.facts.driver import NvidiaSmi, SmiGpu
from envdoctor.probe import Context, NotThere, Ran, Roots

QUERY = (
    "0, NVIDIA A100-SXM4-80GB, 535.183.01, 81920, 8.0\n1, NVIDIA A100-SXM4-80GB, 535.183.01, [N/A], [Not Supported]\n"
)
HEADER = (
    "+-----------------------------------------------------------------------------------------+\n"
    "| NVIDIA-SMI 535.183.01             Driver Version: 535.183.01   CUDA Version: 12.2     |\n"
)
HEADER_R610 = "| NVIDIA-SMI 610.12.01              KMD Version: 610.12.01     CUDA UMD Version: 13.2     |\n"
HEADER_WSL = "| NVIDIA-SMI 525.85.05    Driver Version: 528.24       CUDA Version: 12.0     |\n"
HEADER_BROKEN = "| NVIDIA-SMI 535.183.01   Driver Version: 535.183.01   CUDA Version: ERR!     |\n"
OLD_DRIVER = 'Field "compute_cap" is not a valid field to query.\n\n'
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.90\n"


def ask(
    tmp_path: Path, *answers: Ran, node: bool = True, emit: Callable[[dict[str, Any]], None] = lambda _: None
) -> tuple[NvidiaSmi, list[list[str]]]:
    """Run the probe on a PATH with an nvidia-smi that gives these answers in turn; also give the commands."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    (tmp_path / "dev").mkdir()
    if node:
        (tmp_path / "dev" / "nvidiactl").touch()
    commands: list[list[str]] = []
    left = list(answers)

    def run(argv: Sequence[str], seconds: float) -> Ran:
        assert seconds > 10, "the probe's own deadline comes first, so that a hang is told as one"
        commands.append(list(argv))
        return left.pop(0)

    roots = Roots(dev=str(tmp_path / "dev"))
    fact = nvidia_smi.collect(Context(roots=roots, environ={"PATH": str(tmp_path)}, run=run, emit=emit))
    assert isinstance(fact, NvidiaSmi)
    return fact, commands


def test_query_and_header_are_put_together(tmp_path: Path) -> None:
    """The query gives the GPUs, the plain table the CUDA level."""
    fact, commands = ask(tmp_path, Ran(0, QUERY), Ran(0, HEADER))
    first = SmiGpu(0, "NVIDIA A100-SXM4-80GB", 81920, "8.0")
    assert (first, SmiGpu(1, "NVIDIA A100-SXM4-80GB", None, None)) == fact.gpus
    assert (0, "535.183.01", "12.2", {}) == (fact.exit_code, fact.driver_version, fact.cuda_version, fact.unknown)
    assert [3, 1] == [len(command) for command in commands]


def test_old_driver_is_asked_again_without_the_new_field(tmp_path: Path) -> None:
    """Drivers before 510 know no compute_cap."""
    fact, commands = ask(tmp_path, Ran(2, OLD_DRIVER), Ran(0, "0, Tesla V100, 470.256.02, 16160\n"), Ran(0, HEADER))
    assert (SmiGpu(0, "Tesla V100", 16160, None),) == fact.gpus
    assert ["compute_cap" in command[-2] for command in commands[:2]] == [True, False]


def test_failure_keeps_exit_code_and_words(tmp_path: Path) -> None:
    """What nvidia-smi says of a mismatch is evidence; nothing else is asked then."""
    fact, commands = ask(tmp_path, Ran(18, MISMATCH))
    assert (18, MISMATCH, 1) == (fact.exit_code, fact.words, len(commands))
    assert "version mismatch" in fact.unknown["driver_version"]


def test_end_of_the_run_is_told_as_such(tmp_path: Path) -> None:
    """Cut short because the whole run's time is over: no exit code, and the reason says how long it was waited for."""
    fact, _ = ask(tmp_path, Ran(None, "", "", 0, 3.0))
    assert (None, "nvidia-smi did not answer within 3 s") == (fact.exit_code, fact.unknown["gpus"])


def test_garbage_is_a_failure_and_its_words_are_kept(tmp_path: Path) -> None:
    """An answer that is no table is not read as "no GPU"."""
    said: list[NvidiaSmi] = []
    with pytest.raises(ValueError, match=r"nvidia-smi gave no row of the query: '.*rubbish'"):
        ask(tmp_path, Ran(0, "\x00\x01 rubbish\n"), emit=lambda event: said.append(event.get("fact")))
    (fact,) = filter(None, said)
    assert (None, (), True) == (fact.driver_version, fact.gpus, "rubbish" in fact.words)
    assert {"gpus", "cuda_version", "driver_version"} == set(fact.unknown)


def test_words_are_bounded(tmp_path: Path) -> None:
    """A flood of words is cut."""
    fact, _ = ask(tmp_path, Ran(9, "x" * 100_000))
    assert 2000 == len(fact.words)


def test_failing_header_keeps_what_the_query_gave(tmp_path: Path) -> None:
    """The plain table fails when one card is sick; the GPUs stay, and so do its words and code."""
    words = "Unable to determine the device handle for GPU 0000:3B:00.0: Unknown Error\n"
    fact, _ = ask(tmp_path, Ran(0, QUERY), Ran(15, words))
    assert (15, 2, words) == (fact.exit_code, len(fact.gpus), fact.words)
    assert "device handle" in fact.unknown["cuda_version"]


def test_nothing_is_run_without_a_device_node(tmp_path: Path) -> None:
    """Run as root, nvidia-smi would create /dev/nvidiactl: the harm gate stays shut."""
    with pytest.raises(NotThere, match="no NVIDIA device node"):
        ask(tmp_path, node=False)


def test_missing_program_is_absent(tmp_path: Path) -> None:
    """Many containers have none."""
    (tmp_path / "nvidiactl").touch()
    context = Context(roots=Roots(dev=str(tmp_path)), environ={"PATH": str(tmp_path / "nowhere")})
    with pytest.raises(NotThere, match="no nvidia-smi on PATH"):
        nvidia_smi.collect(context)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEADER, ("535.183.01", "12.2")),
        (HEADER_R610, ("610.12.01", "13.2")),
        (HEADER_WSL, ("528.24", "12.0")),
        (HEADER_BROKEN, ("535.183.01", None)),
        ("", (None, None)),
    ],
)
def test_every_generation_of_the_header_is_read(text: str, expected: tuple[str | None, str | None]) -> None:
    """R610 renamed both fields; under WSL the driver is Windows'; ERR! is no version."""
    assert expected == parse_header(text)


@pytest.mark.parametrize("text", ["0, a\n", "x, a, b, 1, 2\n", "0, a, b, lots, 8.0\n"])
def test_query_that_is_none_is_an_error(text: str) -> None:
    """Rows of the wrong shape are refused, so that the caller keeps the words."""
    with pytest.raises(ValueError, match=r"."):
        parse_query(text)


def test_empty_query_is_no_gpu() -> None:
    """A driver without a card answers with nothing, or says so."""
    assert [(None, ()), (None, ())] == [parse_query("\n"), parse_query("No devices were found\n")]
