"""Rows of the ledger: which copy of a library would be loaded, whether it is torch's own, and what shows it."""

from __future__ import annotations

from packaging.version import InvalidVersion, Version

from envdoctor.facts.libraries import Copy, LedgerRow, Libraries
from envdoctor.facts.packages import Packages
from envdoctor.finding import Command, Evidence, Fix, Safety, see
from envdoctor.remedy import repair
from envdoctor.rule import NotApplicable, Unknown

FOREIGN = ("LD_LIBRARY_PATH", "LD_PRELOAD", "ld.so.cache", "default")
SYSTEM = frozenset({"stdcxx", "gomp", "iomp5", "cuda"})  # the machine's own copies are the right ones


def cuda_rows(libraries: Libraries) -> tuple[LedgerRow, ...]:
    """Give the rows of CUDA libraries, or end the rule with the reason why there is no ledger."""
    if "rows" in libraries.unknown:
        raise Unknown(libraries.unknown["rows"])
    return tuple(row for row in libraries.rows if row.name not in SYSTEM)


def row_of(libraries: Libraries, name: str) -> LedgerRow:
    """Give one row with a copy that would be loaded, or end the rule as not applicable."""
    row = next((each for each in cuda_rows(libraries) if each.name == name), None)
    if row is None or row.first is None:
        raise NotApplicable(f"this torch loads no {name}")
    return row


def show_row(libraries: Libraries, row: LedgerRow, label: str, value: object) -> Evidence:
    """Make a row of the ledger evidence."""
    found = see(libraries, "rows", label, value)
    return Evidence(f"libraries.rows[{row.name}]", found.value, found.source, "", label)


def show_first(libraries: Libraries, row: LedgerRow) -> Evidence:
    """Show the copy that would be loaded, its version and how it is reached."""
    copy = row.first
    text = f"{copy.path} ({copy.version or 'version not known'}, by {copy.via})" if copy else "none"
    return show_row(libraries, row, f"{row.soname} that would be loaded", text)


def show_declared(libraries: Libraries, row: LedgerRow) -> Evidence:
    """Show what torch's wheel pins, and which version of it is installed."""
    installed = f", installed {row.installed_version}" if row.installed_version else ""
    return show_row(libraries, row, "torch's wheel asks for", f"{row.declared or 'nothing by name'}{installed}")


def place_of(copy: Copy) -> str:
    """Give where a copy really lies, so that a link to it is not taken for another copy."""
    return copy.real_path or copy.path


def is_foreign(row: LedgerRow) -> bool:
    """Tell whether a copy from outside would be loaded although one lies beside torch."""
    if row.first is None or not row.bundled or row.first.via not in FOREIGN:
        return False
    return place_of(row.first) not in {place_of(each) for each in row.bundled}


def without_library_path() -> Fix:
    """Start one program without the variables that bring foreign directories in."""
    return Fix(
        "Start it without the foreign directories",
        (Command(None, "env -u LD_LIBRARY_PATH -u LD_PRELOAD python -c 'import torch; print(torch.version.cuda)'"),),
        Safety.SAFE,
        "nothing: one command is started with other variables. Then take the line out of ~/.bashrc, the module file"
        " or the image that sets it",
    )


def back_to_pins(packages: Packages | None, *rows: LedgerRow) -> tuple[Fix, ...]:
    """Give the commands that put the declared wheels back, also over one of that version whose file is another's."""
    declared = {row.declared.replace(" ", ""): row.installed_version for row in rows if row.declared}
    there = any(spec.endswith(f"=={version}") for spec, version in declared.items())
    return repair.to_pins(packages, tuple(declared), there=there) if packages and declared else ()


def lacks(row: LedgerRow) -> tuple[str, ...]:
    """Give the symbol versions and functions that the copy found first does not have."""
    return (*row.missing_versions, *row.needed_symbols_missing)


def release_of(text: str | None, whose: str) -> Version:
    """Read a version, or end the rule as unknown with whose it is."""
    try:
        return Version(text or "")
    except InvalidVersion:
        raise Unknown(f"the version of {whose} is not known") from None
