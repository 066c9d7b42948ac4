"""Rules about what companions need: a GPU that is new enough, a CUDA major, a driver, a system."""

from __future__ import annotations

import pytest

from envdoctor.facts import Fact
from envdoctor.facts.driver import CudaDevice, CudaDriver
from envdoctor.facts.gpu import PciBus
from envdoctor.facts.host import Environment, Host, Variable
from envdoctor.facts.libraries import Compiler, Copy, Extension, Extensions, LedgerRow, Libraries, Toolkit
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Confidence, Severity, Status
from envdoctor.rules.companion_cuda import (
    bitsandbytes_cuda_binary_missing,
    dali_cuda_mismatch,
    onnxruntime_cuda_mismatch,
    tensorrt_cuda_mismatch,
)
from envdoctor.rules.companion_gpus import gpu_too_old_for_package
from envdoctor.rules.companion_systems import deepspeed_ops_unbuildable, package_unsupported_on_this_os
from envdoctor.rules.conda_channels import conda_channel_mix
from envdoctor.rules.ptxas import triton_ptxas_driver_mismatch
from envdoctor.testing import check
from tests.rule_facts import NO_GPU, NO_NODES, ONE_GPU, UBUNTU, module
from tests.torch_facts import LINUX, commands, conda, cpu_build, cuda_build, dist, venv

PYTHON = "/opt/venv/bin/python"
CU124, CU118, CU130 = cuda_build(), cuda_build("2.4.1+cu118", "11.8"), cuda_build("2.10.0+cu130", "13.0")


def gpus(*models: tuple[str, str], level: str = "12.8") -> CudaDriver:
    """Make libcuda's answer about these models."""
    devices = tuple(CudaDevice(index, name, gpu) for index, (name, gpu) in enumerate(models))
    return CudaDriver(cuda_version=level, init_code=0, device_count=len(devices), devices=devices)


T4, V100, A100 = ("Tesla T4", "7.5"), ("Tesla V100-SXM2-16GB", "7.0"), ("NVIDIA A100-SXM4-80GB", "8.0")
P100, B200 = ("Tesla P100-PCIE-16GB", "6.0"), ("NVIDIA B200", "10.0")


@pytest.mark.parametrize(
    ("have", "gpu", "severity"),
    [
        (dist("flash-attn", "2.7.4.post1"), T4, Severity.WARNING),
        (dist("flash-attn", "2.8.0+cu12torch2.7cxx11abiTRUE"), ("Quadro RTX 5000", "7.5"), Severity.WARNING),
        (dist("flashinfer", "0.1.4+cu121torch2.4"), T4, Severity.WARNING),
        (dist("flashinfer-python", "0.5.3"), V100, Severity.WARNING),
        (dist("vllm", "0.6.3"), P100, Severity.WARNING),
        (dist("vllm", "0.25.1"), V100, Severity.WARNING),
        (dist("xformers", "0.0.32.post2"), V100, Severity.WARNING),
        (dist("bitsandbytes", "0.45.5"), V100, Severity.INFO),
    ],
)
def test_gpu_below_the_stated_minimum(have: Distribution, gpu: tuple[str, str], severity: Severity) -> None:
    """A GPU below the project's minimum is a warning about that package; below that of one feature, info."""
    finding = check(gpu_too_old_for_package, venv(have), gpus(gpu)).finding
    assert (severity, have.name, gpu[1] in finding.title, True) == (
        finding.severity, finding.subject, True, bool(commands(finding)),
    )  # fmt: skip
    assert "knowledge.ecosystem" == finding.evidence[-1].fact


def test_a_release_that_serves_the_gpu_is_offered() -> None:
    """Where a later release serves the GPU it is the fix; where none does, the package goes."""
    later = check(gpu_too_old_for_package, venv(dist("flashinfer", "0.1.4")), gpus(T4)).finding
    none = check(gpu_too_old_for_package, venv(dist("flash-attn", "2.7.4")), gpus(T4)).finding
    assert [f"{PYTHON} -m pip install 'flashinfer>=0.1.6'"] == commands(later)
    assert [f"{PYTHON} -m pip uninstall -y 'flash-attn'"] == commands(none)


