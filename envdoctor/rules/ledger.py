"""The ledger judged: which copy of a CUDA library would be loaded, and does it fit what torch was built with?"""

from __future__ import annotations

import re
from collections.abc import Iterator

from packaging.version import InvalidVersion, Version

from envdoctor.facts.driver import DriverFiles, KernelModule
from envdoctor.facts.host import Host
from envdoctor.facts.libraries import Copy, LedgerRow, Libraries
from envdoctor.facts.packages import Packages
from envdoctor.finding import Command, Confidence, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.remedy import repair
from envdoctor.rule import NotApplicable, Rule, Unknown, rule

FOREIGN = ("LD_LIBRARY_PATH", "LD_PRELOAD", "ld.so.cache", "default")
SYSTEM = frozenset({"stdcxx", "gomp", "iomp5", "cuda"})  # the machine's own copies are the right ones


def _rows(libraries: Libraries) -> tuple[LedgerRow, ...]:
    """Give the rows of CUDA libraries, or end the rule with the reason why there is no ledger."""
    if "rows" in libraries.unknown:
        raise Unknown(libraries.unknown["rows"])
    return tuple(row for row in libraries.rows if row.name not in SYSTEM)


def _row(libraries: Libraries, name: str) -> LedgerRow:
    """Give one row with a copy that would be loaded, or end the rule as not applicable."""
    row = next((each for each in _rows(libraries) if each.name == name), None)
    if row is None or row.first is None:
        raise NotApplicable(f"this torch loads no {name}")
    return row


def _show(libraries: Libraries, row: LedgerRow, label: str, value: object) -> Evidence:
    found = see(libraries, "rows", label, value)
    return Evidence(f"libraries.rows[{row.name}]", found.value, found.source, "", label)


def _first(libraries: Libraries, row: LedgerRow) -> Evidence:
    """Show the copy that would be loaded, its version and how it is reached."""
    copy = row.first
    text = f"{copy.path} ({copy.version or 'version not known'}, by {copy.via})" if copy else "none"
    return _show(libraries, row, f"{row.soname} that would be loaded", text)


def _declared(libraries: Libraries, row: LedgerRow) -> Evidence:
    installed = f", installed {row.installed_version}" if row.installed_version else ""
    return _show(libraries, row, "torch's wheel asks for", f"{row.declared or 'nothing by name'}{installed}")


def _place(copy: Copy) -> str:
    """Give where a copy really lies, so that a link to it is not taken for another copy."""
    return copy.real_path or copy.path


def is_foreign(row: LedgerRow) -> bool:
    """Tell whether a copy from outside would be loaded although one lies beside torch."""
    if row.first is None or not row.bundled or row.first.via not in FOREIGN:
        return False
    return _place(row.first) not in {_place(each) for each in row.bundled}


def _without_library_path() -> Fix:
    return Fix(
        "Start it without the foreign directories",
        (Command(None, "env -u LD_LIBRARY_PATH -u LD_PRELOAD python -c 'import torch; print(torch.version.cuda)'"),),
        Safety.SAFE,
        "nothing: one command is started with other variables. Then take the line out of ~/.bashrc, the module file"
        " or the image that sets it",
    )


def _pins(packages: Packages | None, *rows: LedgerRow) -> tuple[Fix, ...]:
    """Give the commands that put the declared wheels back."""
    specs = tuple(dict.fromkeys(row.declared.replace(" ", "") for row in rows if row.declared))
    return repair.to_pins(packages, specs) if packages and specs else ()


@rule(severity=Severity.WARNING, group="libraries")
def ld_library_path_shadowing(libraries: Libraries) -> Iterator[Finding]:
    """Foreign CUDA libraries would be loaded instead of the ones that torch brought along.

    ## What it means
    LD_LIBRARY_PATH, LD_PRELOAD or the loader's configuration names a directory with libraries of the same names, and
    the loader looks there first.

    ## Why it matters
    The foreign copy may be older, newer or half of a pair. It works until a symbol is missing, or results differ.

    ## How it is detected
    The loader's search order is played on the files in the order in which torch loads them. A foreign directory that
    changes nothing of what would be loaded is no finding.

    ## What to do
    Take the directory out of LD_LIBRARY_PATH for this program. The driver's libraries do not need it.

    ## Sources
    https://man7.org/linux/man-pages/man8/ld.so.8.html
    https://github.com/pytorch/pytorch/issues/80877
    """
    foreign = [row for row in _rows(libraries) if is_foreign(row)]
    if foreign:
        ways = ", ".join(sorted({row.first.via for row in foreign if row.first}))
        names = ", ".join(row.soname for row in foreign[:4]) + (" …" if len(foreign) > 4 else "")
        setting = see(libraries, "library_path", "LD_LIBRARY_PATH", ":".join(libraries.library_path) or "not set")
        evidence = (setting, *(_first(libraries, row) for row in foreign[:6]))
        title = f"{ways} puts foreign CUDA libraries before torch's own: {names}"
        yield Finding(title, "", evidence, (_without_library_path(),))


