"""``scripts/refresh-knowledge``: rows from a wheel's own metadata, and tables in which nothing else changes."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "refresh-knowledge"
TORCH = """\
Metadata-Version: 2.4
Name: torch
Version: 2.16.0
Requires-Python: >=3.11
Requires-Dist: filelock
Requires-Dist: cuda-toolkit[cublas,cudart]==13.2.2; platform_system == "Linux"
Requires-Dist: cuda-bindings<14,>=13.0.3; platform_system == "Linux" and python_version < "3.15"
Requires-Dist: nvidia-cudnn-cu13==9.27.0.1; platform_system == "Linux"
Requires-Dist: nvidia-nccl-cu13==2.31.0; platform_system == "Linux"
Requires-Dist: triton~=3.10.0; platform_system == "Linux"
Requires-Dist: pyreadline; platform_system == "Windows"
Requires-Dist: opt-einsum>=3.3; extra == "opt-einsum"

Requires-Dist: nothing, for this is the description
"""
VISION = "Name: torchvision\nVersion: 0.30.0\nRequires-Dist: numpy\nRequires-Dist: torch==2.16.0\n\n"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    """Load the script without running it."""
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def tables(script: dict[str, Any]) -> dict[str, str]:
    """Give the shipped tables as they are, byte by byte."""
    from envdoctor.knowledge import DATA

    return {name: (DATA / name).read_bytes().decode() for name in (script["TORCH"], script["ECOSYSTEM"])}


def test_metadata_ends_at_its_first_empty_line(script: dict[str, Any]) -> None:
    """The description below the header is no requirement, and markers are those of Linux."""
    found = script["parse"](TORCH)
    assert ("torch", "2.16.0", ">=3.11") == (found.name, found.version, found.requires_python)
    names = [each.name for each in found.needed()]
    assert ["filelock", "cuda-toolkit", "cuda-bindings", "nvidia-cudnn-cu13", "nvidia-nccl-cu13", "triton"] == names


def test_new_release_gets_a_row_and_its_companion(script: dict[str, Any], tables: dict[str, str]) -> None:
    """A torch that no row names is added with its pins; the torchvision that pins it goes into its row."""
    new = script["refreshed"](tables, [script["parse"](TORCH), script["parse"](VISION)])
    _, rows = script["read_table"](new[script["TORCH"]])
    told = {name: value for name, value in rows[-1].items() if value}
    assert {
        "torch": "2.16.0",
        "requires_python_metadata": ">=3.11",
        "python_min": "3.11",
        "default_pypi_cuda": "13.2",
        "pypi_cuda_pkg_suffix": "cu13",
        "cuda_toolkit_pkg": "13.2.2",
        "cudnn": "9.27.0.1",
        "nccl": "2.31.0",
        "cuda_bindings": "<14,>=13.0.3",
        "triton": "~=3.10.0",
        "torchvision": "0.30.0",
        "source": "PyPI metadata of torch 2.16.0 (3.11 linux x86_64 wheel)",
    } == told
    note = "constraint declared by torch on triton (~=3.10.0)"
    added = set(new[script["ECOSYSTEM"]].splitlines()) - set(tables[script["ECOSYSTEM"]].splitlines())
    assert {
        "torchvision,0.30.0,==2.16.0,exact_pin,numpy,,,PyPI metadata of torchvision 0.30.0",
        f"triton,~=3.10.0,==2.16.0,compatible_release,,>=3.11,{note},PyPI metadata of torch 2.16.0",
    } == added


def test_nothing_else_changes(script: dict[str, Any], tables: dict[str, str]) -> None:
    """Every line that was there is there still, in its order, to the byte; without news nothing changes at all."""
    new = script["refreshed"](tables, [script["parse"](TORCH), script["parse"](VISION)])
    for name, old in tables.items():
        kept = iter(new[name].splitlines(keepends=True))
        assert all(line in kept for line in old.splitlines(keepends=True))
    assert tables == script["refreshed"](tables, [])


def test_a_changed_pin_changes_its_row_alone(script: dict[str, Any], tables: dict[str, str]) -> None:
    """A pin that metadata tells otherwise is put right; what a person wrote in that row stays."""
    name = script["TORCH"]
    text = TORCH.replace("2.16.0", "2.15.0").replace("triton~=3.10.0", "triton~=3.9.0")
    old = {each["torch"]: each for each in script["read_table"](tables[name])[1]}
    changed = script["refreshed"](tables, [script["parse"](text)])[name]
    new = {each["torch"]: each for each in script["read_table"](changed)[1]}
    assert {"2.15.0"} == {version for version in new if new[version] != old[version]}
    assert {"cudnn", "nccl", "cusparselt", "nvshmem"} == {
        each for each in old["2.15.0"] if new["2.15.0"][each] != old["2.15.0"][each]
    }


def test_a_cpu_build_pins_nothing(script: dict[str, Any], tables: dict[str, str]) -> None:
    """The metadata of a CPU wheel does not empty the row of the release."""
    cpu = script["parse"]("Name: torch\nVersion: 2.15.0+cpu\nRequires-Python: >=3.11\nRequires-Dist: filelock\n\n")
    assert tables == script["refreshed"](tables, [cpu])


def test_report_of_pip_is_read(script: dict[str, Any]) -> None:
    """A report by pip gives requirements and the wheel's file name, which names Python and platform."""
    url = "https://host/x/torch-2.16.0-cp312-cp312-manylinux_2_28_x86_64.whl"
    told = {"name": "torch", "version": "2.16.0", "requires_dist": ["triton==3.10.0"], "requires_python": ">=3.11"}
    (found,) = script["parse_report"](json.dumps({"install": [{"metadata": told, "download_info": {"url": url}}]}))
    assert ("3.12", "3.10.0") == (found.python, found.asks("triton"))
    pinned = script["Metadata"]("torch", "2.16.0", ("nvidia-cudnn-cu13==1",), "", found.file)
    empty = dict.fromkeys(("requires_python_metadata", "default_pypi_cuda", "python_min", "source"), "")
    row = script["torch_row"](pinned, empty)
    assert ("manylinux_2_28", "1") == (row["manylinux"], row["cudnn"])


