"""cuDNN in the ledger: its version, its parts, and libraries that are nowhere to be found."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.libraries import LedgerRow, Libraries
from envdoctor.facts.packages import Packages
from envdoctor.finding import Finding, Severity, see
from envdoctor.remedy import repair
from envdoctor.rule import NotApplicable, Rule, rule
from envdoctor.rules.ledger_rows import (
    back_to_pins,
    cuda_rows,
    is_foreign,
    place_of,
    release_of,
    row_of,
    show_declared,
    show_first,
    without_library_path,
)


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
    row = row_of(libraries, "cudnn")
    if row.declared_version is None:
        raise NotApplicable("this torch's wheel does not pin cuDNN")
    built, found = (
        release_of(row.declared_version, "the pin"),
        release_of(row.first.version if row.first else None, "this cuDNN"),
    )
    if built.major != found.major or found.release[:2] < built.release[:2]:
        fixes = (without_library_path(),) if is_foreign(row) else back_to_pins(packages, row)
        evidence = (show_declared(libraries, row), show_first(libraries, row))
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
    main = row_of(libraries, "cudnn")
    home = _folder(main)
    parts = [row for row in cuda_rows(libraries) if row.name.startswith("cudnn_") and row.first]
    strays = [row for row in parts if _folder(row) != home]
    if strays:
        evidence = (show_first(libraries, main), *(show_first(libraries, row) for row in strays[:4]))
        foreign = any(is_foreign(row) for row in (main, *strays))
        fixes = (without_library_path(),) if foreign else back_to_pins(packages, main)
        yield Finding("Parts of two cuDNN copies would be mixed", "", evidence, fixes)


def _folder(row: LedgerRow) -> str:
    return place_of(row.first).rpartition("/")[0] if row.first else ""


def _missing(libraries: Libraries, *, cudnn: bool) -> list[str]:
    """Give what torch needs and nothing provides: ``libnccl.so.2 (needed by …)``."""
    cuda_rows(libraries)
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
        evidence = (
            see(libraries, "missing", "not found", missing[0]),
            *(show_declared(libraries, row) for row in rows),
        )
        yield Finding(
            f"{missing[0].partition(' ')[0]} is nowhere to be found", "", evidence, back_to_pins(packages, *rows)
        )


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
        fixes = back_to_pins(packages, *rows) or (repair.again(packages, ("torch",)) if packages else ())
        yield Finding(f"torch does not find {first}", "", evidence, fixes)


RULES: tuple[Rule, ...] = (cudnn_version_mismatch, multiple_cudnn, cudnn_not_found, nvidia_wheel_lib_not_found)
