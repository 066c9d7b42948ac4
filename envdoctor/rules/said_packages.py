"""Words about torch and its companions: which of them does not belong to the other."""

from __future__ import annotations

import re
from collections.abc import Iterator

from packaging.version import InvalidVersion, Version

from envdoctor.facts.host import Environment
from envdoctor.facts.packages import Packages
from envdoctor.facts.text import ErrorText
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Evidence, Finding, Fix, Severity, see
from envdoctor.knowledge.cuda import numbers
from envdoctor.knowledge.torch import release
from envdoctor.remedy import repair
from envdoctor.remedy.install import another_python, install, install_plain
from envdoctor.remedy.pair import fit_companion, published_with
from envdoctor.remedy.variables import look, unset
from envdoctor.rule import Witness, cross_examined, witness
from envdoctor.rules.companion_cuda import with_its_own_cuda
from envdoctor.rules.owners import is_built_for_torch, owner, owner_above
from envdoctor.rules.said import NO_PACKAGES, Heard, built_with, hear, lead, listed
from envdoctor.rules.said_libraries import foreign_major

# An undefined symbol that speaks of a string tells the ABI of who asks for it: RKSs is the old std::string.
NEW_STRING, OLD_STRING = re.compile(r"__cxx11|B5cxx11"), re.compile(r"(?:RK|E)Ss|Ss[bilm]?\b")
OF_CUDA = re.compile(r"(?:TH[CP]?[A-Z]|aoti_torch|cuda[A-Z]|cu[A-Z]|nv[A-Z]|nvrtc|cusolver|cufft|curand|cupti)")
FIRST_NEW_ABI, LAST_OLD_ABI = Version("2.7"), Version("2.5.99")  # of 2.6 some variants are the one, some the other


def _torch(build: TorchBuild | None, packages: Packages | None) -> Version | None:
    text = (build.version if build else None) or (packages.version("torch") if packages else None)
    try:
        return Version(text) if text else None
    except InvalidVersion:
        return None


def _pair(name: str, build: TorchBuild | None, packages: Packages | None) -> tuple[Fix, ...]:
    """Give the companion that belongs to this torch; where torch is not known, how to see both."""
    torch = _torch(build, packages)
    found = fit_companion(packages or NO_PACKAGES, name, torch, build) if torch else ()
    return found or (look("See which versions are there", "python -m pip list | grep -i torch"),)


@cross_examined
def torchvision_torch_mismatch(
    words: ErrorText, build: TorchBuild | None, packages: Packages | None
) -> Iterator[Finding]:
    """Torchvision's operators are not there, or its own check of CUDA."""
    heard = hear(words, "torchvision-torch-mismatch")
    if heard and (heard.message.id != "ext-abi" or owner(heard.text) == "torchvision"):
        yield lead(
            heard,
            "torchvision was not built for this torch: its compiled operators do not load",
            *_pair("torchvision", build, packages),
            also=(*listed(packages, "torch", "torchvision"), *built_with(build)),
            severity=Severity.ERROR,
            confirmed=heard.message.id == "ext-abi" or None,
        )


@cross_examined
def torchaudio_torch_mismatch(
    words: ErrorText, build: TorchBuild | None, packages: Packages | None
) -> Iterator[Finding]:
    """Torchaudio's compiled part does not load, or its own check of CUDA."""
    heard = hear(words, "torchaudio-torch-mismatch")
    if heard and (heard.message.id != "ext-abi" or owner(heard.text) == "torchaudio"):
        yield lead(
            heard,
            "torchaudio was not built for this torch: its compiled part does not load",
            *_pair("torchaudio", build, packages),
            also=(*listed(packages, "torch", "torchaudio"), *built_with(build)),
            severity=Severity.ERROR,
            confirmed=heard.message.id == "ext-abi" or None,
        )