def test_only_some_gpus_are_too_old() -> None:
    """Beside a GPU that is served the way out is to show that one."""
    finding = check(gpu_too_old_for_package, venv(dist("flash-attn", "2.7.4")), gpus(T4, A100)).finding
    assert "nvidia-smi -L" == commands(finding)[0]


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((venv(dist("flash-attn", "2.7.4")), gpus(A100)), Status.PASSED),
        ((venv(dist("flash-attn", "1.0.9")), gpus(T4)), Status.NOT_APPLICABLE),
        ((venv(dist("flashinfer-python", "0.5.3")), gpus(T4)), Status.PASSED),
        ((venv(dist("vllm", "0.11.2"), dist("bitsandbytes", "0.49.2")), gpus(T4)), Status.PASSED),
        ((venv(dist("vllm", "0.19.1"), dist("xformers", "0.0.30")), gpus(V100)), Status.PASSED),
        ((venv(dist("numpy", "2.1.0"), dist("oddity", "no-version")), gpus(P100)), Status.NOT_APPLICABLE),
        ((venv(dist("flash-attn", "2.7.4")), NO_GPU, NO_NODES), Status.NOT_APPLICABLE),
    ],
    ids=["Ampere", "version 1", "Turing", "both serve it", "before they left Volta out", "no minimum stated", "no GPU"],
)
def test_gpu_that_is_new_enough(facts: tuple[Fact, ...], status: Status) -> None:
    """A GPU at the minimum passes; without a stated minimum, or a GPU, nothing is claimed."""
    assert status is check(gpu_too_old_for_package, *facts).status


@pytest.mark.parametrize(
    ("triton", "facts"),
    [
        ("2.2.0", (gpus(A100, level="11.4"),)),
        ("3.1.0", (gpus(A100, level="11.7"),)),
        ("2.3.0", (module("470.103.01"), ONE_GPU)),
        ("3.7.0", (gpus(B200, level="12.8"),)),
    ],
    ids=["driver 470", "driver 515", "by the driver's version", "Blackwell's own ptxas"],
)
def test_ptxas_of_a_newer_major(triton: str, facts: tuple[Fact, ...]) -> None:
    """A driver of an older CUDA major loads nothing that Triton makes, whatever torch was built with."""
    finding = check(triton_ptxas_driver_mismatch, venv(dist("triton", triton)), CU118, UBUNTU, *facts).finding
    assert (Severity.WARNING, True) == (finding.severity, "reboot" in commands(finding)[-1])


def test_ptxas_of_an_older_toolkit_is_offered() -> None:
    """A toolkit of the driver's major has a ptxas that Triton can use."""
    toolkit = Toolkit(nvcc=(Compiler("/usr/local/cuda-11.8/bin/nvcc", "11.8.89"),))
    facts = (venv(dist("triton", "2.2.0")), gpus(A100, level="11.4"), toolkit, UBUNTU)
    lines = commands(check(triton_ptxas_driver_mismatch, *facts).finding)
    assert "export TRITON_PTXAS_PATH=/usr/local/cuda-11.8/bin/ptxas" == lines[-1]


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((venv(dist("triton", "3.9.0")), gpus(A100, level="12.0")), Status.PASSED),
        ((venv(dist("triton", "3.6.0")), gpus(B200, level="12.8")), Status.PASSED),
        ((venv(dist("triton", "3.7.0")), gpus(A100, level="12.8")), Status.PASSED),
        ((venv(dist("triton", "2.3.0")), module("525.60.13"), ONE_GPU), Status.PASSED),
        ((venv(dist("triton", "99.0")), gpus(A100)), Status.UNKNOWN),
        ((venv(dist("numpy", "2.1.0")), gpus(A100)), Status.NOT_APPLICABLE),
        ((venv(dist("triton", "3.1.0")), NO_GPU, NO_NODES), Status.NOT_APPLICABLE),
        (
            (
                venv(dist("triton", "2.2.0")),
                gpus(A100, level="11.4"),
                Environment(variables=(Variable("TRITON_PTXAS_PATH", "/opt/ptxas"),)),
            ),
            Status.UNKNOWN,
        ),
    ],
    ids=["other minor", "one ptxas", "not its ptxas", "floor driver", "newer", "no Triton", "no GPU", "other ptxas"],
)
def test_ptxas_that_the_driver_loads(facts: tuple[Fact, ...], status: Status) -> None:
    """Any minor of the driver's own major passes; what is not known is not accused."""
    assert status is check(triton_ptxas_driver_mismatch, *facts).status


