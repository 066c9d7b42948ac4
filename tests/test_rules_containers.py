"""Rules about containers, NVIDIA's images and WSL: where each fires and where it must not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envdoctor.facts import Fact
from envdoctor.facts.driver import DriverFiles, DriverLibrary, KernelModule, NvidiaSmi, SmiGpu
from envdoctor.facts.gpu import DeviceNodes
from envdoctor.facts.libraries import Copy, LedgerRow, Libraries
from envdoctor.facts.nvml import GpuState
from envdoctor.facts.surroundings import Container
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Severity, Status
from envdoctor.knowledge import rows
from envdoctor.knowledge.ngc import image, images, matching, newest_for
from envdoctor.rules.containers import container_gpu_detached, container_gpu_not_passed
from envdoctor.rules.ngc import ngc_image_needs_newer_driver, ngc_torch_replaced
from envdoctor.rules.wsl import wsl_driver_missing, wsl_libcuda_shadowed
from envdoctor.testing import check
from tests.rule_facts import (
    CPU_BUILD,
    CU130,
    DOCKER,
    NO_GPU,
    NO_NODES,
    NODES,
    ONE_GPU,
    UBUNTU,
    WSL,
    answers,
    libcuda,
    libcudart,
    module,
    node,
)

PLAIN = Container(kind="docker")
NOT_LOADED = KernelModule(loaded=False)


def test_container_without_gpus() -> None:
    """A GPU on the bus, a loaded driver and no node in the container: an error with the option that passes them in."""
    finding = check(container_gpu_not_passed, DOCKER, NO_NODES, PLAIN, ONE_GPU, module(), DriverFiles()).finding
    assert (Severity.ERROR, "The container was started without the GPUs") == (finding.severity, finding.title)
    assert "docker run --rm --gpus all IMAGE nvidia-smi" == finding.fixes[0].commands[0].shell
    assert "not set" in {each.value for each in finding.evidence}


def test_container_without_the_compute_capability() -> None:
    """Nodes without a libcuda, because only utility was asked for: the capability is the first way out."""
    asked = Container(kind="docker", visible_devices="all", driver_capabilities="utility")
    finding = check(container_gpu_not_passed, DOCKER, NODES, asked, ONE_GPU, module(), DriverFiles()).finding
    assert "compute,utility" in finding.fixes[0].commands[0].shell


def test_apptainer_without_nv() -> None:
    """Apptainer shows the nodes by itself; without --nv the library is missing."""
    host = replace(DOCKER, container="apptainer")
    finding = check(container_gpu_not_passed, host, NODES, ONE_GPU, module(), DriverFiles()).finding
    assert "apptainer exec --nv IMAGE.sif nvidia-smi" == finding.fixes[0].commands[0].shell


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((DOCKER, NODES, ONE_GPU, module(), libcuda("535.183.01")), Status.PASSED),
        ((DOCKER, NODES, Container(visible_devices="void"), module(), libcuda("535.183.01")), Status.PASSED),
        ((DOCKER, NODES, ONE_GPU, module()), Status.PASSED),
        ((DOCKER, NO_NODES, ONE_GPU, module(), TorchCuda(available=True)), Status.PASSED),
        ((DOCKER, NO_NODES, ONE_GPU, NOT_LOADED), Status.NOT_APPLICABLE),
        ((DOCKER, NO_NODES, NO_GPU, NOT_LOADED), Status.NOT_APPLICABLE),
        ((UBUNTU, NO_NODES, ONE_GPU, module()), Status.NOT_APPLICABLE),
        ((DOCKER, NO_NODES, ONE_GPU, module()), Status.FIRED),
    ],
)
def test_gpus_passed_in_boundaries(facts: tuple[Fact, ...], status: Status) -> None:
    """CDI's void, a CUDA that works, a host without driver or GPU, and no container at all are left alone."""
    assert status == check(container_gpu_not_passed, *facts).status


def test_cpu_torch_in_a_container_without_gpus_is_info() -> None:
    """Where PyTorch is a CPU build the container is as it should be."""
    assert (
        Severity.INFO
        == check(container_gpu_not_passed, DOCKER, NO_NODES, ONE_GPU, module(), CPU_BUILD).finding.severity
    )


