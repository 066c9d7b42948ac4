"""``nvidia-smi topo -m``: how the GPUs of a machine are joined."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envdoctor.facts.nvml import PeerLink

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ROW = re.compile(
    r"^\s{0,8}(?:GPU|NIC|mlx5_)(\d{1,3})((?:\s{1,20}(?:X|SYS|NODE|PHB|PXB|PIX|NV\d{1,2}|N/A|SOC)){1,256})(?:\s|$)"
)
_HEADER = re.compile(r"^\s{0,12}GPU0\s.{0,400}(?:Affinity|GPU1|NIC0|mlx)")
_GPU = re.compile(r"^\s{0,8}GPU(\d{1,3})\s")
_WORDS = {"SOC": "sys"}


def is_row(line: str) -> bool:
    """Tell whether a line belongs to the matrix."""
    return bool("\t" in line or "  " in line) and bool(_ROW.match(line) or _HEADER.match(line))


def links(lines: Iterable[str]) -> Iterator[PeerLink]:
    """Give each pair of GPUs once, with its path."""
    rows: dict[int, list[str]] = {}
    for line in lines:
        if line.lstrip().startswith("GPU") and _GPU.match(line) and (match := _ROW.match(line)):
            rows.setdefault(int(match.group(1)), match.group(2).split())
    for first, cells in sorted(rows.items()):
        for second in range(first + 1, min(len(cells), len(rows))):
            path = cells[second]
            if path not in {"X", "N/A"}:
                yield PeerLink(first, second, "nvlink" if path.startswith("NV") else _WORDS.get(path, path.lower()))
