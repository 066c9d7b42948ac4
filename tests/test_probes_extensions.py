"""The extensions probe: what compiled companions ask for that this torch has not, held to the loader's own words."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from envdoctor_probes.extensions import COMPILED, extensions
from envdoctor_probes.mangled import is_torchs, name_start, std_string

from envdoctor.facts.libraries import Extension, Extensions
from envdoctor.probe import Context, NotThere
from tests.stands.cuda_wheels import stack, torch
from tests.stands.real_wheels import fetch
from tests.stands.small_elf import Library, Needed, build, fatbin
from tests.stands.wheels import Wheel, install

gcc = pytest.mark.gcc
SITE = Path(sysconfig.get_path("purelib"))
OLD = "_ZN5torch3jit17parseSchemaOrNameERKSsb"
NEW = "_ZN5torch3jit17parseSchemaOrNameERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEEb"
TORCHS = ("libc10.so", "libtorch_cpu.so", "libtorch_python.so")
SET_DEVICE = "_ZN3c104cuda9SetDeviceEa"


def ask(*path: Path, **environ: str) -> Extensions:
    """Ask the probe in this process."""
    found = extensions.collect(Context(path=tuple(map(str, path)), cwd="/", environ=environ))
    assert isinstance(found, Extensions)
    return found


def companion(name: str, path: str, library: Library) -> Wheel:
    """Make a wheel with one compiled file."""
    return Wheel(name, "1.0", {path: build(library)})


def exporting(*symbols: str) -> Wheel:
    """Make a CPU torch whose libtorch_cpu defines these too."""
    made = torch(cuda=None)
    more = {"torch/lib/libtorch_cpu.so": build(Library("libtorch_cpu.so", rpath="$ORIGIN", defines=symbols))}
    return Wheel(made.name, made.version, {**made.files, **more}, made.requires)


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        (OLD, False),
        (NEW, True),
        ("_ZNK5torch8autograd4Node4nameB5cxx11Ev", True),
        ("_ZNK5torch8autograd4Node4nameEv", None),
        ("_ZN3c105ErrorC2ENS_14SourceLocationESs", False),
        ("_ZN3c107WarningC1ESt7variantIJNS0_11UserWarningEEERKNS_14SourceLocationESsb", False),
        ("_ZN2at4_ops9fft_irfft4callERKNS_6TensorESt8optionalIN3c106SymIntEElS5_INS6_17basic_string_viewIcEEE", None),
        ("_ZN3c1015SmallVectorBaseIjE8SsizedupEm", None),
        ("aoti_torch_empty_strided", None),
    ],
)
def test_string_of_a_name(symbol: str, expected: bool | None) -> None:
    """The string's own token counts, not letters inside an identifier."""
    assert expected is std_string(symbol)


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        (OLD, True), (SET_DEVICE, True), ("_ZNK2at6Tensor6deviceEv", True), ("_ZTIN2at10TensorImplE", True),
        ("_ZNR5torch7Library4_defEOSt7variantIJEE", True), ("_Z16THPVariable_WrapN2at10TensorBaseE", True),
        ("THPVariableClass", True), ("aoti_torch_delete_tensor_object", True), ("_ZN6caffe28TypeMeta2IdEv", True),
        ("_ZN5torio2io21StreamingMediaEncoder17write_audio_chunkEiRKN2at6TensorE", False), ("cudaMalloc", False),
        ("_ZN8pybind116detail11type_casterIN2at6TensorEvE4loadENS_6handleEb", False), ("_ZSt4cout", False),
        ("_ZN2at", False), ("torch_my_own_function", False),
    ],
)  # fmt: skip
def test_whose_a_name_is(symbol: str, expected: bool) -> None:
    """Only what nobody but torch can define is asked of torch."""
    assert expected is is_torchs(symbol)