SILENT = GpuState(init_code=999, init_words="Unknown Error")


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((DOCKER, NODES, SILENT), Status.FIRED),
        ((DOCKER, NODES, NvidiaSmi(exit_code=255, words="Failed to initialize NVML: Unknown Error\n")), Status.FIRED),
        ((DOCKER, NODES, GpuState(init_code=0, count=1)), Status.PASSED),
        ((DOCKER, NODES, GpuState(init_code=18, init_words="Driver/library version mismatch")), Status.PASSED),
        ((DOCKER, NODES, SILENT, answers(0, "12.2", "NVIDIA L4")), Status.PASSED),
        ((DOCKER, NODES), Status.UNKNOWN),
        ((DOCKER, NO_NODES, SILENT), Status.NOT_APPLICABLE),
        ((UBUNTU, NODES, SILENT), Status.NOT_APPLICABLE),
    ],
)
def test_lost_gpus(facts: tuple[Fact, ...], status: Status) -> None:
    """NVML's "Unknown Error" in a container whose nodes are there is the sign; another error is not."""
    assert status == check(container_gpu_detached, *facts).status


NGC = Container(
    kind="docker", nvidia_image="PyTorch", nvidia_image_tag="25.01",
    image_versions=(
        ("PYTORCH_BUILD_VERSION", "2.6.0a0+ecf3bae40a"), ("CUDA_VERSION", "12.8.0.038"),
        ("CUDNN_VERSION", "9.7.0.66"), ("NCCL_VERSION", "2.25.1"),
    ),
)  # fmt: skip


def test_image_newer_than_the_driver() -> None:
    """CUDA 13 of an image under a driver of CUDA 12.2: an error that names the newest image the driver runs."""
    newer = replace(NGC, nvidia_image_tag="25.12", image_versions=(("CUDA_VERSION", "13.1.0.036"),))
    finding = check(ngc_image_needs_newer_driver, newer, libcudart(35, "12.2"), module("535.183.01"), DOCKER).finding
    assert Severity.ERROR == finding.severity
    assert "nvcr.io/nvidia/pytorch:25.06-py3" in finding.fixes[0].commands[0].shell


BY_TAG = replace(NGC, image_versions=(), nvidia_image_tag="25.12")  # CUDA 13.1
CARD_A100 = NvidiaSmi(gpus=(SmiGpu(0, "NVIDIA A100-SXM4-80GB"),))
CARD_4090 = NvidiaSmi(gpus=(SmiGpu(0, "NVIDIA GeForce RTX 4090"),))


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((NGC, libcudart(0, "12.2"), module("535.183.01")), Status.PASSED),
        ((NGC, libcudart(999, "12.8"), module("570.86.10")), Status.PASSED),
        ((NGC, module("470.256.02")), Status.FIRED),
        ((BY_TAG, module("535.183.01")), Status.UNKNOWN),
        ((BY_TAG, module("535.183.01"), CARD_4090), Status.FIRED),
        ((BY_TAG, module("535.183.01"), CARD_A100), Status.PASSED),
        ((BY_TAG, module("535.183.01"), CARD_A100, libcudart(35, "12.2")), Status.FIRED),
        ((BY_TAG, module("470.256.02"), CARD_A100), Status.FIRED),
        ((replace(NGC, image_versions=(), nvidia_image_tag="99.01"), module("535.183.01")), Status.UNKNOWN),
        ((NGC,), Status.UNKNOWN),
        ((PLAIN, module("470.256.02")), Status.NOT_APPLICABLE),
    ],
)
def test_image_and_driver_boundaries(facts: tuple[Fact, ...], status: Status) -> None:
    """A driver that starts the image's CUDA, seen or by its version, is fine; an unknown tag is unknown.

    On a data-centre GPU the image's compatibility libraries start it, unless CUDA was seen to refuse.
    """
    assert status == check(ngc_image_needs_newer_driver, *facts).status


def loaded(name: str, version: str, owner: str | None) -> Libraries:
    """Make a ledger in which this copy would be loaded."""
    return Libraries(rows=(LedgerRow(name, f"lib{name}.so", first=Copy("/x", version=version, owner=owner)),))


OWN = TorchBuild(version="2.6.0a0+ecf3bae40a.nv25.1", cuda="12.8")


@pytest.mark.parametrize(
    ("facts", "subjects"),
    [
        ((NGC, OWN), []),
        ((NGC, OWN, loaded("cudnn", "9.7.0", None)), []),
        ((NGC, OWN, loaded("cudnn", "9.1.0.70", "nvidia-cudnn-cu12")), ["cudnn"]),
        ((NGC, OWN, loaded("nccl", "2.25.1", "nvidia-nccl-cu12")), []),
        ((NGC, TorchBuild(version="2.9.0+cu128")), ["torch"]),
        ((NGC, TorchBuild(version="2.6.0+cu126"), loaded("nccl", "2.21.5", "nvidia-nccl-cu12")), ["torch", "nccl"]),
        ((replace(NGC, nvidia_image="CUDA"), TorchBuild(version="2.9.0+cu128")), []),
        ((PLAIN, TorchBuild(version="2.9.0+cu128")), []),
    ],
)
def test_replaced_in_the_image(facts: tuple[Fact, ...], subjects: list[str]) -> None:
    """A torch, cuDNN or NCCL that is not the image's is named; a plain CUDA image has no torch of its own."""
    findings = check(ngc_torch_replaced, *facts).findings
    assert subjects == [each.subject for each in findings]
    assert {Severity.WARNING} >= {each.severity for each in findings}