TORCH_CONDA = conda("pytorch", "2.4.0", "py3.12_cuda12.4_cudnn9.1.0_0", channel="pytorch")
TORCH_CPU = conda("pytorch", "1.12.1", "py3.9_cpu_0", channel="pytorch")


@pytest.mark.parametrize(
    ("packages", "bus", "severity"),
    [
        (
            venv(conda("pytorch", "1.13.1", "cpu_py38h9", channel="pkgs/main"),
                 conda("torchaudio", "0.13.1", channel="pytorch")),
            NO_GPU,
            Severity.WARNING,
        ),
        (venv(TORCH_CONDA, conda("torchvision", "0.19.0", channel="conda-forge")), ONE_GPU, Severity.WARNING),
        (venv(TORCH_CPU, conda("cudatoolkit", "11.7.0", channel="conda-forge")), ONE_GPU, Severity.WARNING),
        (venv(TORCH_CPU, conda("cudatoolkit", "11.7.0", channel="conda-forge")), NO_GPU, Severity.INFO),
    ],
    ids=["defaults and pytorch", "pytorch and conda-forge", "CUDA beside the CPU build", "without a GPU"],
)  # fmt: skip
def test_two_channels(packages: Packages, bus: PciBus, severity: Severity) -> None:
    """What is built against torch from another channel is a warning; CUDA beside a CPU build is one with a GPU."""
    finding = check(conda_channel_mix, packages, bus, NO_NODES).finding
    assert (severity, True) == (finding.severity, bool(commands(finding)))


@pytest.mark.parametrize(
    ("packages", "status"),
    [
        (venv(TORCH_CONDA, conda("torchvision", "0.19.0", channel="pytorch")), Status.PASSED),
        (venv(TORCH_CONDA, conda("numpy", "1.26.4", channel="conda-forge")), Status.PASSED),
        (venv(TORCH_CONDA, conda("torchvision", "0.19.0"), dist("torchaudio", "2.4.0")), Status.PASSED),
        (venv(TORCH_CONDA, conda("cudatoolkit", "11.7.0", channel="conda-forge")), Status.PASSED),
        (venv(conda("pytorch", "2.4.0"), conda("torchvision", "0.19.0", channel="pytorch")), Status.UNKNOWN),
        (venv(dist("torch", "2.5.1")), Status.NOT_APPLICABLE),
    ],
    ids=["one channel", "what is not built against torch", "no channel", "CUDA build", "torch's not told", "pip"],
)
def test_one_channel(packages: Packages, status: Status) -> None:
    """One channel, and packages that are not built against torch, pass; without a record nothing is claimed."""
    assert status is check(conda_channel_mix, packages, ONE_GPU).status


def bitsandbytes(version: str, *cuda: str) -> Packages:
    """Make an environment with a bitsandbytes that carries libraries for these CUDA versions."""
    return venv(dist("bitsandbytes", version, built_for=", ".join(f"CUDA {each}" for each in cuda)))


@pytest.mark.parametrize(
    "packages", [bitsandbytes("0.43.3", "11.7", "12.1", "12.3"), bitsandbytes("0.50.0", "11.8", "13.0")]
)
def test_bitsandbytes_without_the_binary(packages: Packages) -> None:
    """The exact minor is needed before 0.50, the major from then on."""
    finding = check(bitsandbytes_cuda_binary_missing, CU124, packages).finding
    assert (Severity.ERROR, [f"{PYTHON} -m pip install 'bitsandbytes>=0.50'"]) == (finding.severity, commands(finding))


