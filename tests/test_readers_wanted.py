"""Files of what would be installed: each kind's rows, markers, indexes, wheels and images; what is not read is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from envdoctor import readers
from envdoctor.facts.text import Requirement, Wanted
from envdoctor.readers.conda_environment import specifier_of
from envdoctor.readers.package_lists import recognises as is_list
from envdoctor.readers.pyproject import _specifier

FOLDER = Path(__file__).parent / "wanted"
CU118, CU121, CU124, CU126, CU128 = (
    f"https://download.pytorch.org/whl/{each}" for each in ("cu118", "cu121", "cu124", "cu126", "cu128")
)
# name, specifier, index
ROWS: dict[str, list[tuple[str, str, str]]] = {
    "requirements.txt": [
        ("torch", "<2.3,>=2.0", ""), ("torchvision", "==0.17.2+cu118", ""), ("numpy", "", ""),
        ("flash-attn", "==2.5.8", ""),
    ],
    "environment.yml": [
        ("pytorch", "==2.4.1", ""), ("pytorch-cuda", "==12.1.*", ""), ("ffmpeg", ">=4.3,<6", ""), ("pip", "", ""),
        ("xformers", "==0.0.28", ""), ("transformers", ">=4.40", ""),
    ],
    "Dockerfile": [("torch", "==2.5.1", CU121), ("xformers", ">=0.0.28", ""), ("numpy", "<2", "")],
    "uv-pyproject.toml": [
        ("torch", ">=2.9", "https://download.pytorch.org/whl/cpu"), ("torch", ">=2.9", CU128), ("torch", ">=2.9", ""),
        ("torchvision", "", CU128),
    ],
    "poetry-pyproject.toml": [("numpy", ">=1.26,<1.27", ""), ("torch", ">=2.5,<3", CU124), ("torchvision", "", "")],
    "poetry.lock": [("numpy", "==1.26.4", ""), ("torch", "==2.5.1+cu121", CU121), ("triton", "==3.1.0", "")],
    "pdm.lock": [("torch", "==2.7.1", "")],
    "uv-two-torches.lock": [
        ("torch", "==2.9.1", "https://download.pytorch.org/whl/cpu"), ("torch", "==2.9.1+cu126", CU126),
    ],
}  # fmt: skip
KINDS = {
    "requirements.txt": ("requirements",), "environment.yml": ("conda",), "Dockerfile": ("dockerfile",),
    "uv.lock": ("lock",), "pylock.toml": ("lock",), "poetry.lock": ("lock",), "uv-pyproject.toml": ("pyproject",),
}  # fmt: skip


def wanted(name: str) -> Wanted:
    """Read one of the recorded files."""
    (fact,) = readers.parse((FOLDER / name).read_bytes(), source=name).facts
    assert isinstance(fact, Wanted)
    return fact


def row(name: str, package: str) -> Requirement:
    """Give the first row of a recorded file about a package."""
    return next(each for each in wanted(name).requirements if each.name == package)


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_each_kind(name: str) -> None:
    """Names, ranges and indexes are read from each kind of file."""
    assert ROWS[name] == [(each.name, each.specifier, each.index) for each in wanted(name).requirements]


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_told_by_what_is_in_it(name: str) -> None:
    """The kind of a file is read from its content, whatever it is called."""
    told = readers.parse((FOLDER / name).read_bytes(), source="a text")
    kinds = [fact.kinds for fact in told.facts if isinstance(fact, Wanted)]
    assert [KINDS[name]] == kinds


@pytest.mark.parametrize("name", ["uv.lock", "pylock.toml"])
def test_a_lock_made_by_uv_is_read_whole(name: str) -> None:
    """Versions, the markers of forks, wheels and source distributions come out of both of uv's layouts."""
    torch, old, new = row(name, "torch"), *(each for each in wanted(name).requirements if each.name == "numpy")
    assert ("==2.9.1", "https://pypi.org/simple", False) == (torch.specifier, torch.index, torch.has_sdist)
    assert "cp312-cp312-manylinux_2_28_x86_64" in torch.wheels
    assert (True, True, ">=3.11, <3.13") == ("< '3.12'" in old.marker, ">= '3.12'" in new.marker, wanted(name).python)


def test_poetrys_markers_and_python_are_read() -> None:
    """Poetry keeps markers with the package, and the Python in its metadata."""
    assert ("platform_system" in row("poetry.lock", "triton").marker, ">=3.11,<3.13", ("poetry",)) == (
        True, wanted("poetry.lock").python, wanted("poetry.lock").tools,
    )  # fmt: skip


def test_a_lock_that_was_cut_is_read_line_by_line() -> None:
    """What is left of a lock gives names and versions, and the report says that markers were not read."""
    text = (FOLDER / "poetry.lock").read_text(encoding="utf-8")
    told = readers.parse(text[: text.index("[package.source]")] + "\nurl = ", source="poetry.lock")
    (fact,) = told.facts
    assert isinstance(fact, Wanted)
    assert [("numpy", "==1.26.4"), ("torch", "==2.5.1+cu121")] == [(r.name, r.specifier) for r in fact.requirements]
    assert ("poetry.lock: it is not whole TOML, so it was read line by line: markers and wheels were not read",) == (
        told.remarks
    )


