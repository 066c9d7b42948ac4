"""Rules about compiled companions, onnxruntime, mixtures of sources, and the Python that torch supports."""

from __future__ import annotations

import pytest

from envdoctor.facts import Fact
from envdoctor.facts.packages import Distribution, Packages, SharedFile
from envdoctor.facts.torch import TorchBuild, TorchPath
from envdoctor.finding import Confidence, Severity, Status
from envdoctor.rules.companions import (
    extension_built_for_other_torch,
    onnxruntime_cpu_shadows_gpu,
    xformers_torch_mismatch,
)
from envdoctor.rules.interpreter import python_unsupported
from envdoctor.rules.mixtures import conda_pip_mix, mixed_cuda_major_wheels
from envdoctor.testing import check
from tests.torch_facts import INDEX, commands, conda, cpu_build, cuda_build, dist, venv

PYTHON = "/opt/venv/bin/python"
BUILD = cuda_build("2.5.1+cu124", "12.4")


def beside(*distributions: Distribution, torch: str = "2.5.1") -> Packages:
    """Make an environment with torch and these."""
    return venv(dist("torch", torch), *distributions)


@pytest.mark.parametrize(
    "have",
    [
        dist("xformers", "0.0.28", requires=("torch==2.4.1",)),
        dist("xformers", "0.0.28.post3", requires=("torch==2.5.1",), built_for="torch 2.4.1+cu121, CUDA 12.1"),
        dist("xformers", "0.0.28"),
    ],
    ids=["pin", "record before pin", "table"],
)
def test_xformers_of_another_torch(have: Distribution) -> None:
    """The build's own record comes first, then the pin, then the table; the pair for this torch is offered first."""
    finding = check(xformers_torch_mismatch, BUILD, beside(have)).finding
    assert Severity.ERROR is finding.severity
    assert f"{PYTHON} -m pip install --no-deps 'xformers==0.0.29.post1'" == commands(finding)[0]
    assert f"{PYTHON} -m pip install 'torch==2.4.1' --index-url {INDEX}/cu124" == commands(finding)[1]


def test_old_xformers_beside_a_new_torch() -> None:
    """No release pins this torch, and no torch of its CUDA fits the old one: the one for many releases is named."""
    have = dist("xformers", "0.0.32.post1", requires=("torch==2.8.0",))
    finding = check(xformers_torch_mismatch, cuda_build("2.11.0+cu130", "13.0"), beside(have, torch="2.11.0")).finding
    assert [f"{PYTHON} -m pip install --no-deps 'xformers==0.0.35' --index-url {INDEX}/cu130"] == commands(finding)


@pytest.mark.parametrize(
    ("build", "words"),
    [(cuda_build("2.5.1+cu118", "11.8"), "CUDA 11.8"), (cpu_build("2.5.1+cpu"), "the CPU")],
)
def test_xformers_of_another_cuda(build: TorchBuild, words: str) -> None:
    """The release fits, the CUDA major does not."""
    have = dist("xformers", "0.0.28.post3", requires=("torch==2.5.1",), built_for="torch 2.5.1+cu124, CUDA 12.4")
    finding = check(xformers_torch_mismatch, build, beside(have, torch=str(build.version))).finding
    assert words in finding.title


@pytest.mark.parametrize(
    ("build", "have"),
    [
        (BUILD, dist("xformers", "0.0.28.post3", requires=("torch==2.5.1",), built_for="torch 2.5.1+cu121, CUDA 12.1")),
        (cuda_build("2.13.0+cu130", "13.0"), dist("xformers", "0.0.35", requires=("torch>=2.10",))),
        (cuda_build("2.13.0+cu130", "13.0"), dist("xformers", "0.0.35", built_for="torch 2.10.0+cu130, CUDA 13.0")),
        (cuda_build("2.1.0a0+32f93b1", "12.3"), dist("xformers", "0.0.22+abc123.d2023")),
    ],
    ids=["pair", "range", "stable interface", "somebody's own"],
)
def test_xformers_that_belongs(build: TorchBuild, have: Distribution) -> None:
    """What belongs, what uses torch's stable interface, and what nobody can tell are not accused."""
    assert Status.PASSED is check(xformers_torch_mismatch, build, beside(have, torch=str(build.version))).status


