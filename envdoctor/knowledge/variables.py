"""Environment variables: what is known of each by the tables, and which release of NCCL or torch reads which name.

A table of 160 entries is not parsed for two variables: the text is cut into its entries, and those asked for are read.
"""

from __future__ import annotations

import functools
import re
import sys
from typing import TYPE_CHECKING, Any

import msgspec
from packaging.specifiers import SpecifierSet

from envdoctor.knowledge import DATA, is_unsourced, rows
from envdoctor.knowledge.cuda import Version, numbers

if TYPE_CHECKING:
    from collections.abc import Iterable

REPORTS = ("unknown", "deprecated", "ineffective", "harmful", "debug")
LONGEST_MATCHED = 512  # what is longer is no setting; nothing is matched against it

# NCCL_* names that others define: images and build scripts, NCCL's tests, and network, tuner and profiler plug-ins
# (aws-ofi-nccl, Google's gIB, FasTrak and GPUDirect-TCPX, NVIDIA's SHARP and UCX plug-ins, NCCLX, RCCL).
OF_OTHERS = (
    r"NCCL_(?:VERSION|HOME|ROOT|PREFIX|DIR|PATH|SRC|BUILD|INSTALL|INCLUDE|LIB|MAJOR|MINOR|PATCH|STATIC|TEST|UNITTEST"
    r"|OFI|EFA|GPUDIRECTTCPX|FASTRAK|SHIMNET|GIB|TUNER|PROFILE|INSPECTOR|SHARP|UCX|IBEXT|SPCX|PLUGIN|RAS|CTRAN|CVARS?"
    r"|MSCCL|RCCL|FLOW|FLAGCX|TOPO_DUMP|REPO|LICENSE|URL|TAG|COMMIT|CUDA|NPKIT|LOCAL|RANK|WORLD|NODE|TCPXO?)(?:_|$|\d)"
)
# TORCH_* and PYTORCH_* names that images, other backends and other platforms define.
NOT_TORCHS = (
    r"PYTORCH_(?:VERSION|BUILD_\w+|HOME|TRITON_VERSION|MPS_\w+|ENABLE_MPS_FALLBACK|LIGHTNING_\w+|XLA_\w+)"
    r"|TORCH_(?:VERSION|DIR|ROOT|PATH|LIB\w*|INSTALL\w*|CUDA_VERSION|XLA_\w+|NPU_\w+|MUSA_\w+|MLU_\w+|HPU_\w+)"
    r"|TORCH(?:VISION|AUDIO|AO|TUNE|TITAN|X|SERVE|RL|DATA|FT|REC|TEXT|BENCH)_\w+"
)


class Setting(msgspec.Struct, frozen=True):
    """One entry: when a variable's value is worth a word, and which; ``None`` and empty parts do not restrict.

    ``report`` is one of ``REPORTS``, or empty where a rule of its own or nobody reads the entry. ``where`` names what
    must be true of the machine as well.
    """

    name: str
    severity: str
    effect: str
    problem: str
    replacement: str
    fix: str
    source: str
    report: str = ""
    says: str = ""
    values: tuple[str, ...] = ()
    valid: str | None = None
    case: bool = False
    below: int | None = None
    on: bool = False
    torch: SpecifierSet | None = None
    nccl: SpecifierSet | None = None
    unless: tuple[str, ...] = ()
    where: tuple[str, ...] = ()

    def matches(self, value: str) -> bool:
        """Tell whether this value is one that the entry speaks of."""
        text = value.strip()
        if not text:
            return False
        if self.values:
            return text.lower() in {each.lower() for each in self.values}
        if self.valid is not None:
            flags = 0 if self.case else re.IGNORECASE
            return len(text) <= LONGEST_MATCHED and re.fullmatch(self.valid, text, flags) is None
        if self.below is not None:
            return text.isdigit() and int(text) < self.below
        return text.lower() not in OFF if self.on else True


OFF = frozenset({"0", "false", "off", "no"})


