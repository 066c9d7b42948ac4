"""[payload] /proc/PID/maps: the shared objects that a process has mapped."""

from __future__ import annotations

import os
from typing import List, Tuple

__all__ = ["parse_maps"]

_DELETED = " (deleted)"


def parse_maps(text: str) -> Tuple[Tuple[str, ...], Tuple[str, ...]]:
    """Read /proc/PID/maps: the shared objects in order, and those of them that are gone from the disk."""
    found: List[str] = []
    gone: List[str] = []
    for line in text.splitlines():
        parts = line.split(None, 5)
        if len(parts) < 6 or ".so" not in parts[5] or not parts[5].startswith("/"):
            continue
        path = parts[5]
        if path.endswith(_DELETED):
            path = path[: -len(_DELETED)]
            gone.append(path)
        name = os.path.basename(path)
        if name.endswith(".so") or ".so." in name:
            found.append(path)
    kept = tuple(dict.fromkeys(found))
    return kept, tuple(each for each in dict.fromkeys(gone) if each in set(kept))
