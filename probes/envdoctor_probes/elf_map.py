"""[payload] A file of this machine, mapped read-only for the ELF reader."""

from __future__ import annotations

import mmap
import os

__all__ = ["ElfError", "map_file"]


class ElfError(ValueError):
    """The file is not a 64-bit little-endian ELF file, or it is damaged."""


def map_file(path: str) -> mmap.mmap:
    """Map a file; raises ``OSError`` when it cannot be opened, ``ElfError`` when it is too short to be one."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        if size < 64:
            raise ElfError(f"{path}: {size} bytes are too few for an ELF file")
        mapped = mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
    finally:
        os.close(descriptor)
    if hasattr(mmap, "MADV_RANDOM"):
        mapped.madvise(mmap.MADV_RANDOM)  # no readahead: scattered small reads, often from a cold disk
    return mapped
