"""Rules that rest on compiled files: what they ask torch for, which C++ ABI, and for which GPUs they have code."""

from __future__ import annotations

import pytest

from envdoctor.facts.driver import CudaDevice, CudaDriver
from envdoctor.facts.libraries import Extension, Extensions
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Severity, Status
from envdoctor.rule import Rule
from envdoctor.rules.companions import extension_built_for_other_torch, xformers_torch_mismatch
from envdoctor.rules.extensions import cxx11_abi_mismatch, extension_arch_missing
from envdoctor.rules.packages import torchaudio_torch_mismatch, torchvision_torch_mismatch
from envdoctor.rules.unfit import readable
from envdoctor.testing import check
from tests.torch_facts import commands, cpu_build, cuda_build, dist, venv

OLD = "_ZN5torch3jit17parseSchemaOrNameERKSsb"
SET_DEVICE = "_ZN3c104cuda9SetDeviceEa"
BUILD = cuda_build("2.5.1+cu124", "12.4")
SITE = "/opt/venv/lib/python3.11/site-packages"


def beside(*distributions: Distribution, torch: str = "2.5.1") -> Packages:
    """Make an environment with torch and these."""
    return venv(dist("torch", torch), *distributions)


def file(
    distribution: str,
    *symbols: str,
    abi_only: int = 0,
    missing: tuple[str, ...] = (),
    cxx11: bool | None = None,
    arches: tuple[str, ...] = (),
) -> Extensions:
    """Make the compiled file of one package."""
    path = f"{SITE}/{distribution.replace('-', '_')}.so"
    return Extensions(
        extensions=(Extension(path, distribution, symbols, len(symbols), abi_only, missing, cxx11, arches),)
    )


def gpus(*cards: tuple[str, str]) -> CudaDriver:
    """Make a driver that lists these GPUs."""
    devices = tuple(CudaDevice(n, name, compute_capability=cc) for n, (name, cc) in enumerate(cards))
    return CudaDriver(init_code=0, device_count=len(devices), devices=devices)


H100, RTX_5090, T4 = ("NVIDIA H100", "9.0"), ("NVIDIA GeForce RTX 5090", "12.0"), ("Tesla T4", "7.5")
WIDE = cuda_build("2.9.0+cu128", "12.8", arch_list=("sm_70", "sm_75", "sm_80", "sm_90", "sm_100", "sm_120"))


def test_undefined_symbol_accuses_a_package_that_declares_nothing() -> None:
    """The symbol is named as C++ has it, the file is the evidence's source, and the way out is to compile again."""
    finding = check(
        extension_built_for_other_torch, BUILD, beside(dist("flash-attn", "2.5.7")), file("flash-attn", SET_DEVICE)
    ).finding
    assert (Severity.ERROR, "flash-attn") == (finding.severity, finding.subject)
    assert "it asks for c10::cuda::SetDevice, which this torch does not have" in finding.title
    assert (f"{SITE}/flash_attn.so", SET_DEVICE) == (finding.evidence[0].source, finding.evidence[0].value)
    assert "--no-build-isolation" in commands(finding)[0]


def test_library_of_another_cuda_accuses_too() -> None:
    """A wheel for CUDA 12 under a torch of CUDA 11 needs a runtime that nothing provides."""
    found = file("vllm", missing=("libcudart.so.12",))
    finding = check(extension_built_for_other_torch, BUILD, beside(dist("vllm", "0.2.2")), found).finding
    assert "it asks for libcudart.so.12, which is not there" in finding.title


def test_package_for_cuda_beside_a_cpu_torch() -> None:
    """The words say that, instead of the first of a hundred symbols."""
    found = file("torch-scatter", SET_DEVICE, missing=("libtorch_cuda.so", "libc10_cuda.so"))
    build = cpu_build("2.5.1+cpu")
    packages = beside(dist("torch-scatter", "2.1.2"), torch="2.5.1+cpu")
    assert (
        "built for CUDA, and this torch has none"
        in check(extension_built_for_other_torch, build, packages, found).finding.title
    )


