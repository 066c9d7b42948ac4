"""[payload] mapped-libraries: what ``import torch`` has really mapped, read in a fork of the process that did it."""

from __future__ import annotations

import os
import re
from typing import Dict, Optional, Tuple

from envdoctor.facts.libraries import MappedLibraries
from envdoctor.probe import Context, probe
from envdoctor_probes.maps import parse_maps
from envdoctor_probes.tree import Tree, why

__all__ = ["mapped_libraries", "version_of"]

_NCCL = re.compile(r"libnccl\.so[.\d]*$")


@probe(level="standard", child="torch", seconds=10.0)
def mapped_libraries(context: Context) -> MappedLibraries:
    """List the shared objects of this process, and ask a mapped NCCL for its version, which starts nothing."""
    path = "/proc/self/maps"
    try:
        paths, _ = parse_maps(Tree(context.roots).text(path, limit=16 << 20))
    except OSError as error:
        return MappedLibraries(unknown={"paths": why(error, path)})
    unknown: Dict[str, str] = {}
    return MappedLibraries(paths=paths, nccl_version=_nccl_version(context, paths, unknown), unknown=unknown)


def _nccl_version(context: Context, paths: Tuple[str, ...], unknown: Dict[str, str]) -> Optional[str]:
    path = next((each for each in paths if _NCCL.match(os.path.basename(each))), None)
    if path is None:
        unknown["nccl_version"] = "import torch maps no libnccl"
        return None
    import ctypes

    number = ctypes.c_int()
    try:
        with context.calling("ncclGetVersion"):
            library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
            code = library.ncclGetVersion(ctypes.byref(number))
    except (OSError, AttributeError) as error:
        unknown["nccl_version"] = str(error)
        return None
    if code:
        unknown["nccl_version"] = f"ncclGetVersion answered {code}"
        return None
    return version_of(number.value)


def version_of(number: int) -> str:
    """Read NCCL's number: 22705 is 2.27.5, and before 2.9 four digits: 2708 is 2.7.8."""
    unit = 1000 if number < 10_000 else 10_000
    return f"{number // unit}.{number % unit // 100}.{number % 100}"
