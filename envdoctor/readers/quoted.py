"""Facts that programs quote in their errors: the CUDA level of the driver, GPUs and what they are, torch and its code.

They fill gaps only: what a report says of the same thing goes before them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envdoctor.facts.driver import NvidiaSmi, SmiGpu
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.readers.versions import cuda_of_tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from envdoctor.facts import Fact

SOURCE = "the pasted error"
_LEVEL = re.compile(r"found version (\d{4,5})\)|cudaDriverVersion[ :=]{1,3}(\d{4,5})\b")
_MAKER = r"(?:NVIDIA|GeForce|Tesla|Quadro|TITAN|A100|H100|RTX)"
_INCOMPATIBLE = re.compile(
    rf"(?:^|[\s:])({_MAKER}[\w ()./-]{{0,60}}?) with CUDA capability sm_(\d{{2,3}})[a-f]? is not"
)
_FOUND = re.compile(
    r"Found GPU(\d{1,2}) (\S.{1,60}?) which is of (?:compute capability \(CC\)|cuda capability) (\d{1,2}\.\d)"
)
_ARCH = re.compile(r"(?:sm|compute)_\d{2,3}[a-f]?")
_SUPPORTED = re.compile(
    r"supports? (?:the following )?(?:CUDA capabilities )?((?:(?:sm|compute)_\d{2,3}[a-f]?[ ,.]{0,3}){2,40})"
)
_AVAILABLE = re.compile(
    r"torch\.cuda\.is_available\(\)[`'\"]{0,2}\s{0,4}(?:always )?(?:->|=>|=|:|is|returns?|gives|evaluates to)?"
    r"\s{0,4}[`'\"]{0,2}(True|False)\b",
    re.IGNORECASE,
)
_ASKED = re.compile(r"torch\.cuda\.is_available\(\)\)?\s{0,4}$")
_HAVE = re.compile(r"built for:?\s{1,4}PyTorch \d[\w.+]{1,30}(?: with CUDA \d{3,5})? \(you have (\d[\w.+]{1,30})\)")
_ANSWERS = {"True": True, "False": False}


def facts(lines: tuple[str, ...]) -> tuple[Fact, ...]:
    """Give the facts that the lines quote."""
    found: tuple[Fact | None, ...] = (_smi(lines), _cuda(lines), _build(lines))
    return tuple(each for each in found if each is not None)


def _first(pattern: re.Pattern[str], lines: Iterable[str]) -> re.Match[str] | None:
    return next((match for line in lines if (match := pattern.search(line))), None)


def _smi(lines: tuple[str, ...]) -> NvidiaSmi | None:
    level = _first(_LEVEL, lines)
    digits = int(level[1] or level[2]) if level else 0
    gpus = tuple(_gpus(lines))
    if not (digits or gpus):
        return None
    cuda = f"{digits // 1000}.{digits % 1000 // 10}" if digits else None
    return NvidiaSmi(cuda_version=cuda, gpus=gpus, sources={"cuda_version": SOURCE, "gpus": SOURCE})


def _gpus(lines: tuple[str, ...]) -> Iterator[SmiGpu]:
    """Give the GPUs that torch names in its warnings, each once."""
    seen: set[str] = set()
    for line in lines:
        for name, digits in _INCOMPATIBLE.findall(line):
            if name not in seen:
                seen.add(name)
                yield SmiGpu(len(seen) - 1, name, None, f"{digits[:-1]}.{digits[-1]}")
        for index, name, capability in _FOUND.findall(line):
            if name not in seen:
                seen.add(name)
                yield SmiGpu(int(index), name, None, capability)


def _cuda(lines: tuple[str, ...]) -> TorchCuda | None:
    """Read ``torch.cuda.is_available() returns False``, and the answer on the line below the question."""
    for number, line in enumerate(lines):
        if "is_available" not in line:
            continue
        below = lines[number + 1].strip() if number + 1 < len(lines) and _ASKED.search(line) else ""
        match = _AVAILABLE.search(line)
        said = match[1].capitalize() if match else below
        if said in _ANSWERS:
            return TorchCuda(available=_ANSWERS[said], sources={"available": SOURCE})
    return None


def _build(lines: tuple[str, ...]) -> TorchBuild | None:
    """Read the list of architectures that torch names beside a GPU it does not serve, and the torch xformers finds."""
    supported, have = _first(_SUPPORTED, lines), _first(_HAVE, lines)
    arches = tuple(dict.fromkeys(_ARCH.findall(supported[1]))) if supported else ()
    version = have[1] if have else None
    if not (arches or version):
        return None
    cuda = cuda_of_tag(version or "")
    cpu = True if "+cpu" in (version or "") else (False if cuda else None)
    sources = {"version": SOURCE, "cuda": SOURCE, "arch_list": SOURCE}
    return TorchBuild(version=version, cuda=cuda, is_cpu_only=cpu, arch_list=arches, sources=sources)
