"""``GPU 0: NVIDIA A100-SXM4-80GB (UUID: …)``: the lines that name GPUs, wherever they stand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envdoctor.facts.driver import SmiGpu

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_HEADING = re.compile(r"^\s{0,20}(?:\W{0,4}GPU models and configuration)\W{0,4}\s{0,10}:\s{0,10}", re.IGNORECASE)
_GPU = re.compile(r"^\s{0,20}GPU (\d{1,3}): ?([A-Za-z].{1,100}?)(?: ?\((?:UUID|MIG)[^()]{0,80}\)?)?$")
_OTHERS = re.compile(r"\b(?:AMD|Radeon|Instinct|gfx\d|Intel|Apple|Ascend)", re.IGNORECASE)
_SLICE = re.compile(r"^\s{0,20}MIG (\d\S{1,20})\s{1,8}Device\b")
_MANY = re.compile(r"^\s{0,10}(\d{1,3}) ?[x*\u00d7] ?([A-Za-z].{2,80})$")


def cards(lines: Iterable[str]) -> Iterator[SmiGpu]:
    """Give each GPU once, by index; ``MIG`` slices are not cards."""
    seen: set[int] = set()
    for line in lines:
        if "GPU" not in line and "gpu" not in line:
            continue
        bare = _HEADING.sub("", line)
        match = _GPU.match(bare)
        if match and int(match.group(1)) not in seen and "Compute Capability" not in line:
            seen.add(int(match.group(1)))
            if not _OTHERS.search(match.group(2)):
                yield SmiGpu(int(match.group(1)), match.group(2).strip())
        elif bare != line and not match and not seen:
            for card in _by_hand(bare):
                seen.add(card.index or 0)
                yield card


def _by_hand(words: str) -> Iterator[SmiGpu]:
    """Read what people type after the label: ``2x RTX 3090``, ``RTX 3090``."""
    from envdoctor.readers.labels import said

    if said(words) is None or len(words) > 100:
        return
    match = _MANY.match(words)
    count, name = (min(int(match.group(1)), 64), match.group(2)) if match else (1, words)
    if re.search(r"[A-Za-z]\D{0,20}\d", name) and not _OTHERS.search(name):
        yield from (SmiGpu(index, name.strip(" .")) for index in range(count))


def slices(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Give each MIG slice: the index of the card above it, and the slice's profile."""
    index = None
    for line in lines:
        if match := _GPU.match(_HEADING.sub("", line)):
            index = int(match.group(1))
        elif (slice_ := _SLICE.match(line)) and index is not None:
            yield index, slice_.group(1)
