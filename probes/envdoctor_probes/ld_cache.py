"""[payload] /etc/ld.so.cache, read as the dynamic loader reads it (glibc's format 1.1, also behind the old one)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

__all__ = ["CacheEntry", "LdCache", "parse_cache"]

_MAGIC = b"glibc-ld.so.cache1.1"
_OLD_MAGIC = b"ld.so-1.7.0\0"
_HEADER, _ENTRY = "<20sIIB3xI12x", "<iIIIQ"
_EXTENSION_MAGIC = 0xEAA42174
_HWCAP_IS_INDEX = 1 << 62
# What ldconfig writes into an entry's flags: ELF, libc6, and the machine (sysdeps/generic/ldconfig.h of glibc).
_FLAGS = {"x86_64": 0x0303, "aarch64": 0x0A03}


@dataclass(frozen=True)
class CacheEntry:
    """One line of ``ldconfig -p``; ``hwcap`` is a glibc-hwcaps folder's name, or empty."""

    soname: str
    path: str
    hwcap: str = ""


class LdCache:
    """The cache's entries by soname, in the file's order."""

    def __init__(self, entries: Sequence[CacheEntry] = ()) -> None:
        self._entries: Dict[str, List[CacheEntry]] = {}
        for entry in entries:
            self._entries.setdefault(entry.soname, []).append(entry)

    def __len__(self) -> int:
        return sum(len(each) for each in self._entries.values())

    def lookup(self, soname: str, hwcaps: Sequence[str] = ()) -> Optional[str]:
        """Give the path that the loader takes: the best folder this CPU supports, else the plain entry."""
        entries = self._entries.get(soname, [])
        for hwcap in (*hwcaps, ""):
            for entry in entries:
                if entry.hwcap == hwcap:
                    return entry.path
        return None


def parse_cache(data: bytes, machine: str) -> LdCache:
    """Parse the file's bytes; raises ``ValueError`` when this is no cache in a format known here."""
    start = _start_of_new_format(data)
    try:
        _, count, _, _, extension = struct.unpack_from(_HEADER, data, start)
        folders = _hwcap_folders(data, start, extension)
        size = struct.calcsize(_ENTRY)
        first = start + struct.calcsize(_HEADER)
        raw = [struct.unpack_from(_ENTRY, data, first + number * size) for number in range(count)]
    except struct.error as error:
        raise ValueError(f"ld.so.cache ends too early: {error}") from error
    wanted = _FLAGS.get(machine)
    entries = []
    for flags, key, value, _, hwcap in raw:
        if wanted is None or flags == wanted:
            entries.append(CacheEntry(_text(data, start + key), _text(data, start + value), _folder(hwcap, folders)))
    return LdCache(entries)


def _start_of_new_format(data: bytes) -> int:
    if data.startswith(_MAGIC):
        return 0
    if data.startswith(_OLD_MAGIC):  # the new cache stands behind the old one, aligned to eight bytes
        count = int(struct.unpack_from("<I", data, len(_OLD_MAGIC))[0])
        start = (len(_OLD_MAGIC) + 4 + count * 12 + 7) & ~7
        if data[start:].startswith(_MAGIC):
            return start
    raise ValueError("not an ld.so.cache of format 1.1")


def _hwcap_folders(data: bytes, start: int, extension: int) -> Tuple[str, ...]:
    if not extension:
        return ()
    magic, count = struct.unpack_from("<II", data, start + extension)
    if magic != _EXTENSION_MAGIC:
        return ()
    for number in range(count):
        tag, _, offset, size = struct.unpack_from("<IIII", data, start + extension + 8 + number * 16)
        if tag == 1:
            places = struct.unpack_from(f"<{size // 4}I", data, start + offset)
            return tuple(_text(data, start + place) for place in places)
    return ()


def _folder(hwcap: int, folders: Tuple[str, ...]) -> str:
    if not hwcap:
        return ""
    index = hwcap & 0xFFFFFFFF
    # An entry for a legacy hwcap is never chosen by a plain look-up: name it so that nothing matches it.
    return folders[index] if hwcap & _HWCAP_IS_INDEX and index < len(folders) else "legacy"


def _text(data: bytes, start: int) -> str:
    end = data.find(b"\0", start)
    return data[start : end if end >= 0 else len(data)].decode("utf-8", "replace")
