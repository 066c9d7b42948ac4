"""Words about libraries of CUDA and of the system: another copy, another release, one that is not there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from envdoctor.facts.host import Environment, Host
from envdoctor.facts.libraries import Libraries
from envdoctor.facts.packages import Packages
from envdoctor.facts.text import ErrorText
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Command, Confidence, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.knowledge.cuda import cuda_minor, numbers
from envdoctor.remedy.install import install, install_plain
from envdoctor.remedy.installer import quoted
from envdoctor.remedy.repair import to_pins, whole_torch
from envdoctor.remedy.variables import look, unset
from envdoctor.rule import Witness, cross_examined, witness
from envdoctor.rules.foreign_paths import PATH, older_than, stubs_in, toolkits_in
from envdoctor.rules.owners import owner
from envdoctor.rules.said import NO_PACKAGES, Heard, built_with, hear, lead, listed

CUDNN_9_SINCE = (2, 4)  # the first torch that is built with it
NVJITLINK = ("nvidia-nvjitlink-cu12", "nvidia-nvjitlink")
CUDA_LIBRARY = re.compile(r"\blib(cudart|cublas|cublasLt|nvrtc|cupti|cusparse|nvJitLink|cusolver)\.so\.(\d{1,2})")


def _path(environment: Environment | None) -> str:
    return (environment.get(PATH) if environment else None) or ""


def _without_path(environment: Environment | None, packages: Packages | None) -> tuple[Fix, ...]:
    """Give the ways out of a foreign copy: the path where it may be set, and torch's own libraries again."""
    ways = (unset(PATH, title="Take the foreign directories out of this shell, then start again"),)
    return (*ways, *whole_torch(packages or NO_PACKAGES)) if not environment or _path(environment) else ways


def _shown(environment: Environment | None) -> tuple[Evidence, ...]:
    return (see(environment, "variables", PATH, _path(environment)),) if environment and _path(environment) else ()


@witness
def ld_library_path_shadowing(
    words: ErrorText | None, environment: Environment | None, build: TorchBuild | None, libraries: Libraries | None
) -> Iterator[Finding]:
    """A message whose usual cause is a foreign path; or a path that names an older toolkit than torch's CUDA."""
    if libraries is not None:
        return  # the files themselves were looked at
    heard = hear(words, "ld-library-path-shadowing")
    value = _path(environment)
    foreign = toolkits_in(value) or stubs_in(value)
    if heard and (environment is None or foreign):
        yield lead(
            heard,
            f"{PATH} puts foreign CUDA libraries before torch's own"
            if foreign
            else f"Most often {PATH} puts a foreign copy before torch's own: what it holds the text does not say",
            unset(PATH, title="Take the foreign directories out of this shell"),
            look("See what it holds", f'echo "${PATH}"'),
            also=_shown(environment),
            severity=Severity.WARNING if foreign else Severity.INFO,
            confirmed=True if foreign else None,
        )
    elif environment and toolkits_in(value):
        yield from _by_path(environment, value, build)


def _by_path(environment: Environment, value: str, build: TorchBuild | None) -> Iterator[Finding]:
    """Judge the path alone: an older toolkit of torch's CUDA major is loaded in place of its own libraries."""
    older = older_than(value, build)
    named = [each for each in toolkits_in(value) if each.version]
    if older or (named and not (build and build.cuda)):
        place = (older or named)[0]
        yield Finding(
            f"{PATH} names {place.words}, "
            + ("older than torch's own libraries" if older else "and which CUDA torch was built with is not said"),
            evidence=(see(environment, "variables", PATH, value), *built_with(build)),
            fixes=(unset(PATH, title="Take the foreign directories out of this shell"),),
            severity=Severity.WARNING if older else Severity.INFO,
            confidence=Confidence.LIKELY if older else Confidence.POSSIBLE,
        )