@pytest.mark.parametrize(
    "have",
    [
        dist("vllm", "0.6.0", requires=("torch==2.4.0",)),
        dist("vllm", "0.6.0"),
        dist("flash-attn", "2.6.3+cu123torch2.3cxx11abiFALSE"),
        dist("torch-scatter", "2.1.2+pt24cu121", built_for="+pt24cu121, CUDA 12.1"),
        dist("flash-attn", "2.7.4.post1+cu12torch2.5cxx11abiTRUE"),
        dist("torchtext", "0.17.2", requires=("torch==2.2.2",)),
    ],
    ids=["pin", "table", "tag", "short tag", "ABI", "torchtext"],
)
def test_extension_of_another_torch(have: Distribution) -> None:
    """An exact pin, a tag that names the torch, or one that names the other C++ ABI: an error about that package."""
    finding = check(extension_built_for_other_torch, BUILD, beside(have)).finding
    assert (Severity.ERROR, have.name, True) == (finding.severity, finding.subject, bool(commands(finding)))


@pytest.mark.parametrize(
    ("build", "have"),
    [
        (BUILD, dist("flash-attn", "2.7.4.post1")),
        (BUILD, dist("flash-attn", "2.7.4.post1+cu12torch2.5cxx11abiFALSE")),
        (BUILD, dist("torch-scatter", "2.1.2+pt25cu124")),
        (BUILD, dist("torchtext", "0.18.0", requires=("torch>=2.3.0",))),
        (BUILD, dist("vllm", "0.7.3", requires=("torch==2.5.1",))),
        (cuda_build("2.7.1+cu128", "12.8"), dist("flash-attn", "2.8.0+cu12torch2.7cxx11abiTRUE")),
        (cuda_build("2.2.0a0+81ea7a4", "12.3"), dist("flash-attn", "2.0.4")),
    ],
    ids=["no word", "tag", "short tag", "range", "pin", "new ABI", "NVIDIA's image"],
)
def test_extension_that_belongs(build: TorchBuild, have: Distribution) -> None:
    """What names this torch, or none, is not accused."""
    assert Status.PASSED is check(extension_built_for_other_torch, build, beside(have, torch=str(build.version))).status


def test_flash_attn_is_compiled_again() -> None:
    """A package that pip can compile is compiled against the torch that is there."""
    have = dist("flash-attn", "2.7.4.post1+cu12torch2.5cxx11abiTRUE")
    finding = check(extension_built_for_other_torch, BUILD, beside(have)).finding
    flags = "--force-reinstall --no-deps --no-cache-dir --no-build-isolation --no-binary flash-attn"
    assert [f"{PYTHON} -m pip install {flags} 'flash-attn==2.7.4.post1'"] == commands(finding)


def test_no_compiled_companion_is_not_applicable() -> None:
    """Without xformers and extensions there is nothing to compare."""
    for rule in (xformers_torch_mismatch, extension_built_for_other_torch, onnxruntime_cpu_shadows_gpu):
        assert Status.NOT_APPLICABLE is check(rule, BUILD, beside()).status


def test_both_onnxruntimes() -> None:
    """The CPU and the GPU distribution in one directory are a warning; both go, the GPU one comes back."""
    packages = venv(dist("onnxruntime", "1.19.0"), dist("onnxruntime-gpu", "1.19.2"))
    finding = check(onnxruntime_cpu_shadows_gpu, packages).finding
    assert Severity.WARNING is finding.severity
    assert f"{PYTHON} -m pip install --no-deps 'onnxruntime-gpu==1.19.2'" == commands(finding)[1]


@pytest.mark.parametrize(
    "packages",
    [
        venv(dist("onnxruntime-gpu", "1.19.2")),
        venv(dist("onnxruntime", "1.19.0", location="/elsewhere"), dist("onnxruntime-gpu", "1.19.2")),
    ],
)
def test_one_onnxruntime_in_a_directory(packages: Packages) -> None:
    """The GPU one alone, or each in its own directory, passes."""
    assert Status.PASSED is check(onnxruntime_cpu_shadows_gpu, packages).status


