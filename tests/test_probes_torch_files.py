"""RECORD against the files of torch and its libraries, and what a broken install leaves."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from envdoctor_probes.torch_files import torch_files

from envdoctor.facts.torch import DamagedFile, TorchFiles
from envdoctor.probe import Context, NotThere
from tests.stands.wheels import Wheel, install

Stands = Callable[[str], Path]


def look(*path: Path | str) -> TorchFiles:
    """Ask the probe about these directories alone."""
    context = Context(path=tuple(map(str, path)), cwd="/", environ={"PYTHONSAFEPATH": "1"})
    fact: TorchFiles = torch_files.collect(context)
    return fact


def test_no_torch_is_absent(tmp_path: Path) -> None:
    """Where torch is not installed there is nothing to compare."""
    with pytest.raises(NotThere, match="no torch"):
        look(tmp_path)


@pytest.mark.gcc
def test_a_healthy_stack_has_no_damage(stand: Stands) -> None:
    """Everything is there in its recorded size."""
    fact = look(stand("healthy_cu124"))
    assert ((), (), ("torch-2.5.1.dist-info",), {}) == (fact.damaged, fact.leftovers, fact.dist_infos, fact.unknown)
    flags = (fact.metadata_empty, fact.record_missing, fact.package_missing, fact.metadata_missing)
    assert ((False,) * 4, 33) == (flags, fact.checked_files)


@pytest.mark.gcc
@pytest.mark.parametrize(
    ("name", "distribution", "path", "problem", "found"),
    [
        ("lib_truncated", "nvidia-cudnn-cu12", "nvidia/cudnn/lib/libcudnn.so.9", "size", "4096 bytes"),
        ("lib_empty", "nvidia-cublas-cu12", "nvidia/cublas/lib/libcublas.so.12", "empty", "0 bytes"),
        ("lib_is_pointer", "nvidia-nccl-cu12", "nvidia/nccl/lib/libnccl.so.2", "lfs-pointer", "a git-lfs pointer"),
        ("lib_wrong_machine", "nvidia-cufft-cu12", "nvidia/cufft/lib/libcufft.so.11", "other-machine", "aarch64"),
    ],
)
def test_a_damaged_library_is_named(
    stand: Stands, name: str, distribution: str, path: str, problem: str, found: str
) -> None:
    """The file, its distribution and what is wrong with it are told."""
    told = [(d.distribution, d.path, d.problem, d.found) for d in look(stand(name)).damaged]
    assert [(distribution, path, problem, found)] == told


@pytest.mark.gcc
def test_a_removed_package_is_missing_file_by_file(stand: Stands) -> None:
    """Metadata without files says so, and names each file that is gone."""
    fact = look(stand("no_python_files"))
    assert (True, {"missing"}) == (fact.package_missing, {each.problem for each in fact.damaged})


@pytest.mark.gcc
def test_what_an_install_lost_or_left_is_told(stand: Stands) -> None:
    """RECORD gone, METADATA empty, dist-info gone, two of them, and pip's leftover are five answers."""
    told = {name: look(stand(name)) for name in ("record_missing", "metadata_empty", "no_metadata")}
    expected = {
        "record_missing": (True, False, False),
        "metadata_empty": (False, True, False),
        "no_metadata": (None, None, True),
    }
    assert expected == {n: (f.record_missing, f.metadata_empty, f.metadata_missing) for n, f in told.items()}
    assert ("torch-2.4.1.dist-info", "torch-2.5.1.dist-info") == look(stand("two_dist_infos")).dist_infos
    assert ("~orch-2.4.1.dist-info",) == look(stand("leftover_tilde")).leftovers


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("~orch", True), ("~-rch-2.4.1.dist-info", True), ("-orch", True), ("~riton", True),
        ("~vidia_cudnn_cu12-9.1.0.70.dist-info", True),
        ("~ip-23.2.dist-info", False), ("~umpy", False), ("torch", False), ("~", False),
    ],
)  # fmt: skip
def test_only_leftovers_of_the_stack_are_named(tmp_path: Path, name: str, expected: bool) -> None:
    """Pip renames what it removes; leftovers of other packages do not break torch."""
    install(tmp_path, Wheel("torch", "2.5.1", {"torch/__init__.py": ""}))
    (tmp_path / name).mkdir(exist_ok=True)
    assert expected == (name in look(tmp_path).leftovers)


def damaged(tmp_path: Path, content: bytes, changed: bytes, installer: str = "pip") -> list[str]:
    """Install a torch with one library, change it, and give the problems that are seen."""
    wheel = Wheel("torch", "2.5.1", {"torch/__init__.py": "", "torch/lib/libx.so": content}, installer=installer)
    install(tmp_path, wheel)
    (tmp_path / "torch/lib/libx.so").write_bytes(changed)
    return [each.problem for each in look(tmp_path).damaged]


def test_a_library_of_text_is_not_one(tmp_path: Path) -> None:
    """HTML in place of a library is found although its size is right."""
    assert ["not-elf"] == damaged(tmp_path, b"x" * 40, b"<html>".ljust(40))


def test_a_linker_script_is_right(tmp_path: Path) -> None:
    """Some libraries are a linker's text on purpose."""
    script = b"/* GNU ld script */ GROUP ( libx.so.1 )"
    assert [] == damaged(tmp_path, script, script)


def test_conda_changes_sizes(tmp_path: Path) -> None:
    """Conda rewrites libraries after RECORD was written: their sizes are not compared, and that is said."""
    elf = Path(sys.executable).resolve().read_bytes()[:4000]
    assert [] == damaged(tmp_path, elf, elf + b"more", installer="conda")
    assert {"damaged": "torch: sizes are not compared, conda changes them"} == look(tmp_path).unknown


def test_a_missing_module_is_named(tmp_path: Path) -> None:
    """A Python file that RECORD names and that is gone is damage too; a header is not looked for."""
    install(tmp_path, Wheel("torch", "2.5.1", {"torch/__init__.py": "", "torch/a.py": "1", "torch/include/a.h": "1"}))
    (tmp_path / "torch/a.py").unlink()
    (tmp_path / "torch/include/a.h").unlink()
    assert (DamagedFile("torch/a.py", "torch", "missing", "1 bytes", "nothing"),) == look(tmp_path).damaged


def test_metadata_that_may_not_be_read_is_not_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the right to read METADATA, whether it is empty is unknown."""
    wheel = Wheel("torch", "2.5.1", {"torch/__init__.py": ""})
    install(tmp_path, wheel)
    monkeypatch.setattr("os.access", lambda _path, _mode: False)
    path = tmp_path / wheel.info / "METADATA"
    fact = look(tmp_path)
    assert (None, {"metadata_empty": f"{path} may not be read"}) == (fact.metadata_empty, fact.unknown)


@pytest.mark.real_torch
def test_the_real_torch_is_whole_and_read_quickly() -> None:
    """Thousands of real files are compared within the quick level's budget."""
    site = next(entry for entry in sys.path if (Path(entry) / "torch" / "version.py").exists())
    look(site)
    started = time.process_time()
    fact = look(site)
    assert time.process_time() - started < 0.5  # 15 ms on an idle machine: a wide bound for a busy one
    assert ((), True, {}) == (fact.damaged, fact.checked_files > 2000, fact.unknown)
