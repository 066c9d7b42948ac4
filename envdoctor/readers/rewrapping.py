"""Lines that a mail program, a terminal or a web form broke or ran together, put back."""

from __future__ import annotations

import re

NARROW, WIDE = 60, 110
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
_BEGINS = re.compile(r"\s*(?:[\w /&()\[\].-]{1,50}\s{0,20}:|[\[=#*+|<>$/-]|GPU\d|[A-Z][A-Z0-9_]{2,40}=|\d{1,4}\s*$)")


def rewrapped(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Split lines that hold several labels of a report, and join those that were broken at a fixed width."""
    split: list[str] = []
    for line in lines:
        several = line.count(": ") > 2 and len(line) > NARROW and len(_LABEL.findall(line)) > 1
        listed = "[pip" in line[1:] or "[conda" in line[1:]
        parts = _LABEL.split(line) if several else [line]
        split += [piece for part in parts for piece in (_ITEM.split(part) if several or listed else (part,))]
    return _joined(tuple(split))


def _joined(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Join what was broken: the next line's first word would not have fitted into the width of the widest line."""
    width = max(map(len, lines), default=0)
    if not NARROW <= width <= WIDE or not any(line.lstrip().startswith(RUN_TOGETHER) for line in lines):
        return lines
    joined: list[str] = []
    broken = False
    for line in lines:
        first = line.strip().partition(" ")[0]
        fits_not = bool(joined and first) and len(last := joined[-1].rpartition("\n")[2]) + 1 + len(first) > width
        if fits_not and last.strip() and not _BEGINS.match(line) and not line.startswith(" "):
            joined[-1] += "\n" + line
            broken = True
        else:
            joined.append(line)
    return tuple(line.replace("\n", " ") for line in joined) if broken else lines
