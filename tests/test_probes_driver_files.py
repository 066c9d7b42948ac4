"""The driver-files probe: driver libraries by file name, in the loader's order; stubs and compat told apart."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from envdoctor_probes.driver_files import driver_files, parse_version
from envdoctor_probes.driver_places import parse_ld_conf

from envdoctor.facts.driver import DriverFiles
from envdoctor.probe import Context
from envdoctor.testing import collect
from tests.stands import trees
from tests.stands.fakes import build_libcuda
from tests.stands.trees import Link, Machine, Program


def files_of(tmp_path: Path, machine: Machine, **environ: str) -> DriverFiles:
    """Collect the driver's files of a recorded machine."""
    fact = collect(driver_files, trees.write(tmp_path, machine), environ=environ)
    assert isinstance(fact, DriverFiles)
    return fact


def test_each_real_file_is_listed_once(tmp_path: Path) -> None:
    """Three links lead to one library; its version is the one in the real file's name."""
    fact = files_of(tmp_path, trees.native_8gpu(), PATH="/usr/bin")
    (libcuda,) = fact.libcuda
    assert ("/usr/lib/x86_64-linux-gnu/libcuda.so.570.124.06", "570.124.06") == (libcuda.path, libcuda.version)
    assert (libcuda, "/usr/bin/nvidia-smi") == (fact.first_libcuda, fact.nvidia_smi)
    assert ["570.124.06"] == [each.version for each in fact.nvml]


def test_compat_and_stub_are_told_from_the_driver(tmp_path: Path) -> None:
    """The image's compat library and the toolkit's stub are listed, but the loader finds the driver's."""
    fact = files_of(tmp_path, trees.docker_v1())
    assert [("470.256.02", False, False), ("535.54.03", True, False), (None, False, True)] == [
        (each.version, each.compat, each.stub) for each in fact.libcuda
    ]
    assert fact.first_libcuda == fact.libcuda[0]


def test_library_path_comes_first(tmp_path: Path) -> None:
    """With the compat folder on LD_LIBRARY_PATH its library is taken, and the source says why."""
    fact = files_of(tmp_path, trees.docker_v1(), LD_LIBRARY_PATH="/nowhere:/usr/local/cuda/compat")
    assert fact.first_libcuda is not None
    assert ("535.54.03", True) == (fact.first_libcuda.version, fact.first_libcuda.compat)
    assert "LD_LIBRARY_PATH" in fact.sources["first_libcuda"]


def test_stub_folder_on_the_library_path_is_found_out(tmp_path: Path) -> None:
    """Somebody linked libcuda.so.1 to the stub: what the loader takes is a stub."""
    machine = trees.docker_v1() | {"usr/local/cuda-12.2/lib64/stubs/libcuda.so.1": Link("libcuda.so")}
    fact = files_of(tmp_path, machine, LD_LIBRARY_PATH="/usr/local/cuda/lib64/stubs")
    assert fact.first_libcuda is not None
    assert fact.first_libcuda.stub


def test_stale_library_beside_the_linked_one_is_listed_after_it(tmp_path: Path) -> None:
    """An update that left the old file behind shows both; the link decides which is first."""
    machine = trees.native_8gpu() | {"usr/lib/x86_64-linux-gnu/libcuda.so.535.54.03": ""}
    fact = files_of(tmp_path, machine)
    assert ["570.124.06", "535.54.03"] == [each.version for each in fact.libcuda]


def test_wsl_and_jetson_are_found_through_the_loaders_configuration(tmp_path: Path) -> None:
    """Both keep the driver in a folder of their own and name it in ld.so.conf.d; their files carry no version."""
    wsl = files_of(tmp_path / "wsl", trees.wsl2())
    jetson = files_of(tmp_path / "jetson", trees.jetson())
    assert wsl.first_libcuda is not None
    assert jetson.first_libcuda is not None
    assert ("/usr/lib/wsl/lib/libcuda.so.1.1", None) == (wsl.first_libcuda.path, wsl.first_libcuda.version)
    assert "/usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1.1" == jetson.first_libcuda.path
    assert "/usr/lib/wsl/lib/nvidia-smi" == wsl.nvidia_smi


