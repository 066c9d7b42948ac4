"""Rules about torch's companions: torchvision, torchaudio and NumPy against the torch that is installed."""

from __future__ import annotations

import pytest

from envdoctor.facts import Fact
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild, TorchImport
from envdoctor.finding import Confidence, Severity, Status
from envdoctor.rules.packages import numpy2_abi, torchaudio_torch_mismatch, torchvision_torch_mismatch
from envdoctor.testing import check
from tests.torch_facts import INDEX, commands, conda, cpu_build, cuda_build, dist, venv

PYTHON = "/opt/venv/bin/python"
BUILD = cuda_build("2.5.1+cu124", "12.4")


def vision(version: str, wants: str = "", **more: object) -> Distribution:
    """Make a torchvision that declares this torch."""
    return dist("torchvision", version, requires=("numpy", f"torch{wants}") if wants else (), **more)


def beside(*distributions: Distribution, torch: str = "2.5.1") -> Packages:
    """Make an environment with torch and these."""
    return venv(dist("torch", torch), *distributions)


def test_declared_torch_comes_first() -> None:
    """What torchvision's own metadata asks for decides, and both ways out are given, the companion's first."""
    finding = check(torchvision_torch_mismatch, BUILD, beside(vision("0.19.1", "==2.4.1"))).finding
    assert (Severity.ERROR, "torch==2.4.1") == (finding.severity, finding.evidence[0].value)
    assert [
        f"{PYTHON} -m pip install --no-deps 'torchvision==0.20.1' --index-url {INDEX}/cu124",
        f"{PYTHON} -m pip install 'torch==2.4.1' 'torchvision==0.19.1' --index-url {INDEX}/cu124",
    ] == commands(finding)


@pytest.mark.parametrize("version", ["0.19.1", "0.16.0+cu118", "0.7.0"])
def test_table_answers_where_the_metadata_is_silent(version: str) -> None:
    """A torchvision known from a list, without its metadata, is judged by the release it was published with."""
    finding = check(torchvision_torch_mismatch, BUILD, beside(vision(version))).finding
    assert "knowledge.ecosystem" == finding.evidence[0].fact


@pytest.mark.parametrize(
    ("build", "packages"),
    [
        (BUILD, beside(vision("0.20.1", "==2.5.1"))),
        (BUILD, beside(vision("0.20.1+cu124", " (==2.5.1)", built_for="+cu124, CUDA 12.4"))),
        (BUILD, beside(vision("0.20.1+cu121", "==2.5.1", built_for="+cu121, CUDA 12.1"))),
        (BUILD, beside(vision("0.20.1"))),
        (cuda_build("2.1.0a0+32f93b1", "12.3"), beside(vision("0.16.0a0"), torch="2.1.0a0+32f93b1")),
        (
            cuda_build("2.1.0a0+32f93b1", "12.3"),
            beside(vision("0.16.0a0", "==2.1.0a0+32f93b1"), torch="2.1.0a0+32f93b1"),
        ),
        (cuda_build("2.0.1+cu117", "11.7"), beside(vision("0.15.2a0+fa99a53", "==2.0.1"), torch="2.0.1")),
        (cuda_build("2.6.0.dev20241008+cu124", "12.4"), beside(vision("0.20.0.dev20241008+cu124"))),
        (cuda_build("2.15.0+cu132", "13.2"), beside(vision("0.29.1", ">=2.14.0"), torch="2.15.0")),
        (cpu_build("2.9.0+cpu"), beside(vision("0.24.0+cpu", "==2.9.0", built_for="+cpu"), torch="2.9.0+cpu")),
    ],
    ids=[
        "pin",
        "pin and tag",
        "another minor of CUDA",
        "table",
        "NVIDIA's image",
        "its pin",
        "source",
        "nightly",
        "range",
        "CPU",
    ],
)
def test_torchvision_that_belongs_passes(build: TorchBuild, packages: Packages) -> None:
    """A release that belongs, a source build by its own word, and NVIDIA's image are not accused."""
    assert Status.PASSED is check(torchvision_torch_mismatch, build, packages).status


@pytest.mark.parametrize(
    ("build", "have", "words"),
    [
        (cuda_build("2.5.1+cu118", "11.8"), vision("0.20.1", "==2.5.1", built_for="+cu124, CUDA 12.4"), "CUDA 12.4"),
        (cpu_build("2.5.1+cpu"), vision("0.20.1", "==2.5.1", built_for="+cu124, CUDA 12.4"), "torch for the CPU"),
        (BUILD, vision("0.20.1+cpu", "==2.5.1"), "built for the CPU"),
        (cuda_build("2.0.1+cu118", "11.8"), vision("0.15.2+cu117", "==2.0.1"), "CUDA 11.7"),
        (cuda_build("1.7.0+cu101", "10.1.243"), vision("0.8.1+cu92", "==1.7.0"), "CUDA 9.2"),
    ],
    ids=["major", "CPU torch", "CPU torchvision", "minor before 0.16", "old"],
)
def test_cuda_of_another_build_is_an_error(build: TorchBuild, have: Distribution, words: str) -> None:
    """The release fits, the CUDA does not: the operators do not load. Up to 0.15 the minor counts too."""
    finding = check(torchvision_torch_mismatch, build, venv(dist("torch", str(build.version)), have)).finding
    assert (Severity.ERROR, True) == (finding.severity, words in finding.title)


