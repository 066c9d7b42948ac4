"""The installed torch, read without importing it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from envdoctor_probes.torch_build import torch_build
from envdoctor_probes.torch_libraries import Libraries, arch_list, cuda_linkage, cxx11_abi

from envdoctor.facts.torch import Pin, TorchBuild
from envdoctor.probe import Context, NotThere
from tests.stands.cuda_wheels import ARCHES, NVIDIA
from tests.stands.small_elf import Library, Needed, build, fatbin
from tests.stands.wheels import Wheel, install

Stands = Callable[[str], Path]


def look(*path: Path) -> TorchBuild:
    """Ask the probe about these directories alone."""
    context = Context(path=tuple(map(str, path)), cwd="/", environ={"PYTHONSAFEPATH": "1"})
    fact: TorchBuild = torch_build.collect(context)
    return fact


def test_no_torch_is_absent(tmp_path: Path) -> None:
    """Neither files nor metadata: there is nothing to describe."""
    with pytest.raises(NotThere, match="no torch on the module search path"):
        look(tmp_path)


@pytest.mark.gcc
def test_a_cuda_build_is_described(stand: Stands) -> None:
    """Version, CUDA, ABI, architectures and linkage of a healthy stack are all known."""
    fact = look(stand("healthy_cu124"))
    assert {} == fact.unknown
    expected = ("2.5.1+cu124", "12.4", False, True, True, "shared", 2, tuple(ARCHES.split()))
    assert expected == (
        fact.version, fact.cuda, fact.is_cpu_only, fact.cxx11_abi, fact.has_libtorch_cuda, fact.cuda_linkage,
        fact.numpy_headers_major, fact.arch_list,
    )  # fmt: skip
    assert ("2.5.1", "pip", "cp311-cp311-manylinux1_x86_64") == (fact.metadata_version, fact.installer, fact.wheel_tag)


@pytest.mark.gcc
def test_a_cpu_build_is_told_from_an_unknown_one(stand: Stands) -> None:
    """CUDA None in version.py means built without; without version.py it means not known."""
    cpu, gone = look(stand("cpu_only")), look(stand("no_python_files"))
    assert (True, None, ()) == (cpu.is_cpu_only, cpu.cuda, cpu.arch_list)
    assert (None, "torch's files are not there") == (gone.is_cpu_only, gone.unknown["is_cpu_only"])


@pytest.mark.gcc
def test_pins_are_those_that_apply_here(stand: Stands) -> None:
    """Each nvidia-* pin is given without its marker; an extra that nobody asked for is not."""
    pins = look(stand("healthy_cu124")).pins
    expected = {name: f"=={pinned[0]}" for name, pinned in NVIDIA.items()} | {
        "filelock": "",
        "typing-extensions": ">=4.8.0",
        "triton": "==3.1.0",
    }
    assert expected == {each.name: each.specifier for each in pins}


@pytest.mark.gcc
def test_pins_are_followed_through_extras(stand: Stands) -> None:
    """Since torch 2.11 the library pins stand in cuda-toolkit's metadata, behind the extras that torch names."""
    expected = (
        Pin("filelock"),
        Pin("cuda-toolkit", "==13.0.2"),
        Pin("nvidia-nccl-cu13", "==2.28.9"),
        Pin("nvidia-cublas", "==13.1.0.3.*", "cuda-toolkit[cublas]"),
        Pin("nvidia-cuda-runtime", "==13.0.96.*", "cuda-toolkit[cudart]"),
    )
    assert expected == look(stand("toolkit_extras")).pins


def test_a_missing_toolkit_leaves_its_pins_unknown(tmp_path: Path) -> None:
    """When the distribution that holds the pins is gone, that is said instead of taken for no pins."""
    install(tmp_path, Wheel("torch", "2.11.0", {"torch/__init__.py": ""}, ("cuda-toolkit[cublas]==13.0.2",)))
    fact = look(tmp_path)
    assert "cuda-toolkit is not installed: what [cublas] demands is not known" == fact.unknown["pins"]
    assert (Pin("cuda-toolkit", "==13.0.2"),) == fact.pins


def test_a_marker_that_is_not_understood_keeps_its_pin(tmp_path: Path) -> None:
    """A pin too many is shown as such; dropping one would hide a drift."""
    requires = ("nvidia-nccl-cu12==2.21.5 ; phase_of_moon == 'full'",)
    install(tmp_path, Wheel("torch", "2.5.1", {"torch/__init__.py": ""}, requires))
    assert (Pin("nvidia-nccl-cu12", "==2.21.5", "marker not understood"),) == look(tmp_path).pins


@pytest.mark.gcc
def test_empty_metadata_leaves_pins_unknown(stand: Stands) -> None:
    """A METADATA of length 0 gives no version and no pins, and says why."""
    fact = look(stand("metadata_empty"))
    assert (None, (), "METADATA is empty or missing") == (fact.metadata_version, fact.pins, fact.unknown["pins"])


@pytest.mark.gcc
def test_of_two_dist_infos_the_one_of_these_files_counts(stand: Stands) -> None:
    """An old dist-info beside the package does not give its version to the build."""
    assert "2.5.1" == look(stand("two_dist_infos")).metadata_version


@pytest.mark.gcc
def test_numpy_1_headers_are_seen_in_the_binary(stand: Stands) -> None:
    """A torch compiled with NumPy 1.x is known by the module that it asks for."""
    assert 1 == look(stand("numpy1_build")).numpy_headers_major