def test_bitsandbytes_that_is_told_another_cuda() -> None:
    """BNB_CUDA_VERSION that names a missing library is taken back, although torch's own is there."""
    told = Environment(variables=(Variable("BNB_CUDA_VERSION", "121"),))
    finding = check(bitsandbytes_cuda_binary_missing, CU124, bitsandbytes("0.50.0", "12.4"), told).finding
    assert ["unset BNB_CUDA_VERSION"] == commands(finding)


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((CU124, bitsandbytes("0.45.5", "12.1", "12.4")), Status.PASSED),
        ((CU124, bitsandbytes("0.50.0", "12.1", "12.8")), Status.PASSED),
        ((CU124, bitsandbytes("0.45.5")), Status.UNKNOWN),
        ((cpu_build(), bitsandbytes("0.45.5", "12.1")), Status.NOT_APPLICABLE),
        ((CU124, venv()), Status.NOT_APPLICABLE),
    ],
    ids=["same", "neighbour", "not read", "CPU", "not installed"],
)
def test_bitsandbytes_with_its_binary(facts: tuple[Fact, ...], status: Status) -> None:
    """A library for torch's CUDA passes; where none was seen nothing is claimed."""
    assert status is check(bitsandbytes_cuda_binary_missing, *facts).status


@pytest.mark.parametrize(
    ("facts", "words", "command"),
    [
        ((venv(dist("onnxruntime-gpu", "1.18.1")), CU124), "needs CUDA 11, here is CUDA 12", ">=1.19,<1.27"),
        ((venv(dist("onnxruntime-gpu", "1.19.2")), CU118), "needs CUDA 12, here is CUDA 11", "<1.19"),
        (
            (venv(dist("onnxruntime-gpu", "1.22.0", built_for="CUDA 12.4")), CU130),
            "needs CUDA 12, here is CUDA 13",
            ">=1.27",
        ),
        (
            (venv(dist("onnxruntime-gpu", "1.19.2"), dist("nvidia-cudnn-cu12", "8.9.2.26")), CU124),
            "needs cuDNN 9, here is cuDNN 8",
            "[cuda,cudnn]>=1.21,<1.27",
        ),
    ],
    ids=["11 beside 12", "12 beside 11", "its own record", "cuDNN"],
)
def test_onnxruntime_of_another_cuda(facts: tuple[Fact, ...], words: str, command: str) -> None:
    """Another CUDA or cuDNN major than is here is an error, and a likely one: more may be installed elsewhere."""
    finding = check(onnxruntime_cuda_mismatch, *facts).finding
    assert (Severity.ERROR, Confidence.LIKELY) == (finding.severity, finding.confidence)
    assert words in finding.title
    assert f"{PYTHON} -m pip install 'onnxruntime-gpu{command}'" == commands(finding)[0]


def test_onnxruntime_does_not_replace_the_cudnn_of_an_older_torch() -> None:
    """Torch before 2.4 has cuDNN 8 in the very wheel that onnxruntime-gpu would renew: then torch is renewed too."""
    old = TorchBuild(version="2.3.1+cu121", cuda="12.1")
    packages = venv(dist("onnxruntime-gpu", "1.19.2"), dist("nvidia-cudnn-cu12", "8.9.2.26"))
    assert all("torch==2.4" in each for each in commands(check(onnxruntime_cuda_mismatch, old, packages).finding))


