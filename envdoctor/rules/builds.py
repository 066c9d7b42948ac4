"""What kind of torch is installed, as far as the CUDA rules must know."""

from __future__ import annotations

from envdoctor.facts.torch import TorchBuild
from envdoctor.knowledge.cuda import Version, cuda_minor
from envdoctor.rule import NotApplicable, Unknown


def need_cuda_build(build: TorchBuild) -> Version:
    """Give the CUDA version of the build, or end the rule: this torch has none, or which one is not known."""
    found = cuda_minor(build.cuda)
    if found:
        return found
    if build.hip:
        raise NotApplicable("this torch is a ROCm build")
    if build.is_cpu_only:
        raise NotApplicable("this torch is built without CUDA")
    raise Unknown(build.unknown.get("cuda", "which CUDA this torch was built with is not known"))