@cross_examined
def nvjitlink_mismatch(
    words: ErrorText, environment: Environment | None, packages: Packages | None
) -> Iterator[Finding]:
    """The loader's own words."""
    heard = hear(words, "nvjitlink-mismatch")
    if heard:
        yield lead(
            heard,
            "libnvJitLink is older than cuSPARSE expects: torch does not import",
            *_newer_wheel(heard, packages),
            *_without_path(environment, packages),
            also=(*_shown(environment), *listed(packages, *NVJITLINK)),
            severity=Severity.ERROR,
            confirmed=True,
        )


def _newer_wheel(heard: Heard, packages: Packages | None) -> tuple[Fix, ...]:
    """Give the wheel of the release that the symbol names, where the one that is listed is older than that."""
    named = re.search(r"__nvJitLink[A-Za-z]{1,40}_(\d{2})_(\d{1,2})\b", heard.text)
    have = next(filter(None, (packages.find(name) for name in NVJITLINK)), None) if packages else None
    if packages is None or have is None or named is None or have.source == "conda":
        return ()
    wanted = (int(named[1]), int(named[2]))
    older = (numbers(have.version) or wanted) < wanted
    return to_pins(packages, (f"{have.name}=={wanted[0]}.{wanted[1]}.*",)) if older else ()


@cross_examined
def cublas_mismatch(words: ErrorText, environment: Environment | None, packages: Packages | None) -> Iterator[Finding]:
    """A function that one half lacks; or an invalid value, which a foreign half is one cause of."""
    heard = hear(words, "cublas-mismatch")
    if heard is None:
        return
    symbol = heard.message.id == "cublaslt-symbol"
    foreign = bool(toolkits_in(_path(environment)))
    if symbol or environment is None or foreign:
        yield lead(
            heard,
            "cuBLAS and cuBLASLt are of different releases"
            if symbol
            else "cuBLAS refuses a call: often the cuBLASLt that is loaded is another release's",
            *_without_path(environment, packages),
            also=(*_shown(environment), *listed(packages, "nvidia-cublas-cu11", "nvidia-cublas-cu12", "nvidia-cublas")),
            severity=Severity.ERROR if symbol else None,
            confirmed=True if symbol or foreign else None,
        )


@cross_examined
def cudnn_version_mismatch(
    words: ErrorText, environment: Environment | None, packages: Packages | None
) -> Iterator[Finding]:
    """Torch's own check, or cuDNN's."""
    heard = hear(words, "cudnn-version-mismatch")
    if heard:
        own = heard.message.id == "cudnn-incompatible"
        yield lead(
            heard,
            "The cuDNN that is loaded is not one that this torch accepts",
            *_without_path(environment, packages),
            also=(*_shown(environment), *_cudnn(packages)),
            severity=Severity.ERROR if own else None,
            confirmed=True if own else None,
        )


@cross_examined
def multiple_cudnn(words: ErrorText, environment: Environment | None, packages: Packages | None) -> Iterator[Finding]:
    """CuDNN's own words about its parts."""
    heard = hear(words, "multiple-cudnn")
    if heard and heard.message.id != "cudnn8-missing":
        yield lead(
            heard,
            "Parts of two cuDNN copies are mixed in one process",
            *_without_path(environment, packages),
            also=(*_shown(environment), *_cudnn(packages)),
            confirmed=True,
        )


def _cudnn(packages: Packages | None) -> tuple[Evidence, ...]:
    return listed(packages, *(f"nvidia-cudnn-cu{major}" for major in (11, 12, 13)), "cudnn")


@cross_examined
def cudnn_not_found(words: ErrorText, packages: Packages | None, build: TorchBuild | None) -> Iterator[Finding]:
    """The loader's words about cuDNN or one of its parts."""
    heard = hear(words, "cudnn-not-found")
    if heard is None:
        return
    major = re.search(r"\.so\.(\d)", heard.text)
    yield lead(
        heard,
        f"cuDNN {major[1] if major else ''} is not found by what asks for it".replace("  ", " "),
        _cudnn_of(major[1] if major else "", packages or NO_PACKAGES, build),
        look("See which cuDNN is here", "ldconfig -p | grep cudnn", "python -m pip list | grep -i cudnn"),
        also=(*_cudnn(packages), *built_with(build)),
        severity=Severity.ERROR,
        confirmed=None if heard.plain else True,
        caused_by=("onnxruntime-cuda-mismatch",) if packages and packages.find("onnxruntime-gpu") else (),
    )


