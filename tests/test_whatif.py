"""What would be: files put onto a machine's facts, judged before anything is installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from envdoctor import diagnose, readers, snapshot, whatif
from envdoctor.facts.driver import CudaDevice, CudaDriver, KernelModule, NvidiaSmi, SmiGpu
from envdoctor.facts.host import Host
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.surroundings import Container
from envdoctor.facts.text import Pasted
from envdoctor.facts.torch import TorchBuild, TorchCuda, TorchImport
from envdoctor.finding import Finding, Report, Safety, Severity, Status
from envdoctor.snapshot import Snapshot

FOLDER = Path(__file__).parent / "wanted"
INDEX = "https://download.pytorch.org/whl"
CONDA = "channels: [pytorch, nvidia]\ndependencies:\n  - python=3.11\n  - pytorch=2.4.1\n"


def machine(
    driver: str = "580.95.05", level: str = "13.0", card: str = "NVIDIA H100 80GB HBM3", capability: str = "9.0",
    *, python: str = "3.12.3", arch: str = "x86_64", system: str = "Linux",
) -> Snapshot:  # fmt: skip
    """Give a machine with one GPU and an old torch that works."""
    host = Host(system=system, os_id="ubuntu", os_version="24.04", machine=arch, container="none", libc="glibc 2.39")
    smi = NvidiaSmi(exit_code=0, driver_version=driver, gpus=(SmiGpu(0, card),))
    devices = (CudaDevice(0, card, capability, 81559),)
    have = (Distribution("torch", "2.1.0+cu121", source="pip"), Distribution("numpy", "1.26.4", source="pip"))
    packages = Packages(distributions=have, python_version=python, executable="/v/bin/python", environment_kind="venv")
    return snapshot.of(
        host, smi, packages, KernelModule(loaded=True, version=driver),
        CudaDriver(cuda_version=level, init_code=0, device_count=1, devices=devices),
        TorchBuild(version="2.1.0+cu121", cuda="12.1", is_cpu_only=False), TorchImport(), TorchCuda(available=True),
    )  # fmt: skip


def judged(text: str, name: str = "requirements.txt", on: Snapshot | None = None) -> Report:
    """Judge a file together with a machine, as check does."""
    both = readers.together([readers.parse(text, source=name)], on or machine())
    return whatif.reworded(diagnose.examine(whatif.project(both)))


def counted(report: Report) -> dict[str, Finding]:
    """Give the findings that count."""
    return {each.key: each for each in report.active if each.severity is not Severity.INFO}


def build(report: Report) -> tuple[str | None, str | None, bool | None]:
    """Give the torch that would be there."""
    found = report.snapshot.get(TorchBuild) or TorchBuild()
    return found.version, found.cuda, found.is_cpu_only


# Which torch


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("torch==2.9.0", ("2.9.0", "12.8", False)),
        ("torch==2.5.1+cu118", ("2.5.1+cu118", "11.8", False)),
        (f"--index-url {INDEX}/cpu\ntorch==2.9.0", ("2.9.0+cpu", None, True)),
        (f"--index-url {INDEX}/cu126\ntorch>=2.7", ("2.14.1+cu126", "12.6", False)),
        (f"--extra-index-url {INDEX}/cu126\ntorch==2.9.0", ("2.9.0+cu126", "12.6", False)),
        # pip takes the newest of both: PyPI's, because the index beside it ends with an older one.
        (f"--extra-index-url {INDEX}/cu118\ntorch", ("2.15.0", "13.2", False)),
        ("torch>=2.1,<2.5", ("2.4.1", "12.1", False)),
        ("torch\ntorchvision==0.20.1", ("2.5.1", "12.4", False)),
        ("torchvision==0.20.1", ("2.5.1", "12.4", False)),
        (f"torch @ {INDEX}/cu121/torch-2.4.0%2Bcu121-cp312-cp312-linux_x86_64.whl", ("2.4.0+cu121", "12.1", False)),
        ("torch==2.9.0 ; sys_platform == 'darwin'\ntorch==2.8.0 ; sys_platform == 'linux'", ("2.8.0", "12.8", False)),
        ("torch==2.9.0+cu126.mine", ("2.9.0+cu126.mine", None, None)),
        ("torch==99.0", ("99.0", None, None)),
        ("--index-url https://wheels.example.org/simple\ntorch==2.9.0", ("2.9.0", None, None)),
    ],
    ids=str,
)  # fmt: skip
def test_pip_takes_the_newest_that_everything_allows(text: str, expected: tuple[str, str | None, bool | None]) -> None:
    """Pins, ranges, markers, companions, the index and the local tag decide which build comes."""
    assert expected == build(judged(text))


@pytest.mark.parametrize(
    ("arch", "system", "version", "expected"),
    [
        ("aarch64", "Linux", "2.9.0", (None, True)), ("aarch64", "Linux", "2.12.0", ("13.0", False)),
        ("x86_64", "Windows", "2.9.0", (None, True)), ("ppc64le", "Linux", "2.9.0", (None, None)),
    ],
)  # fmt: skip
def test_pypi_has_another_default_on_other_systems(
    arch: str, system: str, version: str, expected: tuple[str | None, bool | None]
) -> None:
    """For Windows, and for aarch64 up to 2.10, PyPI's torch is the CPU's."""
    assert expected == build(judged(f"torch=={version}", on=machine(arch=arch, system=system)))[1:]


SOURCES = f"""\
[project]
dependencies = ["torch==2.9.0"]
[tool.uv.sources]
torch = [MARKED]
[[tool.uv.index]]
name = "on-cpu"
url = "{INDEX}/cpu"
explicit = true
[[tool.uv.index]]
name = "on-cuda"
url = "{INDEX}/cu128"
explicit = true
"""
NO_LINUX, LINUX = (
    """{ index = "on-cpu", marker = "sys_platform != 'linux'" }""",
    """{ index = "on-cuda", marker = "sys_platform == 'linux'" }""",
)


@pytest.mark.parametrize(
    ("marked", "system", "expected"),
    [
        (f"{NO_LINUX}, {LINUX}", "Linux", ("2.9.0+cu128", "12.8", False)),
        (f"{LINUX}, {NO_LINUX}", "Windows", ("2.9.0+cpu", None, True)),
        (LINUX, "Windows", ("2.9.0", None, True)),
        (NO_LINUX, "Linux", ("2.9.0", "12.8", False)),
        ('{ index = "on-cpu", extra = "cpu" }', "Linux", ("2.9.0", "12.8", False)),
    ],
)
def test_of_several_sources_the_one_whose_marker_holds(
    marked: str, system: str, expected: tuple[str, str | None, bool | None]
) -> None:
    """Each source of a package is for the systems of its marker; where none holds, the package comes from PyPI."""
    text = SOURCES.replace("MARKED", marked)
    assert expected == build(judged(text, "pyproject.toml", on=machine(system=system)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{CONDA}  - pytorch-cuda=12.1\n", ("2.4.1", "12.1", False)),
        (f"{CONDA}  - cpuonly\n", ("2.4.1", None, True)),
        (CONDA, ("2.4.1", None, None)),
        ("channels: [conda-forge]\ndependencies:\n  - pytorch=2.7.1=cuda128*\n", ("2.7.1", "12.8", False)),
        ("channels: [pytorch]\ndependencies:\n  - pytorch\n", ("2.5.1", None, None)),
        (f"{CONDA}  - pytorch-cuda=12.1\n  - pip:\n      - torch==2.9.0\n", ("2.9.0", "12.8", False)),
        (f"{CONDA}  - pytorch-cuda=12.1\n  - pip:\n      - lightning\n", ("2.4.1", "12.1", False)),
    ],
)
def test_conda_chooses_by_what_the_file_says(text: str, expected: tuple[str, str | None, bool | None]) -> None:
    """What conda's solver alone decides is not known; pip's torch comes over conda's, its others do not bring one."""
    assert expected == build(judged(text, "environment.yml"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("uv.lock", ("2.9.1", "12.8", False)), ("pylock.toml", ("2.9.1", "12.8", False)),
        ("poetry.lock", ("2.5.1+cu121", "12.1", False)), ("pdm.lock", ("2.7.1", "12.6", False)),
        ("uv-two-torches.lock", ("2.9.1+cu126", "12.6", False)), ("uv-pyproject.toml", ("2.11.0+cu128", "12.8", False)),
        ("poetry-pyproject.toml", ("2.6.0+cu124", "12.4", False)), ("Dockerfile", ("2.5.1+cu121", "12.1", False)),
        ("environment.yml", ("2.4.1", "12.1", False)), ("requirements.txt", ("2.2.2+cu118", "11.8", False)),
    ],
)  # fmt: skip
def test_each_recorded_file_comes_to_one_torch(name: str, expected: tuple[str, str | None, bool | None]) -> None:
    """Every kind of file is judged with the same machine."""
    python = "3.11.9" if name == "pdm.lock" else "3.12.3"
    assert expected == build(judged((FOLDER / name).read_text(encoding="utf-8"), name, machine(python=python)))