def test_library_that_the_loader_does_not_search_is_not_first(tmp_path: Path) -> None:
    """A container platform's folder counts only when LD_LIBRARY_PATH names it."""
    fact = files_of(tmp_path / "plain", trees.gvisor())
    assert (1, None) == (len(fact.libcuda), fact.first_libcuda)
    assert "finds no libcuda.so.1" in fact.unknown["first_libcuda"]
    named = files_of(tmp_path / "named", trees.gvisor(), LD_LIBRARY_PATH="/usr/local/nvidia/lib64")
    assert named.first_libcuda is not None
    assert "550.90.07" == named.first_libcuda.version


def test_dangling_link_is_no_library(tmp_path: Path) -> None:
    """A container whose runtime mounted nothing keeps the link: nothing is found."""
    fact = files_of(tmp_path, {"usr/lib/x86_64-linux-gnu/libcuda.so.1": Link("libcuda.so.535.183.01")})
    assert ((), None) == (fact.libcuda, fact.first_libcuda)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    """Links that lead to each other are followed a bounded number of times."""
    machine: Machine = {"usr/lib/libcuda.so.1": Link("libcuda.so.2"), "usr/lib/libcuda.so.2": Link("libcuda.so.1")}
    assert () == files_of(tmp_path, machine).libcuda


def test_program_must_be_executable(tmp_path: Path) -> None:
    """A text file of that name is no nvidia-smi; the next folder on PATH is asked."""
    machine: Machine = {"opt/nvidia-smi": "text", "usr/bin/nvidia-smi": Program()}
    assert "/usr/bin/nvidia-smi" == files_of(tmp_path, machine, PATH="/opt:/usr/bin").nvidia_smi


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("libcuda.so.535.183.01", "535.183.01"),
        ("libcuda.so.440.100", "440.100"),
        ("libcuda.so.1", None),
        ("libcuda.so.1.1", None),
        ("libcuda.so", None),
    ],
)
def test_version_is_read_off_the_file_name(name: str, expected: str | None) -> None:
    """The ABI number 1 and WSL's 1.1 are no versions."""
    assert expected == parse_version(name)


def test_loader_configuration_is_parsed() -> None:
    """Folders, includes and comments; an old hwcap suffix is dropped."""
    text = "# comment\n/usr/local/lib\ninclude /etc/ld.so.conf.d/*.conf\n/opt/lib=libc6 # why\nhwcap 0 nosegneg\n"
    assert (("/usr/local/lib", "/opt/lib"), ("/etc/ld.so.conf.d/*.conf",)) == parse_ld_conf(text)


@pytest.mark.gcc
def test_stub_is_known_by_what_it_never_calls(tmp_path: Path) -> None:
    """A small library that never opens anything is a stub wherever it lies; one that does is not."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    build_libcuda(tmp_path / "real")
    (tmp_path / "hidden").mkdir()
    stub = tmp_path / "hidden" / "libcuda.so.1"
    source = "int cuInit(unsigned f) { (void)f; return 34; }"
    command = ["gcc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-x", "c", "-o", str(stub), "-"]
    subprocess.run(command, input=source, text=True, check=True)
    for folder, is_stub in (("real", False), ("hidden", True)):
        fact = driver_files.collect(Context(environ={"LD_LIBRARY_PATH": str(tmp_path / folder)}))
        assert (is_stub, "libcuda.so.1") == (fact.first_libcuda.stub, fact.first_libcuda.soname)


def test_setuid_nvidia_modprobe_is_told(tmp_path: Path) -> None:
    """A setuid nvidia-modprobe can create device nodes for any user; a plain one cannot."""
    top = trees.write(tmp_path, {"usr/bin/nvidia-modprobe": Program()})
    program = top / "usr/bin/nvidia-modprobe"
    told = []
    for mode in (0o755, 0o4755):
        program.chmod(mode)
        fact = collect(driver_files, top, environ={})
        assert isinstance(fact, DriverFiles)
        told.append(fact.makes_nodes)
    assert [False, True] == told
