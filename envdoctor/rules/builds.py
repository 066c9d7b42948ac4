"""What kind of torch is installed, as far as the CUDA rules must know."""

from __future__ import annotations

from envdoctor.facts.torch import TorchBuild
from envdoctor.knowledge.cuda import Version, cuda_minor
from envdoctor.knowledge.torch import cuda_of
from envdoctor.rule import NotApplicable, Unknown


def need_cuda_build(build: TorchBuild) -> Version:
    """Give the CUDA version of the build, or end the rule: this torch has none, or which one is not known."""
    found = cuda_minor(build.cuda) or _by_tag(build.version)
    if found:
        return found
    if build.hip:
        raise NotApplicable("this torch is a ROCm build")
    if build.is_cpu_only:
        raise NotApplicable("this torch is built without CUDA")
    raise Unknown(build.unknown.get("cuda", "which CUDA this torch was built with is not known"))


def _by_tag(version: str | None) -> Version | None:
    """Read the CUDA version out of a local tag: ``2.9.0+cu128`` -> ``(12, 8)``."""
    tag = (version or "").partition("+")[2]
    return cuda_of(tag) or None if tag.startswith("cu") else None
