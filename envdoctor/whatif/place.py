"""Where something would be installed: which Python, on which system, and what markers say there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from envdoctor.knowledge.ngc import image
from envdoctor.whatif import images

if TYPE_CHECKING:
    from envdoctor.facts.host import Host
    from envdoctor.facts.packages import Packages
    from envdoctor.facts.text import Requirement, Wanted

CONTAINER, CONDA = "dockerfile", "conda"
PLATFORMS = {"Linux": "linux", "Windows": "win32", "Darwin": "darwin"}
NEWEST = 20  # of the minors of Python 3 that a range is tried on


class Place(msgspec.Struct, frozen=True):
    """Where it would be installed. ``python`` None: which one is not known, for the reason in ``why``."""

    python: str | None
    system: str = "Linux"
    machine: str = "x86_64"
    container: bool = False
    why: str = ""

    @property
    def minor(self) -> tuple[int, ...] | None:
        """Give the minor of its Python."""
        return tuple(int(part) for part in self.python.split(".")[:2]) if self.python else None

    def holds(self, marker: str) -> bool:
        """Tell whether a marker is true here; one that cannot be read, or asks what is not known, may be."""
        if not marker or (self.python is None and "python" in marker):
            return True
        try:
            return Marker(marker).evaluate(self._environment())
        except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName, InvalidVersion, RecursionError):
            return True

    def _environment(self) -> dict[str, str]:
        python = self.python or "3.12"
        full = python if python.count(".") > 1 else f"{python}.0"
        return {
            "python_version": ".".join(python.split(".")[:2]), "python_full_version": full, "extra": "",
            "implementation_version": full, "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "os_name": "nt" if self.system == "Windows" else "posix", "platform_system": self.system,
            "sys_platform": PLATFORMS.get(self.system, "linux"), "platform_release": "", "platform_version": "",
            "platform_machine": {"Windows": "AMD64"}.get(self.system, self.machine),
        }  # fmt: skip


def place_of(wanted: Wanted, packages: Packages | None, host: Host | None) -> Place:
    """Say where the given files would be installed: here, unless they say otherwise."""
    machine = (host.machine if host else None) or "x86_64"
    if CONTAINER in wanted.kinds:
        base = images.base_of(wanted)
        why = "the image's name does not say its Python"
        return Place(_python_of_image(base), "Linux", machine, container=True, why=why)
    ours = packages.python_version if packages else None
    system = (host.system if host else None) or "Linux"
    if CONDA in wanted.kinds:
        return Place(
            exact_minor(wanted.python) or None, system, machine, why="the file leaves the choice of Python to conda"
        )
    if ours and wanted.python and not _allows(wanted.python, ours):
        only = exact_minor(wanted.python)
        return Place(only, system, machine, why=f"the file asks for Python {wanted.python}, and this one is {ours}")
    return Place(ours or exact_minor(wanted.python), system, machine, why="nothing says which Python it would be")


def _python_of_image(base: str) -> str | None:
    name, _, tag = base.partition(":")
    if name.rpartition("/")[2] == "python":
        found = re.match(r"3\.\d{1,2}", tag)
        return found.group() if found else None
    row = image(tag) if images.is_ngc(base) else None
    return (row.python or None) if row else None


def exact_minor(asked: str | None) -> str | None:
    """Give the one minor of Python that a range allows; None when it allows several, or none."""
    try:
        allowed = [f"3.{n}" for n in range(NEWEST) if asked and SpecifierSet(asked).contains(f"3.{n}.9")]
    except InvalidSpecifier:
        return None
    return allowed[0] if len(allowed) == 1 else None


def _allows(asked: str, python: str) -> bool:
    try:
        return SpecifierSet(asked).contains(Version(python), prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return True


def rows_here(wanted: Wanted, place: Place) -> tuple[Requirement, ...]:
    """Give the requirements whose markers hold here; conda's are not asked."""
    return tuple(each for each in wanted.requirements if each.kind == "conda" or place.holds(each.marker))
