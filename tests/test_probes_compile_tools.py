"""What torch.compile needs on the machine, looked up without running any of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from envdoctor_probes.compile_tools import compile_tools

from envdoctor.facts.torch import CompileTools
from envdoctor.probe import Context
from tests.stands.wheels import Wheel, install


def look(tmp_path: Path, **environ: str) -> CompileTools:
    """Look in this directory alone: ``bin`` is the PATH, ``site`` the module path, and the interpreter's base."""
    options = {"base_prefix": str(tmp_path)}
    settings = {"PATH": str(tmp_path / "bin"), "PYTHONSAFEPATH": "1", **environ}
    context = Context(path=(str(tmp_path / "site"),), environ=settings, cwd="/", options=options)
    fact: CompileTools = compile_tools.collect(context)
    return fact


def executable(path: Path) -> str:
    """Make an empty executable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o755)
    return str(path)


def test_nothing_is_there(tmp_path: Path) -> None:
    """Each thing that is missing says where it was looked for."""
    fact = look(tmp_path)
    assert {"c_compiler", "cxx_compiler", "python_headers", "triton_version"} == set(fact.unknown)
    assert "no gcc, clang, cc on PATH" == fact.unknown["c_compiler"]


def test_gcc_comes_before_clang(tmp_path: Path) -> None:
    """As triton does, gcc is taken where both are there."""
    executable(tmp_path / "bin/clang")
    gcc = executable(tmp_path / "bin/gcc")
    cxx = executable(tmp_path / "bin/g++")
    fact = look(tmp_path)
    assert (gcc, cxx) == (fact.c_compiler, fact.cxx_compiler)


@pytest.mark.parametrize("value", ["clang", "clang -O2"])
def test_the_variable_wins(tmp_path: Path, value: str) -> None:
    """CC names the compiler, whatever else is on PATH."""
    executable(tmp_path / "bin/gcc")
    clang = executable(tmp_path / "bin/clang")
    assert clang == look(tmp_path, CC=value).c_compiler


def test_a_variable_that_names_nothing_is_told(tmp_path: Path) -> None:
    """CC pointing nowhere means no compiler, although gcc is there: nothing else would be tried."""
    executable(tmp_path / "bin/gcc")
    fact = look(tmp_path, CC="/opt/gcc-9/bin/gcc")
    assert (None, "CC=/opt/gcc-9/bin/gcc is not an executable") == (fact.c_compiler, fact.unknown["c_compiler"])


def test_headers_and_triton_are_found(tmp_path: Path) -> None:
    """Python.h lies beside the interpreter that the venv was made from; triton's version is its metadata's."""
    import sys

    header = tmp_path / "include" / f"python3.{sys.version_info[1]}{sys.abiflags}" / "Python.h"
    header.parent.mkdir(parents=True)
    header.touch()
    install(tmp_path / "site", Wheel("pytorch-triton", "3.0.0"))
    fact = look(tmp_path)
    assert (str(header), "3.0.0") == (fact.python_headers, fact.triton_version)


def test_triton_without_metadata_tells_its_own_version(tmp_path: Path) -> None:
    """A source build on the path is found too."""
    (tmp_path / "site" / "triton").mkdir(parents=True)
    (tmp_path / "site" / "triton" / "__init__.py").write_text("__version__ = '3.5.0'\n")
    assert "3.5.0" == look(tmp_path).triton_version