@pytest.mark.parametrize(
    ("image", "more", "expected"),
    [
        ("pytorch/pytorch:2.5.1-cuda12.4-cudnn9-runtime", "", ("2.5.1", "12.4", False)),
        ("pytorch/pytorch:2.5.1-cuda12.4-cudnn9-runtime", "RUN pip install 'torch>2' timm", ("2.5.1", "12.4", False)),
        ("pytorch/pytorch:2.5.1-cuda12.4-cudnn9-runtime", "RUN pip install torch==2.6.0", ("2.6.0", "12.4", False)),
        ("python:3.12-slim", "RUN pip install torch==2.9.0", ("2.9.0", "12.8", False)),
        ("ubuntu:24.04", "RUN apt-get update", (None, None, None)),
    ],
)  # fmt: skip
def test_an_image_brings_its_own_torch(image: str, more: str, expected: tuple[str | None, ...]) -> None:
    """What the image has stays unless what is installed over it does not fit."""
    assert expected == build(judged(f"FROM {image}\n{more}\nCMD x\n", "Dockerfile"))


# What is said


def test_a_cpu_torch_is_told_before_it_is_installed() -> None:
    """The index decides; the way out is written for the file, and proved by judging the file again."""
    found = counted(judged(f"--index-url {INDEX}/cpu\ntorch==2.9.0"))["torch-cpu-only-on-gpu-machine"]
    assert "With requirements.txt: PyTorch is the CPU build on a machine with an NVIDIA GPU" == found.title
    (command,) = found.fixes[0].commands
    assert (None, f"# requirements.txt: --extra-index-url {INDEX}/cu128 and torch==2.9.0+cu128") == (
        command.argv, command.shell,
    )  # fmt: skip
    assert found.fixes[0].verify.startswith("envdoctor check --from requirements.txt --only torch-cpu-only")