def test_other_variant_of_the_same_release_is_asked_for_by_its_tag() -> None:
    """Over the same release an installer acts only on the tagged version."""
    have = vision("0.28.0", " (==2.13.0)", built_for="+cu130, CUDA 13.0")
    finding = check(torchvision_torch_mismatch, cpu_build("2.13.0+cpu"), beside(have, torch="2.13.0+cpu")).finding
    assert [f"{PYTHON} -m pip install --no-deps 'torchvision==0.28.0+cpu' --index-url {INDEX}/cpu"] == commands(finding)


def rocm_build(version: str) -> TorchBuild:
    """Make a torch for AMD's GPUs."""
    return TorchBuild(version=version, hip="6.2.41134", is_cpu_only=False)


@pytest.mark.parametrize("tag", ["cu124", "cpu"])
def test_rocm_torch_needs_the_companion_of_its_own_index(tag: str) -> None:
    """PyPI's torchvision, which pip puts beside a ROCm torch, is for CUDA: the way out names torch's own index."""
    packages = beside(vision(f"0.21.0+{tag}", built_for=f"+{tag}"), torch="2.6.0+rocm6.2.4")
    finding = check(torchvision_torch_mismatch, rocm_build("2.6.0+rocm6.2.4"), packages).finding
    assert "torch for ROCm" in finding.title
    spec = "'torchvision==0.21.0+rocm6.2.4'"
    assert [f"{PYTHON} -m pip install --no-deps {spec} --index-url {INDEX}/rocm6.2.4"] == commands(finding)


@pytest.mark.parametrize(
    ("torch", "version", "status"),
    [
        ("2.6.0+rocm6.2.4", "0.21.0+rocm6.2.4", Status.PASSED),
        ("2.6.0+rocm6.4.1.git1ded221d", "0.21.0+rocm6.4.1.git4040d51f", Status.PASSED),
        ("2.6.0+rocm6.2.4", "0.21.0", Status.PASSED),
        ("2.6.0+rocm6.4.1.git1ded221d", "0.20.1+cu124", Status.FIRED),
    ],
)
def test_rocm_torch_and_its_companions(torch: str, version: str, status: Status) -> None:
    """A pair for ROCm passes, AMD's own builds too; to those no wheel of another maker is advised."""
    found = check(torchvision_torch_mismatch, rocm_build(torch), beside(vision(version), torch=torch))
    assert status is found.status
    assert not found.fired or not commands(found.finding)


def test_rocm_companion_beside_cuda() -> None:
    """The reverse is a mismatch as well."""
    found = check(torchvision_torch_mismatch, BUILD, beside(vision("0.20.1+rocm6.2")))
    assert "built for ROCm, torch for CUDA 12.4" in found.finding.title


def test_condas_build_string_names_the_cuda() -> None:
    """Conda's torchvision carries its CUDA in the build string."""
    have = conda("torchvision", "0.18.1", "py311_cu118")
    packages = venv(conda("torch", "2.3.1", "py3.11_cuda12.1_cudnn8.9.2_0"), have, environment_kind="conda")
    assert check(torchvision_torch_mismatch, cuda_build("2.3.1", "12.1"), packages).fired


@pytest.mark.parametrize(
    ("packages", "status", "reason"),
    [
        (beside(), Status.NOT_APPLICABLE, "torchvision is not installed"),
        (venv(vision("0.20.1")), Status.NOT_APPLICABLE, "torch is not installed"),
        (beside(vision("9.9.9")), Status.UNKNOWN, "torchvision 9.9.9 declares no torch, and no table knows it"),
        (beside(vision("zero")), Status.UNKNOWN, "torchvision calls itself 'zero', which is no version"),
    ],
)
def test_torchvision_that_cannot_be_judged(packages: Packages, status: Status, reason: str) -> None:
    """Nothing to compare, an unknown release, and a version that is none each end with their reason."""
    found = check(torchvision_torch_mismatch, packages)
    assert (status, reason) == (found.status, found.reason)


@pytest.mark.parametrize(
    ("build", "have"),
    [
        (BUILD, dist("torchaudio", "2.4.0")),
        (BUILD, dist("torchaudio", "2.5.0", requires=("torch==2.5.0",))),
        (BUILD, dist("torchaudio", "2.5.1+cu121", requires=("torch==2.5.1",))),
        (BUILD, dist("torchaudio", "0.9.1")),
    ],
    ids=["table", "pin", "minor of CUDA", "old"],
)
def test_torchaudio_of_another_torch_is_a_warning(build: TorchBuild, have: Distribution) -> None:
    """Torchaudio compares its release and the CUDA minor: either is a warning."""
    finding = check(torchaudio_torch_mismatch, build, beside(have)).finding
    assert (Severity.WARNING, True) == (finding.severity, bool(commands(finding)))