def _cudnn_of(major: str, packages: Packages, build: TorchBuild | None) -> Fix:
    """Give the cuDNN that is asked for; beside a torch of another one, which its wheel would replace, not into here."""
    cuda = (cuda_minor(build.cuda) or (12,))[0] if build else 12
    spec = f"nvidia-cudnn-cu{cuda}" + (f"=={major}.*" if major else "")
    torch = numbers(packages.version("torch") or (build.version if build else None))
    if torch is None or not major or (torch >= CUDNN_9_SINCE) is (major == "9"):
        return install(packages, (spec,), title="Install a cuDNN of the major that is asked for")
    if packages.find("ctranslate2"):
        asks = "ctranslate2>=4.5" if torch >= CUDNN_9_SINCE else "ctranslate2<4.5"
        return install_plain(packages, asks, title="Install a ctranslate2 that asks for the cuDNN that torch has")
    own, python = f"$HOME/cudnn-{major}", shlex.quote(packages.executable or "python")
    commands = (
        f"{python} -m pip install --no-deps --target \"{own}\" '{spec}'",
        f'export {PATH}="{own}/nvidia/cudnn/lib${{{PATH}:+:${PATH}}}"',
    )
    return Fix(
        f"Renew what asks for cuDNN {major}, or give it one of its own: in this environment it would replace torch's",
        tuple(Command(None, each) for each in commands),
        Safety.SAFE,
        "a directory of its own; this shell only",
    )


@cross_examined
def nvidia_wheel_lib_not_found(
    words: ErrorText, packages: Packages | None, build: TorchBuild | None
) -> Iterator[Finding]:
    """A CUDA library of torch's own major is not found, or one that torch alone asks for."""
    heard = hear(words, "nvidia-wheel-lib-not-found")
    if heard and not foreign_major(heard, build) and not owner(heard.text):
        theirs = "libcudart" in heard.message.id
        ours = theirs and build is not None and build.cuda is not None
        yield lead(
            heard,
            "torch does not find a CUDA library: its nvidia-* wheel is missing, or lies where torch does not look",
            *whole_torch(packages or NO_PACKAGES),
            look("See which of the wheels are here, and where", "python -m pip list | grep -i nvidia-"),
            also=built_with(build),
            severity=Severity.ERROR if ours or not theirs else None if "OSError" in heard.text else Severity.INFO,
            confirmed=True if ours else None,
        )


def foreign_major(heard: Heard, build: TorchBuild | None) -> bool | None:
    """Tell whether the library that is asked for is of another CUDA major than torch's; None: one is not known."""
    asked, cuda = CUDA_LIBRARY.search(heard.text), cuda_minor(build.cuda) if build else None
    if asked is None or (cuda is None and not (build and build.is_cpu_only)):
        return None
    return cuda is None or int(asked[2]) != cuda[0]


@cross_examined
def nccl_mixed(words: ErrorText, packages: Packages | None, environment: Environment | None) -> Iterator[Finding]:
    """A function that torch asks NCCL for and the copy that is loaded has not."""
    heard = hear(words, "nccl-mixed")
    if heard:
        wheels = tuple(f"nvidia-nccl-cu{major}" for major in (11, 12, 13))
        yield lead(
            heard,
            "The NCCL that is loaded is older than the one torch was built with: another package or path brings it",
            *_without_path(environment, packages),
            look("See who brings an NCCL", "python -m pip list | grep -i nccl", "ldconfig -p | grep nccl"),
            also=(*listed(packages, *wheels), *_shown(environment)),
            severity=Severity.ERROR,
        )


