"""[payload] A folder of JPEGs like ImageNet's, made on the spot; and the user's own folder, looked at within bounds."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from typing import Any, List, Tuple

from envdoctor.probe import NotThere

__all__ = ["Folder", "describe", "found_in", "made_in"]

# ImageNet's training images have 110 KB and 500x375 pixels in the middle.
SIZES = ((500, 375), (500, 375), (500, 333), (375, 500), (640, 480), (400, 300))
COUNT = 96
_QUALITY = 90
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_MOST_FILES = 20_000
_LOOK_SECONDS = 10.0
_LOOKED_AT = 64


@dataclass(frozen=True)
class Folder:
    """Files of images, and what they are like: means over some of them."""

    path: str
    files: Tuple[str, ...]
    made_here: bool
    mean_bytes: float = 0.0
    mean_width: float = 0.0
    mean_height: float = 0.0


def made_in(path: str, pil: Any, count: int = COUNT) -> Folder:
    """Write images into an empty folder: soft shapes with some grain, so that they compress as photographs do."""
    dice = random.Random(20260101)
    files: List[str] = []
    for number in range(count):
        file = os.path.join(path, f"{number:04d}.jpg")
        photograph(pil, SIZES[number % len(SIZES)], dice).save(file, quality=_QUALITY)
        files.append(file)
    return describe(Folder(path, tuple(files), made_here=True), pil)


def photograph(pil: Any, size: Tuple[int, int], dice: random.Random) -> Any:
    """Give an image of that size: three channels of coarse noise made smooth, and fine noise upon it."""
    channels = []
    for _ in range(3):
        coarse = pil.effect_noise((size[0] // 24, size[1] // 24), dice.uniform(60, 100)).resize(size, 3)
        channels.append(pil.blend(coarse, pil.effect_noise(size, 60), 0.28))
    return pil.merge("RGB", channels)


def found_in(path: str, pil: Any) -> Folder:
    """Find images below the user's folder, up to a number and for a time; raises ``NotThere`` when there are none."""
    files: List[str] = []
    end = time.monotonic() + _LOOK_SECONDS
    for folder, _, names in os.walk(path):
        files += [os.path.join(folder, name) for name in sorted(names) if name.lower().endswith(_ENDINGS)]
        if len(files) >= _MOST_FILES or time.monotonic() > end:
            break
    if not files:
        looked = "is no folder" if not os.path.isdir(path) else f"has no image ({', '.join(_ENDINGS)})"
        raise NotThere(f"{path} {looked}")
    random.Random(7).shuffle(files)
    return describe(Folder(path, tuple(files[:_MOST_FILES]), made_here=False), pil)


def describe(folder: Folder, pil: Any) -> Folder:
    """Look at some of the files: their size in bytes and in pixels; a broken one does not count."""
    sizes: List[Tuple[int, int, int]] = []
    for file in folder.files[:_LOOKED_AT]:
        try:
            with pil.open(file) as image:
                sizes.append((os.path.getsize(file), *image.size))
        except (OSError, ValueError):  # noqa: PERF203 - what the loader will make of it is measured
            continue
    if not sizes:
        return folder
    means = [sum(each[place] for each in sizes) / len(sizes) for place in range(3)]
    return Folder(folder.path, folder.files, folder.made_here, *means)
