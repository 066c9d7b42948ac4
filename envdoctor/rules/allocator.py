"""The options of PyTorch's allocator: what this torch rejects, and what it never reads."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.host import Environment
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Confidence, Finding, Severity, see
from envdoctor.knowledge.cuda import numbers
from envdoctor.knowledge.torch import releases
from envdoctor.remedy.variables import export, unset
from envdoctor.rule import Rule, Unknown, rule
from envdoctor.rules.allocator_options import UNHEARD_OF, not_yet, problems
from envdoctor.rules.builds import need_cuda_build
from envdoctor.rules.setting_values import value_of

NEUTRAL_NAME_SINCE = (2, 10)
CUDA_NAME, NEUTRAL_NAME = "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"


@rule(severity=Severity.ERROR, group="environment")
def allocator_setting_invalid(environment: Environment, build: TorchBuild) -> Iterator[Finding]:
    """The allocator's options hold something that PyTorch rejects or ignores.

    ## What it means
    PYTORCH_CUDA_ALLOC_CONF (PYTORCH_ALLOC_CONF since torch 2.10) is a list of option:value. PyTorch reads it when the
    first tensor is put on the GPU.

    ## Why it matters
    An unknown option or a bad value raises there. The new name with an older torch has no effect on GPU memory, so
    that the job runs out of it.

    ## How it is detected
    The value is read as PyTorch reads it, against all options of torch 1.12 to 2.15. What is rejected is an error, an
    option such as expandable_segments among it that came after this torch. A name that this torch does not read is a
    warning.

    ## What to do
    Correct the option, or take the variable back.

    ## Sources
    https://docs.pytorch.org/docs/stable/notes/cuda.html#optimizing-memory-usage-with-pytorch-cuda-alloc-conf
    """
    need_cuda_build(build)
    for name in (CUDA_NAME, NEUTRAL_NAME):
        value = value_of(environment, name)
        if not value:
            continue
        found = problems(value)
        if any(each.startswith(UNHEARD_OF) for each in found) and _beyond_the_table(build):
            raise Unknown(f"torch {build.version} is newer than the list of options that ships here")
        version = numbers(build.version)
        early = not_yet(value, version) if version and name == CUDA_NAME else ()
        if found or early:
            title = f"{name}: {'; '.join((*found[:3], *early))}"
            shown = (see(environment, "variables", name, value), *((see(build, "version", "torch"),) if early else ()))
            yield Finding(title, "", shown, (unset(name),), name, confidence=Confidence.LIKELY)
    yield from _unread_name(environment, build)


def _beyond_the_table(build: TorchBuild) -> bool:
    version = numbers(build.version)
    return version is None or version[:2] > releases()[0].version.release[:2]


def _unread_name(environment: Environment, build: TorchBuild) -> Iterator[Finding]:
    """Report the neutral name where this torch reads the other one only."""
    value, version = value_of(environment, NEUTRAL_NAME), numbers(build.version)
    if not value or value_of(environment, CUDA_NAME) or version is None or version[:2] >= NEUTRAL_NAME_SINCE:
        return
    yield Finding(
        f"{NEUTRAL_NAME} has no effect on GPU memory with torch {build.version}",
        evidence=(see(environment, "variables", NEUTRAL_NAME, value), see(build, "version", "torch")),
        fixes=(export("Use the name that this torch reads", f"{CUDA_NAME}='{value}'"),),
        subject="unread-name",
        severity=Severity.WARNING,
    )


RULES: tuple[Rule, ...] = (allocator_setting_invalid,)
