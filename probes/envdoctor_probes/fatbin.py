"""[payload] The device code that a CUDA library carries, counted from its headers; nothing is decompressed."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Dict, Iterator

if TYPE_CHECKING:
    import mmap

__all__ = ["count_arches"]

_MAGIC = struct.pack("<I", 0xBA55ED50)
_CONTAINER, _ENTRY, _ENTRY_BYTES = "<IHHQ", "<HHIQ", 64


def count_arches(data: mmap.mmap, start: int, end: int) -> Dict[str, int]:
    """Count the entries between two offsets by architecture; only container and entry headers are read."""
    found: Dict[str, int] = {}
    at = start
    while True:
        at = data.find(_MAGIC, at, end)
        if at < 0 or at + 16 > end:
            return found
        _, _, header, size = struct.unpack_from(_CONTAINER, data, at)
        for arch in _entries(data, at + header, min(at + header + size, end)):
            found[arch] = found.get(arch, 0) + 1
        at = max(at + 8, min((at + header + size + 7) & ~7, end))


def _entries(data: mmap.mmap, at: int, end: int) -> Iterator[str]:
    while at + _ENTRY_BYTES <= end:
        kind, _, header, size = struct.unpack_from(_ENTRY, data, at)
        if header < 32:  # no entry is as short: the rest is not what it seems
            return
        yield ("compute_" if kind == 1 else "sm_") + str(struct.unpack_from("<I", data, at + 28)[0])
        at += header + size