def test_newer_and_the_newest_known_are_asked_for(script: dict[str, Any], tables: dict[str, str]) -> None:
    """Without names it asks for what is newer than the tables and for their newest; with --all for every release."""
    offered = {
        "torch": ["2.16.0", "2.16.0rc1", "2.15.0", "2.14.1", "2.13.0+cpu", "x"],
        "torchvision": ["0.29.2", "0.1"],
    }
    expected = ["torch==2.15.0", "torch==2.16.0", "torchvision==0.29.2"]
    assert expected == script["wanted"](tables, offered, every=False)
    assert "torch==2.14.1" in script["wanted"](tables, offered, every=True)


def test_the_date_of_one_table_is_renewed(script: dict[str, Any]) -> None:
    """Only the table that was written gets the new date, whether it had one of its own or not."""
    text = 'Table("a.csv", "row"),\nTable("b.csv", "row", "2026-01-01"),\n'
    assert 'Table("a.csv", "row", "2027-02-03"),\nTable("b.csv", "row", "2026-01-01"),\n' == script["dated"](
        text, "a.csv", "2027-02-03"
    )
    assert '"2027-02-03"' in script["dated"](text, "b.csv", "2027-02-03").splitlines()[1]


def test_metadata_files_need_no_network(tmp_path: Path) -> None:
    """With --metadata the script prints the difference, exits 1, and writes nothing."""
    file = tmp_path / "METADATA"
    file.write_text(TORCH)
    command = [sys.executable, str(SCRIPT), "--metadata", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (1, "") == (done.returncode, done.stderr)
    assert "+2.16.0,,,3.11,,>=3.11,13.2," in done.stdout


@pytest.mark.network
def test_the_tables_say_what_the_metadata_says() -> None:
    """Rows of published wheels, rebuilt from what pip tells of them, are the rows that ship."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "torch==2.15.0", "torchvision==0.29.2"],
        capture_output=True,
        text=True,
        check=False,
    )
    if "asking for" not in done.stderr:
        pytest.skip("pip cannot ask here")
    assert "" == done.stdout
