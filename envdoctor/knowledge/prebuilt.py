"""Which torch, CUDA and Python a package that is compiled against torch has wheels for; typed rows."""

from __future__ import annotations

import functools

import msgspec
from packaging.version import InvalidVersion, Version

from envdoctor.knowledge import cells, rows
from envdoctor.knowledge.torch import numbers


class Prebuilt(msgspec.Struct, frozen=True):
    """One release of a package: the minors of torch, the majors of CUDA and the Pythons that it has wheels for."""

    package: str
    version: Version
    torch: frozenset[tuple[int, ...]]
    cuda: frozenset[int]
    python: frozenset[tuple[int, ...]]
    source: str

    def fits(self, torch: tuple[int, ...], cuda: int | None, python: tuple[int, ...] | None) -> bool:
        """Tell whether there is a wheel; what is not known (None) is not held against it."""
        return (
            torch[:2] in self.torch
            and (cuda is None or cuda in self.cuda)
            and (python is None or python[:2] in self.python)
        )


@functools.cache
def prebuilt(package: str) -> tuple[Prebuilt, ...]:
    """Give the releases of a package whose wheels are known, the newest first."""
    found = [
        Prebuilt(
            package, Version(row["version"]), frozenset(numbers(each) for each in cells(row["torch_constraint"])),
            frozenset(int(each.strip().split(".")[0]) for each in _cudas(row["other_requires"])),
            frozenset(numbers(each) for each in cells(row["python"])), row["source"],
        )
        for row in rows("ecosystem.csv")
        if row["package"] == package and row["kind"] == "prebuilt_wheel_matrix" and _is_version(row["version"])
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda each: each.version, reverse=True))


def _cudas(cell: str) -> tuple[str, ...]:
    """Read ``cuda 11.8.0;12.2.0``."""
    return cells(cell.partition("(")[0].replace("cuda", ""))


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True
