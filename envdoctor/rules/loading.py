"""What the loader, a linker or MKL says when it stops, on Linux and on Windows: known by their words alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.host import Host
from envdoctor.facts.packages import Packages
from envdoctor.facts.text import ErrorText, Words
from envdoctor.facts.torch import TorchBuild, TorchImport
from envdoctor.finding import Command, Finding, Fix, Safety, Severity
from envdoctor.knowledge.cuda import numbers
from envdoctor.remedy.install import install
from envdoctor.remedy.variables import administer, export, look
from envdoctor.rule import NotApplicable, Rule, rule
from envdoctor.rules.restart import NO_TEXT
from envdoctor.rules.said import NO_PACKAGES, hear, lead, listed

MOST_LINES = 60
WITHOUT_LIBOMP = (2, 4, 0)  # the one release whose fbgemm.dll asks for libomp140: pytorch/pytorch#131662
LIBRARY = re.compile(r"(/\S{0,300}?\.so[\w.]{0,20}): cannot allocate memory in static TLS")


def told(words: ErrorText | None, torch: TorchImport | None) -> ErrorText:
    """Give the words to listen to: the text's, and what `import torch` said here. Without either the rule ends."""
    said = (torch.error, *torch.earlier_errors, torch.printed) if torch else ()
    own = [line.strip() for each in said if each for line in each.splitlines()[-MOST_LINES:]]
    lines = (*(words.lines if words else ()), *(Words(line[:1000], "import torch") for line in own if line))
    if not lines:
        raise NotApplicable(NO_TEXT)
    return ErrorText(lines=lines)


@rule(severity=Severity.ERROR, group="libraries")
def static_tls_exhausted(
    words: ErrorText | None, torch: TorchImport | None, packages: Packages | None
) -> Iterator[Finding]:
    """A library does not load: cannot allocate memory in static TLS block.

    ## What it means
    Some libraries, libgomp among them, want thread-local memory that the loader sets aside when the program starts.
    What is left of it afterwards is small, and libraries that were loaded before have used it up.

    ## Why it matters
    `import torch`, or the import of what comes after it, fails. It depends on the order of imports, and is seen on
    aarch64 above all.

    ## How it is detected
    By the loader's own words, in a text or from `import torch` here. No file shows it beforehand.

    ## What to do
    Have the loader take that library first (LD_PRELOAD), or import the package that brings it before all others.

    ## Sources
    https://github.com/triton-inference-server/server/issues/4952
    https://github.com/NVIDIA/DALI/pull/5519
    """
    heard = hear(told(words, torch), "static-tls-exhausted")
    if heard:
        found = LIBRARY.search(heard.text)
        library = (
            found[1] if found and re.fullmatch(r"[\w./+-]+", found[1]) else "/usr/lib/aarch64-linux-gnu/libgomp.so.1"
        )
        yield lead(
            heard,
            "The loader has no static thread-local memory left for a library",
            export("Load that library first", f"LD_PRELOAD={library}"),
            look("Or import torch before everything else", "python -c 'import torch, sklearn'"),
            also=listed(packages, "torch", "scikit-learn", "xgboost"),
        )


@rule(severity=Severity.ERROR, group="libraries", explained_by=("conda-pip-mix",))
def mkl_threading_layer_conflict(
    words: ErrorText | None, torch: TorchImport | None, packages: Packages | None
) -> Iterator[Finding]:
    """MKL refuses to start, because GNU's OpenMP was loaded before it.

    ## What it means
    conda's NumPy uses MKL with Intel's OpenMP. Something loaded GNU's libgomp first, torch from pip for example, and
    MKL's service does not mix the two.

    ## Why it matters
    The program, or each of its worker processes, ends with "MKL_THREADING_LAYER=INTEL is incompatible with
    libgomp.so.1 library".

    ## How it is detected
    By MKL's own words, in a text or from `import torch` here.

    ## What to do
    Set MKL_THREADING_LAYER=GNU, or import numpy before torch. The lasting way is to take both from one source.

    ## Sources
    https://github.com/pytorch/pytorch/issues/37377
    """
    heard = hear(told(words, torch), "mkl-threading-layer-conflict")
    if heard:
        yield lead(
            heard,
            "MKL refuses to start: GNU's OpenMP was loaded before it",
            export("Let MKL use GNU's OpenMP", "MKL_THREADING_LAYER=GNU"),
            also=listed(packages, "numpy", "mkl", "torch", "pytorch"),
        )


