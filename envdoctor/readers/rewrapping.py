"""Lines that a mail program, a terminal or a web form broke or ran together, put back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

NARROW, WIDE = 60, 110
LONGEST = 1_000  # of a line that was put together
RUN_TOGETHER = (
    "PyTorch version", "Is debug build", "CUDA used to build PyTorch", "ROCM used to build PyTorch", "OS",
    "GCC version",
    "Clang version", "CMake version", "Libc version", "Python version", "Python platform", "Is CUDA available",
    "CUDA runtime version", "CUDA_MODULE_LOADING set to", "GPU models and configuration", "Nvidia driver version",
    "cuDNN version", "HIP runtime version", "MIOpen runtime version", "Is XNNPACK available", "CPU",
    "Versions of relevant libraries",
)  # fmt: skip
_LABEL = re.compile(rf"(?<=\S)\s{{1,8}}(?=(?:{'|'.join(RUN_TOGETHER)})\s{{0,20}}:)")
_ITEM = re.compile(
    r"(?<=\S)\s{1,8}(?=\[(?:pip3?|conda)\] )|(?<=[^\s:])\s{1,8}(?=GPU \d{1,2}: )|(?<=configuration:)\s{1,8}(?=GPU \d)"
)
_BEGINS = re.compile(
    r"\s*(?:[A-Za-z][\w /&()\[\].,-]{0,50}\s{0,20}:(?:\s|$)|[\[=#*+|<>$/-]|GPU\d|[A-Z][A-Z0-9_]{2,40}=|\d{1,4}\s*$"
    r"|[A-Za-z_][\w.-]{0,80}(?:\s{1,80}v?\d|={2,3}| @ )|GPU [0-9A-F]{8}:|Package\s+Version)"
)
_LISTS = re.compile(
    r"Package\s+Version|# packages in environment|List of packages in|=+NVSMI LOG=+|\S+ @ ?(?:\S|$)|\S+==\d"
)


def rewrapped(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Split lines that hold several labels of a report, and join those that were broken at a fixed width."""
    split: list[str] = []
    for line in lines:
        several = line.count(": ") > 2 and len(line) > NARROW and len(_LABEL.findall(line)) > 1
        listed = "[pip" in line[1:] or "[conda" in line[1:]
        parts = _LABEL.split(line) if several else [line]
        split += [piece for part in parts for piece in (_ITEM.split(part) if several or listed else (part,))]
    marked = any(map(_is_marked, split))
    return tuple(joined(split, _begins) if marked else split)


def joined(lines: list[str], begins: Callable[[str], object]) -> list[str]:
    """Join what was broken: the next line's first word would not have fitted into the width of the widest line.

    ``begins`` knows a line that cannot be the rest of another.
    """
    # A word that is longer than a line stands alone and says nothing of the width.
    width = max((len(line) for line in lines if " " in line.strip()), default=0)
    if not NARROW <= width <= WIDE:
        return lines
    found: list[str] = []
    last = ""
    for line in lines:
        first = line.strip().partition(" ")[0]
        fits_not = bool(last.strip() and first) and len(last) + 1 + len(first) > width
        if fits_not and len(found[-1]) < LONGEST and not begins(line):
            found[-1] += f" {line}"
        else:
            found.append(line)
        last = line
    return found


def _begins(line: str) -> bool:
    return line.startswith(" ") or _BEGINS.match(line) is not None


def _is_marked(line: str) -> bool:
    """Tell a line that only a report or a list has; other texts are left as they are."""
    bare = line.strip()
    return bare.startswith(RUN_TOGETHER) or _LISTS.match(bare) is not None