def _lacking(row: LedgerRow) -> tuple[str, ...]:
    return (*row.missing_versions, *row.needed_symbols_missing)


@rule(severity=Severity.ERROR, group="libraries", explained_by=("ld-library-path-shadowing",))
def nvjitlink_mismatch(libraries: Libraries, packages: Packages | None) -> Iterator[Finding]:
    """The libnvJitLink found first is older than the libraries that use it expect.

    ## What it means
    cuSPARSE or cuBLAS was built with a newer nvJitLink than the one that would be loaded, and asks it for a symbol
    that it does not have.

    ## Why it matters
    `import torch` ends with "undefined symbol: __nvJitLinkComplete_12_4".

    ## How it is detected
    The symbols that the loaded libraries ask for, against those that the copy found first defines.

    ## What to do
    Install the version that torch pins, or take the foreign directory out of LD_LIBRARY_PATH.

    ## Sources
    https://github.com/pytorch/pytorch/issues/111469
    """
    row = _row(libraries, "nvjitlink")
    if _lacking(row):
        missing = _show(libraries, row, "asked for and not there", ", ".join(_lacking(row)[:4]))
        fixes = (_without_library_path(),) if is_foreign(row) else _pins(packages, row)
        evidence = (_first(libraries, row), _declared(libraries, row), missing)
        yield Finding("libnvJitLink is older than cuSPARSE expects: torch does not import", "", evidence, fixes)


@rule(severity=Severity.ERROR, group="libraries", explained_by=("ld-library-path-shadowing",))
def cublas_mismatch(libraries: Libraries, packages: Packages | None) -> Iterator[Finding]:
    """The cuBLAS and cuBLASLt that would be loaded do not belong together, or lack what torch asks for.

    ## What it means
    The two libraries are halves of one. Copies of different releases are found, or one lacks a function.

    ## Why it matters
    Products end with CUBLAS_STATUS_NOT_INITIALIZED or an undefined symbol, sometimes only for some shapes.

    ## How it is detected
    Versions of the two copies that would be loaded, and the functions asked of them.

    ## What to do
    Install the version that torch pins, or take the foreign directory out of LD_LIBRARY_PATH.

    ## Sources
    https://github.com/pytorch/pytorch/issues/88882
    """
    pair = (_row(libraries, "cublas"), _row(libraries, "cublasLt"))
    lacking = [name for row in pair for name in _lacking(row)]
    versions = [row.first.version for row in pair if row.first]
    differ = None not in versions and len(set(versions)) > 1
    if lacking or differ:
        shown = [_show(libraries, pair[0], "asked for and not there", ", ".join(lacking[:4]))] if lacking else []
        fixes = (_without_library_path(),) if any(map(is_foreign, pair)) else _pins(packages, *pair)
        evidence = (*(_first(libraries, row) for row in pair), *shown)
        confidence = Confidence.CERTAIN if lacking else Confidence.LIKELY
        title = (
            "cuBLAS lacks functions that torch asks for" if lacking else "cuBLAS and cuBLASLt are of different releases"
        )
        yield Finding(title, "", evidence, fixes, confidence=confidence)


def _release(text: str | None, whose: str) -> Version:
    try:
        return Version(text or "")
    except InvalidVersion:
        raise Unknown(f"the version of {whose} is not known") from None


