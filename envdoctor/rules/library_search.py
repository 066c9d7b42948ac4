"""Foreign directories in the loader's search, and the libraries that they or other releases break."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.libraries import Libraries
from envdoctor.facts.packages import Packages
from envdoctor.finding import Confidence, Finding, Severity, see
from envdoctor.rule import Rule, rule
from envdoctor.rules.ledger_rows import (
    back_to_pins,
    cuda_rows,
    is_foreign,
    lacks,
    row_of,
    show_declared,
    show_first,
    show_row,
    without_library_path,
)


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
    foreign = [row for row in cuda_rows(libraries) if is_foreign(row)]
    if foreign:
        ways = ", ".join(sorted({row.first.via for row in foreign if row.first}))
        names = ", ".join(row.soname for row in foreign[:4]) + (" …" if len(foreign) > 4 else "")
        setting = see(libraries, "library_path", "LD_LIBRARY_PATH", ":".join(libraries.library_path) or "not set")
        evidence = (setting, *(show_first(libraries, row) for row in foreign[:6]))
        title = f"{ways} puts foreign CUDA libraries before torch's own: {names}"
        yield Finding(title, "", evidence, (without_library_path(),))


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
    row = row_of(libraries, "nvjitlink")
    if lacks(row):
        missing = show_row(libraries, row, "asked for and not there", ", ".join(lacks(row)[:4]))
        fixes = (without_library_path(),) if is_foreign(row) else back_to_pins(packages, row)
        evidence = (show_first(libraries, row), show_declared(libraries, row), missing)
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
    pair = (row_of(libraries, "cublas"), row_of(libraries, "cublasLt"))
    lacking = [name for row in pair for name in lacks(row)]
    versions = [row.first.version for row in pair if row.first]
    differ = None not in versions and len(set(versions)) > 1
    if lacking or differ:
        shown = [show_row(libraries, pair[0], "asked for and not there", ", ".join(lacking[:4]))] if lacking else []
        fixes = (without_library_path(),) if any(map(is_foreign, pair)) else back_to_pins(packages, *pair)
        evidence = (*(show_first(libraries, row) for row in pair), *shown)
        confidence = Confidence.CERTAIN if lacking else Confidence.LIKELY
        title = (
            "cuBLAS lacks functions that torch asks for" if lacking else "cuBLAS and cuBLASLt are of different releases"
        )
        yield Finding(title, "", evidence, fixes, confidence=confidence)


RULES: tuple[Rule, ...] = (ld_library_path_shadowing, nvjitlink_mismatch, cublas_mismatch)
