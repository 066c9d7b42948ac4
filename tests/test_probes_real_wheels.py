"""Real wheels of torch's companions that do not belong to the torch beside them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from envdoctor_probes.packages import packages
from envdoctor_probes.torch_files import check
from envdoctor_probes.torch_libraries import Libraries, Unreadable, numpy_headers_major

from envdoctor.facts.packages import Packages
from envdoctor.probe import Context
from tests.stands.probe_process import ask

pytestmark = pytest.mark.network
WHEELS = ("torchvision==0.19.1", "torchaudio==2.4.1", "xformers==0.0.28.post1", "cuda-toolkit==13.0.2")


@pytest.fixture(scope="session")
def companions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheels without what they need, or skip where there is no network (27 MB)."""
    folder = tmp_path_factory.mktemp("companions")
    options = ["--no-deps", "--no-compile", "--only-binary", ":all:", "--python-version", "3.11"]
    command = [sys.executable, "-m", "pip", "install", "-q", *options, "--target", str(folder), *WHEELS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        pytest.skip(f"pip cannot install them here: {done.stderr.strip()[-300:]}")
    return folder


@pytest.fixture
def fact(companions: Path) -> Packages:
    """Ask the probe about them."""
    found: Packages = packages.collect(Context(path=(str(companions),), cwd="/", environ={"PYTHONSAFEPATH": "1"}))
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torchvision", "+cu121, CUDA 12.1"),
        ("torchaudio", "+cu121, CUDA 12.1"),
        ("xformers", "torch 2.4.1+cu121, CUDA 12.1, Python 3.11.10"),
    ],
)
def test_real_companions_say_what_they_were_built_for(fact: Packages, name: str, expected: str) -> None:
    """The records in the real wheels are understood."""
    found = fact.find(name)
    assert expected == (found.built_for if found else None)


def test_real_companions_name_the_torch_that_they_need(fact: Packages) -> None:
    """Each of the three pins torch 2.4.1, in one of two ways of writing."""
    pinned = {each.name: "".join(r for r in each.requires if r.startswith("torch")) for each in fact.distributions}
    expected = {"torchvision": "torch (==2.4.1)", "torchaudio": "torch (==2.4.1)", "xformers": "torch==2.4.1"}
    assert expected == {name: text for name, text in pinned.items() if text}


def test_real_wheels_are_whole(companions: Path, fact: Packages) -> None:
    """No file that a real RECORD names is taken for damaged."""
    from envdoctor_probes.metadata import Listing, installed

    names = tuple(each.name for each in companions.iterdir())
    checked = [check(each) for each in installed((Listing(str(companions), names),))]
    assert [()] * len(fact.distributions) == [each.damaged for each in checked]


def test_the_real_toolkit_answers_for_its_extras(companions: Path, tmp_path: Path) -> None:
    """Torch's pins are followed through the real cuda-toolkit metadata."""
    from tests.stands.wheels import Wheel, install

    requires = ("cuda-toolkit[cublas,cudart,cufile]==13.0.2; sys_platform == 'linux'",)
    install(tmp_path, Wheel("torch", "2.11.0", {"torch/__init__.py": "", "torch/version.py": ""}, requires))
    answer = ask("torch_build", path=[tmp_path, companions])["torch_build"]
    expected = {
        "cuda-toolkit": "==13.0.2",
        "nvidia-cublas": "==13.1.0.3.*",
        "nvidia-cuda-runtime": "==13.0.96.*",
        "nvidia-cufile": "==1.15.1.6.*",
    }
    assert expected == {each["name"]: each["specifier"] for each in answer["pins"]}


def test_a_library_without_numpy_says_so(companions: Path) -> None:
    """Where torch's Python library is not there, what NumPy it was compiled with is not known."""
    with pytest.raises(Unreadable, match=r"libtorch_python\.so is not in"):
        numpy_headers_major(Libraries([str(companions / "torchvision")]))
