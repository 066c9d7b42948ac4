"""[payload] What NCCL says of itself with NCCL_DEBUG=INFO: version, network, and how each pair is connected."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterable, Tuple

__all__ = ["NcclLog", "parse_nccl_log"]

_ALGORITHMS = (
    ("Ring", r"Connected all rings"),
    ("Tree", r"Connected all trees"),
    ("NVLS", r"NVLS multicast support is available|Connected NVLS|NVLS comm"),
    ("CollNet", r"CollNet .* connected|Connected CollNet"),
)


@dataclass(frozen=True)
class NcclLog:
    """The words of the log: each once, in the order in which they came up."""

    version: str = ""
    networks: Tuple[str, ...] = ()
    transports: Tuple[str, ...] = ()
    algorithms: Tuple[str, ...] = ()
    warnings: Tuple[str, ...] = ()


def parse_nccl_log(text: str) -> NcclLog:
    """Read the log of one rank or of several.

    ``Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM/read``, ``[send] via NET/IB/0/GDRDMA``, ``Using network Socket``.
    """
    version = re.search(r"NCCL version (\d+(?:\.\d+)+)", text)
    transports = re.findall(r"\bvia ([A-Z][A-Za-z0-9]*(?:/[\w().-]+)*)", text)
    return NcclLog(
        version.group(1) if version else "",
        _once(re.findall(r"Using network (\S+)", text)),
        _once(transports),
        tuple(name for name, words in _ALGORITHMS if re.search(words, text)),
        _once(line.strip()[:300] for line in re.findall(r"NCCL WARN (.*)", text))[:10],
    )


def _once(found: Iterable[str]) -> Tuple[str, ...]:
    return tuple(dict.fromkeys(found))
