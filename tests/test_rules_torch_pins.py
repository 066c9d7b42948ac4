"""Rules about what torch pins: NVIDIA's wheels and Triton."""

from __future__ import annotations

import pytest

from envdoctor.facts.packages import Packages, SharedFile
from envdoctor.facts.torch import Pin, TorchBuild, TorchImport, TorchSettings
from envdoctor.finding import Confidence, Severity, Status
from envdoctor.rules.torch_pins import named_in, triton_torch_mismatch, wheel_pin_drift
from envdoctor.testing import check
from tests.torch_facts import commands, cpu_build, cuda_build, dist, venv

PYTHON = "/opt/venv/bin/python"
BUILD = cuda_build("2.5.1+cu124", "12.4", "nvidia-cudnn-cu12==9.1.0.70", "nvidia-nccl-cu12==2.21.5", "triton==3.1.0")


def with_wheels(**versions: str) -> Packages:
    """Make torch beside these wheels, dashes written as underscores."""
    return venv(dist("torch", "2.5.1"), *(dist(name.replace("_", "-"), each) for name, each in versions.items()))


@pytest.mark.parametrize("cudnn", ["9.5.1.17", "9.1.0.71"])
def test_newer_minor_is_info(cudnn: str) -> None:
    """A newer cuDNN of the same major is drift that does no harm: info, with the command back."""
    finding = check(wheel_pin_drift, BUILD, with_wheels(nvidia_cudnn_cu12=cudnn)).finding
    assert (Severity.INFO, "") == (finding.severity, finding.subject)
    assert [f"{PYTHON} -m pip install --no-deps 'nvidia-cudnn-cu12==9.1.0.70'"] == commands(finding)


@pytest.mark.parametrize(("cudnn", "words"), [("8.9.2.26", ".so.9, is not there"), ("9.0.0.312", "refuses")])
def test_cudnn_that_torch_cannot_use_is_an_error(cudnn: str, words: str) -> None:
    """Another major, whose file has another name, and an older minor, which torch refuses, are errors."""
    finding = check(wheel_pin_drift, BUILD, with_wheels(nvidia_cudnn_cu12=cudnn)).finding
    assert (Severity.ERROR, "nvidia-cudnn-cu12", True) == (finding.severity, finding.subject, words in finding.title)


def test_cudnn_that_torch_was_seen_to_open_is_no_error() -> None:
    """Torch's own check of cuDNN overrules the arithmetic."""
    opened = TorchSettings(cudnn_version=90000)
    found = check(wheel_pin_drift, BUILD, with_wheels(nvidia_cudnn_cu12="9.0.0.312"), opened)
    assert Severity.INFO is found.finding.severity


def test_library_that_a_failed_import_names_is_an_error() -> None:
    """An import that failed over the drifted library makes it an error, with the loader's words."""
    torch = TorchImport(imported=False, error_type="ImportError", error="undefined symbol: ncclCommWindowRegister")
    finding = check(wheel_pin_drift, BUILD, with_wheels(nvidia_nccl_cu12="2.18.1"), torch).finding
    assert (Severity.ERROR, torch.error) == (finding.severity, finding.evidence[-1].value)


def test_library_that_a_failed_import_does_not_name_stays_info() -> None:
    """An import that failed over something else does not blame the drift."""
    torch = TorchImport(imported=False, error_type="ImportError", error="libcusparseLt.so.0: cannot open shared object")
    assert (
        Severity.INFO is check(wheel_pin_drift, BUILD, with_wheels(nvidia_nccl_cu12="2.23.4"), torch).finding.severity
    )


@pytest.mark.parametrize(
    ("words", "wheel", "named"),
    [
        ("libnvJitLink.so.12", "nvidia-nvjitlink-cu12", True),
        ("undefined symbol: __nvJitLinkComplete_12_4", "nvidia-nvjitlink-cu12", True),
        ("libcusparseLt.so.0: cannot open", "nvidia-cusparselt-cu12", True),
        ("libcusparseLt.so.0: cannot open", "nvidia-cusparse-cu12", False),
        ("libcublasLt.so.12", "nvidia-cublas-cu12", True),
        ("libcudart.so.12", "nvidia-cuda-runtime-cu12", True),
        ("undefined symbol: ncclCommWindowRegister", "nvidia-nccl-cu12", True),
        ("module 'torch' has no attribute 'cuda'", "nvidia-cuda-runtime-cu12", False),
    ],
)
def test_words_of_the_loader_name_a_wheel(words: str, wheel: str, named: bool) -> None:
    """A library's file name or one of its symbols names the wheel that carries it, and no other."""
    assert named is named_in(words, wheel)