@rule(severity=Severity.ERROR, group="libraries", explained_by=("ld-library-path-shadowing",))
def cudnn_version_mismatch(libraries: Libraries, packages: Packages | None) -> Iterator[Finding]:
    """The cuDNN that would be loaded is not one that this torch accepts.

    ## What it means
    torch checks at its first use of cuDNN that the major version is the one it was built with and that the minor
    version is not lower. This copy fails that check.

    ## Why it matters
    The first convolution ends with "cuDNN version incompatibility", or cuDNN is left unused.

    ## How it is detected
    The version of the copy that the loader finds first, by its header or the wheel that owns it, against the version
    that torch's wheel pins. A newer minor version is accepted, and no finding here.

    ## What to do
    Install the version that torch pins, or take the foreign directory out of LD_LIBRARY_PATH.

    ## Sources
    https://github.com/pytorch/pytorch/blob/main/torch/backends/cudnn/__init__.py
    https://docs.nvidia.com/deeplearning/cudnn/backend/latest/developer/forward-compatibility.html
    """
    row = _row(libraries, "cudnn")
    if row.declared_version is None:
        raise NotApplicable("this torch's wheel does not pin cuDNN")
    built, found = (
        _release(row.declared_version, "the pin"),
        _release(row.first.version if row.first else None, "this cuDNN"),
    )
    if built.major != found.major or found.release[:2] < built.release[:2]:
        fixes = (_without_library_path(),) if is_foreign(row) else _pins(packages, row)
        evidence = (_declared(libraries, row), _first(libraries, row))
        yield Finding(f"torch was built with cuDNN {built}, and {found} would be loaded", "", evidence, fixes)


@rule(severity=Severity.WARNING, group="libraries", explained_by=("ld-library-path-shadowing",))
def multiple_cudnn(libraries: Libraries, packages: Packages | None) -> Iterator[Finding]:
    """Parts of different cuDNN copies would be mixed in one process.

    ## What it means
    cuDNN is several libraries that must be of one release. The main one comes from one place, a part from another.

    ## Why it matters
    cuDNN ends with CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH, or crashes.

    ## How it is detected
    The loader's search for the parts, as libcudnn asks for them, against the place of libcudnn itself.

    ## What to do
    Keep one copy: take the foreign directory out of LD_LIBRARY_PATH, or install cuDNN's wheel again.

    ## Sources
    https://github.com/pytorch/pytorch/issues/188892
    """
    main = _row(libraries, "cudnn")
    home = _folder(main)
    parts = [row for row in _rows(libraries) if row.name.startswith("cudnn_") and row.first]
    strays = [row for row in parts if _folder(row) != home]
    if strays:
        evidence = (_first(libraries, main), *(_first(libraries, row) for row in strays[:4]))
        foreign = any(is_foreign(row) for row in (main, *strays))
        fixes = (_without_library_path(),) if foreign else _pins(packages, main)
        yield Finding("Parts of two cuDNN copies would be mixed", "", evidence, fixes)


def _folder(row: LedgerRow) -> str:
    return _place(row.first).rpartition("/")[0] if row.first else ""


def _missing(libraries: Libraries, *, cudnn: bool) -> list[str]:
    """Give what torch needs and nothing provides: ``libnccl.so.2 (needed by …)``."""
    _rows(libraries)
    wanted = re.compile(r"lib(cu|nv|nccl)\w*\.so")
    return [m for m in libraries.missing if wanted.match(m) and m.startswith("libcudnn") is cudnn]


@rule(severity=Severity.ERROR, group="libraries", explained_by=("torch-install-damaged",))
def cudnn_not_found(libraries: Libraries, packages: Packages | None) -> Iterator[Finding]:
    """A cuDNN library that torch needs is nowhere on this machine.

    ## What it means
    No directory that the loader looks into holds the cuDNN that torch asks for by name.

    ## Why it matters
    `import torch` ends with "libcudnn.so.9: cannot open shared object file".

    ## How it is detected
    The loader's search order, played on the files in the order in which torch loads them.

    ## What to do
    Install the cuDNN wheel that torch pins.

    ## Sources
    https://github.com/pytorch/pytorch/issues/119932
    """
    missing = _missing(libraries, cudnn=True)
    if missing:
        rows = [row for row in libraries.rows if row.name == "cudnn"]
        evidence = (see(libraries, "missing", "not found", missing[0]), *(_declared(libraries, row) for row in rows))
        yield Finding(f"{missing[0].partition(' ')[0]} is nowhere to be found", "", evidence, _pins(packages, *rows))