def test_a_driver_too_old_for_what_would_come() -> None:
    """That the torch which is there works says nothing of the one that would come."""
    report = judged("torch", on=machine("535.183.01", "12.2", "NVIDIA A100-SXM4-80GB", "8.0"))
    assert "driver-too-old-for-cuda-build" in counted(report)
    assert {} == counted(judged("torch==2.5.1", on=machine("535.183.01", "12.2", "NVIDIA A100-SXM4-80GB", "8.0")))


def test_a_gpu_that_the_build_has_no_code_for() -> None:
    """An old torch on a new card."""
    report = judged("torch==2.5.1", on=machine(card="NVIDIA B200", capability="10.0"))
    assert "gpu-arch-not-in-build" in counted(report)


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("torch==2.1.0", "python-unsupported", "No wheel of torch==2.1.0 is for Python 3.12.3"),
        ("torch>=2.0,<2.2", "python-unsupported", "No wheel of torch<2.2,>=2.0 is for Python 3.12.3"),
        ("torch==2.5.1\ntorchvision==0.15.2", "torchvision-torch-mismatch", "torchvision 0.15.2 does not belong"),
        ("torch==2.3.0+cu128", "wheel-unavailable@torch", "torch 2.3.0 was not published for cu128"),
        (f"--index-url {INDEX}/cu128\ntorch==2.3.0", "wheel-unavailable@torch", "torch 2.3.0 was not published for"),
        ("torch==2.9.1\nflash-attn==2.8.3", "wheel-unavailable@flash-attn", "flash-attn 2.8.3 has no wheel for torch"),
        ("torch==2.4.0\nxformers==0.0.29.post1", "xformers-torch-mismatch", "xformers 0.0.29.post1"),
        ("torch==2.2.2\nnumpy", "numpy2-abi", "NumPy 2"),
        ("onnxruntime==1.20.0\nonnxruntime-gpu==1.20.0\ntorch==2.9.0", "onnxruntime-cpu-shadows-gpu", ""),
    ],
)  # fmt: skip
def test_what_cannot_work_is_told(text: str, key: str, words: str) -> None:
    """No wheel for this Python, an impossible pair, a variant that was never published, kernels without a wheel."""
    found = counted(judged(text))
    assert key in found
    assert found[key].title.startswith("With requirements.txt: ")
    assert words in found[key].title
    assert all(each.shell.startswith(("#", "uv venv")) for fix in found[key].fixes for each in fix.commands)


