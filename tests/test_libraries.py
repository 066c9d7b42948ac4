"""The ledger against the real loader: what it says is found first is what a process that imports torch maps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from envdoctor_probes.libraries import libraries
from envdoctor_probes.library_names import library_of

from envdoctor.facts.libraries import Libraries
from envdoctor.probe import Context, NotThere
from tests.stands.broken_stacks import STANDS, build_stand

# A library cut off by a full disk kills the real loader itself with SIGBUS: there the torch-files probe speaks.
WITH_TORCH = sorted(set(STANDS) - {"no_python_files", "local_shadow", "toolkit_extras", "lib_truncated"})
ORACLE = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
error = ""
try:
    import torch
except BaseException as problem:
    error = str(problem)
with open("/proc/self/maps") as maps:
    mapped = sorted({os.path.realpath(line.split()[-1]) for line in maps if sys.argv[2] in line})
print(json.dumps({"error": error, "mapped": mapped}))
"""


def really(site: Path, top: Path, environ: dict[str, str]) -> tuple[set[str], str]:
    """Import torch in a child: the ledger's libraries that are mapped from below ``top``, and the error's words."""
    command = [sys.executable, "-S", "-E", "-c", ORACLE, str(site), str(top)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    return {path for path in answer["mapped"] if library_of(os.path.basename(path))}, answer["error"]


def ledger(site: Path, environ: dict[str, str]) -> Libraries:
    """Ask the probe for the same environment."""
    fact = libraries.collect(Context(path=(str(site),), environ=environ))
    assert isinstance(fact, Libraries)
    return fact


def found_below(fact: Libraries, top: Path) -> set[str]:
    """Give the files that the ledger says are taken, as far as they lie below ``top`` and load with torch."""
    first = [row.first.path for row in fact.rows if row.first and not row.name.startswith("cudnn_")]
    return {os.path.realpath(path) for path in first if str(top) in path}


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a directory of foreign CUDA libraries, as LD_LIBRARY_PATH brings in from another installation."""
    folder = tmp_path_factory.mktemp("foreign")
    site = build_stand(folder, "nvjitlink_old")
    into = folder / "lib"
    into.mkdir()
    for name in ("nvjitlink/lib/libnvJitLink.so.12", "cudnn/lib/libcudnn.so.9", "cublas/lib/libcublasLt.so.12"):
        (into / os.path.basename(name)).write_bytes((site / "nvidia" / name).read_bytes())
    return into


ENVIRONMENTS = ("plain", "library-path", "preload")


def environment(kind: str, foreign: Path) -> dict[str, str]:
    """Make one of the loader's environments."""
    base = {"PATH": os.environ["PATH"]}
    if kind == "library-path":
        return base | {"LD_LIBRARY_PATH": str(foreign)}
    return base | ({"LD_PRELOAD": str(foreign / "libnvJitLink.so.12")} if kind == "preload" else {})


@pytest.mark.parametrize("kind", ENVIRONMENTS)
@pytest.mark.parametrize("name", WITH_TORCH)
def test_ledger_equals_the_loader(stand: Callable[[str], Path], foreign: Path, name: str, kind: str) -> None:
    """On each tree, bare, with a foreign LD_LIBRARY_PATH and with LD_PRELOAD: same files, or the same complaint."""
    site, environ = stand(name), environment(kind, foreign)
    fact = ledger(site, environ)
    mapped, error = really(site, site.parent, environ)
    outside, _ = really(site, foreign, environ)
    if not error:
        assert (mapped, []) == (found_below(fact, site.parent), list(fact.complaints))
        assert outside == found_below(fact, foreign)
        return
    lacking = [symbol for row in fact.rows for symbol in (*row.needed_symbols_missing, *row.missing_versions)]
    named = [complaint.partition(":")[0] for complaint in fact.complaints] + lacking
    assert [each for each in named if os.path.basename(each) in error], (error, named)


def test_number_of_trees_is_what_we_say() -> None:
    """The ledger is held to the loader on 26 trees in three environments each."""
    assert 26 * 3 == len(WITH_TORCH) * len(ENVIRONMENTS)


def test_row_sets_declared_bundled_and_found_side_by_side(stand: Callable[[str], Path], foreign: Path) -> None:
    """A foreign copy that LD_LIBRARY_PATH brings in stands beside the declared and the bundled one, with its way in."""
    fact = ledger(stand("healthy_cu124"), environment("library-path", foreign))
    row = fact.row("nvjitlink")
    assert row is not None
    assert row.first is not None
    assert ("nvidia-nvjitlink-cu12 ==12.4.127", "12.4.127", "12.4.127") == (
        row.declared,
        row.installed_version,
        row.bundled[0].version,
    )
    assert (str(foreign / "libnvJitLink.so.12"), "12.1", "LD_LIBRARY_PATH") == (
        row.first.path,
        row.first.version,
        row.first.via,
    )
    assert ("__nvJitLinkComplete_12_4",) == row.needed_symbols_missing


def test_rpath_beats_library_path(stand: Callable[[str], Path], foreign: Path) -> None:
    """A library reached through torch's RPATH is not touched by a foreign LD_LIBRARY_PATH."""
    row = ledger(stand("healthy_cu124"), environment("library-path", foreign)).row("cudnn")
    assert row is not None
    assert row.first is not None
    assert "rpath" == row.first.via


def test_both_owners_of_one_file_are_named(stand: Callable[[str], Path]) -> None:
    """A library that two wheels wrote names both."""
    row = ledger(stand("cu11_and_cu12"), {}).row("cudnn")
    assert row is not None
    assert row.first is not None
    assert "nvidia-cudnn-cu11 9.1.1.17, nvidia-cudnn-cu12 9.1.0.70" == row.first.owner


def test_no_torch_is_absent() -> None:
    """Without torch there is no ledger, and that is no fault."""
    with pytest.raises(NotThere, match="no torch"):
        libraries.collect(Context(path=("/nowhere",)))


def test_cpu_torch_has_no_cuda_rows() -> None:
    """The CPU build's ledger holds the C++ and OpenMP runtimes only."""
    torch = pytest.importorskip("torch")
    if torch.version.cuda:
        pytest.skip("this torch has CUDA")
    site = str(Path(torch.__file__).parent.parent)
    assert {"stdcxx", "gomp"} == {row.name for row in ledger(Path(site), dict(os.environ)).rows}