def test_files_are_shown_with_what_is_declared() -> None:
    """Where the declared torch is another one, the symbols are evidence of the same finding."""
    have = dist("vllm", "0.6.0", requires=("torch==2.4.0",))
    finding = check(extension_built_for_other_torch, BUILD, beside(have), file("vllm", SET_DEVICE)).finding
    assert "it asks for torch==2.4.0" in finding.title
    assert SET_DEVICE in [each.value for each in finding.evidence]


@pytest.mark.parametrize(
    "found",
    [
        Extensions(),
        file("flash-attn", arches=("sm_80", "sm_90")),
        file("flash-attn", missing=("libnvshmem_host.so.3",)),
        file("flash-attn", OLD, abi_only=1),
        file("torchao", SET_DEVICE),
    ],
    ids=["nothing", "fits", "optional library", "the ABI's", "goes on without"],
)
def test_package_that_fits_is_not_accused(found: Extensions) -> None:
    """What resolves, what may be missing, and what the ABI explains is no other torch."""
    packages = beside(dist("flash-attn", "2.6.3"), dist("torchao", "0.5.0"))
    assert Status.PASSED is check(extension_built_for_other_torch, BUILD, packages, found).status


def test_package_without_a_name_of_its_own_is_judged_by_its_files() -> None:
    """Deepspeed declares no torch; a compiled file of it is looked at all the same."""
    found = check(
        extension_built_for_other_torch, BUILD, beside(dist("deepspeed", "0.14")), file("deepspeed", SET_DEVICE)
    )
    assert "deepspeed" == found.finding.subject


@pytest.mark.parametrize(
    ("rule", "name", "version", "severity"),
    [
        (torchvision_torch_mismatch, "torchvision", "0.20.1", Severity.ERROR),
        (torchaudio_torch_mismatch, "torchaudio", "2.5.1", Severity.WARNING),
        (xformers_torch_mismatch, "xformers", "0.0.28.post3", Severity.ERROR),
    ],
)
def test_neighbour_that_declares_the_right_torch_is_judged_by_its_files(
    rule: Rule, name: str, version: str, severity: Severity
) -> None:
    """The pair is right by name, and the compiled file is another one's: a source build, or a foreign index."""
    have = dist(name, version, requires=("torch==2.5.1",))
    assert Status.PASSED is check(rule, BUILD, beside(have), file(name)).status
    finding = check(rule, BUILD, beside(have), file(name, OLD, abi_only=1, cxx11=False)).finding
    assert (severity, True) == (finding.severity, "torch::jit::parseSchemaOrName" in finding.title)


def test_other_abi_is_its_own_finding() -> None:
    """Only functions with the other string are missing: compile again, or take the other wheel."""
    build = cuda_build("2.8.0+cu128", "12.8", cxx11_abi=True)
    found = file("sgl-kernel", OLD, abi_only=1, cxx11=False)
    packages = beside(dist("sgl-kernel", "0.0.8"), torch="2.8.0")
    finding = check(cxx11_abi_mismatch, build, packages, found).finding
    assert "sgl-kernel 0.0.8 is compiled with the old C++ ABI, torch 2.8.0+cu128 with the new one" == finding.title
    assert [OLD, "sgl-kernel 0.0.8", "yes"] == [each.value for each in finding.evidence]
    assert Status.PASSED is check(extension_built_for_other_torch, build, packages, found).status


def test_abi_in_the_version_is_enough() -> None:
    """A wheel that names its ABI is judged without its files, as in a pasted list of packages."""
    have = dist("flash-attn", "2.5.5+cu118torch2.2cxx11abiTRUE")
    build = cuda_build("2.2.0+cu118", "11.8")
    finding = check(cxx11_abi_mismatch, build, beside(have, torch="2.2.0")).finding
    assert "compiled with the new C++ ABI, torch 2.2.0+cu118 with the old one" in finding.title


