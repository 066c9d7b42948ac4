"""Copies of one library: two owners of NCCL, and copies that are not the declared ones."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.libraries import LedgerRow, Libraries
from envdoctor.facts.packages import Packages
from envdoctor.finding import Confidence, Finding, Fix, Severity, see
from envdoctor.remedy import repair
from envdoctor.remedy.variables import look
from envdoctor.rule import Missing, Rule, rule
from envdoctor.rules.ledger_rows import (
    back_to_pins,
    cuda_rows,
    is_foreign,
    lacks,
    place_of,
    row_of,
    show_declared,
    show_first,
    show_row,
    without_library_path,
)

NCCL_WHEEL = re.compile(r"nvidia-nccl-cu1\d$")


@rule(
    severity=Severity.WARNING, group="libraries", explained_by=("ld-library-path-shadowing", "mixed-cuda-major-wheels")
)
def nccl_mixed(libraries: Libraries | None, packages: Packages | None) -> Iterator[Finding]:
    """Two distributions own libnccl, or another copy than the declared one would be loaded.

    ## What it means
    Which NCCL runs depends on the order of installation or on a search path, and not on what torch declares.

    ## Why it matters
    Ranks with different NCCL versions do not talk to each other, and a version that torch was not built with may
    lack functions.

    ## How it is detected
    The RECORD files that name libnccl.so.2, and the loader's search order. Where the files cannot be looked at, the
    list of packages: nvidia-nccl wheels of two CUDA majors write one file.

    ## What to do
    Keep one: uninstall the one that torch does not pin, then install the pinned one again.

    ## Sources
    https://github.com/pytorch/pytorch/issues/99625
    """
    if libraries is None:
        yield from _by_packages(packages)
        return
    row = row_of(libraries, "nccl")
    owners = (row.first.owner or "").split(", ") if row.first else []
    if len(owners) > 1 or is_foreign(row) or lacks(row):
        evidence = [show_first(libraries, row), show_declared(libraries, row)]
        evidence += [show_row(libraries, row, "owned by", ", ".join(owners))] if len(owners) > 1 else []
        evidence += [show_row(libraries, row, "lacks", ", ".join(lacks(row)[:4]))] if lacks(row) else []
        fixes = (without_library_path(),) if is_foreign(row) else _keep_one(packages, row, owners)
        title = (
            "Two distributions own libnccl.so.2" if len(owners) > 1 else "Another NCCL than the declared one would load"
        )
        yield Finding(title, "", tuple(evidence), fixes)


def _keep_one(packages: Packages | None, row: LedgerRow, owners: list[str]) -> tuple[Fix, ...]:
    """Remove the owners that torch does not pin, whose removal takes the file, then put the pinned one back."""
    pinned = (row.declared or "").replace(" ", "")
    others = tuple(name for each in owners if (name := each.partition(" ")[0]) != pinned.partition("==")[0])
    if packages is None or len(owners) < 2 or len(others) == len(owners):
        return back_to_pins(packages, row)
    return repair.without(packages, others, (pinned,))


def _by_packages(packages: Packages | None) -> Iterator[Finding]:
    wheels = [each for each in (packages.distributions if packages else ()) if NCCL_WHEEL.match(each.name)]
    if packages is None or len({each.name for each in wheels}) < 2:
        raise Missing(Libraries)
    yield Finding(
        f"{' and '.join(each.name for each in wheels[:3])} write one libnccl.so.2: the last one installed wins",
        evidence=tuple(see(packages, "distributions", each.name, each.version) for each in wheels[:3]),
        fixes=(look("See which of them torch asks for, and remove the other", "python -m pip show torch"),),
        confidence=Confidence.LIKELY,
    )


@rule(
    severity=Severity.WARNING,
    group="libraries",
    explained_by=("cudnn-version-mismatch", "nccl-mixed", "nvjitlink-mismatch", "cublas-mismatch",
                  "ld-library-path-shadowing"),
)  # fmt: skip
def library_not_the_declared_one(libraries: Libraries) -> Iterator[Finding]:
    """The copy of a library that would be loaded is not the one that torch's wheel declares.

    ## What it means
    Declared, bundled and loader-first disagree for this library; or what a process has really mapped is none of these.

    ## Why it matters
    What `pip list` says is not what runs. Bug reports and comparisons between machines are wrong.

    ## How it is detected
    The ledger: the wheel's pin and the files beside torch, against the loader's search order, and against what a
    process that imported torch, or the running job that was named, has mapped.

    ## What to do
    See which step of the search finds the other copy, and take it away there.

    ## Sources
    https://man7.org/linux/man-pages/man8/ld.so.8.html
    """
    for row in cuda_rows(libraries):
        if is_foreign(row):
            copies = ", ".join(f"{each.path} ({each.version})" for each in row.bundled)
            evidence = (
                show_declared(libraries, row),
                show_row(libraries, row, "beside torch", copies),
                show_first(libraries, row),
            )
            title = f"{row.soname} would be loaded from outside the environment"
            yield Finding(title, "", evidence, (without_library_path(),), row.name)
        elif strange := _strangers(row):
            seen = (show_declared(libraries, row), show_row(libraries, row, "mapped", ", ".join(strange)))
            title = f"{row.soname} is loaded from {strange[0]}, not from beside torch"
            yield Finding(title, "", seen, (without_library_path(),), row.name)


def _strangers(row: LedgerRow) -> tuple[str, ...]:
    """Give the copies that a process has really mapped, where none of them is one of those beside torch."""
    ours = {path for each in row.bundled for path in (each.path, place_of(each))}
    known = not ours or any(each.removesuffix(" (deleted)") in ours for each in row.mapped)
    return () if known else row.mapped


RULES: tuple[Rule, ...] = (nccl_mixed, library_not_the_declared_one)