@rule(severity=Severity.ERROR, group="libraries", explained_by=("torch-install-damaged",))
def nvidia_wheel_lib_not_found(libraries: Libraries, packages: Packages | None) -> Iterator[Finding]:
    """A CUDA library that torch needs is not there: its nvidia-* wheel is missing, or lies where torch does not look.

    ## What it means
    torch's wheel leaves the CUDA libraries to wheels of their own and finds them by relative paths.

    ## Why it matters
    `import torch` ends with "libcublas.so.12: cannot open shared object file".

    ## How it is detected
    The loader's search order, played on the files in the order in which torch loads them.

    ## What to do
    Install the wheel that torch pins into the same environment, by the same installer.

    ## Sources
    https://github.com/pytorch/pytorch/issues/101314
    """
    missing = _missing(libraries, cudnn=False)
    if missing:
        first = missing[0].partition(" ")[0]
        rows = [row for row in libraries.rows if row.declared and row.first is None and row.bundled == ()]
        evidence = tuple(see(libraries, "missing", "not found", each) for each in missing[:4])
        fixes = _pins(packages, *rows) or (repair.again(packages, ("torch",)) if packages else ())
        yield Finding(f"torch does not find {first}", "", evidence, fixes)


@rule(
    severity=Severity.WARNING, group="libraries", explained_by=("ld-library-path-shadowing", "mixed-cuda-major-wheels")
)
def nccl_mixed(libraries: Libraries, packages: Packages | None) -> Iterator[Finding]:
    """Two distributions own libnccl, or another copy than the declared one would be loaded.

    ## What it means
    Which NCCL runs depends on the order of installation or on a search path, and not on what torch declares.

    ## Why it matters
    Ranks with different NCCL versions do not talk to each other, and a version that torch was not built with may
    lack functions.

    ## How it is detected
    The RECORD files that name libnccl.so.2, and the loader's search order.

    ## What to do
    Keep one: uninstall the one that torch does not pin, then install the pinned one again.

    ## Sources
    https://github.com/pytorch/pytorch/issues/99625
    """
    row = _row(libraries, "nccl")
    owners = (row.first.owner or "").split(", ") if row.first else []
    if len(owners) > 1 or is_foreign(row) or _lacking(row):
        evidence = [_first(libraries, row), _declared(libraries, row)]
        evidence += [_show(libraries, row, "owned by", ", ".join(owners))] if len(owners) > 1 else []
        evidence += [_show(libraries, row, "lacks", ", ".join(_lacking(row)[:4]))] if _lacking(row) else []
        fixes = (_without_library_path(),) if is_foreign(row) else _pins(packages, row)
        title = (
            "Two distributions own libnccl.so.2" if len(owners) > 1 else "Another NCCL than the declared one would load"
        )
        yield Finding(title, "", tuple(evidence), fixes)


@rule(
    severity=Severity.WARNING,
    group="libraries",
    explained_by=("cudnn-version-mismatch", "nccl-mixed", "nvjitlink-mismatch", "cublas-mismatch",
                  "ld-library-path-shadowing"),
)  # fmt: skip
def library_not_the_declared_one(libraries: Libraries) -> Iterator[Finding]:
    """The copy of a library that would be loaded is not the one that torch's wheel declares.

    ## What it means
    Declared, bundled and loader-first disagree for this library.

    ## Why it matters
    What `pip list` says is not what runs. Bug reports and comparisons between machines are wrong.

    ## How it is detected
    The ledger: the wheel's pin and the files beside torch, against the loader's search order.

    ## What to do
    See which step of the search finds the other copy, and take it away there.

    ## Sources
    https://man7.org/linux/man-pages/man8/ld.so.8.html
    """
    for row in _rows(libraries):
        if is_foreign(row):
            copies = ", ".join(f"{each.path} ({each.version})" for each in row.bundled)
            evidence = (
                _declared(libraries, row),
                _show(libraries, row, "beside torch", copies),
                _first(libraries, row),
            )
            title = f"{row.soname} would be loaded from outside the environment"
            yield Finding(title, "", evidence, (_without_library_path(),), row.name)


@rule(severity=Severity.ERROR, group="libraries", essential=True)
def glibc_too_old(libraries: Libraries, host: Host | None) -> Iterator[Finding]:
    """The C or C++ library here is older than torch's libraries ask for.

    ## What it means
    The wheel was built for a newer Linux: its libraries name symbol versions that this glibc or libstdc++ lacks.

    ## Why it matters
    `import torch` ends with "version `GLIBC_2.28' not found" or "`GLIBCXX_3.4.30' not found".

    ## How it is detected
    The newest version that torch's libraries ask for, against the newest that the libraries found first define.

    ## What to do
    Use a wheel for an older manylinux, a newer system or container, or put the environment's own libstdc++ first.

    ## Sources
    https://peps.python.org/pep-0600/
    """
    _rows(libraries)
    pairs = (("glibc", "glibc_needed", "glibc"), ("libstdc++", "glibcxx_needed", "glibcxx_newest"))
    for name, needed, offered in pairs:
        wants, has = getattr(libraries, needed), getattr(libraries, offered)
        if wants and has and _release(wants, name) > _release(has, name):
            evidence = (
                see(libraries, needed, f"torch's libraries ask {name} for"),
                see(libraries, offered, f"the newest that {name} here has"),
            )
            command = Command(
                None, "ldd --version | head -n 1" if name == "glibc" else "python -m pip debug | grep -i libc"
            )
            system = f" ({host.os_name})" if host and host.os_name else ""
            fix = Fix(
                "Move to a newer system or container; look at what is here", (command,), changes="nothing: it looks"
            )
            yield Finding(f"{name} here{system} has {has}, and torch asks for {wants}", "", evidence, (fix,), name)