@pytest.mark.parametrize(
    ("text", "version", "cuda", "hip", "is_cpu_only"),
    [
        ("__version__ = '1.0.0'\ndebug = False\ncuda = '9.0.176'\n", "1.0.0", "9.0.176", None, False),
        ("__version__ = '1.8.1+cpu'\ncuda = None\nhip = None\n", "1.8.1+cpu", None, None, True),
        ("__version__ = '2.2.0+rocm5.7'\ncuda: Optional[str] = None\nhip: Optional[str] = '5.7.31921'\n",
         "2.2.0+rocm5.7", None, "5.7.31921", False),
        ("__version__ = '2.8.0+xpu'\ncuda: Optional[str] = None\nxpu: Optional[str] = '20250101'\n",
         "2.8.0+xpu", None, None, False),
        ("__version__ = '2.2.0a0+81ea7a4'\ncuda: Optional[str] = '12.3'\n", "2.2.0a0+81ea7a4", "12.3", None, False),
        ("", None, None, None, None),
        ("\x00\x00", None, None, None, None),
    ],
)  # fmt: skip
def test_every_shape_of_version_file_is_read(
    tmp_path: Path, text: str, version: str | None, cuda: str | None, hip: str | None, is_cpu_only: bool | None
) -> None:
    """Plain and annotated assignments since 1.0, other accelerators, and a file that says nothing."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("")
    (tmp_path / "torch" / "version.py").write_text(text)
    fact = look(tmp_path)
    assert (version, cuda, hip, is_cpu_only) == (fact.version, fact.cuda, fact.hip, fact.is_cpu_only)


def test_damaged_libraries_are_unknown_with_the_reason(tmp_path: Path) -> None:
    """A library that is no ELF file makes its answers unknown, not wrong."""
    lib = tmp_path / "torch" / "lib"
    lib.mkdir(parents=True)
    (tmp_path / "torch" / "__init__.py").write_text("")
    (lib / "libc10.so").write_text("version https://git-lfs.github.com/spec/v1\n" * 3)
    fact = look(tmp_path)
    assert (None, True) == (fact.cxx11_abi, "not a 64-bit little-endian ELF file" in fact.unknown["cxx11_abi"])
    assert f"libtorch_python.so is not in {lib}" == fact.unknown["numpy_headers_major"]


def test_a_conda_build_string_is_found(tmp_path: Path) -> None:
    """conda-meta of the prefix names the build; its libraries may lie in the prefix's lib."""
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    install(site, Wheel("torch", "2.4.1", {"torch/__init__.py": "", "torch/version.py": "cuda = '12.1'\n"}))
    (tmp_path / "conda-meta").mkdir()
    (tmp_path / "conda-meta" / "pytorch-2.4.1-py3.11_cuda12.1_cudnn9.1.0_0.json").write_text("{}")
    (tmp_path / "lib" / "libtorch_cuda.so").write_bytes(b"")
    fact = look(site)
    assert ("py3.11_cuda12.1_cudnn9.1.0_0", True) == (fact.conda_build, fact.has_libtorch_cuda)


def library(folder: Path, **files: Library) -> Libraries:
    """Write libraries (``_`` for ``.`` in their names is not needed: the soname names the file)."""
    folder.mkdir(exist_ok=True)
    for each in files.values():
        (folder / each.soname).write_bytes(build(each))
    return Libraries([str(folder)])


@pytest.mark.gcc
@pytest.mark.parametrize(
    ("needed", "expected"),
    [("libcudart.so.12", "shared"), ("libcudart-d0da41ae.so.11.0", "hashed"), ("libcuda.so.1", "static")],
)
def test_the_linkage_of_the_cuda_runtime_is_told(tmp_path: Path, needed: str, expected: str) -> None:
    """Wheels have linked libcudart by its name, by a hashed name, and statically."""
    libraries = library(tmp_path, cuda=Library("libtorch_cuda.so", needed=(Needed(needed),)))
    assert expected == cuda_linkage(libraries)


@pytest.mark.gcc
def test_the_old_abi_is_seen_in_the_names(tmp_path: Path) -> None:
    """Wheels before 2.6 carried the pre-C++11 std::string."""
    libraries = library(tmp_path, c10=Library("libc10.so", defines=("_ZN3c105ErrorC2ENS_14SourceLocationESs",)))
    assert not cxx11_abi(libraries)


@pytest.mark.gcc
def test_without_a_list_the_device_code_itself_is_read(tmp_path: Path) -> None:
    """An old build's architectures come from its fat binaries, and the source says so."""
    code = Library("libtorch_cuda.so", source=fatbin("compute_90 sm_80 sm_90"))
    libraries = library(tmp_path, python=Library("libtorch_python.so"), cuda=code)
    assert (("sm_80", "sm_90", "compute_90"), "torch/lib/libtorch_cuda.so .nv_fatbin") == arch_list(libraries)


@pytest.mark.gcc
@pytest.mark.parametrize("flags", ["sm_90", "sm_80 sm_90a compute_90", "compute_80 compute_90"])
def test_a_list_of_any_shape_is_read(tmp_path: Path, flags: str) -> None:
    """One architecture alone, suffixed ones and PTX alone are lists too."""
    source = f'const char a[] = "sm_"; const char b[] = "zero"; const char flags[] = "{flags}"; const char c[] = "x";\n'
    libraries = library(tmp_path, python=Library("libtorch_python.so", source=source))
    assert tuple(flags.split()) == arch_list(libraries)[0]


@pytest.mark.real_torch
def test_the_real_torch_is_described_as_it_describes_itself() -> None:
    """Version, CUDA, ABI and git version read from files are what the imported torch says."""
    script = (
        "import json, torch; v = torch.version; abi = torch.compiled_with_cxx11_abi()\n"
        "print(json.dumps([torch.__file__, str(v.__version__), v.cuda, v.git_version, abi]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    file, *expected = json.loads(done.stdout)
    fact = look(Path(file).parents[1])
    assert expected == [fact.version, fact.cuda, fact.git_version, fact.cxx11_abi]
    assert {} == fact.unknown
