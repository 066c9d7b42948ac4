"""What import torch would find, and what hides it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from envdoctor_probes.modules import parse_mapping
from envdoctor_probes.torch_path import STANDARD, torch_path

from envdoctor.facts.torch import Shadow, TorchPath
from envdoctor.probe import Context
from tests.stands.probe_process import ask

STDLIB = Path(os.__file__).parent


def look(*path: Path, cwd: Path | str = "/", environ: dict[str, str] | None = None) -> TorchPath:
    """Ask the probe about this path and working directory."""
    fact: TorchPath = torch_path.collect(Context(path=tuple(map(str, path)), cwd=str(cwd), environ=environ or {}))
    return fact


def package(folder: Path, name: str = "torch", *, built: bool = True) -> Path:
    """Make a package; a built torch has a version.py."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text("")
    if built:
        (folder / name / "version.py").write_text("__version__ = '2.4.1'\n")
    return folder / name


def test_no_torch_gives_an_empty_answer(tmp_path: Path) -> None:
    """Nothing found is an answer of its own, not an error."""
    assert TorchPath() == look(tmp_path)


def test_every_torch_is_given_in_path_order(tmp_path: Path) -> None:
    """Two installed torches are both named, the one that is imported first."""
    first, second = package(tmp_path / "a"), package(tmp_path / "b")
    fact = look(tmp_path / "a", tmp_path / "b")
    assert ((str(first), str(second)), ()) == (fact.found, fact.shadows)


def test_a_folder_without_init_loses_to_a_package(tmp_path: Path) -> None:
    """A bare torch/ directory in front is a namespace that an import takes only when there is nothing else."""
    (tmp_path / "a" / "torch").mkdir(parents=True)
    real = package(tmp_path / "b")
    fact = look(tmp_path / "a", tmp_path / "b", cwd=tmp_path / "a")
    bare = str(tmp_path / "a" / "torch")
    assert ((str(real), bare), (bare,), ()) == (fact.found, fact.namespaces, fact.shadows)


def test_a_local_torch_py_hides_the_real_one(tmp_path: Path) -> None:
    """torch.py in the working directory comes before site-packages."""
    real = package(tmp_path / "site")
    (tmp_path / "torch.py").write_text("")
    expected = (Shadow("torch", str(tmp_path / "torch.py"), str(real), "cwd"),)
    assert expected == look(tmp_path / "site", cwd=tmp_path).shadows


def test_a_source_tree_hides_the_installed_torch(tmp_path: Path) -> None:
    """Started inside PyTorch's own source tree, import torch finds a package that was never built."""
    source = package(tmp_path / "pytorch", built=False)
    real = package(tmp_path / "site")
    expected = (Shadow("torch", str(source), str(real), "cwd"),)
    assert expected == look(tmp_path / "site", cwd=tmp_path / "pytorch").shadows


def test_safe_path_takes_the_working_directory_off(tmp_path: Path) -> None:
    """With PYTHONSAFEPATH nothing in the working directory hides anything."""
    package(tmp_path / "site")
    (tmp_path / "torch.py").write_text("")
    assert () == look(tmp_path / "site", cwd=tmp_path, environ={"PYTHONSAFEPATH": "1"}).shadows


@pytest.mark.parametrize("name", ["random.py", "typing/__init__.py", "uuid.pyc"])
def test_a_file_named_like_a_standard_module_is_a_shadow(tmp_path: Path, name: str) -> None:
    """A module, a package or legacy bytecode with a name that torch's import needs is named."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    found = look(STDLIB, cwd=tmp_path).shadows
    assert [(name.partition("/")[0].partition(".")[0], None, "cwd")] == [(s.name, s.hidden, s.via) for s in found]


@pytest.mark.parametrize("name", ["os.py", "sys.py", "train.py", "random.txt", "data/__init__.py", "random/notes.txt"])
def test_other_files_are_no_shadows(tmp_path: Path, name: str) -> None:
    """Modules that every interpreter has loaded already, other names, and bare folders hide nothing."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    assert () == look(STDLIB, cwd=tmp_path).shadows


def test_site_packages_hide_no_standard_module(tmp_path: Path) -> None:
    """A backport in site-packages comes after the standard library; in PYTHONPATH it comes before."""
    (tmp_path / "dataclasses.py").write_text("")
    assert () == look(STDLIB, tmp_path).shadows
    environ = {"PYTHONPATH": str(tmp_path)}
    assert (Shadow("dataclasses", str(tmp_path / "dataclasses.py"), None, "PYTHONPATH"),) == look(
        tmp_path, STDLIB, environ=environ
    ).shadows


def test_a_local_numpy_hides_the_installed_one(tmp_path: Path) -> None:
    """numpy.py in the working directory is named with the NumPy that it hides; alone it hides none."""
    real = package(tmp_path / "site", "numpy")
    (tmp_path / "numpy.py").write_text("")
    expected = (Shadow("numpy", str(tmp_path / "numpy.py"), str(real), "cwd"),)
    assert expected == look(tmp_path / "site", cwd=tmp_path).shadows
    assert () == look(tmp_path / "elsewhere", cwd=tmp_path).shadows


def test_an_editable_torch_is_found_through_its_hook(tmp_path: Path) -> None:
    """Pip install -e leaves no path entry, only an import hook with a mapping."""
    source = package(tmp_path / "source")
    hook = f"MAPPING: dict[str, str] = {{'torch': {str(source)!r}}}\nNAMESPACES: dict = {{}}\n"
    (tmp_path / "__editable___torch_2_9_0a0_finder.py").write_text(hook)
    assert (str(source),) == look(tmp_path).found


@pytest.mark.parametrize("text", ["", "MAPPING = oops\n", "MAPPING = {1\n", "MAPPING = {'torch': __import__('os')}\n"])
def test_a_hook_that_is_no_plain_mapping_gives_nothing(text: str) -> None:
    """Only literals are read from the hook; nothing in it is run."""
    assert {} == parse_mapping(text)


def test_a_huge_working_directory_is_looked_at_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory with more names than are read says so instead of taking long."""
    monkeypatch.setattr("envdoctor_probes.metadata.MOST_NAMES", 10)
    for number in range(20):
        (tmp_path / f"{number}.jpg").write_text("")
    assert {"found": f"only the first 10 names were looked at: {tmp_path}"} == look(cwd=tmp_path).unknown


@pytest.mark.gcc
def test_the_shadow_stand_does_what_the_probe_says(stand: Callable[[str], Path]) -> None:
    """In the stand the local torch.py really is what an import finds."""
    site = stand("local_shadow")
    cwd = site.parent / "cwd"
    assert {"torch", "random"} == {each.name for each in look(site, cwd=cwd).shadows}
    imported = ask("torch_import", path=[cwd, site], cwd=cwd)["torch_import"]
    assert (True, str(cwd / "torch.py"), None) == (imported["imported"], imported["file"], imported["version"])


@pytest.mark.real_torch
def test_the_standard_names_are_those_that_torch_loads() -> None:
    """Each standard module that the real torch's import loads, and that no bare interpreter has, is looked for."""
    script = (
        "import sys; before = set(sys.modules)\nimport torch\n"
        "new = {n.partition('.')[0] for n in set(sys.modules) - before} & set(sys.stdlib_module_names)\n"
        "print(*sorted(n for n in new if n[0] != '_' and n not in sys.builtin_module_names and n not in before))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set() == set(done.stdout.split()) - STANDARD - {"ntpath"}