@pytest.mark.parametrize(
    "text",
    ["torch==2.9.0", "torch", f"--index-url {INDEX}/cu126\ntorch\ntorchvision", "torch==2.8.0\nflash-attn==2.8.3",
     "torch==2.5.1\ntorchvision==0.20.1\nnumpy<2", "torch==2.2.2\nnumpy<2"],
)  # fmt: skip
def test_what_works_raises_no_error(text: str) -> None:
    """A file that suits the machine has no error in it."""
    assert {} == {key: each.title for key, each in counted(judged(text)).items() if each.severity is Severity.ERROR}


@pytest.mark.parametrize("name", sorted(each.name for each in FOLDER.iterdir()))
@pytest.mark.parametrize("level", ["10.2", "11.4", "12.2"])
def test_what_is_to_be_written_passes_a_shell(name: str, level: str) -> None:
    """Every way out, for every kind of file and old drivers, is text that sh reads; we would run none of it."""
    old = machine({"10.2": "440.33.01", "11.4": "470.256.02", "12.2": "535.183.01"}[level], level)
    report = judged((FOLDER / name).read_text(encoding="utf-8"), name, old)
    shells = [each.shell for found in report.findings for fix in found.fixes for each in fix.commands]
    done = subprocess.run(["sh", "-n"], input="\n".join(shells), capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    planned = [fix for found in report.findings if found.title.startswith("With ") for fix in found.fixes]
    safe = [each for fix in planned if fix.safety is Safety.SAFE for each in fix.commands]
    assert [] == [each.shell for each in safe if each.argv is not None]


def test_a_lock_made_for_other_systems() -> None:
    """A lock that names no wheel for this Python and system, and no source, cannot be installed here."""
    text = (FOLDER / "uv-two-torches.lock").read_text(encoding="utf-8")
    assert "wheel-unavailable@torch" in counted(judged(text, "uv.lock", machine(arch="aarch64")))
    assert {} == counted(judged(text, "uv.lock"))


# Containers


def test_an_image_that_needs_a_newer_driver() -> None:
    """NVIDIA's images by their table, plain CUDA images by their tag; the host's working driver proves nothing."""
    old = machine("535.183.01", "12.2", "NVIDIA GeForce RTX 3090", "8.6")
    report = judged("FROM nvcr.io/nvidia/pytorch:25.09-py3\nCMD x\n", "Dockerfile", old)
    found = counted(report)["ngc-image-needs-newer-driver"]
    assert "With Dockerfile: The image 25.09 needs a newer driver: it is built for CUDA 13.0" == found.title
    assert "# Dockerfile: FROM nvcr.io/nvidia/pytorch:" in found.fixes[0].commands[0].shell
    plain = judged("FROM nvidia/cuda:13.0.1-devel-ubuntu24.04\nCMD x\n", "Dockerfile", old)
    assert "nvidia/cuda:13.0.1-devel-ubuntu24.04" in counted(plain)["ngc-image-needs-newer-driver"].title
    assert {} == counted(judged("FROM nvcr.io/nvidia/pytorch:25.09-py3\nCMD x\n", "Dockerfile"))


def test_the_image_of_nvidia_turns_tf32_on() -> None:
    """Its variable is set for whatever is installed in it."""
    report = judged("FROM nvcr.io/nvidia/pytorch:25.03-py3\nRUN pip install torch==2.8.0\n", "Dockerfile")
    assert "tf32-off" not in {each.id for each in report.findings}


@pytest.mark.parametrize("image", ["nvcr.io/nvidia/pytorch:25.09-py3", "nvidia/cuda:13.0.1-runtime-ubuntu24.04"])
def test_the_compatibility_libraries_of_an_image_serve_data_centre_cards(image: str) -> None:
    """NVIDIA's images bring them along: an older driver runs the image, and torch in it."""
    old = machine("535.183.01", "12.2", "NVIDIA A100-SXM4-80GB", "8.0")
    run = "" if "pytorch" in image else f"RUN pip install torch==2.9.0 --index-url {INDEX}/cu130\n"
    assert {} == counted(judged(f"FROM {image}\n{run}CMD x\n", "Dockerfile", old))
    over = judged("FROM python:3.12\nRUN pip install torch==2.12.0\n", "Dockerfile", old)
    assert "driver-too-old-for-cuda-build" in counted(over)


def test_torch_over_nvidias_image() -> None:
    """A pinned torch replaces NVIDIA's; one that is satisfied by it does not."""
    over = "FROM nvcr.io/nvidia/pytorch:25.09-py3\nRUN pip install {}\nCMD x\n"
    assert "ngc-torch-replaced@torch" in counted(judged(over.format("torch==2.9.0"), "Dockerfile"))
    assert {} == counted(judged(over.format("torch lightning"), "Dockerfile"))


def test_variables_of_the_image_are_judged() -> None:
    """ENV lines are the container's environment; this shell's is not. The way out is a line of the file."""
    report = judged("FROM python:3.12\nENV NCCL_P2P_DISABEL=1\nRUN pip install torch==2.9.0\n", "Dockerfile")
    found = counted(report)["environment-variable-unknown@NCCL_P2P_DISABEL"]
    assert all(each.shell.startswith("# Dockerfile: ") for fix in found.fixes for each in fix.commands)
    host, container = report.snapshot.get(Host), report.snapshot.get(Container)
    assert host is not None
    assert container is not None
    assert ("docker", "docker", None) == (host.container, container.kind, host.libc)


def test_torch_has_no_wheels_for_musl() -> None:
    """An Alpine image is told by its tag."""
    report = judged("FROM python:3.12-alpine\nRUN pip install torch==2.9.0\n", "Dockerfile")
    host = report.snapshot.get(Host)
    assert host is not None
    assert "musl" == host.libc


# The rest


def test_a_file_without_torch_is_judged_over_what_is_there() -> None:
    """The torch that is there stays, with what was seen of it."""
    report = judged("numpy==2.2.0\n")
    assert ("2.1.0+cu121", "12.1", False) == build(report)
    assert "numpy2-abi" in counted(report)
    assert report.snapshot.get(TorchCuda) is not None


def test_facts_of_the_torch_that_is_there_are_left_out() -> None:
    """Nobody imported the torch that would come: its rules do not apply, and say why."""
    report = judged("torch==2.9.0")
    assert (None, None) == (report.snapshot.get(TorchImport), report.snapshot.get(TorchCuda))
    reasons = {each.reason for each in report.checks if each.id == "torch-import-fails"}
    assert {"what the file would install is not there yet"} == reasons


def test_what_is_judged_is_said() -> None:
    """The report begins with the place, the torch that the file comes to, and why."""
    pasted = judged("torch>=2.1,<2.5\n").snapshot.get(Pasted)
    assert pasted is not None
    assert (
        "judged as it would be with requirements.txt, in a new environment with Python 3.12.3, on Linux x86_64",
        "that brings torch 2.4.1 for CUDA 12.1 (requirements.txt line 1, from PyPI, by the table of releases)",
        "torch is not pinned: 2.4.1 is the newest in the tables that the file allows",
    ) == pasted.remarks


def test_the_machine_is_judged_beside_it_in_its_own_words() -> None:
    """What is wrong with the machine itself bears no file's name."""
    broken = machine()
    facts = {**broken.facts, "kernel_module": KernelModule(loaded=True, version="575.51.03")}
    files = {"nvidia_smi": NvidiaSmi(exit_code=18, words="Failed to initialize NVML: Driver/library version mismatch")}
    sick = snapshot.of(*(facts | files).values())
    sick = snapshot.of(*[f for f in sick.facts.values() if not isinstance(f, CudaDriver)])
    found = counted(judged("torch==2.9.0", on=sick))["driver-library-mismatch"]
    assert not found.title.startswith("With ")


def test_projecting_twice_is_projecting_once() -> None:
    """A report of a what-if can be judged again."""
    both = readers.together([readers.parse("torch==2.9.0\nnumpy", source="requirements.txt")], machine())
    once = whatif.project(both)
    assert once.facts == whatif.project(once).facts


def test_without_wishes_nothing_changes() -> None:
    """A snapshot that no file was given beside is judged as it is."""
    assert machine().facts == whatif.project(machine()).facts


def test_a_healthy_wish_ends_well() -> None:
    """Nothing essential is left unknown by what is not installed yet."""
    report = judged("torch==2.9.0\ntorchvision==0.24.0\n")
    unknown = [
        f"{each.id}: {each.reason}" for each in report.checks if each.essential and each.status is Status.UNKNOWN
    ]
    assert [] == [each for each in unknown if "not there yet" in each]
