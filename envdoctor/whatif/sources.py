"""Which build of torch a place has: PyPI's default for each system, and the variant that an index's address names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
from packaging.version import Version

if TYPE_CHECKING:
    from envdoctor.facts.text import Requirement, Wanted
    from envdoctor.knowledge.torch import TorchRelease
    from envdoctor.whatif.place import Place

VARIANT = re.compile(r"cpu|xpu|cu\d{2,3}|rocm\d[\d.]{0,8}")
_OF_INDEX = re.compile(r"/(cpu|xpu|cu\d{2,3}|rocm\d[\d.]{0,8})(?:/|$)")
_PYPI = re.compile(r"^https://(?:pypi\.org|pypi\.python\.org|files\.pythonhosted\.org)(?:/|$)")
# By Requires-Dist of the wheels on PyPI, 2.5.1 to 2.13.0: before this release NVIDIA's wheels are for x86-64 alone.
FIRST_CUDA_ON_ARM = Version("2.11")
ARM_SOURCE = "whose wheels for aarch64 ask for no CUDA up to 2.10"


class Index(msgspec.Struct, frozen=True):
    """Where a requirement comes from. ``variant`` empty: PyPI, or an index whose address names none.

    ``instead``: in the place of PyPI, not beside it. ``known``: whether it is known what is there.
    """

    url: str = ""
    variant: str = ""
    instead: bool = False
    known: bool = True

    @property
    def words(self) -> str:
        """Name it in a sentence."""
        return f"the {self.variant} index" if self.variant else "PyPI" if self.known else self.url[:80]


def index_of(row: Requirement, wanted: Wanted) -> Index:
    """Say where a requirement would come from: its own index, else those of the file."""
    if row.index:
        return _index(row.index, instead=not row.index_beside)
    found = [_index(url, instead=bool(wanted.replaces_index)) for url in wanted.indexes if "lock" not in wanted.kinds]
    named = [each for each in found if each.variant]
    return named[0] if named else next((each for each in found if not each.known), Index())


def _index(url: str, *, instead: bool) -> Index:
    match = _OF_INDEX.search(url)
    if match:
        return Index(url, match.group(1), instead)
    return Index(url, "", instead, known=bool(_PYPI.match(url)) or not instead)


def default_cuda(release: TorchRelease | None, version: Version, place: Place) -> tuple[str | None, bool | None, str]:
    """Give the CUDA of PyPI's own wheel, whether it is the CPU's, and where that is known from."""
    if place.system in {"Windows", "Darwin"}:
        return None, True, f"which has the CPU build for {place.system}"
    if place.machine not in {"x86_64", "aarch64"}:
        return None, None, f"whose torch for {place.machine} is not in the tables"
    if place.machine == "aarch64" and version < FIRST_CUDA_ON_ARM:
        return None, True, ARM_SOURCE
    if release is None or not release.default_cuda:
        return None, None, "and it is newer or older than the tables"
    return release.default_cuda, False, "by the table of releases"
