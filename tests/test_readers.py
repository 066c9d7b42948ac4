"""Readers: what is said in each layout that people paste becomes facts; together, in any order, and from bytes."""

from __future__ import annotations

import pytest

from envdoctor import diagnose, readers
from envdoctor.facts.driver import NvidiaSmi
from envdoctor.facts.host import Host
from envdoctor.facts.nvml import GpuFabric, GpuState
from envdoctor.facts.packages import Packages
from envdoctor.facts.text import ErrorText, Pasted
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Verdict
from tests.pasted_facts import NAMES, paste, told

# version, CUDA, HIP, CPU only | Python | driver | number of GPUs, name of the first | is_available
EXPECTED: dict[str, tuple[object, ...]] = {
    "collect_env-1.0": ("1.0.1.post2", "9.0.176", None, False, "3.6", "390.116", 2, "GeForce GTX 1080 Ti", True),
    "collect_env-1.7": ("1.7.1+cu110", "11.0", None, False, "3.7", "450.80.02", 4, "Tesla V100-SXM2-32GB", True),
    "collect_env-1.13": (
        "1.13.1", "11.7", None, False, "3.10.9", "528.02", 1, "NVIDIA GeForce RTX 3060 Laptop GPU", True,
    ),
    "collect_env-2.3": ("2.3.1+cu121", "12.1", None, False, "3.11.9", "550.54.15", 8, "NVIDIA A100-SXM4-80GB", True),
    "collect_env-2.9": ("2.9.1+cu128", "12.8", None, False, "3.12.12", "570.172.08", 2, "NVIDIA H100 80GB HBM3", True),
    "collect_env-2.15": ("2.15.0+cu130", "13.0", None, False, "3.13.9", "580.126.09", 1, "NVIDIA GH200 480GB", True),
    "collect_env-2.15-rocm": (
        "2.15.0+rocm7.2", None, "7.2.26015-fc0010cf6a", False, "3.12.3", None, 0, None, True,
    ),
    "vllm-old": ("2.4.0+cu121", "12.1", None, False, "3.10.14", "535.183.06", 2, "NVIDIA L40S", True),
    "vllm-new": ("2.7.0+cu128", "12.8", None, False, "3.12.11", "570.133.20", 4, "NVIDIA H200", True),
    "sglang": ("2.6.0+cu124", "12.4", None, False, "3.10.12", "535.216.01", 2, "NVIDIA A10", True),
    "nvidia-smi-r535": (None, None, None, None, None, "535.183.01", 2, "NVIDIA A100-SXM4-40GB", None),
    "nvidia-smi-r610": (None, None, None, None, None, "610.43.02", 2, "NVIDIA B200", None),
    "nvidia-smi-q-r570": (None, None, None, None, None, "570.124.06", 1, "NVIDIA H100 80GB HBM3", None),
    "nvidia-smi-q-r610": (
        None, None, None, None, None, "610.57.04", 2, "NVIDIA RTX PRO 6000 Blackwell Server Edition", None,
    ),
    "nvidia-smi-version-r610": (None, None, None, None, None, "610.43.02", 0, None, None),
    "pip-list": ("2.9.1", "12.8", None, False, None, None, 0, None, None),
    "pip-freeze": ("2.8.0", "12.8", None, False, None, None, 0, None, None),
    "uv-pip-list": ("2.9.1+cu128", "12.8", None, False, "3.12.12", None, 0, None, None),
    "conda-list": ("2.5.1", "12.4", None, False, "3.11.10", None, 0, None, None),
    "conda-list-new": ("2.7.1", "12.9", None, False, "3.12.11", None, 0, None, None),
    "issue-form": ("2.1.2+cu118", "11.8", None, False, "3.10.13", "520.61.05", 2, "RTX 3090", None),
}  # fmt: skip