@witness
def glibc_too_old(words: ErrorText, host: Host | None, packages: Packages | None) -> Iterator[Finding]:
    """The loader's words about a symbol version; doubtful where this glibc is known to be new enough."""
    heard = hear(words, "glibc-too-old")
    if heard is None:
        return
    libc = heard.message.id == "glibc"
    have = numbers((host.libc or "").partition(" ")[2]) if host and host.libc else None
    wanted = (2, int(heard.match[1])) if libc else None
    enough = bool(have and wanted and have[:2] >= wanted)
    name = "glibc" if libc else "libstdc++"
    yield lead(
        heard,
        f"{name} here is older than a binary asks for",
        *((_newer_system(),) if libc else (_newer_stdcxx(packages),)),
        detail="The glibc that the text names is new enough: this was printed elsewhere, or in a container."
        if enough
        else "",
        also=(see(host, "libc", "C library"),) if host and host.libc else (),
        subject=name,
        severity=Severity.WARNING if enough else Severity.ERROR,
        confirmed=True if have and wanted and not enough else None,
    )


def _newer_system() -> Fix:
    return look("Move to a newer system or container, or take a wheel for an older one", "ldd --version | head -n 1")


def _newer_stdcxx(packages: Packages | None) -> Fix:
    if packages and packages.environment_kind == "conda":
        where = ("--prefix", packages.prefix) if packages.prefix else ()
        command = quoted(("conda", "install", *where, "--channel", "conda-forge"), ("libstdcxx-ng>=14",))
        return Fix(
            "Install a newer libstdc++ into this environment", (command,), Safety.SAFE, "this conda environment only"
        )
    return look(
        "See what the system's libstdc++ has", "strings /usr/lib/*/libstdc++.so.6 | grep GLIBCXX_3.4 | tail -n 3"
    )


@witness
def libcuda_stub_or_stale_on_path(words: ErrorText | None, environment: Environment | None) -> Iterator[Finding]:
    """CUDA says itself that it is a stub; or the path holds the directory of stubs."""
    heard = hear(words, "libcuda-stub-or-stale-on-path")
    stubs = stubs_in(_path(environment))
    fix = unset(PATH, title="Take the directory of stubs out of this shell")
    if heard and (stubs or heard.message.id == "cuda-stub"):
        yield lead(
            heard,
            "The toolkit's stub of libcuda is loaded in place of the driver's own",
            fix,
            also=_shown(environment),
            severity=Severity.ERROR,
            confirmed=True if stubs else None,
        )
    elif stubs and environment:
        yield Finding(
            f"{PATH} holds the toolkit's stubs: a program that asks for libcuda.so gets one that only links",
            evidence=_shown(environment),
            fixes=(fix,),
            severity=Severity.WARNING,
            confidence=Confidence.LIKELY,
        )


@witness
def duplicate_openmp_runtime(words: ErrorText, packages: Packages | None) -> Iterator[Finding]:
    """OpenMP's own words."""
    heard = hear(words, "duplicate-openmp-runtime")
    if heard:
        yield lead(
            heard,
            "Two OpenMP runtimes are loaded into one process",
            look("Find the copies; then install the packages that bring them from one source", _openmp()),
            detail="KMP_DUPLICATE_LIB_OK=TRUE silences it; crashes and wrong results are then possible.",
            also=listed(packages, "torch", "numpy", "mkl", "intel-openmp", "ctranslate2", "scikit-learn"),
            severity=Severity.ERROR,
        )


def _openmp() -> str:
    where = "\"$(python -c 'import sys; print(sys.prefix)')\""
    return f"find {where} -name 'libiomp5*' -o -name 'libomp*' -o -name 'libgomp*'"


WITNESSES: tuple[Witness, ...] = (
    ld_library_path_shadowing, nvjitlink_mismatch, cublas_mismatch, cudnn_version_mismatch, multiple_cudnn,
    cudnn_not_found, nvidia_wheel_lib_not_found, nccl_mixed, glibc_too_old, libcuda_stub_or_stale_on_path,
    duplicate_openmp_runtime,
)  # fmt: skip
