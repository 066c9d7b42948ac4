"""Rules about torch's presence and build: no torch, a CPU build beside a GPU, a ROCm build beside an NVIDIA GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envdoctor.diagnose import examine
from envdoctor.facts import Fact
from envdoctor.facts.driver import CudaDevice, CudaDriver, NvidiaSmi, SmiGpu
from envdoctor.facts.gpu import DeviceNodes, PciBus, PciDevice
from envdoctor.facts.torch import TorchBuild, TorchCuda, TorchPath
from envdoctor.finding import Confidence, Severity, Status, Verdict
from envdoctor.rules.torch import RULES, rocm_build_on_nvidia, torch_cpu_only_on_gpu_machine, torch_missing
from envdoctor.snapshot import of
from envdoctor.testing import check
from tests.rule_facts import DOCKER, JETSON, NO_GPU, NO_NODES, NODES, ONE_GPU, module
from tests.torch_facts import INDEX, LINUX, commands, cpu_build, cuda_build, dist, venv

R535 = NvidiaSmi(driver_version="535.183.01", cuda_version="12.2", gpus=(SmiGpu(0, "A100", 81920, "8.0"),))
NO_TORCH = TorchPath()
SOME_TORCH = TorchPath(found=("/opt/venv/lib/python3.11/site-packages/torch",))


def test_no_torch_names_the_wheel_for_this_driver_and_python() -> None:
    """Without torch, the command names the newest release that this Python, driver and GPU can use."""
    finding = check(torch_missing, NO_TORCH, venv(), LINUX, ONE_GPU, R535).finding
    assert [f"/opt/venv/bin/python -m pip install 'torch==2.14.1' --index-url {INDEX}/cu126"] == commands(finding)
    assert (Severity.ERROR, Confidence.CERTAIN) == (finding.severity, finding.confidence)


def test_no_torch_on_a_cpu_machine_names_the_cpu_wheel() -> None:
    """Without an NVIDIA GPU the CPU build is what is offered."""
    finding = check(torch_missing, NO_TORCH, venv(python="3.9.18"), LINUX, NO_GPU, NO_NODES).finding
    assert [f"/opt/venv/bin/python -m pip install 'torch==2.8.0' --index-url {INDEX}/cpu"] == commands(finding)


def test_no_torch_under_a_driver_that_starts_no_wheel_of_this_python() -> None:
    """Where no wheel fits driver and Python, the driver is to be raised, and no wheel is named."""
    old = NvidiaSmi(driver_version="470.182.03", cuda_version="11.4")
    finding = check(torch_missing, NO_TORCH, venv(python="3.14.0"), LINUX, ONE_GPU, old).finding
    assert [] == [line for line in commands(finding) if "torch==" in line]
    assert "driver" in finding.fixes[0].title


def test_an_empty_folder_named_torch_is_no_torch() -> None:
    """A folder without __init__.py is found by the import system, but it is no torch."""
    folder = TorchPath(found=("/project/torch",), namespaces=("/project/torch",))
    assert check(torch_missing, folder, venv()).fired


def test_jetson_is_not_sent_to_the_index() -> None:
    """On Jetson no wheel of the index is named."""
    finding = check(torch_missing, NO_TORCH, venv(), JETSON, NODES).finding
    assert ([], "Jetson" in finding.detail) == (commands(finding), True)


def test_torch_that_is_there_is_not_missing() -> None:
    """A torch on the path passes."""
    assert Status.PASSED is check(torch_missing, SOME_TORCH, venv()).status


def test_a_jetson_has_a_gpu_of_nvidias() -> None:
    """A report from a Jetson names no card; PyPI's torch there is the CPU's, and NVIDIA's wheels are the way out."""
    finding = check(torch_cpu_only_on_gpu_machine, cpu_build(), venv(dist("torch", "2.9.0+cpu")), JETSON).finding
    assert "jetson" in finding.evidence[1].fact
    assert "JetPack" in finding.fixes[0].title


@pytest.mark.parametrize(
    "gpu",
    [
        (ONE_GPU,),
        (NO_GPU, NODES),
        (R535,),
        (module(),),
        (CudaDriver(cuda_version="12.2", device_count=1, devices=(CudaDevice(0, "A100", "8.0"),)),),
    ],
    ids=["pci", "nodes", "nvidia-smi", "module", "libcuda"],
)
def test_cpu_build_beside_a_gpu(gpu: tuple[Fact, ...]) -> None:
    """A CPU build is an error, for certain, as soon as one source shows an NVIDIA GPU or its driver."""
    finding = check(torch_cpu_only_on_gpu_machine, cpu_build(), venv(dist("torch", "2.9.0+cpu")), LINUX, *gpu).finding
    assert (Severity.ERROR, Confidence.CERTAIN) == (finding.severity, finding.confidence)
    assert "torch_build.cuda" == finding.evidence[0].fact


def test_cpu_build_is_replaced_by_the_same_release_with_cuda() -> None:
    """The version carries the variant, or pip would take the CPU build for it; companions move along."""
    packages = venv(dist("torch", "2.9.0+cpu"), dist("torchvision", "0.24.0+cpu"))
    finding = check(torch_cpu_only_on_gpu_machine, cpu_build(), packages, LINUX, ONE_GPU, R535).finding
    line = f"pip install 'torch==2.9.0+cu126' 'torchvision==0.24.0+cu126' --index-url {INDEX}/cu126"
    assert [f"/opt/venv/bin/python -m {line}"] == commands(finding)