def test_several_drifted_wheels_are_one_finding() -> None:
    """Harmless drift is told once, whatever the number of wheels."""
    packages = with_wheels(nvidia_cudnn_cu12="9.5.1.17", nvidia_nccl_cu12="2.23.4")
    finding = check(wheel_pin_drift, BUILD, packages).finding
    assert 2 == len(finding.evidence)
    assert [f"{PYTHON} -m pip install --no-deps 'nvidia-cudnn-cu12==9.1.0.70' 'nvidia-nccl-cu12==2.21.5'"] == commands(
        finding
    )


def test_pinned_versions_and_absent_wheels_are_no_drift() -> None:
    """Exactly what is pinned passes; a wheel that is not there has not drifted."""
    packages = with_wheels(nvidia_cudnn_cu12="9.1.0.70")
    assert Status.PASSED is check(wheel_pin_drift, BUILD, packages).status


def test_cpu_build_pins_nothing() -> None:
    """Without pins there is nothing to drift from."""
    found = check(wheel_pin_drift, cpu_build(), with_wheels(nvidia_cudnn_cu12="9.1.0.70"))
    assert (Status.NOT_APPLICABLE, "this torch pins no nvidia-* wheel") == (found.status, found.reason)


def test_version_that_is_none_is_unknown() -> None:
    """A version that nobody can read is said to be unknown, with its words."""
    found = check(wheel_pin_drift, BUILD, with_wheels(nvidia_cudnn_cu12="nine"))
    assert (Status.UNKNOWN, "nvidia-cudnn-cu12 calls itself 'nine', which is no version") == (
        found.status,
        found.reason,
    )


def test_triton_of_another_release_is_an_error() -> None:
    """Triton's private interfaces change with each release: another one is an error."""
    finding = check(triton_torch_mismatch, BUILD, with_wheels(triton="3.2.0")).finding
    assert (Severity.ERROR, Confidence.CERTAIN) == (finding.severity, finding.confidence)
    assert "triton 3.2.0 is installed, but this torch works with triton==3.1.0" == finding.title
    assert [f"{PYTHON} -m pip install --no-deps 'triton==3.1.0'"] == commands(finding)


def test_table_answers_where_the_metadata_is_silent() -> None:
    """A torch known from a pasted text, without its pins, is judged by the published wheel's."""
    finding = check(triton_torch_mismatch, cuda_build("2.9.1", "12.8"), with_wheels(triton="3.6.0")).finding
    assert ("triton==3.5.1", "knowledge.torch_releases") == (finding.evidence[0].value, finding.evidence[0].fact)


def test_patch_number_alone_is_likely() -> None:
    """Another patch of the same release is not the pinned one, but may work."""
    finding = check(triton_torch_mismatch, BUILD, with_wheels(triton="3.1.1")).finding
    assert (Severity.ERROR, Confidence.LIKELY) == (finding.severity, finding.confidence)


NIGHTLY = TorchBuild(
    version="2.6.0.dev20241230+cu126",
    cuda="12.6",
    pins=(Pin("pytorch-triton", "==3.2.0+git0d4682f0"),),
    is_cpu_only=False,
)


def test_another_revision_of_a_nightly_is_a_warning() -> None:
    """A nightly pins a revision; another one is a warning."""
    packages = venv(dist("torch", "2.6.0.dev20241230+cu126"), dist("pytorch-triton", "3.2.0+git23753f4f"))
    assert Severity.WARNING is check(triton_torch_mismatch, NIGHTLY, packages).finding.severity