@rule(severity=Severity.ERROR, group="driver")
def libcuda_dev_symlink_missing(
    words: ErrorText | None, torch: TorchImport | None, host: Host | None
) -> Iterator[Finding]:
    """Something wants libcuda.so, and only libcuda.so.1 is there.

    ## What it means
    The driver installs libcuda.so.1. The name without a number is for linkers; the driver's development package or
    the toolkit's directory of stubs has it. Linkers, and programs that open the library by the short name, miss it.

    ## Why it matters
    torch.compile and extensions fail with "cannot find -lcuda", others with "libcuda.so: cannot open shared object
    file", on a machine where CUDA works.

    ## How it is detected
    By the linker's or the loader's own words.

    ## What to do
    Link libcuda.so to libcuda.so.1 where the linker looks, or name the driver's directory to it. Under WSL that
    directory is /usr/lib/wsl/lib.

    ## Sources
    https://github.com/pytorch/pytorch/issues/94585
    """
    heard = hear(told(words, torch), "libcuda-dev-symlink-missing")
    if heard:
        yield lead(
            heard,
            "libcuda.so is wanted, and only libcuda.so.1 is there",
            *((_wsl(),) if host and host.wsl else (_link(),)),
            look("See where libcuda is", "ldconfig -p | grep libcuda"),
            severity=Severity.ERROR,
            confirmed=True,
        )


def _link() -> Fix:
    found = "\"$(ldconfig -p | awk '/libcuda.so.1/ { print $NF; exit }')\""
    return administer(
        "Link it for the linker", "/usr/local/lib", f"sudo ln -s {found} /usr/local/lib/libcuda.so", "sudo ldconfig"
    )


def _wsl() -> Fix:
    paths = 'LIBRARY_PATH="/usr/lib/wsl/lib${LIBRARY_PATH:+:$LIBRARY_PATH}"'
    return export("Name the directory of Windows' libcuda", paths, paths.replace("LIBRARY_PATH", "LD_LIBRARY_PATH"))


@rule(severity=Severity.ERROR, group="libraries")
def windows_runtime_missing(
    words: ErrorText | None,
    torch: TorchImport | None,
    host: Host | None,
    build: TorchBuild | None,
    packages: Packages | None,
) -> Iterator[Finding]:
    """A DLL that torch's libraries need is not on this Windows.

    ## What it means
    torch's DLLs need Microsoft's Visual C++ runtime; fbgemm.dll of torch 2.4.0 needs libomp140.x86_64.dll as well.
    Windows names the DLL that was asked for, not the one that is missing below it.

    ## Why it matters
    `import torch` ends with "[WinError 126] The specified module could not be found. Error loading ... or one of its
    dependencies".

    ## How it is detected
    By the words of Windows about a DLL of torch, in a text or from `import torch` here.

    ## What to do
    Install the Visual C++ Redistributable (x64). With torch 2.4.0, install 2.4.1 or newer.

    ## Sources
    https://github.com/pytorch/pytorch/issues/131662
    https://learn.microsoft.com/en-us/cpp/windows/latest-supported-vc-redist
    """
    if host and host.system not in {None, "Windows"}:
        raise NotApplicable(f"{host.system} has no DLLs")
    heard = hear(told(words, torch), "windows-runtime-missing")
    if heard:
        version = (numbers(build.version) if build else None) or ()
        newer = (install(packages or NO_PACKAGES, ("torch>=2.4.1",)),) if version[:3] == WITHOUT_LIBOMP else ()
        yield lead(
            heard,
            "A DLL that torch's libraries need is missing on this Windows",
            *newer,
            _redistributable(),
            detail="Anaconda's own Python and a half-finished installation of torch make the same error.",
            also=listed(packages, "torch"),
        )


def _redistributable() -> Fix:
    command = Command(None, "winget install --id Microsoft.VCRedist.2015+.x64 --exact")
    return Fix(
        "Install the Visual C++ Redistributable", (command,), Safety.ADMIN, "the system's libraries", needs_root=True
    )


RULES: tuple[Rule, ...] = (
    static_tls_exhausted, mkl_threading_layer_conflict, libcuda_dev_symlink_missing, windows_runtime_missing,
)  # fmt: skip