CUDNN_9 = Libraries(rows=(LedgerRow("cudnn", "libcudnn.so.9", first=Copy("/x/libcudnn.so.9")),))


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((venv(dist("onnxruntime-gpu", "1.19.2"), dist("nvidia-cudnn-cu12", "9.1.0.70")), CU124), Status.PASSED),
        ((venv(dist("onnxruntime-gpu", "1.20.1")), CU124, CUDNN_9), Status.PASSED),
        ((venv(dist("onnxruntime-gpu", "1.18.1"), dist("nvidia-cudnn-cu11", "8.9.6.50")), CU118), Status.PASSED),
        ((venv(dist("onnxruntime-gpu", "1.18.1", built_for="CUDA 12.2")), CU124, CUDNN_9), Status.PASSED),
        ((venv(dist("onnxruntime-gpu", "1.19.2"), dist("nvidia-cublas-cu12", "12.4.5.8")), CU118), Status.PASSED),
        ((venv(dist("onnxruntime-gpu", "1.99.0")), CU124), Status.UNKNOWN),
        ((venv(dist("onnxruntime-gpu", "1.19.2")), cpu_build()), Status.UNKNOWN),
        ((venv(dist("onnxruntime", "1.19.2")), CU124), Status.NOT_APPLICABLE),
    ],
    ids=["wheel", "library", "CUDA 11", "either cuDNN", "wheels of both", "newer", "no CUDA", "CPU package"],
)
def test_onnxruntime_that_fits(facts: tuple[Fact, ...], status: Status) -> None:
    """What is here in its majors passes; a release that says nothing and is newer than the table is not judged."""
    assert status is check(onnxruntime_cuda_mismatch, *facts).status


def test_dali_for_another_cuda() -> None:
    """DALI of a major that nothing here provides is a warning; that of torch's major takes its place."""
    finding = check(dali_cuda_mismatch, venv(dist("nvidia-dali-cuda120", "1.50.0")), CU130).finding
    assert Severity.WARNING is finding.severity
    assert [
        f"{PYTHON} -m pip uninstall -y nvidia-dali-cuda120",
        f"{PYTHON} -m pip install nvidia-dali-cuda130",
    ] == [line.replace("'", "") for line in commands(finding)]


def test_dali_and_tensorrt_newer_than_the_driver() -> None:
    """A driver of an older major starts neither, although libraries are here."""
    here = (gpus(A100, level="12.2"), UBUNTU)
    dali = check(dali_cuda_mismatch, venv(dist("nvidia-dali-cuda130", "1.52.0")), CU130, *here).finding
    tensorrt = check(tensorrt_cuda_mismatch, venv(dist("tensorrt-cu13", "10.13.3")), CU124, *here).finding
    assert "newer than this driver" in dali.title
    assert "reboot" in commands(dali)[-1]
    assert f"{PYTHON} -m pip install 'tensorrt-cu12'" == commands(tensorrt)[-1]


@pytest.mark.parametrize(
    ("facts", "statuses"),
    [
        ((venv(dist("nvidia-dali-cuda120", "1.50"), dist("tensorrt-cu12", "10.9")), CU124, gpus(A100)), Status.PASSED),
        (
            (
                venv(dist("nvidia-dali-cuda120", "1.50"), dist("tensorrt-cu12", "10.9"),
                     dist("nvidia-cuda-runtime-cu12", "12.8.90")),
                CU130,
            ),
            Status.PASSED,
        ),
        ((venv(dist("tensorrt-cu12-libs", "10.9"), dist("nvidia-dali-tf-plugin-cuda120", "1")), CU130),
         Status.NOT_APPLICABLE),
    ],
    ids=["same major", "wheels of its major", "parts alone"],
)  # fmt: skip
def test_dali_and_tensorrt_that_fit(facts: tuple[Fact, ...], statuses: Status) -> None:
    """Torch's major, or wheels of their own major, pass."""
    assert {statuses} == {check(each, *facts).status for each in (dali_cuda_mismatch, tensorrt_cuda_mismatch)}