@cross_examined
def xformers_torch_mismatch(words: ErrorText, build: TorchBuild | None, packages: Packages | None) -> Iterator[Finding]:
    """Xformers' own words about what it was built for."""
    heard = hear(words, "xformers-torch-mismatch")
    torch = _torch(build, packages)
    if heard and (heard.message.id != "ext-abi" or owner(heard.text) == "xformers"):
        fixes = published_with(packages or NO_PACKAGES, "xformers", torch, build) if torch else ()
        yield lead(
            heard,
            "xformers was built for another torch, or without CUDA",
            *(fixes or (look("See what it was built for", "python -m xformers.info"),)),
            also=(*listed(packages, "xformers", "torch"), *built_with(build)),
            severity=Severity.ERROR,
            confirmed=heard.message.id == "ext-abi" or None,
        )


@cross_examined
def triton_torch_mismatch(words: ErrorText, packages: Packages | None) -> Iterator[Finding]:
    """Torch asks Triton for a part that this Triton has not."""
    heard = hear(words, "triton-torch-mismatch")
    if heard:
        yield lead(
            heard,
            "Triton is not the release that what calls it was written for",
            look("See which Triton this torch asks for", "python -m pip show torch triton"),
            *repair.whole_torch(packages or NO_PACKAGES),
            also=listed(packages, "torch", "triton", "pytorch-triton", "triton-windows"),
        )


@witness
def extension_built_for_other_torch(
    words: ErrorText, build: TorchBuild | None, packages: Packages | None
) -> Iterator[Finding]:
    """A compiled package asks for what this torch, or its CUDA, does not have."""
    heard = hear(words, "extension-built-for-other-torch")
    name = (owner(heard.text) or owner_above(words)) if heard else None
    if heard is None or name in {"torchvision", "torchaudio", "xformers"} or not _of_torch(heard, name):
        return
    foreign = foreign_major(heard, build)
    if foreign is False and not name:
        return  # of torch's own CUDA: nvidia-wheel-lib-not-found says so
    version = (packages.version(name) if packages and name else None) or ""
    yield lead(
        heard,
        f"{name or 'A compiled package'} was built for another torch or CUDA than the one that is here",
        *_built_here(packages, name, version, _torch(build, packages), build),
        also=(*listed(packages, "torch", *([name] if name else [])), *built_with(build)),
        subject=name if packages and version and name else "",
        severity=Severity.INFO if heard.message.id == "torchao-skip" else _symbol_severity(heard, foreign),
        confirmed=True if foreign or (name and not heard.plain) else None,
    )


def _of_torch(heard: Heard, name: str | None) -> bool:
    """Tell whether a symbol without C++ in its name is torch's or CUDA's; where it is cut off, by who asks for it."""
    symbol = heard.text.partition("undefined symbol:")[2].strip()
    if heard.message.id != "other-symbol":
        return True
    return OF_CUDA.match(symbol) is not None if symbol else is_built_for_torch(name)


def _symbol_severity(heard: Heard, foreign: bool | None) -> Severity | None:
    """Say error of a symbol or library that torch has not: whoever asks for it does not load."""
    return Severity.ERROR if foreign or "libcudart" not in heard.message.id else None


def _built_here(
    packages: Packages | None, name: str | None, version: str, torch: Version | None, build: TorchBuild | None
) -> tuple[Fix, ...]:
    if packages is None or name is None or not version:
        return (look("See what is installed, and what it was built for", "python -m pip list"),)
    released = published_with(packages, name, torch, build) if torch else ()
    return (*released, *repair.compiled_again(packages, name, version))


@witness
def cxx11_abi_mismatch(words: ErrorText, build: TorchBuild | None, packages: Packages | None) -> Iterator[Finding]:
    """The symbol speaks of a string of the ABI that this torch has not, or may not have."""
    heard = hear(words, "cxx11-abi-mismatch")
    asked = _asks_for_new(heard.text) if heard else None
    ours = _has_new(build, _torch(build, packages))
    if heard is None or asked is None or asked is ours:
        return
    name = owner(heard.text) or owner_above(words) or "A compiled package"
    yield lead(
        heard,
        f"{name} uses the {'new' if asked else 'old'} C++ ABI, and this torch "
        + ("may use the other one" if ours is None else "uses the other one"),
        look("See which one torch uses", "python -c 'import torch; print(torch._C._GLIBCXX_USE_CXX11_ABI)'"),
        also=listed(packages, "torch", name),
        severity=Severity.WARNING if ours is None else Severity.ERROR,
        confirmed=True if ours is not None else None,
    )