CONDA = conda("pytorch", "2.4.0", "py3.12_cuda12.4_cudnn9.1.0_0", location="/opt/conda/conda-meta/pytorch.json")


@pytest.mark.parametrize(
    "brought",
    [
        dist("torch", "2.5.1"),
        dist("torch", "2.4.0+cu121"),
        dist("nvidia-cudnn-cu12", "9.1.0.70"),
    ],
    ids=["torch", "tagged torch", "NVIDIA's wheels"],
)
def test_pip_over_conda(brought: Distribution) -> None:
    """A torch of pip's over conda's, or NVIDIA's wheels beside it, is a warning."""
    finding = check(conda_pip_mix, venv(CONDA, brought, environment_kind="conda", python="3.12.4")).finding
    assert (Severity.WARNING, True) == (finding.severity, "'python=3.12'" in commands(finding)[0])


@pytest.mark.parametrize(
    "packages",
    [
        venv(CONDA, conda("torch", "2.4.0"), dist("torchmetrics", "1.6.1")),
        venv(CONDA, dist("torch", "2.4.0"), conda("torchtriton", "3.0.0"), dist("triton", "3.0.0")),
        venv(conda("pytorch", "1.0.1", "py3.6_cuda10"), dist("torch", "1.0.1.post2")),
        venv(CONDA, dist("torchvision", "0.19.0")),
    ],
    ids=["conda's own", "seen by pip list", "post release", "companion"],
)
def test_condas_own_torch_is_no_mixture(packages: Packages) -> None:
    """Conda's package carries Python's metadata too, which pip lists; a companion alone is no part of torch."""
    assert Status.PASSED is check(conda_pip_mix, packages).status


def test_torch_of_pip_alone_is_no_mixture() -> None:
    """Conda that brought no torch has nothing to be mixed with."""
    packages = venv(dist("torch", "2.5.1"), conda("cudatoolkit", "11.8.0"), dist("nvidia-cudnn-cu12", "9.1.0.70"))
    assert Status.NOT_APPLICABLE is check(conda_pip_mix, packages).status


def wheels(*names: str, shared: tuple[SharedFile, ...] = ()) -> Packages:
    """Make an environment of these nvidia wheels."""
    return venv(*(dist(name, "9.1.0.70") for name in names), shared_files=shared)


def test_wheels_of_two_cuda_majors() -> None:
    """Two majors are a warning; the other major goes, and what it shared comes back."""
    packages = wheels("nvidia-cudnn-cu12", "nvidia-cublas-cu12", "nvidia-cudnn-cu11")
    finding = check(mixed_cuda_major_wheels, BUILD, packages).finding
    assert Severity.WARNING is finding.severity
    assert [
        f"{PYTHON} -m pip uninstall -y 'nvidia-cudnn-cu11'",
        f"{PYTHON} -m pip install --force-reinstall --no-deps 'nvidia-cudnn-cu12==9.1.0.70'",
    ] == commands(finding)


def test_shared_file_of_two_majors_is_an_error() -> None:
    """One file with two contents makes it an error."""
    owners = ("nvidia-cudnn-cu11", "nvidia-cudnn-cu12")
    shared = (SharedFile("nvidia/cudnn/lib/libcudnn.so.9", owners),)
    finding = check(mixed_cuda_major_wheels, BUILD, wheels(*owners, shared=shared)).finding
    assert (Severity.ERROR, shared[0].path) == (finding.severity, finding.evidence[-1].label)


