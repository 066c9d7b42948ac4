"""[payload] What is mounted where, as /proc/self/mountinfo says it."""

from __future__ import annotations

import re
from typing import List, NamedTuple, Optional, Sequence, Tuple

__all__ = ["Mounted", "holder_of", "parse_mountinfo"]

_OCTAL = re.compile(r"\\([0-7]{3})")  # the kernel writes space, tab, newline and backslash so


class Mounted(NamedTuple):
    """One line of mountinfo: ``root`` of the file system is seen at ``point``."""

    root: str
    point: str
    options: str  # those of the mount, then those of the file system that are not among them
    filesystem: str
    source: str


def parse_mountinfo(text: str) -> Tuple[Mounted, ...]:
    """Read mountinfo in the order of mounting; a line that is none is left out."""
    found: List[Mounted] = []
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        place, kind = before.split(" "), after.split(" ")
        if dash and len(place) > 5 and len(kind) > 2:
            options = ",".join(dict.fromkeys((*place[5].split(","), *_beside(place[5], kind[2]))))
            found.append(Mounted(_plain(place[3]), _plain(place[4]), _plain(options), kind[0], _plain(kind[1])))
    return tuple(found)


def _beside(mount: str, super_options: str) -> Tuple[str, ...]:
    """Give the file system's own options; its rw beside the mount's ro would only mislead."""
    of_mount = mount.split(",")
    rest = (each for each in super_options.split(",") if each)
    return tuple(each for each in rest if not (each == "rw" and "ro" in of_mount))


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match.group(1), 8)), text)


def holder_of(path: str, mounts: Sequence[Mounted]) -> Optional[Mounted]:
    """Give the mount that ``path`` (absolute, links followed) lies on: the deepest, of several the last."""
    best: Optional[Mounted] = None
    for each in mounts:
        below = each.point.rstrip("/") + "/"
        if (path + "/").startswith(below) and (best is None or len(each.point) >= len(best.point)):
            best = each
    return best