class Name(msgspec.Struct, frozen=True):
    """One name that a library reads: the first and the last release it was found in.

    ``first`` None: in the oldest that was read already. ``last`` None: in the newest too. ``is_number``: read as one.
    """

    name: str
    first: Version | None
    last: Version | None
    is_number: bool
    source: str


@functools.cache
def _entries() -> dict[str, tuple[str, ...]]:
    """Cut the table into the texts of its entries, by name."""
    text = (DATA / "env_vars.toml").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    for entry in text.split("[[env]]\n")[1:]:
        name = entry.partition('name = "')[2].partition('"')[0].partition(" (")[0]
        found.setdefault(name, []).append(entry)
    return {name: tuple(entries) for name, entries in found.items()}


def is_described(name: str) -> bool:
    """Tell whether the table has an entry about this name."""
    return name in _entries()


def settings() -> tuple[Setting, ...]:
    """Give every entry of the table."""
    return tuple(_setting(_parsed(entry)) for entries in _entries().values() for entry in entries)


def reported(names: Iterable[str]) -> tuple[Setting, ...]:
    """Give the entries about these names that a rule reports by themselves."""
    return tuple(each for name in names if name in _entries() for each in _reported(name))


@functools.cache
def _reported(name: str) -> tuple[Setting, ...]:
    return tuple(_setting(_parsed(entry)) for entry in _entries()[name] if "\nreport = " in entry)


def _parsed(entry: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(entry)


def _setting(row: dict[str, Any]) -> Setting:
    severity = "info" if is_unsourced(row["source"]) else row["severity"]
    return Setting(
        row["name"].partition(" (")[0], severity, row["effect"], row["problem_when"], row["replacement"],
        row["fix"], row["source"], report=row.get("report", ""), says=row.get("says", ""),
        values=tuple(row.get("values", ())), valid=row.get("valid"), case=row.get("case", False),
        below=row.get("below"), on=row.get("on", False), torch=_releases(row, "torch"), nccl=_releases(row, "nccl"),
        unless=tuple(row.get("unless", ())), where=tuple(row.get("where", ())),
    )  # fmt: skip


def _releases(row: dict[str, Any], key: str) -> SpecifierSet | None:
    return SpecifierSet(row[key]) if key in row else None


@functools.cache
def nccl_names() -> dict[str, Name]:
    """Give every NCCL_* name in NCCL's own sources, with the releases that hold it."""
    return {
        row["name"]: Name(
            row["name"], _after(row["first_tag"]), None if row["present_in_latest"] == "yes" else _at(row["last_tag"]),
            bool(row["default_in_code"]), row["source"],
        )
        for row in rows("nccl_known_vars.csv")
    }  # fmt: skip


@functools.cache
def torch_names() -> dict[str, Name]:
    """Give every TORCH* and PYTORCH_* name in torch's wheels, with the wheels that hold it (not each one was read)."""
    return {
        row["name"]: Name(
            row["name"], _after(row["first_seen"]),
            None if row["present_in_latest"] == "yes" else _at(row["last_seen"]), is_number=False, source=row["source"],
        )
        for row in rows("torch_known_vars.csv")
    }  # fmt: skip


@functools.cache
def wheels_read() -> tuple[Version, ...]:
    """Give the torch releases whose wheels the names were read from, the oldest first."""
    found = {_at(row[column]) for row in rows("torch_known_vars.csv") for column in ("first_seen", "last_seen")}
    return tuple(sorted(each for each in found if each))


@functools.cache
def newest_nccl() -> Version:
    """Give the newest NCCL whose names are known."""
    return max(_at(row["last_tag"]) or () for row in rows("nccl_known_vars.csv"))


def _after(text: str) -> Version | None:
    return None if text.startswith("<=") else _at(text)


def _at(text: str) -> Version | None:
    """Read ``v2.27.3-1`` or ``<=v2.12.7-1`` as a version."""
    return numbers(text.removeprefix("<="))