@pytest.mark.parametrize(
    ("symbol", "start", "parts"),
    [
        (OLD, "_ZN5torch3jit17parseSchemaOrName", ("torch", "jit", "parseSchemaOrName")),
        (SET_DEVICE, "_ZN3c104cuda9SetDevice", ("c10", "cuda", "SetDevice")),
        ("_ZN3c107WarningC1ESsb", "_ZN3c107WarningC1", ("c10", "Warning")),
        ("_Z16THPVariable_WrapN2at10TensorBaseE", "_Z16THPVariable_Wrap", ("THPVariable_Wrap",)),
        ("_ZN3c1011SmallVectorIlLj5EE4pushEv", "_ZN3c1011SmallVector", ("c10", "SmallVector")),
    ],
)
def test_start_of_a_name(symbol: str, start: str, parts: tuple[str, ...]) -> None:
    """The function's name without its arguments."""
    assert (start, parts) == name_start(symbol)


@gcc
def test_names_are_read_as_a_demangler_reads_them() -> None:
    """Over the real torch's own names, what c++filt calls a std::string is what the tokens say."""
    filt = shutil.which("c++filt")
    library = SITE / "torch" / "lib" / "libc10.so"
    if filt is None or not library.exists():
        pytest.skip("c++filt or torch is not here")
    from envdoctor_probes.elf import Elf

    with Elf(str(library)) as elf:
        names = [name for name, _ in elf.dynsyms() if name.startswith("_ZN")]
    done = subprocess.run([filt], input="\n".join(names), capture_output=True, text=True, check=True)
    for name, spoken in zip(names, done.stdout.splitlines(), strict=True):
        new = "std::__cxx11::" in spoken or "[abi:cxx11]" in spoken
        assert (name, True if new else None) == (name, std_string(name))


@gcc
def test_other_abi_is_told_apart(stand: Callable[[str], Path]) -> None:
    """The symbol is missing, and torch has the same function with the other string."""
    site = stand("flash_attn_abi")
    (found,) = ask(site).extensions
    assert (str(site / "flash_attn_2_cuda.so"), "flash-attn", 1, 1, True, ()) == (
        found.path, found.distribution, found.unresolved_count, found.abi_only_count, found.cxx11_abi,
        found.needs_missing,
    )  # fmt: skip


@gcc
@pytest.mark.parametrize(
    ("asked", "exported", "by_abi"),
    [
        (OLD, NEW, 1),
        (NEW, NEW, None),
        ("_ZNK5torch8autograd4Node4nameEv", "_ZNK5torch8autograd4Node4nameB5cxx11Ev", 1),
        ("_ZN5torch3jit9otherNameERKSsb", NEW, 0),
        (SET_DEVICE, "_ZN3c104cuda9SetDeviceEi", 0),
    ],
    ids=["argument", "same", "result", "no such function", "another signature"],
)
def test_symbols_against_what_torch_exports(tmp_path: Path, asked: str, exported: str, by_abi: int | None) -> None:
    """What torch exports is resolved; what it has with the other string is the ABI's; the rest is another torch's."""
    install(tmp_path, exporting(exported))
    install(
        tmp_path, companion("torch-scatter", "torch_scatter/_scatter.so", Library("_scatter.so", undefined=(asked,)))
    )
    found = ask(tmp_path).of("torch-scatter")
    expected = () if by_abi is None else ((asked,), by_abi)
    assert expected == (() if not found[0].unresolved else (found[0].unresolved, found[0].abi_only_count))


@gcc
def test_libraries_that_nothing_provides_are_named(tmp_path: Path) -> None:
    """Torch's and CUDA's are judged; what others bring, and what comes with a driver, is not."""
    for wheel in (torch(cuda=None), *stack()[2:]):
        install(tmp_path, wheel)
    asked = (
        "libc10.so",
        "libtorch_cuda.so",
        "libcudart.so.11.0",
        "libcudart.so.12",
        "libcuda.so.1",
        "libavcodec.so.58",
    )
    install(tmp_path, companion("mmcv", "mmcv/_ext.so", Library("_ext.so", needed=tuple(map(Needed, asked)))))
    (found,) = ask(tmp_path).extensions
    assert ("libtorch_cuda.so", "libcudart.so.11.0") == found.needs_missing