@pytest.mark.parametrize(
    ("build", "packages"),
    [
        (BUILD, with_wheels(triton="3.1.0")),
        (BUILD, with_wheels(triton="3.1.0+git23753f4f")),
        (NIGHTLY, venv(dist("pytorch-triton", "3.2.0+git0d4682f0"))),
        (cpu_build(), with_wheels(triton="3.9.0")),
        (cuda_build("2.14.0+cu130", "13.0"), with_wheels(triton="3.8.2")),
        (TorchBuild(version="2.9.0+rocm6.4", hip="6.4", is_cpu_only=False), with_wheels(triton="3.3.0")),
    ],
    ids=["pinned", "with a revision", "nightly", "CPU build", "compatible release", "ROCm"],
)
def test_triton_that_belongs_to_torch_passes(build: TorchBuild, packages: Packages) -> None:
    """The pinned Triton, with or without a revision, passes; a build that pins none does not ask."""
    assert Status.PASSED is check(triton_torch_mismatch, build, packages).status


@pytest.mark.parametrize(
    ("build", "packages", "reason"),
    [
        (BUILD, venv(dist("torch", "2.5.1")), "Triton is not installed"),
        (
            cuda_build("1.12.1+cu113", "11.3"),
            with_wheels(triton="2.2.0"),
            "torch 1.12.1+cu113 names no Triton of its own",
        ),
        (cuda_build("2.1.0a0+32f93b1", "12.3"), with_wheels(triton="2.1.0"), "torch 2.1.0a0+32f93b1 names no Triton"),
    ],
    ids=["no Triton", "older torch", "NVIDIA's image"],
)
def test_triton_is_not_judged_without_a_pin(build: TorchBuild, packages: Packages, reason: str) -> None:
    """No Triton, or a torch that names none, is not applicable."""
    found = check(triton_torch_mismatch, build, packages)
    assert (Status.NOT_APPLICABLE, True) == (found.status, found.reason.startswith(reason))


def test_triton_and_pytorch_triton_in_one_directory() -> None:
    """Two owners of one directory with two versions are an error; both go, the pinned one comes back."""
    packages = with_wheels(triton="3.1.0", pytorch_triton="3.2.0+git23753f4f")
    finding = check(triton_torch_mismatch, BUILD, packages).finding
    assert ("pytorch-triton", Severity.ERROR) == (finding.subject, finding.severity)
    assert [
        f"{PYTHON} -m pip uninstall -y 'triton' 'pytorch-triton'",
        f"{PYTHON} -m pip install --no-deps 'triton==3.1.0'",
    ] == commands(finding)


@pytest.mark.parametrize(
    "packages",
    [
        with_wheels(triton="3.1.0", pytorch_triton="3.1.0+cf34004b8a"),
        venv(dist("triton", "3.1.0"), dist("pytorch-triton", "3.2.0", location="/elsewhere")),
    ],
    ids=["one version", "two directories"],
)
def test_two_tritons_that_do_not_mix(packages: Packages) -> None:
    """The same version under both names, and two directories, are no mixture."""
    assert Status.PASSED is check(triton_torch_mismatch, BUILD, packages).status


def test_shared_files_show_the_mixture_whatever_the_directories_say() -> None:
    """Where records name one file for both, the directories need not be known."""
    shared = (SharedFile("triton/__init__.py", ("pytorch-triton", "triton")),)
    packages = venv(
        dist("triton", "3.1.0", location=""), dist("pytorch-triton", "3.2.0", location="/x"), shared_files=shared
    )
    assert "pytorch-triton" == check(triton_torch_mismatch, BUILD, packages).finding.subject


UNPINNED = cuda_build("2.6.0.dev20241112+cu121", "12.1")


@pytest.mark.parametrize(
    ("build", "packages", "fires"),
    [
        (UNPINNED, venv(dist("triton", "3.1.0+git24324aec")), True),
        (UNPINNED, venv(dist("pytorch-triton", "3.1.0+cf34004b8a")), False),
        (UNPINNED, venv(dist("triton", "3.1.0")), False),
        (cuda_build("2.9.0.dev20250901+cu128", "12.8"), venv(dist("triton", "3.5.0+git1234567")), False),
        (cuda_build("2.6.0a0+git24324ae", "12.1"), venv(dist("triton", "3.1.0+git24324aec")), False),
    ],
    ids=["own build", "its own", "a release", "later nightly", "source build"],
)
def test_triton_from_git_beside_a_nightly(build: TorchBuild, packages: Packages, fires: bool) -> None:
    """Nightlies came with pytorch-triton: a triton that somebody built from git took its place."""
    found = [each for each in check(triton_torch_mismatch, build, packages).findings if "own build" in each.title]
    assert [Severity.WARNING] * fires == [each.severity for each in found]
