"""``python -m sglang.check_env``: package versions by name, the driver, and nvcc's own words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envdoctor.facts.driver import SmiGpu
from envdoctor.facts.packages import Distribution
from envdoctor.readers.labels import labelled, said, truth
from envdoctor.readers.told import Told, number

if TYPE_CHECKING:
    from envdoctor.facts import Fact

_GPU = re.compile(r"^gpu ([\d,]{1,40})$")
_CAPABILITY = re.compile(r"^gpu ([\d,]{1,40}) compute capability$")
_VERSION = re.compile(r"\d+(?:\.\d+)+\S*$")
_NAMES = {"pil": "pillow", "zmq": "pyzmq", "multipart": "python-multipart"}


def recognises(lines: tuple[str, ...]) -> bool:
    """Tell whether this is sglang's report: its CUDA line beside PyTorch's and sglang's own."""
    labels = {label for label, _, _ in labelled(lines)}
    return {"cuda available", "pytorch", "sglang"} <= labels


def read(lines: tuple[str, ...]) -> tuple[Fact, ...]:
    """Give the facts of the report."""
    told = Told()
    capabilities: dict[str, str] = {}
    for label, value, _ in labelled(lines):
        if match := _CAPABILITY.match(label):
            capabilities[match.group(1)] = value
        elif match := _GPU.match(label):
            told.gpus += [SmiGpu(int(each), value) for each in match.group(1).split(",") if each.isdigit()]
            capabilities.setdefault(match.group(1), "")
        else:
            _take(told, label, value)
    told.gpus = [SmiGpu(g.index, g.name, None, _capability(g.index, capabilities)) for g in told.gpus]
    return told.facts()


def _capability(index: int | None, capabilities: dict[str, str]) -> str | None:
    for indices, value in capabilities.items():
        if str(index) in indices.split(","):
            return number(value)
    return None


def _take(told: Told, label: str, value: str) -> None:
    match label:
        case "python":
            told.python = said(value)
        case "cuda available":
            told.available = truth(value)
        case "pytorch":
            told.torch = said(value)
            told.has_build = "+" in value
            told.cuda = _cuda_of_tag(value)
        case "cuda driver version":
            told.driver = number(value)
        case "nvcc":
            told.nvcc = (number(value.rpartition(" V")[2]) if " V" in value else number(value)) or None
        case "cuda_home":
            told.cuda_home = said(value)
        case _ if _VERSION.fullmatch(value) and " " not in label:
            told.distributions.append(Distribution(_NAMES.get(label, label.replace("_", "-")), value, source="pip"))


def _cuda_of_tag(version: str) -> str | None:
    match = re.search(r"\+cu(\d{2,3})", version)
    return f"{match.group(1)[:-1]}.{match.group(1)[-1]}" if match else None
