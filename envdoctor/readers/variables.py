"""``NAME=value`` lines of a report, a shell or a launch script."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envdoctor.facts.host import Variable
from envdoctor.readers.labels import said

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOST = 500
_VARIABLE = re.compile(r"^(?:[$#] )?(?:export |set |ENV |-e )?\s{0,4}([A-Z][A-Z0-9_]{2,60})=(\S.{0,1900}|)$")
_COLLECTED = re.compile(
    r"(?:NCCL|TORCH|PYTORCH|CUDA|CUBLAS|CUDNN|NVIDIA|LD_|OMP|KMP|MKL|GLOO|GOMP|VLLM|TRITON|BNB_|MASTER_|MAX_JOBS|CONDA"
    r"|NVTE|NVCC|UCX|HSA_|HIP_|ROCR_|OPENBLAS|NUMEXPR|XLA_|PYTHONPATH$|CC$|CXX$)"
)
_COMMAND = re.compile(
    r"^(?:[$#] )?(?:env )?[A-Z][A-Z0-9_]{2,60}=\S{0,300}(?: [A-Z][A-Z0-9_]{2,60}=\S{0,300}){0,20}"
    r" (?:[\w./-]{0,200}/)?(?:python[\d.]{0,5}|torchrun|accelerate|deepspeed|srun|mpirun|vllm|bash|sh|\./\S)(?:\s|$)"
)
_BEFORE = re.compile(r"(?:^|\s)([A-Z][A-Z0-9_]{2,60})=(\S{0,300})(?=\s)")
_UNSET = re.compile(r"<?(?:unset|not set)>?$", re.IGNORECASE)
_HEARSAY = re.compile(r"\s\([a-z ]{2,30}\)$")


def is_variable(line: str) -> bool:
    """Tell whether a line sets a variable that matters."""
    match = _VARIABLE.match(line.strip()) if "=" in line else None
    return match is not None and _COLLECTED.match(match.group(1)) is not None


def _separated(lines: Iterable[str]) -> Iterator[str]:
    """Take the assignments before a command apart: ``CUDA_VISIBLE_DEVICES=0 NCCL_DEBUG=INFO python train.py``."""
    for line in lines:
        yield from (f"{name}={value}" for name, value in _BEFORE.findall(line)) if _COMMAND.search(line) else (line,)


def unset(lines: Iterable[str]) -> list[str]:
    """Give the variables of which a text says that they are not set: ``OMP_NUM_THREADS=<unset>``."""
    found = (_VARIABLE.match(line.strip()) for line in lines if "=" in line)
    names = (
        each.group(1) for each in found if each and _COLLECTED.match(each.group(1)) and _UNSET.match(each.group(2))
    )
    return list(dict.fromkeys(names))[:MOST]


def variables(lines: Iterable[str]) -> Iterator[Variable]:
    """Give the variables that matter, each once; what is said to be unset is not set."""
    seen: set[str] = set()
    for line in _separated(lines):
        match = _VARIABLE.match(line.strip()) if "=" in line else None
        if not match or match.group(1) in seen or not _COLLECTED.match(match.group(1)) or len(seen) >= MOST:
            continue
        seen.add(match.group(1))
        value = _HEARSAY.sub("", match.group(2).strip()).strip("\"'")
        if said(value) is not None or not value or value.lower() in {"none", "null"}:
            yield Variable(match.group(1), value)
