"""Facts outside of any report: lines of nvidia-smi -L and env, launch lines, what programs quote in their errors."""

from __future__ import annotations

import pytest

from envdoctor import readers
from envdoctor.facts.driver import DriverFiles, KernelModule, NvidiaSmi
from envdoctor.facts.host import Environment, Resources
from envdoctor.facts.nvml import GpuState
from envdoctor.facts.text import ErrorText
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.readers import NotRecognised, quoted
from envdoctor.snapshot import Snapshot

MIG = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-1ac1a4f3-0c5b-4c6a-8f6d-000000000000)
  MIG 3g.20gb     Device  0: (UUID: MIG-7b3c1f40-0000-5000-8000-000000000000)
  MIG 1g.5gb      Device  1: (UUID: MIG-7b3c1f40-0000-5000-8000-000000000001)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-1ac1a4f3-0c5b-4c6a-8f6d-000000000001)
"""


def read(text: str) -> Snapshot:
    """Read one text."""
    return readers.read(text, source="a text")


def quotes(text: str) -> Snapshot:
    """Give what a line of an error quotes, as a text with the line alone."""
    return readers.read(f"{text}\nRuntimeError: CUDA error: invalid device ordinal\n", source="a text")


def test_the_list_of_gpus_is_read_with_their_slices() -> None:
    """``nvidia-smi -L`` names cards, and below a card its slices."""
    facts = read(MIG)
    smi, state = facts.get(NvidiaSmi), facts.get(GpuState)
    assert smi is not None
    assert state is not None
    assert [(0, "NVIDIA A100-SXM4-40GB"), (1, "NVIDIA A100-SXM4-40GB")] == [(g.index, g.name) for g in smi.gpus]
    assert [("3g.20gb", "1g.5gb")] == [tuple(m.name for m in g.mig_devices) for g in state.gpus if g.mig_devices]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("export NCCL_DEBUG=INFO", {"NCCL_DEBUG": "INFO"}),
        ("NCCL_DEBUG=INFO NCCL_P2P_DISABLE=1 python train.py", {"NCCL_DEBUG": "INFO", "NCCL_P2P_DISABLE": "1"}),
        ("$ OMP_NUM_THREADS=4 torchrun --nproc-per-node 2 x.py lr=0.1", {"OMP_NUM_THREADS": "4"}),
        ("ENV TORCH_CUDA_ARCH_LIST=8.0\nNCCL_IB_HCA=mlx5", {"TORCH_CUDA_ARCH_LIST": "8.0", "NCCL_IB_HCA": "mlx5"}),
        ("CUDA_VISIBLE_DEVICES=", {"CUDA_VISIBLE_DEVICES": ""}),
    ],
)  # fmt: skip
def test_variables_are_read_wherever_they_stand(text: str, expected: dict[str, str]) -> None:
    """Lines of ``env``, of a shell, of an image, and before a command; arguments of the command are none."""
    environment = read(text).get(Environment)
    assert environment is not None
    assert expected == {each.name: each.value for each in environment.variables}


def test_what_is_said_to_be_unset_is_neither_set_nor_unknown() -> None:
    """``OMP_NUM_THREADS=<unset>`` is a fact of its own."""
    environment = read("OMP_NUM_THREADS=<unset>\nNCCL_DEBUG=WARN\n").get(Environment)
    assert environment is not None
    assert (("OMP_NUM_THREADS",), None) == (tuple(environment.unset), environment.get("OMP_NUM_THREADS"))


def test_the_number_of_cpus_is_read() -> None:
    """Lscpu's line counts them; a model's name does not."""
    resources = read("CPU(s):                          96\n").get(Resources)
    assert resources is not None
    assert 96 == resources.cpus_online
    with pytest.raises(NotRecognised):
        read("CPU(s) are hot\n")


def test_two_halves_of_a_driver_are_kept_apart() -> None:
    """A report that gives libraries and kernel module by name is read as two versions."""
    text = "PyTorch version: 2.7.0+cu128\nNvidia driver version: 570.124.04 user space / 570.124.06 kernel module\n"
    facts = read(text)
    module, files = facts.get(KernelModule), facts.get(DriverFiles)
    assert module is not None
    assert files is not None
    assert files.first_libcuda is not None
    assert ("570.124.06", "570.124.04") == (module.version, files.first_libcuda.version)


def test_torchs_warning_names_gpu_capability_and_code() -> None:
    """``with CUDA capability sm_120 is not compatible`` and the list below it are facts."""
    facts = read(
        "NVIDIA GeForce RTX 5090 with CUDA capability sm_120 is not compatible with the current PyTorch installation.\n"
        "The current PyTorch install supports CUDA capabilities sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90.\n"
    )
    smi, build = facts.get(NvidiaSmi), facts.get(TorchBuild)
    assert smi is not None
    assert build is not None
    assert [("NVIDIA GeForce RTX 5090", "12.0")] == [(g.name, g.compute_capability) for g in smi.gpus]
    assert ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90") == build.arch_list


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("The NVIDIA driver on your system is too old (found version 11040).", "11.4"),
        ("cudaDriverVersion 12020", "12.2"),
        ("found version 3", None),
    ],
)
def test_the_level_in_an_error_is_a_fact(line: str, level: str | None) -> None:
    """Torch names the level as one number."""
    smi = quotes(line).get(NvidiaSmi)
    assert level == (smi.cuda_version if smi else None)


@pytest.mark.parametrize(
    ("text", "available"),
    [
        ("torch.cuda.is_available() returns False", False),
        (">>> torch.cuda.is_available()\nFalse", False),
        ("print(torch.cuda.is_available())\nTrue", True),
        ("assert torch.cuda.is_available()", None),
        ("if not torch.cuda.is_available():\n    False", None),
    ],
)
def test_answers_of_is_available_are_facts(text: str, available: bool | None) -> None:
    """The answer beside the question or below it; a program's own line is no answer."""
    cuda = quotes(text).get(TorchCuda)
    assert available is (cuda.available if cuda else None)


def test_what_a_report_says_goes_before_what_an_error_quotes() -> None:
    """An error's driver level fills a gap; where a report names the GPUs, its GPUs stay."""
    text = "PyTorch version: 2.3.1+cu121\nGPU models and configuration: GPU 0: Tesla T4\n"
    facts = readers.together(
        [
            readers.parse(text, source="report"),
            readers.parse("NVIDIA H100 with CUDA capability sm_90 is not compatible", source="error"),
        ]
    )
    smi = facts.get(NvidiaSmi)
    assert smi is not None
    assert ["Tesla T4"] == [each.name for each in smi.gpus]


@pytest.mark.parametrize(
    "words", ["cuda.is_available() returns False", "UNKNOWN_ERROR(99) after resume", "CUDA_ERROR_NO_DEVICE (100)"]
)
def test_words_are_no_file_of_requirements(words: str) -> None:
    """A name, a bracket and a number are not a package and its version."""
    facts = readers.parse(words, source="a text").facts
    assert [ErrorText] == [type(each) for each in facts if isinstance(each, ErrorText)]


def test_quoted_facts_of_nothing_are_none() -> None:
    """Lines without facts give none."""
    assert () == quoted.facts(("Traceback (most recent call last):", "IndexError: list index out of range"))