@rule(severity=Severity.ERROR, group="driver", essential=True)
def libcuda_stub_or_stale_on_path(
    files: DriverFiles, module: KernelModule | None, host: Host | None
) -> Iterator[Finding]:
    """A stub or an old libcuda is found before the driver's own.

    ## What it means
    libcuda.so.1 that the loader finds first is the toolkit's stub for linking, or belongs to another driver version
    while the right one lies further back.

    ## Why it matters
    CUDA does not start: "CUDA driver is a stub library", or a version mismatch.

    ## How it is detected
    The places of libcuda.so.1 in the loader's order, their size and the version in their file name, against the
    loaded kernel module.

    ## What to do
    Take the directory out of LD_LIBRARY_PATH or of the loader's configuration.

    ## Sources
    https://docs.nvidia.com/cuda/cuda-installation-guide-linux/
    """
    first = files.first_libcuda
    if first is None:
        raise NotApplicable(files.unknown.get("first_libcuda", "no libcuda here"))
    loaded = module.version if module else None
    others = [each for each in files.libcuda if each.path != first.path and not each.stub and not each.compat]
    right = next((each for each in others if loaded is None or each.version == loaded), None)
    stale = not first.compat and loaded is not None and first.version not in {None, loaded} and right is not None
    if host and (host.wsl or host.jetson) and not first.stub:
        raise NotApplicable("this platform brings its libcuda in its own way")
    if first.stub or stale:
        better = [see(files, "libcuda", "the driver's own", right.path)] if right else []
        evidence = (see(files, "first_libcuda", "found first", f"{first.path} ({first.version or 'stub'})"), *better)
        title = f"{'A stub' if first.stub else 'An old'} libcuda is found first: {first.path}"
        yield Finding(title, "", evidence, (_without_library_path(), _refresh_cache()))


def _refresh_cache() -> Fix:
    commands = (Command(None, "grep -rn cuda /etc/ld.so.conf /etc/ld.so.conf.d/"), Command(None, "sudo ldconfig"))
    return Fix("Take it out of the loader's configuration", commands, changes="the loader's cache", needs_root=True)


@rule(severity=Severity.WARNING, group="libraries")
def duplicate_openmp_runtime(libraries: Libraries) -> Iterator[Finding]:
    """Two OpenMP runtimes would run in one process.

    ## What it means
    torch's libraries bring in both GNU's libgomp and Intel's libiomp5, or two copies of one of them.

    ## Why it matters
    Each keeps threads of its own: the processor is oversubscribed, and some pairs end the process.

    ## How it is detected
    The OpenMP runtimes among the libraries that the loader brings in for torch.

    ## What to do
    Install all numerical packages from one source, so that they share one runtime.

    ## Sources
    https://github.com/pytorch/pytorch/issues/37377
    """
    _rows(libraries)
    copies = {_place(each): each for each in libraries.openmp}
    if len(copies) > 1:
        evidence = tuple(see(libraries, "openmp", "OpenMP runtime", each.path) for each in copies.values())
        command = Command(
            None,
            "env KMP_DUPLICATE_LIB_OK=TRUE python -c 'import torch, numpy; print(torch.__config__.parallel_info())'",
        )
        fix = Fix("See what each of them does", (command,), changes="nothing: it looks")
        yield Finding(f"{len(copies)} OpenMP runtimes would be loaded with torch", "", evidence, (fix,))


RULES: tuple[Rule, ...] = (
    ld_library_path_shadowing, nvjitlink_mismatch, cublas_mismatch, cudnn_version_mismatch, multiple_cudnn,
    cudnn_not_found, nvidia_wheel_lib_not_found, nccl_mixed, library_not_the_declared_one, glibc_too_old,
    libcuda_stub_or_stale_on_path, duplicate_openmp_runtime,
)  # fmt: skip