def test_what_is_not_read_of_a_requirements_file_is_said() -> None:
    """Other files are never opened, and lines that pip alone understands are named."""
    told = readers.parse((FOLDER / "requirements.txt").read_bytes(), source="requirements.txt")
    assert (
        "requirements.txt: it asks for more.txt, which is not read: give it beside with another --from",
        "requirements.txt: not understood: line 8, line 9",
    ) == told.remarks
    assert ((CU118,), False) == (wanted("requirements.txt").indexes, wanted("requirements.txt").replaces_index)


def test_an_environment_has_channels_and_two_installers() -> None:
    """Conda's own packages and those for pip are told apart; the Python is the environment's."""
    fact = wanted("environment.yml")
    assert (("pytorch", "nvidia", "defaults"), "==3.11.*") == (fact.channels, fact.python)
    assert {"xformers": "pip", "pytorch": "conda"} == {
        each.name: each.kind for each in fact.requirements if each.name in {"xformers", "pytorch"}
    }
    assert "channel conda-forge" == row("environment.yml", "ffmpeg").marker


def test_yaml_that_is_not_plain_is_said() -> None:
    """An anchor, or a list of lists, is named by its line and not guessed at; a list on one line is read."""
    text = "channels: [conda-forge, nvidia]\ndependencies:\n  - &torch pytorch=2.5\n  - python=3.12\n  a: {b: c}\n"
    told = readers.parse(text, source="e.yml")
    (fact,) = told.facts
    assert isinstance(fact, Wanted)
    assert (("conda-forge", "nvidia"), "==3.12.*") == (fact.channels, fact.python)
    assert ("e.yml: not understood: e.yml line 3, line 5",) == told.remarks


def test_the_last_stage_of_a_dockerfile_counts_with_what_it_copies() -> None:
    """A stage that nothing is taken from installs nothing; arguments and variables are put in their places."""
    assert ("nvidia/cuda:12.4.1-devel-ubuntu22.04", "nvidia/cuda:12.4.1-runtime-ubuntu22.04") == wanted(
        "Dockerfile"
    ).images
    assert {"PIP_NO_CACHE_DIR": "1", "NCCL_P2P_DISABLE": "1", "TORCH_CUDA_ARCH_LIST": "8.0;9.0"} == {
        each.name: each.value for each in wanted("Dockerfile").variables
    }
    alone = (FOLDER / "Dockerfile").read_text(encoding="utf-8").replace("COPY --from=builder", "COPY")
    (fact,) = readers.parse(alone, source="Dockerfile").facts
    assert isinstance(fact, Wanted)
    assert ((), ("nvidia/cuda:12.4.1-runtime-ubuntu22.04",)) == (fact.requirements, fact.images)


@pytest.mark.parametrize(
    ("line", "rows"),
    [
        ("RUN pip3.11 install --no-cache-dir 'torch>=2.4,<2.6' numpy", [("torch", "<2.6,>=2.4"), ("numpy", "")]),
        ("RUN uv pip install --system torch==2.9.0", [("torch", "==2.9.0")]),
        ("RUN apt-get update; python3 -m pip install -U torch", [("torch", "")]),
        ("RUN conda install -y -c pytorch pytorch=2.5.1", [("pytorch", "==2.5.1")]),
        ("RUN pip install . ./local.whl -e src git+https://x/y $EXTRA", []),
        ("RUN pip install 'unclosed", []),
    ],
    ids=str,
)  # fmt: skip
def test_what_run_lines_install(line: str, rows: list[tuple[str, str]]) -> None:
    """Options and their values, paths and addresses are no packages; conda's words are conda's."""
    (fact,) = readers.parse(f"FROM ubuntu:24.04\n{line}\nCMD x\n", source="Dockerfile").facts
    assert isinstance(fact, Wanted)
    assert rows == [(each.name, each.specifier) for each in fact.requirements if each.name != "src"]


def test_a_list_of_what_is_installed_is_no_wish() -> None:
    """Exact versions alone say what is there, unless the file is called as requirements are."""
    text = "numpy==1.26.4\ntorch==2.5.1\ntriton==3.1.0\n"
    assert is_list(tuple(text.split("\n")))
    assert [("pip list",), ("requirements",)] == [
        readers.parse(text, source=name).formats for name in ("frozen.txt", "requirements-gpu.txt")
    ]


def test_a_pin_or_two_from_a_pipe_is_a_wish() -> None:
    """Too short for a list of what is installed, and nothing else: it is what somebody would install."""
    assert [("requirements",), ("requirements",)] == [
        readers.parse(text, source="stdin").formats
        for text in ("torch==2.9.0\n", "# gpu\ntorch==2.9.0\nnumpy==2.2.6\n")
    ]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("^2.3", ">=2.3,<3"), ("^0.3.1", ">=0.3.1,<0.4"), ("~2.3", ">=2.3,<2.4"), ("~2", ">=2,<3"), ("2.5.1", "==2.5.1"),
     ("*", ""), (">=2,<3", ">=2,<3"), ("2.*", "==2.*")],
)  # fmt: skip
def test_poetrys_signs(theirs: str, ours: str) -> None:
    """Carets, tildes and bare versions mean what poetry means by them."""
    assert ours == _specifier(theirs)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("=2.5", "==2.5.*"), ("2.5", "==2.5.*"), ("=2.5.1", "==2.5.1"), ("==2.5", "==2.5"), (">=2,<3", ">=2,<3"),
     ("2.*", "==2.*")],
)  # fmt: skip
def test_condas_signs(theirs: str, ours: str) -> None:
    """A single sign, or none, is a prefix."""
    assert ours == specifier_of(theirs)