def test_cpu_build_beside_a_cuda_only_companion_is_likely_wrong() -> None:
    """Without a GPU in sight, a package of use with CUDA only makes it a likely mistake: a warning."""
    packages = venv(dist("torch", "2.9.0+cpu"), dist("flash-attn", "2.8.3"))
    finding = check(torch_cpu_only_on_gpu_machine, cpu_build(), packages, LINUX, NO_GPU).finding
    assert (Severity.WARNING, Confidence.LIKELY) == (finding.severity, finding.confidence)


@pytest.mark.parametrize(
    "facts",
    [
        (LINUX, NO_GPU, NO_NODES),
        (LINUX,),
        (LINUX, PciBus(gpus=(), other_gpus=(PciDevice("0000:05:00.0", "1002", "1638", "030000"),), readable=True)),
    ],
    ids=["no GPU", "nothing known", "AMD graphics"],
)
def test_cpu_build_on_a_cpu_machine_is_a_choice(facts: tuple[Fact, ...]) -> None:
    """Without a GPU and without a companion a CPU build is no finding."""
    packages = venv(dist("torch", "2.9.0+cpu"), dist("nvidia-ml-py", "12.560.30"), dist("bitsandbytes", "0.48.2"))
    assert Status.PASSED is check(torch_cpu_only_on_gpu_machine, cpu_build(), packages, *facts).status


def test_cpu_build_in_a_container_without_gpus_is_a_choice() -> None:
    """A container sees the host's PCI bus; with no device node in it, its CPU build is no mistake."""
    found = check(torch_cpu_only_on_gpu_machine, cpu_build(), venv(), DOCKER, ONE_GPU, NO_NODES)
    assert (Status.NOT_APPLICABLE, "the GPUs of the host are not given to this container") == (
        found.status,
        found.reason,
    )


def test_cpu_build_for_a_gpu_that_no_wheel_serves_is_a_choice() -> None:
    """A GPU older than every published build leaves nothing but the CPU build."""
    fermi = NvidiaSmi(driver_version="390.157", gpus=(SmiGpu(0, "GeForce GT 610", 1024, "2.1"),))
    found = check(torch_cpu_only_on_gpu_machine, cpu_build(), venv(), LINUX, fermi)
    assert (Status.NOT_APPLICABLE, True) == (found.status, "2.1" in found.reason)


def test_cuda_build_is_no_cpu_build() -> None:
    """A CUDA build passes, and so does one whose CPU flag was not read."""
    assert Status.PASSED is check(torch_cpu_only_on_gpu_machine, cuda_build(), ONE_GPU).status
    unread = replace(cuda_build(), is_cpu_only=None)
    assert Status.PASSED is check(torch_cpu_only_on_gpu_machine, unread, ONE_GPU).status


def test_unread_build_is_unknown() -> None:
    """When torch/version.py could not be read, the rule says so with the reason."""
    build = TorchBuild(unknown={"is_cpu_only": "torch/version.py: permission denied"})
    found = check(torch_cpu_only_on_gpu_machine, build, ONE_GPU)
    assert (Status.UNKNOWN, "torch/version.py: permission denied") == (found.status, found.reason)


ROCM = TorchBuild(version="2.9.0+rocm6.4", hip="6.4.43482", is_cpu_only=False)


def test_rocm_build_beside_an_nvidia_gpu() -> None:
    """A ROCm build on an NVIDIA machine is an error with the CUDA wheel as the way out."""
    packages = venv(dist("torch", "2.9.0+rocm6.4"))
    finding = check(rocm_build_on_nvidia, ROCM, packages, LINUX, ONE_GPU, R535).finding
    assert (Severity.ERROR, f"/opt/venv/bin/python -m pip install 'torch==2.9.0+cu126' --index-url {INDEX}/cu126") == (
        finding.severity,
        commands(finding)[0],
    )


def test_rocm_build_beside_both_vendors_is_only_likely_wrong() -> None:
    """With an AMD GPU on the bus too, it may be a choice."""
    both = PciBus(gpus=ONE_GPU.gpus, other_gpus=(PciDevice("0000:05:00.0", "1002", "744c", "030000"),), readable=True)
    finding = check(rocm_build_on_nvidia, ROCM, venv(), LINUX, both).finding
    assert (Severity.WARNING, Confidence.LIKELY) == (finding.severity, finding.confidence)


@pytest.mark.parametrize(
    "facts",
    [(ROCM, NO_GPU), (cuda_build(), ONE_GPU), (ROCM, ONE_GPU, TorchCuda(available=True))],
    ids=["AMD machine", "CUDA build", "seen to work"],
)
def test_rocm_rule_is_silent(facts: tuple[Fact, ...]) -> None:
    """A ROCm build elsewhere, a CUDA build, and a build that was seen to use a GPU are no findings."""
    assert Status.PASSED is check(rocm_build_on_nvidia, *facts).status


@pytest.mark.parametrize(("class_code", "fires"), [("038000", True), ("030000", False)])
def test_cuda_build_beside_an_amd_accelerator(class_code: str, fires: bool) -> None:
    """The reverse choice is info where an AMD accelerator is the only one; a processor's graphics are none."""
    amd = PciBus(other_gpus=(PciDevice("0000:05:00.0", "1002", "740f", class_code),), readable=True)
    found = check(rocm_build_on_nvidia, cuda_build(), LINUX, amd, NO_NODES)
    assert [Severity.INFO] * fires == [each.severity for each in found.findings]


def test_healthy_cpu_machine_has_no_errors_and_no_warnings() -> None:
    """A CPU torch on a machine without an NVIDIA GPU ends ok."""
    packages = venv(dist("torch", "2.9.0+cpu"))
    report = examine(of(cpu_build(), packages, SOME_TORCH, LINUX, NO_GPU, NO_NODES, DeviceNodes()), RULES)
    assert (Verdict.OK, ()) == (report.verdict, report.findings)