@gcc
def test_library_on_the_library_path_or_beside_is_there(tmp_path: Path) -> None:
    """What LD_LIBRARY_PATH, the file's own RUNPATH or the same package brings is not missing."""
    install(tmp_path, torch(cuda=None))
    own = Library("_C.so", needed=(Needed("libcudart.so.11.0"), Needed("libcublas.so.11")), runpath="$ORIGIN/lib")
    install(tmp_path, companion("vllm", "vllm/_C.so", own))
    assert ("libcudart.so.11.0", "libcublas.so.11") == ask(tmp_path).extensions[0].needs_missing
    for folder, name in ((tmp_path / "vllm" / "lib", "libcudart.so.11.0"), (tmp_path / "cuda", "libcublas.so.11")):
        folder.mkdir()
        (folder / name).write_bytes(build(Library(name)))
    assert () == ask(tmp_path, LD_LIBRARY_PATH=str(tmp_path / "cuda")).extensions[0].needs_missing


@gcc
def test_device_code_is_listed(tmp_path: Path) -> None:
    """Machine code in order, then PTX."""
    install(tmp_path, torch(cuda=None))
    library = Library("_C.so", needed=(Needed("libc10.so"),), source=fatbin("sm_90 compute_90 sm_80 sm_100"))
    install(tmp_path, companion("xformers", "xformers/_C.so", library))
    assert ("sm_80", "sm_90", "sm_100", "compute_90") == ask(tmp_path).extensions[0].arches


@gcc
def test_bundled_and_foreign_files_are_left_out(tmp_path: Path) -> None:
    """A library that a wheel carries along, and one that asks nothing of torch, are no extension."""
    install(tmp_path, torch(cuda=None))
    plain = build(Library("libpng16.so.16"))
    install(
        tmp_path, Wheel("torchvision", "1.0", {"torchvision.libs/libpng16.so.16": plain, "torchvision/x.so": plain})
    )
    install(tmp_path, Wheel("pillow", "1.0", {"PIL/_imaging.so": build(Library("x.so", undefined=(SET_DEVICE,)))}))
    assert () == ask(tmp_path).extensions


@gcc
def test_damaged_file_costs_itself_alone(tmp_path: Path) -> None:
    """The file is named in what is unknown, and the next one is examined."""
    install(tmp_path, torch(cuda=None))
    good = build(Library("b.so", undefined=(SET_DEVICE,)))
    install(tmp_path, Wheel("apex", "0.1", {"amp_C.so": good[:200], "apex_C.so": good}))
    found = ask(tmp_path)
    assert [str(tmp_path / "apex_C.so")] == [each.path for each in found.extensions]
    assert str(tmp_path / "amp_C.so") in found.unknown["extensions"]


@gcc
def test_install_without_record_is_found_by_its_packages(tmp_path: Path) -> None:
    """An egg-info names its packages alone."""
    install(tmp_path, torch(cuda=None))
    info = tmp_path / "detectron2-0.6.egg-info"
    info.mkdir()
    (info / "PKG-INFO").write_text("Name: detectron2\nVersion: 0.6\n")
    (info / "top_level.txt").write_text("detectron2\n")
    (tmp_path / "detectron2").mkdir()
    (tmp_path / "detectron2" / "_C.cpython-311.so").write_bytes(build(Library("_C.so", undefined=(SET_DEVICE,))))
    assert ["_C.cpython-311.so"] == [Path(each.path).name for each in ask(tmp_path).of("detectron2")]


@gcc
def test_unreadable_torch_is_no_accusation(tmp_path: Path) -> None:
    """Where one of torch's libraries cannot be read nothing is called missing, and that is said."""
    install(tmp_path, torch(cuda=None))
    install(tmp_path, companion("apex", "apex_C.so", Library("apex_C.so", undefined=(SET_DEVICE,))))
    (tmp_path / "torch" / "lib" / "libtorch_cpu.so").write_bytes(b"")
    found = ask(tmp_path)
    assert (0, True) == (found.extensions[0].unresolved_count, "libtorch_cpu.so" in found.unknown["extensions"])


def test_environment_without_torch_or_companions(tmp_path: Path) -> None:
    """No torch is absent; a torch alone has no extensions."""
    with pytest.raises(NotThere, match="no torch"):
        ask(tmp_path)
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("")
    (tmp_path / "torch" / "version.py").write_text("__version__ = '2.9.0'\n")
    assert Extensions() == ask(tmp_path)


@pytest.mark.parametrize("name", ["torchvision", "flash-attn", "torch-scatter", "vllm", "mmcv-full", "apex"])
def test_companions_are_known_by_name(name: str) -> None:
    """The packages that are compiled against torch."""
    assert COMPILED.match(name)


