"""Facts that programs quote in their errors: the driver's CUDA level, the GPUs' capability, what torch was built for."""
# ruff: noqa: E501

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envdoctor.facts.driver import NvidiaSmi, SmiGpu
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.readers.versions import cuda_of_tag

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.facts import Fact

SOURCE = "the pasted error"
_LEVEL = re.compile(r"found version (\d{4,5})\)|cudaDriverVersion[ :=]{1,3}(\d{4,5})\b")
_INCOMPATIBLE = re.compile(
    r"(?:^|[\s:])((?:NVIDIA|GeForce|Tesla|Quadro|TITAN|A100|H100|RTX)[\w ()./-]{0,60}?) with CUDA capability sm_(\d{2,3})[a-f]? is not compatible"
)
_FOUND = re.compile(
    r"Found GPU(\d{1,2}) (\S.{1,60}?) which is of (?:compute capability \(CC\)|cuda capability) (\d{1,2}\.\d)"
)
_SUPPORTED = re.compile(
    r"supports? (?:the following )?CUDA capabilities((?:[ ,]{1,3}(?:sm|compute)_\d{2,3}[a-f]?){1,40})|supports ((?:(?:sm|compute)_\d{2,3}[a-f]?[ ,]{0,2}){2,40})"
)
_AVAILABLE = re.compile(
    r"torch\.cuda\.is_available\(\)[`'\"]{0,2}\s{0,4}(?:always )?(?:->|=>|=|:|is|returns?|gives|evaluates to)?\s{0,4}[`'\"]{0,2}(True|False)\b",
    re.IGNORECASE,
)
_ASKED = re.compile(r"torch\.cuda\.is_available\(\)\)?\s*$")
_YOU_HAVE = re.compile(
    r"built for:?\s{1,4}PyTorch (\d[\w.+]{1,30})(?: with CUDA \d{3,5})? \(you have (\d[\w.+]{1,30})\)"
)


def facts(lines: tuple[str, ...]) -> tuple[Fact, ...]:
    """Give the facts that the lines quote."""
    text = "\n".join(lines)
    build = TorchBuild()
    found: list[Fact] = []
    if smi := _smi(text):
        found.append(smi)
    if (said := _available(lines)) is not None:
        found.append(TorchCuda(available=said, sources={"available": SOURCE}))
    if supported := _SUPPORTED.search(text):
        arches = tuple(re.findall(r"(?:sm|compute)_\d{2,3}[a-f]?", supported.group()))
        build = TorchBuild(arch_list=arches, sources={"arch_list": SOURCE})
    if have := _YOU_HAVE.search(text):
        found += _xformers(*have.groups())
    return (*found, *((build,) if build.arch_list else ()))


def _smi(text: str) -> NvidiaSmi | None:
    level = _LEVEL.search(text)
    digits = int(next(filter(None, level.groups()))) if level else 0
    gpus = tuple(_gpus(text))
    if not (digits or gpus):
        return None
    cuda = f"{digits // 1000}.{digits % 1000 // 10}" if digits else None
    return NvidiaSmi(cuda_version=cuda, gpus=gpus, sources={"cuda_version": SOURCE, "gpus": SOURCE})


def _gpus(text: str) -> Iterator[SmiGpu]:
    """Give the GPUs that torch names in its warnings, each once."""
    seen: set[str] = set()
    for name, digits in _INCOMPATIBLE.findall(text):
        if name not in seen:
            seen.add(name)
            yield SmiGpu(len(seen) - 1, name, None, f"{digits[:-1]}.{digits[-1]}")
    for index, name, capability in _FOUND.findall(text):
        if name not in seen:
            seen.add(name)
            yield SmiGpu(int(index), name, None, capability)


def _available(lines: tuple[str, ...]) -> bool | None:
    """Read ``torch.cuda.is_available() returns False``, and the answer on the line below the question."""
    for number, line in enumerate(lines):
        if "is_available" not in line:
            continue
        if match := _AVAILABLE.search(line):
            return match.group(1).lower() == "true"
        if _ASKED.search(line) and lines[number + 1 : number + 2] and lines[number + 1].strip() in {"True", "False"}:
            return lines[number + 1].strip() == "True"
    return None


def _xformers(built: str, have: str) -> list[Fact]:
    cuda, cpu = cuda_of_tag(have), "+cpu" in have
    build = TorchBuild(
        version=have,
        cuda=cuda,
        is_cpu_only=True if cpu else (False if cuda else None),
        sources={"version": SOURCE, "cuda": SOURCE},
    )
    return [
        build,
        Packages(
            distributions=(Distribution("xformers", "", built_for=f"torch {built}", source="pip"),),
            sources={"distributions": SOURCE},
        ),
    ]