@pytest.mark.parametrize(
    ("build", "have", "found", "expected"),
    [
        (cuda_build("2.8.0+cu128", "12.8"), dist("flash-attn", "2.8.0+cu12torch2.8cxx11abiTRUE"), None, Status.PASSED),
        (BUILD, dist("vllm", "0.7.3"), file("vllm", SET_DEVICE), Status.PASSED),
        (BUILD, dist("numpy", "2.0"), None, Status.NOT_APPLICABLE),
        (cuda_build("2.6.0a0+gitabc", "12.8"), dist("vllm", "0.7.3"), None, Status.UNKNOWN),
    ],
    ids=["same ABI", "another torch, same ABI", "nothing compiled", "nobody knows"],
)
def test_abi_that_is_not_accused(
    build: TorchBuild, have: Distribution, found: Extensions | None, expected: Status
) -> None:
    """What agrees, what is missing for another reason, and what cannot be told."""
    facts = (found,) if found else ()
    packages = beside(have, torch=str(build.version))
    assert expected is check(cxx11_abi_mismatch, build, packages, *facts).status


def test_gpu_that_a_package_left_out() -> None:
    """Torch has code for this GPU, the package has not: all its files together count."""
    found = Extensions(
        extensions=(
            Extension("/a.so", "xformers", arches=("sm_80",)),
            Extension("/b.so", "xformers", arches=("sm_90",)),
        )
    )
    finding = check(
        extension_arch_missing, found, beside(dist("xformers", "0.0.30")), WIDE, gpus(H100, RTX_5090)
    ).finding
    assert (Severity.WARNING, "xformers") == (finding.severity, finding.subject)
    assert "xformers 0.0.30 has no code for the NVIDIA GeForce RTX 5090 (compute capability 12.0)" == finding.title
    assert "sm_80, sm_90" == finding.evidence[0].value
    assert commands(finding)[0].startswith("TORCH_CUDA_ARCH_LIST='12.0' ")


@pytest.mark.parametrize(
    ("name", "arches", "card"),
    [
        ("xformers", ("sm_80", "sm_90", "compute_90"), RTX_5090),
        ("xformers", ("sm_80",), ("NVIDIA L40S", "8.9")),
        ("flash-attn", ("sm_80", "sm_90"), T4),
        ("torchao", ("sm_90",), RTX_5090),
        ("mmcv", ("sm_60",), ("GTX 1080", "6.1")),
    ],
    ids=["PTX", "same major", "below what the project supports", "goes on without", "torch has none either"],
)
def test_gpu_that_is_served(name: str, arches: tuple[str, ...], card: tuple[str, str]) -> None:
    """No alarm where the code runs, where no build has it, or where torch is the first to fail."""
    found = file(name, arches=arches)
    assert check(extension_arch_missing, found, beside(dist(name, "1.0")), WIDE, gpus(card)).findings == ()


def test_gpus_that_nobody_names_are_skipped_or_unknown() -> None:
    """Without device code there is nothing to judge; without GPUs or torch's list nobody can."""
    found, packages = file("mmcv", arches=("sm_80",)), beside(dist("mmcv", "1.7"))
    none = check(extension_arch_missing, Extensions(), packages, WIDE, gpus(H100)).status
    unlisted = check(extension_arch_missing, found, packages, cuda_build("2.9.0+cu128", "12.8"), gpus(H100)).status
    nobody = check(extension_arch_missing, found, packages, WIDE).status
    assert (Status.NOT_APPLICABLE, Status.UNKNOWN) == (none, unlisted)
    assert nobody in {Status.SKIPPED, Status.UNKNOWN}


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        (SET_DEVICE, "c10::cuda::SetDevice"),
        ("_ZTIN2at10TensorImplE", "at::TensorImpl"),
        ("_ZNK2at6Tensor6deviceEv", "at::Tensor::device"),
        ("_Z16THPVariable_WrapN2at10TensorBaseE", "THPVariable_Wrap"),
        ("aoti_torch_get_current_cuda_stream", "aoti_torch_get_current_cuda_stream"),
        ("_ZSt4cout", "_ZSt4cout"),
    ],
)
def test_symbols_are_written_for_people(symbol: str, name: str) -> None:
    """A mangled name is given as C++ has it; what is none stays as it is."""
    assert name == readable(symbol)
