"""The mapped-libraries probe: what a process has mapped, and NCCL's own word for its version."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from envdoctor_probes.mapped import mapped_libraries

from envdoctor.facts.libraries import MappedLibraries
from envdoctor.probe import Context
from envdoctor.testing import collect

ASK = """
import ctypes, dataclasses, json, sys
sys.path[:0] = json.loads(sys.argv[1])
from envdoctor.probe import Context
from envdoctor_probes.mapped import mapped_libraries
ctypes.CDLL(sys.argv[2])
print(json.dumps(dataclasses.asdict(mapped_libraries.collect(Context()))))
"""
HERE = Path(__file__).parents[1]


def with_nccl(top: Path, body: str) -> tuple[dict[str, Any], str]:
    """Map a library called libnccl.so.2 in a fresh process and ask the probe there."""
    source, library = top / "nccl.c", top / "libnccl.so.2"
    source.write_text(body)
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wl,-soname,libnccl.so.2", "-o", library, source], check=True)
    ours = json.dumps([str(HERE), str(HERE / "probes")])
    done = subprocess.run(
        [sys.executable, "-c", ASK, ours, str(library)], capture_output=True, text=True, check=True, env={**os.environ}
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer, str(library)


@pytest.mark.parametrize(
    ("body", "version", "reason"),
    [
        ("int ncclGetVersion(int *v) { *v = 22705; return 0; }", "2.27.5", None),
        ("int ncclGetVersion(int *v) { return 3; }", None, "ncclGetVersion answered 3"),
        ("int other(void) { return 0; }", None, "undefined symbol: ncclGetVersion"),
    ],
)
def test_mapped_nccl_says_its_version(tmp_path: Path, body: str, version: str | None, reason: str | None) -> None:
    """The library that is really mapped is asked, by the path it is mapped from; a refusal is told in its words."""
    fact, library = with_nccl(tmp_path, body)
    assert library in fact["paths"]
    assert version == fact["nccl_version"]
    assert reason is None or reason in fact["unknown"]["nccl_version"]


def test_process_without_nccl_loads_none() -> None:
    """Nothing is loaded to be asked: a library that is not mapped has no version here."""
    fact = mapped_libraries.collect(Context())
    assert isinstance(fact, MappedLibraries)
    assert (None, "import torch maps no libnccl") == (fact.nccl_version, fact.unknown["nccl_version"])
    assert any("libc.so" in each for each in fact.paths)


def test_hidden_maps_are_unknown(tmp_path: Path) -> None:
    """Without /proc nothing is known to be mapped, and the reason is given."""
    (tmp_path / "proc").mkdir()
    fact = collect(mapped_libraries, tmp_path)
    assert isinstance(fact, MappedLibraries)
    assert ((), True) == (fact.paths, "/proc/self/maps" in fact.unknown["paths"])
