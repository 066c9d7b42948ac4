"""What the image that a Dockerfile starts from brings along, read from its name and tag."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envdoctor.facts.host import Variable
from envdoctor.facts.surroundings import Container
from envdoctor.knowledge.cuda import cuda_minor, dotted
from envdoctor.knowledge.ngc import image

if TYPE_CHECKING:
    from envdoctor.facts.text import Wanted

NGC = "nvcr.io/nvidia/pytorch"
_CUDA = re.compile(r"(?:^|/)nvidia/cuda:(\d{1,2}\.\d{1,2}(?:\.\d{1,2})?)")
_PYTORCH = re.compile(r"(?:^|/)pytorch/pytorch:(\d[\w.]{2,20})-cuda(\d{1,2}\.\d{1,2})")
_ROCM = re.compile(r"(?:^|/)rocm/(?:pytorch|dev)")


def base_of(wanted: Wanted) -> str:
    """Give the image that the last stage starts from."""
    return wanted.images[-1].partition("@")[0] if wanted.images else ""


def is_ngc(base: str) -> bool:
    """Tell whether it is NVIDIA's PyTorch image."""
    return base.partition(":")[0] == NGC


def is_rocm(base: str) -> bool:
    """Tell whether it is an image of AMD's."""
    return _ROCM.search(base) is not None


def is_musl(base: str) -> bool:
    """Tell whether its C library is musl."""
    return base.partition(":")[0].rpartition("/")[2] == "alpine" or "alpine" in base.partition(":")[2]


def torch_of(base: str) -> tuple[str, str] | None:
    """Give the torch and the CUDA that an image brings; None when its name does not say."""
    if found := _PYTORCH.search(base):
        return found.group(1), found.group(2)
    row = image(base.partition(":")[2]) if is_ngc(base) else None
    return (row.torch, dotted(row.cuda)) if row and row.torch and row.cuda else None


def variables_of(base: str) -> tuple[Variable, ...]:
    """Give the variables that an image is known to set: NVIDIA's PyTorch turns TF32 on."""
    return (Variable("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1"),) if is_ngc(base) else ()


def cuda_of(base: str) -> tuple[int, ...] | None:
    """Give the CUDA of an image of NVIDIA's, which brings the compatibility libraries of that CUDA along."""
    row = image(base.partition(":")[2]) if is_ngc(base) else None
    found = _CUDA.search(base)
    return cuda_minor(found.group(1)) if found else row.cuda if row else None


def container_of(base: str, source: str) -> Container:
    """Make the fact of the container that would be started from the image."""
    sources = dict.fromkeys(("nvidia_image", "nvidia_image_tag", "image_versions", "kind"), source)
    tag = base.partition(":")[2]
    if is_ngc(base):
        return Container(
            kind="docker", nvidia_image="PyTorch", nvidia_image_tag=tag.removesuffix("-py3"), sources=sources
        )
    if found := _CUDA.search(base):
        versions = (("CUDA_VERSION", found.group(1)),)
        return Container(kind="docker", nvidia_image=base, image_versions=versions, sources=sources)
    return Container(kind="docker", sources=sources)