@pytest.mark.parametrize("name", ["torch", "numpy", "torchmetrics", "torchdata", "transformers", "triton"])
def test_others_are_not(name: str) -> None:
    """Packages without a compiled part of torch's are not looked into."""
    assert not COMPILED.match(name)


LOADER = """
import ctypes, json, sys
import torch
said = []
for path in sys.argv[1:]:
    try:
        ctypes.CDLL(path, mode=2)  # RTLD_NOW
        said.append("")
    except OSError as error:
        said.append(str(error))
print(json.dumps(said))
"""


def loaded(*paths: Path) -> list[str]:
    """Let the loader load these beside the real torch, and give its complaints."""
    done = subprocess.run(
        [sys.executable, "-c", LOADER, *map(str, paths)], capture_output=True, text=True, check=True, timeout=120
    )
    words: list[str] = json.loads(done.stdout)
    return words


@gcc
@pytest.mark.real_torch
def test_verdict_is_the_loaders(tmp_path: Path) -> None:
    """Against the real torch: what the loader refuses is what is reported, with its own words; the rest loads."""
    if not (SITE / "torch" / "lib" / "libc10.so").exists():
        pytest.skip("torch is not here")
    libraries = {
        "fits": Library("fits.so", tuple(map(Needed, TORCHS)), undefined=(NEW, "THPVariableClass")),
        "abi": Library("abi.so", (Needed("libtorch_cpu.so"),), undefined=(OLD,)),
        "other": Library("other.so", (Needed("libc10.so"),), undefined=("_ZNK2at6Tensor6deviceEv",)),
        "cuda": Library("cuda.so", (Needed("libc10_cuda.so"),), undefined=(SET_DEVICE,)),
    }
    install(tmp_path, Wheel("apex", "0.1", {f"apex/{name}.so": build(each) for name, each in libraries.items()}))
    found = {Path(each.path).stem: each for each in ask(tmp_path, SITE).extensions}
    words = dict(zip(libraries, loaded(*(tmp_path / "apex" / f"{name}.so" for name in libraries)), strict=True))
    assert ("", 0, ()) == (words["fits"], found["fits"].unresolved_count, found["fits"].needs_missing)
    assert (True, 1) == (OLD in words["abi"], found["abi"].abi_only_count)
    assert (True, 0) == (found["other"].unresolved[0] in words["other"], found["other"].abi_only_count)
    assert f"{found['cuda'].needs_missing[0]}: cannot open shared object file" in words["cuda"]


@pytest.mark.network
@pytest.mark.real_torch
def test_real_torchvision_of_another_torch(request: pytest.FixtureRequest) -> None:
    """Torchvision 0.19.1 was built for torch 2.4.1 with the old ABI: both show against the torch that is here."""
    if not (SITE / "torch" / "lib" / "libc10.so").exists():
        pytest.skip("torch is not here")
    site = fetch(request.config, "torchvision==0.19.1", "--python-version", "3.11")
    found = {Path(each.path).name: each for each in ask(site, SITE).extensions}
    assert {"_C.so", "image.so"} == set(found)
    operators = found["_C.so"]
    assert ("sm_50", "compute_50", False) == (operators.arches[0], operators.arches[-1], operators.cxx11_abi)
    assert (True, True) == (operators.abi_only_count > 3, operators.unresolved_count > operators.abi_only_count)
    words = loaded(site / "torchvision" / "_C.so", site / "torchvision" / "image.so")
    for each, said in zip((operators, found["image.so"]), words, strict=True):
        named = (*each.needs_missing, *each.unresolved)
        assert (each.path, True) == (each.path, any(name in said for name in named))


@pytest.mark.real_torch
def test_healthy_torch_has_nothing_unresolved() -> None:
    """The torch that is here, with whatever compiled companions it has."""
    if not (SITE / "torch" / "lib" / "libc10.so").exists():
        pytest.skip("torch is not here")
    assert [] == [each for each in ask(SITE).extensions if each.unresolved or each.needs_missing]


def test_fact_gives_the_files_of_a_distribution() -> None:
    """By name."""
    one, other = Extension("/a.so", "apex"), Extension("/b.so", "vllm")
    assert (one,) == Extensions(extensions=(one, other)).of("apex")