@pytest.mark.parametrize("toolkit", [Toolkit(), Toolkit(nvcc=(Compiler("/usr/local/cuda-11.8/bin/nvcc", "11.8.89"),))])
def test_deepspeed_without_a_compiler(toolkit: Toolkit) -> None:
    """No nvcc, or one of another major, is info with the toolkit to install."""
    finding = check(deepspeed_ops_unbuildable, venv(dist("deepspeed", "0.16.9")), CU124, toolkit, UBUNTU).finding
    assert Severity.INFO is finding.severity
    assert ["sudo apt-get install cuda-toolkit-12-4  # from NVIDIA's repository"] == commands(finding)


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((CU124, Toolkit(nvcc=(Compiler("/usr/local/cuda/bin/nvcc", "12.1.105"),))), Status.PASSED),
        ((CU124, Toolkit(), Extensions(extensions=(Extension("x.so", "deepspeed"),))), Status.PASSED),
        ((CU124, Toolkit(unknown={"nvcc": "not readable"})), Status.UNKNOWN),
        ((cpu_build(), Toolkit()), Status.NOT_APPLICABLE),
    ],
    ids=["same major", "compiled already", "not read", "CPU"],
)
def test_deepspeed_that_can_compile(facts: tuple[Fact, ...], status: Status) -> None:
    """An nvcc of torch's major, or operators that are there, pass."""
    assert status is check(deepspeed_ops_unbuildable, venv(dist("deepspeed", "0.16.9")), *facts).status


@pytest.mark.parametrize(
    ("have", "system", "command"),
    [
        (dist("vllm", "0.11.2"), "Windows", "wsl --install"),
        (dist("flashinfer-python", "0.5.3"), "Darwin", f"{PYTHON} -m pip uninstall -y 'flashinfer-python'"),
        (dist("nvidia-dali-cuda120", "1.50.0"), "Windows", "wsl --install"),
        (dist("bitsandbytes", "0.38.1"), "Windows", f"{PYTHON} -m pip install 'bitsandbytes>=0.43'"),
    ],
)
def test_package_of_another_system(have: Distribution, system: str, command: str) -> None:
    """A package that its project does not make for this system is an error."""
    finding = check(package_unsupported_on_this_os, venv(have), Host(system=system)).finding
    assert (Severity.ERROR, have.name, command) == (finding.severity, finding.subject, commands(finding)[0])


@pytest.mark.parametrize(
    ("have", "host", "status"),
    [
        (dist("vllm", "0.11.2"), LINUX, Status.NOT_APPLICABLE),
        (dist("vllm", "0.11.2"), Host(system="Darwin"), Status.PASSED),
        (dist("vllm", "0.11.2+cu128"), Host(system="Windows"), Status.PASSED),
        (dist("bitsandbytes", "0.45.5"), Host(system="Windows"), Status.PASSED),
        (dist("numpy", "2.1.0"), Host(system="Windows"), Status.PASSED),
        (dist("vllm", "0.11.2"), Host(), Status.UNKNOWN),
    ],
)
def test_package_of_this_system(have: Distribution, host: Host, status: Status) -> None:
    """Linux, a system that the project serves, and somebody's own build for it pass."""
    assert status is check(package_unsupported_on_this_os, venv(have), host).status


@pytest.mark.parametrize(
    ("build", "level", "fires"),
    [
        (cuda_build("2.1.0+cu118", "11.8"), "11.4", True),
        (cuda_build("2.1.0+cu118", "11.8"), "12.2", False),
    ],
    ids=["driver of CUDA 11", "driver of CUDA 12"],
)
def test_triton_is_inferred_where_no_packages_are_listed(build: TorchBuild, level: str, fires: bool) -> None:
    """A text may name torch alone: the Triton it was published with is a lead, and no more than info."""
    checked = check(triton_ptxas_driver_mismatch, gpus(A100, level=level), UBUNTU, build)
    assert fires is checked.fired
    if fires:
        assert (Severity.INFO, Confidence.POSSIBLE) == (checked.finding.severity, checked.finding.confidence)


@pytest.mark.parametrize(
    ("build", "host"),
    [
        (cuda_build("1.13.1+cu117", "11.7"), UBUNTU),
        (cuda_build("2.1.0+cu118", "11.8"), Host(system="Windows")),
        (TorchBuild(), UBUNTU),
    ],
    ids=["no Triton yet", "Windows", "no torch"],
)
def test_no_triton_is_inferred_where_none_came_with_torch(build: TorchBuild, host: Host) -> None:
    """Before torch 2.0, on Windows, and without a torch nothing is inferred."""
    assert not check(triton_ptxas_driver_mismatch, gpus(A100, level="11.4"), host, build).fired
