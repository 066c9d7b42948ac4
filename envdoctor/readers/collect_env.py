"""``python -m torch.utils.collect_env``, every layout since 1.0, and vLLM's forms of it (old and new)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envdoctor.facts.driver import SmiGpu
from envdoctor.facts.host import Variable
from envdoctor.facts.packages import Distribution
from envdoctor.readers.labels import labelled, said, truth
from envdoctor.readers.told import Told, number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envdoctor.facts import Fact

MARKS = ("pytorch version", "cuda used to build pytorch")
WORDS = {
    "pytorch version": "torch",
    "cuda used to build pytorch": "cuda",
    "rocm used to build pytorch": "hip",
    "os": "os",
    "libc version": "libc",
    "python version": "python",
    "python platform": "platform",
    "cuda runtime version": "nvcc",
}
TRUTHS = {"is debug build": "debug", "is cuda available": "available"}
_GPU = re.compile(r"^\s*GPU (\d{1,3}):\s*(.+?)(?:\s*\(UUID.*)?$")
_PIP = re.compile(r"^\s*\[pip3?\]\s+([\w.-]+)\s*(?:===?|\()\s*([^\s()]+)\)?")
_CONDA = re.compile(r"^\s*\[conda\]\s+([\w.-]+)\s+(\d\S*)(?:\s+(\S+))?(?:\s+(\S+))?")
_VARIABLE = re.compile(r"^(?:export )?([A-Z][A-Z0-9_]{2,60})=(.*)$")
_COLLECTED = re.compile(r"^(NCCL|TORCH|PYTORCH|CUDA|CUBLAS|CUDNN|NVIDIA|LD_|OMP|MKL|VLLM|TRITON)")


def recognises(lines: tuple[str, ...]) -> bool:
    """Tell whether the text holds a report: both lines that every layout has."""
    text = "\n".join(lines).lower()
    return all(re.search(rf"^\s*{mark}\s*:", text, re.MULTILINE) for mark in MARKS)


def read(lines: tuple[str, ...]) -> tuple[Fact, ...]:
    """Give the facts of the first report in the text."""
    told = Told(has_build=True)
    for label, value, below in labelled(_first_report(lines)):
        _take(told, label, value, below)
    told.gpus = list(_gpus(lines))
    told.distributions = list(_distributions(lines))
    told.variables = list(_variables(lines))
    return told.facts()


def _first_report(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Cut at a second report: two blocks in one paste are two machines."""
    starts = [n for n, line in enumerate(lines) if re.match(r"\s*pytorch version\s*:", line, re.IGNORECASE)]
    return lines[: starts[1]] if len(starts) > 1 else lines


def _take(told: Told, label: str, value: str, below: list[str]) -> None:
    if label in WORDS:
        setattr(told, WORDS[label], said(value))
    elif label in TRUTHS:
        setattr(told, TRUTHS[label], truth(value))
    elif label == "nvidia driver version":  # newer layouts print one line for each GPU
        told.driver = number(value) or next(filter(None, map(number, below[:1])), None)


def _gpus(lines: Iterable[str]) -> Iterable[SmiGpu]:
    seen: set[int] = set()
    for line in lines:
        match = _GPU.match(re.sub(r"^.*GPU models and configuration\s*:\s*", "", line))
        if match and int(match.group(1)) not in seen and "Compute Capability" not in line:
            seen.add(int(match.group(1)))
            yield SmiGpu(int(match.group(1)), match.group(2).strip())


def _distributions(lines: Iterable[str]) -> Iterable[Distribution]:
    for line in lines:
        if match := _PIP.match(line):
            yield Distribution(_normal(match.group(1)), match.group(2), source="pip")
        elif match := _CONDA.match(line):
            name, version, build, channel = match.groups()
            if channel in {"pypi", "<pip>"} or build in {"pypi_0", "<pip>", "pypi"}:
                continue  # pip's own line says it, or conda only repeats it
            yield Distribution(_normal(name), version, source="conda", build=build or "", channel=channel or "")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _variables(lines: Iterable[str]) -> Iterable[Variable]:
    for line in lines:
        match = _VARIABLE.match(line.strip())
        if match and _COLLECTED.match(match.group(1)):
            yield Variable(match.group(1), match.group(2).strip("\"'"))