@pytest.mark.parametrize(
    ("build", "have"),
    [
        (BUILD, dist("torchaudio", "2.5.1", requires=("torch==2.5.1",), built_for="CUDA 12.4")),
        (cuda_build("2.0.1+cu118", "11.8"), dist("torchaudio", "2.0.2+cu118")),
        (cuda_build("2.13.0+cu130", "13.0"), dist("torchaudio", "2.11.0")),
        (cuda_build("1.10.1", "11.5"), dist("torchaudio", "0.10.0+d2634d8")),
        (cuda_build("2.9.0+cu130", "13.0"), dist("torchaudio", "2.9.0+cu128", requires=("torch==2.9.0",))),
    ],
    ids=["pin", "table", "declares none", "source build", "without a CUDA check"],
)
def test_torchaudio_that_belongs_passes(build: TorchBuild, have: Distribution) -> None:
    """What belongs, what declares no torch, and a source build without a word pass."""
    assert Status.PASSED is check(torchaudio_torch_mismatch, build, beside(have, torch=str(build.version))).status


OLD = cuda_build("2.2.2+cu121", "12.1")
NUMPY_2 = dist("numpy", "2.0.0")
WORDS = "A module that was compiled using NumPy 1.x cannot be run in\nNumPy 2.1.2 as it may crash."


@pytest.mark.parametrize(
    ("facts", "confidence"),
    [
        ((OLD, beside(NUMPY_2, torch="2.2.2")), Confidence.CERTAIN),
        ((TorchBuild(version="2.2.2", numpy_headers_major=1), beside(NUMPY_2)), Confidence.CERTAIN),
        ((venv(NUMPY_2), OLD), Confidence.LIKELY),
        ((BUILD, beside(NUMPY_2), TorchImport(imported=True, warnings=(f"UserWarning: {WORDS}",))), Confidence.CERTAIN),
        ((BUILD, beside(NUMPY_2), TorchImport(imported=True, printed=f"\n{WORDS}\n")), Confidence.CERTAIN),
    ],
    ids=["published wheel", "headers", "no metadata", "warning", "printed"],
)
def test_numpy_2_beside_numpy_1_code(facts: tuple[Fact, ...], confidence: Confidence) -> None:
    """An old torch, its headers, or the words of NumPy itself make it an error."""
    finding = check(numpy2_abi, *facts).finding
    assert (Severity.ERROR, confidence) == (finding.severity, finding.confidence)
    assert f"{PYTHON} -m pip install 'numpy<2'" == commands(finding)[0]


def test_numpy_2_with_an_old_torch_has_two_ways_out() -> None:
    """An older NumPy, or a torch that is compiled for NumPy 2."""
    finding = check(numpy2_abi, OLD, beside(NUMPY_2, torch="2.2.2")).finding
    assert f"{PYTHON} -m pip install 'torch==2.3.0' --index-url {INDEX}/cu121" == commands(finding)[1]


def test_conda_changes_its_own_numpy() -> None:
    """A NumPy that conda brought is changed by conda."""
    packages = venv(dist("torch", "2.2.2"), conda("numpy", "2.0.0"), environment_kind="conda", prefix="/opt/conda")
    assert "conda install --prefix /opt/conda 'numpy<2'" == commands(check(numpy2_abi, OLD, packages).finding)[0]


@pytest.mark.parametrize(
    "facts",
    [
        (OLD, beside(dist("numpy", "1.26.4"), torch="2.2.2")),
        (BUILD, beside(NUMPY_2)),
        (cuda_build("2.3.0+cu121", "12.1"), beside(NUMPY_2, torch="2.3.0")),
        (TorchBuild(version="2.2.2", numpy_headers_major=2), beside(NUMPY_2)),
        (OLD, venv(conda("torch", "2.2.2"), conda("numpy", "2.0.0")), TorchImport(imported=True)),
        (cuda_build("2.3.0a0+6ddf5cf85e", "12.4"), beside(NUMPY_2, torch="2.3.0a0+6ddf5cf85e")),
    ],
    ids=["NumPy 1", "torch 2.5", "torch 2.3", "headers of 2", "conda's own, seen to work", "NVIDIA's image"],
)
def test_numpy_that_fits_passes(facts: tuple[Fact, ...]) -> None:
    """NumPy 1, a torch compiled for 2, and somebody's own build that was seen to work pass."""
    assert Status.PASSED is check(numpy2_abi, *facts).status


def test_no_numpy_is_not_applicable() -> None:
    """Torch works without NumPy."""
    assert Status.NOT_APPLICABLE is check(numpy2_abi, BUILD, beside()).status
