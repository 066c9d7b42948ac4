"""Which C++ ABI torch uses, and which one a package's version names."""

from __future__ import annotations

import re

from packaging.version import Version

from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild
from envdoctor.rules.versions import is_source_build

FIRST_NEW = Version("2.7")


def other_abi(have: Distribution, *, new: bool) -> bool:
    """Tell whether a package's version names the ABI that torch has not: ``+cu123torch2.3cxx11abiFALSE``."""
    said = re.search(r"cxx11abi(TRUE|FALSE)", have.version, re.IGNORECASE)
    return said is not None and (said[1].upper() == "TRUE") is not new


def new_abi(build: TorchBuild | None, torch: Version, packages: Packages) -> bool | None:
    """Tell whether torch uses the new C++ ABI: as its library shows, else as the published wheels of its release do."""
    if build and build.cxx11_abi is not None:
        return build.cxx11_abi
    have = packages.find("torch")
    if have is None or have.source != "pip" or is_source_build(torch):
        return None
    if torch.release[:2] == (2, 6):  # Dao-AILab/flash-attention#1644: of 2.6 the CUDA 12.6 wheel alone
        return build.cuda == "12.6" if build and build.cuda else None
    return torch >= FIRST_NEW
