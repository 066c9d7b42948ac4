"""NVIDIA's PyTorch images by tag: the CUDA, torch and libraries that each was built with; typed rows."""

from __future__ import annotations

import functools

import msgspec

from envdoctor.knowledge import rows
from envdoctor.knowledge.cuda import Version, cuda_minor, dotted, level_suffices, numbers, starts


class Image(msgspec.Struct, frozen=True):
    """One tag: ``25.01-py3``. An empty string means "not found"."""

    tag: str
    cuda: Version | None
    torch: str
    cudnn: str
    nccl: str
    source: str
    python: str = ""

    @property
    def torch_minor(self) -> Version:
        """The minor of its torch; empty where that is not known."""
        return (numbers(self.torch) or ())[:2]

    @property
    def words(self) -> str:
        """Say what is in it, as far as it is known."""
        return ", ".join(
            [f"torch {dotted(self.torch_minor)}"] * bool(self.torch_minor) + [f"CUDA {dotted(self.cuda or ())}"]
        )

    def runs_on(self, driver: Version | None, level: Version | None) -> bool | None:
        """Tell whether a driver starts this image's CUDA by itself; None where that is not known."""
        if self.cuda is None:
            return None
        if level is not None:
            return level_suffices(level, self.cuda)
        return starts(driver, self.cuda) if driver else None


@functools.cache
def images() -> tuple[Image, ...]:
    """Give the images of the table, the newest first."""
    found = [
        Image(
            row["tag"], cuda_minor(row["cuda"]), row["pytorch"], row["cudnn"], row["nccl"], row["source"], row["python"]
        )
        for row in rows("ngc_pytorch.csv")
    ]
    return tuple(sorted(found, key=lambda each: numbers(each.tag) or (), reverse=True))


def image(tag: str | None) -> Image | None:
    """Give the image of a tag, with or without ``-py3``; None when the table does not hold it."""
    wanted = numbers(tag)
    return next((each for each in images() if wanted and numbers(each.tag) == wanted[:2]), None)


def newest_for(driver: Version | None, level: Version | None) -> Image | None:
    """Give the newest image that a driver starts without the compatibility libraries; None when none is known."""
    return next((each for each in images() if each.runs_on(driver, level)), None)


def matching(torch: Version | None, cuda: Version | None) -> Image | None:
    """Give the image that is most like a stack installed by hand; None where none has its torch or its CUDA.

    One with the same minor of torch and of CUDA goes before one with the same minor of torch and major of CUDA, and
    that before one with the same CUDA alone; the newest of those that are alike.
    """
    minor = (torch or ())[:2]

    def likeness(each: Image) -> tuple[bool, bool]:
        same_torch = bool(minor) and each.torch_minor == minor and (each.cuda or ())[:1] == (cuda or ())[:1]
        return same_torch, bool(cuda) and each.cuda == (cuda or ())[:2]

    found = max(images(), key=likeness)  # the first of equals, which is the newest
    return found if any(likeness(found)) else None