def _asks_for_new(line: str) -> bool | None:
    """Tell which std::string a missing symbol is about: the new ABI's, the old one's, None for none."""
    symbol = line.partition("undefined symbol")[2]
    if NEW_STRING.search(symbol):
        return True
    return False if OLD_STRING.search(symbol) else None


def _has_new(build: TorchBuild | None, torch: Version | None) -> bool | None:
    """Tell which ABI this torch uses: by its own library, else by what the published wheels of its release use."""
    if build and build.cxx11_abi is not None:
        return build.cxx11_abi
    if torch is None or not (torch.local or "").startswith("cu"):
        return None
    base = Version(torch.base_version)
    return True if base >= FIRST_NEW_ABI else False if base <= LAST_OLD_ABI else None


@witness
def duplicate_torch_installs(words: ErrorText, packages: Packages | None) -> Iterator[Finding]:
    """One of torch's own libraries asks another one for what it has not."""
    heard = hear(words, "duplicate-torch-installs")
    if heard and heard.message.id == "torch-own-symbol":
        yield lead(
            heard,
            "Torch's own libraries do not fit each other: files of two installations are mixed",
            *repair.replace_all(packages or NO_PACKAGES, 2, None),
            detail="A leftover of an earlier version, or another torch on LD_LIBRARY_PATH or PYTHONPATH.",
            also=listed(packages, "torch", "pytorch", "torch-nightly"),
        )


@cross_examined
def numpy2_abi(words: ErrorText, packages: Packages | None, build: TorchBuild | None) -> Iterator[Finding]:
    """NumPy's own warning, or torch's; not where NumPy here is older than 2."""
    heard = hear(words, "numpy2-abi")
    numpy = packages.version("numpy") if packages else None
    major = (numbers(numpy) or (0,))[0] if numpy else None
    if heard and not (major is not None and major < 2):
        yield lead(
            heard,
            "A module was compiled for NumPy 1.x, and NumPy 2 is installed",
            install_plain(packages or NO_PACKAGES, "numpy<2", title="Install NumPy below 2"),
            also=(*listed(packages, "numpy", "torch"), *built_with(build)),
            confirmed=True if major else None,
            doubtful=heard.message.id == "numpy-multiarray",
        )


@witness
def python_unsupported(words: ErrorText, packages: Packages | None) -> Iterator[Finding]:
    """Pip finds no wheel of a torch for this Python, or Dynamo refuses it."""
    heard = hear(words, "python-unsupported")
    if heard is None:
        return
    python = packages.python_version if packages else None
    wanted = heard.match[1] if heard.message.id == "no-matching-torch" else None
    row = release(Version(Version(wanted.rstrip(".")).base_version)) if wanted and _is_version(wanted) else None
    fits = row.supports(numbers(python) or ()) if row and python else None
    if fits:
        return  # a wheel exists: another index, platform or a typing error
    dynamo = heard.message.id == "dynamo-python"
    torch = f"torch {wanted}" if wanted else "this torch"
    yield lead(
        heard,
        f"torch.compile does not work with {'Python ' + python if python else 'this Python'} in this torch"
        if dynamo
        else f"There is no wheel of {torch} for {'Python ' + python if python else 'this Python'}",
        another_python(packages or NO_PACKAGES, str(row.version) if row else None),
        also=(*_this_python(packages), *listed(packages, "torch")),
        severity=Severity.WARNING if dynamo else Severity.ERROR,
        confirmed=True if fits is False or (dynamo and python) else None,
    )