@pytest.mark.parametrize(
    ("packages", "status"),
    [
        (wheels("nvidia-cudnn-cu12", "nvidia-cublas-cu12"), Status.PASSED),
        (wheels("nvidia-nccl-cu11", "nvidia-nccl-cu12"), Status.PASSED),
        (wheels("nvidia-cudnn-cu13", "nvidia-nvimgcodec-cu12", "nvidia-libnvcomp-cu12"), Status.PASSED),
        (wheels("nvidia-ml-py", "nvidia-dali-cuda120"), Status.NOT_APPLICABLE),
    ],
    ids=["one major", "NCCL alone", "DALI's parts", "no library"],
)
def test_wheels_of_one_cuda_major(packages: Packages, status: Status) -> None:
    """One major passes; NCCL alone is another rule's; what is no library is not counted."""
    assert status is check(mixed_cuda_major_wheels, BUILD, packages).status


def test_torch_of_another_python() -> None:
    """A wheel made for another Python cannot be imported by this one."""
    packages = venv(dist("torch", "2.5.1", wheel_tag="cp310-cp310-manylinux1_x86_64"))
    finding = check(python_unsupported, packages, BUILD).finding
    assert (Severity.ERROR, "The torch on the path was made for Python 3.10, this is 3.11.7") == (
        finding.severity,
        finding.title,
    )


def test_python_that_no_torch_has_wheels_for() -> None:
    """An old Python without any wheel is an error, with another Python as the way out."""
    finding = check(python_unsupported, venv(python="3.6.9"), TorchPath()).finding
    assert (Severity.ERROR, ["uv venv --python '3.13' .venv"]) == (
        finding.severity,
        [line.replace("3.13", "'3.13'") for line in commands(finding)],
    )


def test_python_that_is_supported_as_an_experiment() -> None:
    """A Python that the release only tries is a warning: torch.compile refuses it."""
    packages = venv(dist("torch", "2.3.1"), python="3.12.3")
    finding = check(python_unsupported, packages, cuda_build("2.3.1+cu121", "12.1")).finding
    assert (Severity.WARNING, f"{PYTHON} -m pip install 'torch==2.4.0' --index-url {INDEX}/cu121") == (
        finding.severity,
        commands(finding)[0],
    )


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((venv(dist("torch", "2.5.1", wheel_tag="cp311-cp311-manylinux1_x86_64")), BUILD), Status.PASSED),
        ((venv(dist("torch", "2.5.1", wheel_tag="cp38-abi3-linux_x86_64")), BUILD), Status.PASSED),
        ((venv(dist("torch", "1.13.1"), python="3.11.2"),), Status.PASSED),
        ((venv(python="3.11.7"), TorchPath()), Status.NOT_APPLICABLE),
        ((venv(python="3.99.0"), TorchPath()), Status.UNKNOWN),
        ((Packages(unknown={"python_version": "not told"}), BUILD), Status.UNKNOWN),
    ],
    ids=["its wheel", "any Python's wheel", "before torch.compile", "no torch", "newer than the tables", "no Python"],
)
def test_python_that_suits(facts: tuple[Fact, ...], status: Status) -> None:
    """A wheel of this Python passes; without torch, or beyond the tables, nothing is claimed."""
    assert status is check(python_unsupported, *facts).status


@pytest.mark.parametrize(
    ("torch", "have", "expected"),
    [
        ("2.6.0+cu124", "2.5.8", (Severity.INFO, Confidence.POSSIBLE)),
        ("2.2.0+cu121", "2.3.6", (Severity.WARNING, Confidence.LIKELY)),
        ("2.3.1+cu121", "2.6.3", None),
        ("2.3.0+cu121", "2.6.3", None),
        ("2.6.0+cu124", "2.0.1", None),
        ("2.6.0a0+ecf3bae40a", "2.5.8", None),
    ],
    ids=["no wheel", "a nightly's wheel", "its wheel", "its minor's wheel", "not in the table", "NVIDIA's image"],
)
def test_flash_attn_without_a_tag_is_held_against_its_published_wheels(
    torch: str, have: str, expected: tuple[Severity, Confidence] | None
) -> None:
    """A release with no wheel for this torch is a lead; one built with this torch's nightly likely does not load."""
    checked = check(
        extension_built_for_other_torch,
        cuda_build(torch, "12.4"),
        beside(dist("flash-attn", have), torch=torch),
    )
    assert expected == ((checked.finding.severity, checked.finding.confidence) if checked.fired else None)