def test_image_table_loads_whole() -> None:
    """Each tag is read with its source, the newest first; a driver finds the newest image it runs."""
    assert len(rows("ngc_pytorch.csv")) == len(images())
    assert all(each.source for each in images())
    tags = [each.tag for each in images()]
    assert sorted(tags, reverse=True) == tags
    found, none = newest_for((535, 183, 1), None), image("99.12")
    assert ("25.06-py3", None) == (found and found.tag, none)


@pytest.mark.parametrize(
    ("torch", "cuda", "tag"),
    [
        ((2, 9, 1), (13, 0), "25.10-py3"),
        ((2, 6, 0), (12, 6), "24.11-py3"),
        ((2, 6, 0), (12, 4), "25.01-py3"),
        ((2, 1, 2), (12, 1), "23.07-py3"),
        ((9, 9), (99, 0), None),
        (None, None, None),
    ],
)
def test_image_like_a_stack(torch: tuple[int, ...] | None, cuda: tuple[int, ...] | None, tag: str | None) -> None:
    """Same torch and CUDA first, then the same torch, then the same CUDA; nothing where nothing is alike."""
    found = matching(torch, cuda)
    assert tag == (found and found.tag)


WINDOWS = DriverLibrary("/usr/lib/wsl/lib/libcuda.so.1", "libcuda.so.1", "560.94")
LINUX = DriverLibrary("/usr/lib/x86_64-linux-gnu/libcuda.so.535.183.01", "libcuda.so.1", "535.183.01")
STUB = replace(LINUX, stub=True, version=None)
DXG = DeviceNodes(dxg=node("/dev/dxg"))
HIDDEN = DriverFiles(libcuda=(LINUX, WINDOWS), first_libcuda=LINUX)
UNSEARCHED = DriverFiles(libcuda=(WINDOWS,), unknown={"first_libcuda": "no libcuda.so.1 in the search order"})
NOTHING = DriverFiles(unknown={"first_libcuda": "no libcuda.so.1 in the search order"})
FINE = DriverFiles(libcuda=(WINDOWS,), first_libcuda=WINDOWS)


@pytest.mark.parametrize(
    ("facts", "severity"),
    [
        ((WSL, CU130, NOTHING, DXG), Severity.ERROR),
        ((WSL, CU130, NOTHING, NO_NODES), Severity.WARNING),
        ((WSL, CU130, UNSEARCHED, DXG), Severity.ERROR),
        ((WSL, CU130, FINE, DXG), None),
        ((WSL, CU130, HIDDEN, DXG), None),
        ((WSL, CPU_BUILD, NOTHING, DXG), None),
        ((UBUNTU, CU130, NOTHING), None),
        ((WSL, CU130, NOTHING, TorchCuda(available=True)), None),
        ((WSL, CU130), None),
        ((WSL, NOTHING), None),
    ],
)
def test_windows_driver_is_missing(facts: tuple[Fact, ...], severity: Severity | None) -> None:
    """No libcuda of Windows, or one that the loader does not find, stops a CUDA build; a CPU build needs none."""
    findings = check(wsl_driver_missing, *facts).findings
    assert ([severity] if severity else []) == [each.severity for each in findings]


def test_never_a_linux_driver_inside_wsl() -> None:
    """The way out is the driver of Windows; where the library is there, the loader is told where."""
    missing, unsearched = (check(wsl_driver_missing, WSL, CU130, each, DXG).finding for each in (NOTHING, UNSEARCHED))
    assert "never a Linux driver" in missing.fixes[0].title
    assert "/usr/lib/wsl/lib" in unsearched.fixes[0].commands[0].shell


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((WSL, HIDDEN), Status.FIRED),
        ((WSL, FINE), Status.PASSED),
        ((WSL, UNSEARCHED), Status.PASSED),
        ((WSL, replace(HIDDEN, first_libcuda=STUB)), Status.PASSED),
        ((WSL, HIDDEN, answers(0, "12.6", "RTX 4090")), Status.PASSED),
        ((WSL, NOTHING), Status.NOT_APPLICABLE),
        ((UBUNTU, HIDDEN), Status.NOT_APPLICABLE),
        ((UBUNTU,), Status.NOT_APPLICABLE),
        ((WSL,), Status.UNKNOWN),
    ],
)
def test_linux_libcuda_under_wsl(facts: tuple[Fact, ...], status: Status) -> None:
    """A Linux libcuda before that of Windows is an error; stubs are another finding."""
    assert status == check(wsl_libcuda_shadowed, *facts).status