def _is_version(text: str) -> bool:
    try:
        Version(text.rstrip("."))
    except InvalidVersion:
        return False
    return True


def _this_python(packages: Packages | None) -> tuple[Evidence, ...]:
    return (see(packages, "python_version", "this Python"),) if packages and packages.python_version else ()


@witness
def bitsandbytes_cuda_binary_missing(
    words: ErrorText | None, environment: Environment | None, packages: Packages | None, build: TorchBuild | None
) -> Iterator[Finding]:
    """Its own words; or BNB_CUDA_VERSION, which names another CUDA than torch's."""
    told = (environment.get("BNB_CUDA_VERSION") if environment else None) or ""
    shown = (see(environment, "variables", "BNB_CUDA_VERSION", told),) if environment and told else ()
    heard = hear(words, "bitsandbytes-cuda-binary-missing")
    newer = install(packages or NO_PACKAGES, ("bitsandbytes>=0.50",), title="Install a newer bitsandbytes")
    fixes = (unset("BNB_CUDA_VERSION"), newer) if told else (newer,)
    if heard:
        yield lead(
            heard,
            "bitsandbytes has no library for the CUDA that it looks for",
            *fixes,
            also=(*shown, *listed(packages, "bitsandbytes"), *built_with(build)),
        )
    elif re.fullmatch(r"\d{2,3}", told) and (build is None or build.cuda != f"{told[:-1]}.{told[-1]}"):
        known = build is not None and build.cuda is not None
        yield Finding(
            f"BNB_CUDA_VERSION={told} has bitsandbytes load the library of CUDA {told[:-1]}.{told[-1]}"
            + (", not of torch's" if known else ": torch's CUDA is not known"),
            evidence=(*shown, *built_with(build)),
            fixes=(unset("BNB_CUDA_VERSION"),),
            severity=Severity.WARNING if known else Severity.INFO,
        )


@witness
def onnxruntime_cpu_shadows_gpu(words: ErrorText, packages: Packages | None) -> Iterator[Finding]:
    """The CUDA provider is not among those of the onnxruntime that is imported."""
    heard = hear(words, "onnxruntime-cpu-shadows-gpu")
    if heard:
        both = bool(packages and packages.find("onnxruntime") and packages.find("onnxruntime-gpu"))
        yield lead(
            heard,
            "The onnxruntime that is imported is the CPU one",
            *repair.only(packages or NO_PACKAGES, ("onnxruntime", "onnxruntime-gpu"), "onnxruntime-gpu"),
            also=listed(packages, "onnxruntime", "onnxruntime-gpu"),
            confirmed=True if both else None,
        )


@witness
def onnxruntime_cuda_mismatch(
    words: ErrorText, packages: Packages | None, build: TorchBuild | None
) -> Iterator[Finding]:
    """Onnxruntime's own words, or the loader's about cuDNN where onnxruntime-gpu is installed."""
    heard = hear(words, "onnxruntime-cuda-mismatch")
    here = bool(packages and packages.find("onnxruntime-gpu"))
    if heard and (heard.message.id == "ort-cuda" or here):
        yield lead(
            heard,
            "onnxruntime-gpu does not find the CUDA and cuDNN that it was built for",
            with_its_own_cuda(packages or NO_PACKAGES, build),
            also=listed(packages, "onnxruntime-gpu", "nvidia-cudnn-cu12", "nvidia-cudnn-cu11"),
            severity=Severity.ERROR,
            confirmed=here or None,
        )


WITNESSES: tuple[Witness, ...] = (
    torchvision_torch_mismatch, torchaudio_torch_mismatch, xformers_torch_mismatch, triton_torch_mismatch,
    extension_built_for_other_torch, cxx11_abi_mismatch, duplicate_torch_installs, numpy2_abi, python_unsupported,
    bitsandbytes_cuda_binary_missing, onnxruntime_cpu_shadows_gpu, onnxruntime_cuda_mismatch,
)  # fmt: skip