def gist(text: str) -> tuple[object, ...]:
    """Give what matters most of a text's facts."""
    facts = readers.read(text, source="a text")
    build, smi = facts.get(TorchBuild) or TorchBuild(), facts.get(NvidiaSmi) or NvidiaSmi()
    packages, cuda = facts.get(Packages) or Packages(), facts.get(TorchCuda) or TorchCuda()
    first = smi.gpus[0].name if smi.gpus else None
    return (
        build.version, build.cuda, build.hip, build.is_cpu_only, packages.python_version, smi.driver_version,
        len(smi.gpus), first, cuda.available,
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_each_layout_is_read(name: str) -> None:
    """Build, Python, driver, GPUs and torch's own verdict come out of every layout that carries them."""
    assert EXPECTED[name] == gist(paste(name))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_a_report_is_left_as_words_of_an_error(name: str) -> None:
    """The lines of a report are facts; what is left for the words of errors sounds like none of them."""
    facts = readers.read(paste(name), source="a text")
    words = [each.text for each in (facts.get(ErrorText) or ErrorText()).lines]
    assert [] == [each for each in words if "CPU" in each or "VERSION=" in each or "| " in each]


def test_the_state_of_each_card_comes_from_the_table() -> None:
    """Memory, compute mode, MIG, errors and processes are read from nvidia-smi's table."""
    state = readers.read(paste("nvidia-smi-r535"), source="a text").get(GpuState)
    assert state is not None
    first, second = state.gpus
    assert (812, 40960, "exclusive-process", False, 0, 4711) == (
        first.memory_used_mib, first.memory_total_mib, first.compute_mode, first.mig_enabled,
        first.ecc_uncorrected_volatile, first.processes[0].pid,
    )  # fmt: skip
    assert (True, 2, "default", ()) == (
        second.mig_enabled, second.ecc_uncorrected_volatile, second.compute_mode, second.processes,
    )  # fmt: skip


def test_the_long_log_tells_more_of_a_card() -> None:
    """Rows, power, clocks, errors of both memories and the fabric's state are read from nvidia-smi -q."""
    facts = readers.read(paste("nvidia-smi-q-r570"), source="a text")
    state, fabric = facts.get(GpuState), facts.get(GpuFabric)
    assert state is not None
    assert fabric is not None
    card = state.gpus[0]
    assert (3, 4, True, False) == (
        card.ecc_uncorrected_volatile, card.ecc_uncorrected_aggregate, card.remap_pending, card.remap_failed,
    )  # fmt: skip
    assert (600.0, 700.0, 1980) == (card.power_limit_watts, card.power_limit_default_watts, card.sm_clock_max_mhz)
    assert (("completed",), ("success",)) == (fabric.fabric_states, fabric.fabric_statuses)


def test_the_allocator_settings_that_torch_prints_are_variables() -> None:
    """From 2.10 on collect_env prints the allocator's variables as a dictionary."""
    facts = told(paste("collect_env-2.15"))
    assert "expandable_segments:True" == facts["environment.variables[PYTORCH_ALLOC_CONF].value"]


def test_a_card_of_another_maker_is_no_nvidia_card() -> None:
    """A ROCm report names its card on the same line; nvidia-smi has not said a word there."""
    assert {} == {key: value for key, value in told(paste("collect_env-2.15-rocm")).items() if "gpus" in key}


def test_python_before_3_8_does_not_know_its_c_library() -> None:
    """What such a Python calls the system's glibc is what it was linked with."""
    text = paste("collect_env-2.9").replace("Python version: 3.12.12", "Python version: 3.7.16")
    host = readers.read(text, source="a text").get(Host)
    assert host is not None
    assert (None, True) == (host.libc, "linked with" in host.unknown["libc"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("name", ["collect_env-2.3", "nvidia-smi-r610", "pip-list"])
def test_bytes_are_read_in_the_encodings_that_shells_write(name: str, encoding: str) -> None:
    """PowerShell writes UTF-16, editors write a mark before UTF-8."""
    assert told(paste(name)) == told(paste(name).encode(encoding))


def test_several_texts_make_one_machine() -> None:
    """Of several texts each fills what the others leave open; what was said first stays."""
    texts = [readers.parse(paste(name), source=name) for name in ("pip-list", "nvidia-smi-r535", "nvidia-smi-r610")]
    facts = readers.together(texts)
    build, smi = facts.get(TorchBuild), facts.get(NvidiaSmi)
    assert build is not None
    assert smi is not None
    assert ("2.9.1", "535.183.01", "12.2") == (build.version, smi.driver_version, smi.cuda_version)


def test_texts_of_different_environments_are_told_apart() -> None:
    """Two versions of torch, or an error's Python beside another report's, may be two environments: it is said."""
    error = 'File "/opt/venv/lib/python3.9/site-packages/torch/cuda/__init__.py", line 1\nRuntimeError: no kernel image'
    texts = [readers.parse(paste("collect_env-2.3"), source="env"), readers.parse(error, source="error")]
    pasted = readers.together(texts).get(Pasted)
    assert pasted is not None
    assert ("the texts speak of Python 3.11 and 3.9: they may come from different environments",) == pasted.remarks


def test_one_text_may_hold_several_formats() -> None:
    """A report, a table, a list and a traceback in one paste are all read; the rest is words."""
    trace = ["Traceback (most recent call last):", "RuntimeError: CUDA error: no kernel image is available"]
    text = "\n".join((paste("collect_env-2.3"), paste("nvidia-smi-r535"), paste("pip-freeze"), *trace))
    facts = readers.read(text, source="a text")
    pasted, words = facts.get(Pasted), facts.get(ErrorText)
    assert pasted is not None
    assert words is not None
    assert {"collect_env", "nvidia-smi", "pip list", "error text"} == {name for _, name in pasted.formats}
    assert trace == [each.text for each in words.lines][-2:]


FAULTY = {"nvidia-smi-r535", "nvidia-smi-q-r570"}  # memory errors, a card that is taken


@pytest.mark.parametrize("name", NAMES)
def test_a_healthy_paste_ends_well(name: str) -> None:
    """What a text never carries is skipped, and leaves the verdict alone; what it shows is found."""
    verdict = diagnose.examine(readers.read(paste(name), source="a text")).verdict
    assert (Verdict.ERRORS if name in FAULTY else Verdict.OK) is verdict


def test_what_says_nothing_is_not_recognised() -> None:
    """A text in which nobody finds anything is refused by name."""
    with pytest.raises(readers.NotRecognised, match="shopping"):
        readers.read("milk\nbread\n", source="shopping")
