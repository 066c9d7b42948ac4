"""Which driver starts which CUDA: typed rows of the toolkit, branch and cuda-compat tables, and the rules they follow.

Versions are compared by component, never as text: 440.100 is newer than 440.33.
"""

from __future__ import annotations

import functools
import re

import msgspec

from envdoctor.knowledge import GATHERED, rows

Version = tuple[int, ...]

MINOR_COMPATIBILITY_SINCE = 11  # before CUDA 11 a build needs the driver of its own CUDA minor


def numbers(text: str | None) -> Version | None:
    """Read the leading dotted number of a version: ``"535.183.01"`` -> ``(535, 183, 1)``; None when there is none."""
    match = re.match(r"\s*v?(\d+(?:\.\d+)*)", text or "")
    return tuple(int(part) for part in match[1].split(".")) if match else None


def cuda_minor(text: str | None) -> Version | None:
    """Read a CUDA version down to its minor: ``"10.1.243"`` -> ``(10, 1)``; ``"0"``, which means no driver, is None."""
    found = numbers(text)
    return (*found, 0)[:2] if found and found[0] > 0 else None


def dotted(version: Version) -> str:
    """Write a version for a person: ``(12, 2)`` -> ``12.2``."""
    return ".".join(str(part) for part in version)


def at_least(have: Version, floor: Version) -> bool | None:
    """Tell whether ``have`` reaches ``floor``; None when ``have`` names only the branch that the floor lies in."""
    if len(have) < len(floor) and have == floor[: len(have)]:
        return None
    return have >= floor


class Release(msgspec.Struct, frozen=True):
    """One CUDA toolkit release: the driver it shipped with, and the floor of its major's minor-version compatibility.

    The ``*_text`` fields keep the version as the vendor writes it.
    """

    cuda: Version
    driver_text: dict[str, str]
    floor_text: dict[str, str]
    source: str


class Branch(msgspec.Struct, frozen=True):
    """One driver branch on one operating system. ``kind``: PB production, NFB new feature, LTSB long term."""

    number: int
    system: str
    kind: str
    eol: str
    max_cuda: Version | None

    @property
    def supported(self) -> bool:
        """Tell whether the branch was within its support on the day the table was gathered."""
        return self.eol > GATHERED


class Compat(msgspec.Struct, frozen=True):
    """One cuda-compat package on one driver branch.

    ``status``: compatible, not_applicable (the branch supports this CUDA by itself) or not_compatible.
    """

    package: str
    cuda: Version
    branch: int
    status: str
    source: str


class Floor(msgspec.Struct, frozen=True):
    """The oldest driver that starts builds of one CUDA version, and by which rule."""

    driver: Version
    text: str
    by: str
    source: str


@functools.cache
def releases() -> tuple[Release, ...]:
    """Give the toolkit releases, the newest first."""
    return tuple(
        Release(
            cuda_minor(row["cuda_major_minor"]) or (),
            {"linux": row["toolkit_driver_linux"], "windows": row["toolkit_driver_windows"]},
            {"linux": row["minor_compat_min_linux"], "windows": row["minor_compat_min_windows"]},
            row["source"],
        )
        for row in rows("cuda_driver.csv")
    )


@functools.cache
def branches() -> tuple[Branch, ...]:
    """Give the driver branches of every operating system."""
    return tuple(
        Branch(int(row["branch"]), row["os"], row["branch_type"], row["eol_date"], cuda_minor(row["max_cuda"]))
        for row in rows("driver_branches.csv")
    )


def level_suffices(level: Version, build: Version) -> bool:
    """Tell whether a driver of CUDA ``level`` starts a build of CUDA ``build``.

    From CUDA 11 on a driver runs every minor of its major; before, it needs the build's own minor.
    """
    if build[0] >= MINOR_COMPATIBILITY_SINCE:
        return level[0] >= build[0]
    return level[:2] >= build[:2]


def floor_of(build: Version, system: str = "linux") -> Floor | None:
    """Give the oldest driver that starts a build of CUDA ``build``; None where the tables do not say."""
    if build[0] >= MINOR_COMPATIBILITY_SINCE:
        return _family_floor(build, system)
    texts = [(each.driver_text[system], each.source) for each in releases() if each.cuda == build[:2]]
    return _lowest(texts, f"driver of CUDA {dotted(build[:2])} (no minor-version compatibility before CUDA 11)")


def _family_floor(build: Version, system: str) -> Floor | None:
    family = [each for each in releases() if each.cuda[:1] == build[:1]]
    texts = [(each.floor_text[system], each.source) for each in family]
    texts += [(each.driver_text[system], each.source) for each in family if each.cuda == build[:2]]
    return _lowest(texts, f"minor-version compatibility of CUDA {build[0]}.x")


def _lowest(texts: list[tuple[str, str]], by: str) -> Floor | None:
    floors = [Floor(driver, text, by, source) for text, source in texts if (driver := numbers(text))]
    return min(floors, key=lambda each: each.driver, default=None)


def level_of(driver: Version, system: str = "linux") -> Version | None:
    """Give the newest CUDA that a driver version is known to support; None when it is older than every row."""
    levels = [each.cuda for each in releases() if _reaches(driver, each.driver_text[system])]
    levels += [each.max_cuda for each in branches() if each.max_cuda and _in_branch(driver, each, system)]
    return max(levels, default=None)


def _reaches(driver: Version, text: str) -> bool:
    floor = numbers(text)
    return floor is not None and driver >= floor


def _in_branch(driver: Version, branch: Branch, system: str) -> bool:
    # Windows numbers run on inside a branch (576.52 belongs to 575); any later branch supports at least as much.
    return branch.system == system and driver[:1] >= (branch.number,)


def newest_known_branch(system: str = "linux") -> int:
    """Give the newest driver branch that the table knows; above it the tables can say only "at least"."""
    return max(each.number for each in branches() if each.system == system)


def starts(driver: Version, build: Version, system: str = "linux") -> bool | None:
    """Tell by the tables whether a driver version starts a build; None when they do not reach that far."""
    floor = floor_of(build, system)
    if floor is not None:
        return at_least(driver, floor.driver)
    level = level_of(driver, system)
    if level is not None and level_suffices(level, build):
        return True
    return None if driver[0] > newest_known_branch(system) else False


def branch_to_install(build: Version, system: str = "linux") -> int | None:
    """Name the branch to advise for a build: long-term before production, still supported, the lowest that does."""
    fit = [
        each
        for each in branches()
        if each.system == system and each.supported and each.max_cuda and level_suffices(each.max_cuda, build)
    ]
    fit.sort(key=lambda each: (("LTSB", "PB").index(each.kind) if each.kind in {"LTSB", "PB"} else 2, each.number))
    return fit[0].number if fit else None


@functools.cache
def compat_packages() -> tuple[Compat, ...]:
    """Give NVIDIA's table of forward compatibility: each cuda-compat package on each driver branch."""
    return tuple(
        Compat(row["compat_package"], cuda_minor(row["cuda"]) or (), int(row["base_driver_branch"]), row["status"],
               row["source"])
        for row in rows("cuda_compat.csv")
    )  # fmt: skip


def compat_status(cuda: Version, driver: Version) -> str | None:
    """Say what NVIDIA's table says of cuda-compat for ``cuda`` on a driver branch; None when it has no such row."""
    found = (each.status for each in compat_packages() if each.cuda == cuda[:2] and each.branch == driver[0])
    return next(found, None)
