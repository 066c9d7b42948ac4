"""What LD_LIBRARY_PATH names, by the words in it alone: toolkits, cuDNN, directories of stubs."""

from __future__ import annotations

import re

import msgspec

from envdoctor.facts.torch import TorchBuild
from envdoctor.knowledge.cuda import Version, cuda_minor, dotted, numbers

PATH = "LD_LIBRARY_PATH"
MOST_DIRECTORIES = 100
_CUDA = re.compile(r"(?:^|[/_-])cuda[/_-]?v?(\d{1,2}\.\d{1,2})(?![\w])|(?:^|/)cuda(?=/|$)", re.IGNORECASE)
_CUDNN = re.compile(r"(?:^|[/_-])cudnn[/_-]?v?(\d{1,2}(?:\.\d{1,3}){0,3})?", re.IGNORECASE)
_BY_TORCH = re.compile(r"(?:site|dist)-packages|/nvidia/lib")  # beside torch, or where NVIDIA's images mount the driver


class Place(msgspec.Struct, frozen=True):
    """One directory: ``what`` is cuda or cudnn, ``version`` what its name says, None where it says none."""

    path: str
    what: str
    version: Version | None

    @property
    def words(self) -> str:
        """Name it for a person."""
        named = {"cuda": "the CUDA toolkit", "cudnn": "cuDNN"}[self.what]
        return f"{named} {dotted(self.version)}" if self.version else f"{named} in {self.path}"


def directories(value: str) -> tuple[str, ...]:
    """Split the variable."""
    return tuple(filter(None, (each.strip() for each in value.split(":")[:MOST_DIRECTORIES])))


def toolkits_in(value: str) -> tuple[Place, ...]:
    """Give the directories of CUDA toolkits and of cuDNN that do not lie beside torch."""
    found = []
    for each in directories(value):
        cudnn, cuda = _CUDNN.search(each), _CUDA.search(each)
        if _BY_TORCH.search(each) or not (cudnn or cuda) or each.endswith(("/compat", "/stubs")):
            continue
        match, what = (cudnn, "cudnn") if cudnn else (cuda, "cuda")
        found.append(Place(each, what, numbers(match[1]) if match else None))
    return tuple(found)


def stubs_in(value: str) -> tuple[str, ...]:
    """Give the directories of stubs."""
    return tuple(each for each in directories(value) if re.search(r"/stubs/?$", each))


def older_than(value: str, build: TorchBuild | None) -> tuple[Place, ...]:
    """Give the toolkits of torch's own CUDA major that are older than its CUDA: their libraries have the same names."""
    cuda = cuda_minor(build.cuda) if build else None
    if cuda is None:
        return ()
    return tuple(
        each
        for each in toolkits_in(value)
        if each.what == "cuda" and each.version and each.version[:1] == cuda[:1] and each.version[:2] < cuda
    )
