"""``python -m sglang.check_env``: package versions by name, the driver, and nvcc's own words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envdoctor.facts.driver import SmiGpu
from envdoctor.facts.packages import Distribution
from envdoctor.readers import topology
from envdoctor.readers.labels import labelled, said, truth
from envdoctor.readers.reading import Reading
from envdoctor.readers.told import Told
from envdoctor.readers.versions import normal, number, whole_or_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.readers.labels import Labelled

NAME = "sglang check_env"
MARKS = frozenset(
    {
        "cuda available",
        "cuda driver version",
        "pytorch",
        "nvcc",
        "cuda_home",
        "nvidia topology",
        "hip_home",
        "rocm driver version",
    }
)
OTHERS = frozenset({"python", "hypervisor vendor", "ulimit soft", "legend", "nic legend"})
_GPU = re.compile(r"^gpu ([\d,]{1,80})$")
_CAPABILITY = re.compile(r"^gpu ([\d,]{1,80}) compute capability$")
_VERSION = re.compile(r"v?(\d{1,6}(?:\.\d{1,9})+\S{0,60})$")
_SEVERAL = 2
_NAMES = {
    "pil": "pillow",
    "zmq": "pyzmq",
    "multipart": "python-multipart",
    "sgl_kernel": "sgl-kernel",
    "flashinfer": "flashinfer-python",
}


def recognises(lines: tuple[str, ...]) -> bool:
    """Tell whether this is sglang's report: PyTorch's line, and two more of those that only it has."""
    labels = {each.label for each in labelled(lines)}
    return "pytorch" in labels and len(labels & MARKS) > 2


def read(lines: tuple[str, ...]) -> Reading:
    """Give the facts of the report."""
    reports = [each.at for each in labelled(lines) if each.label == "pytorch"]
    remarks = () if len(reports) < _SEVERAL else ("more reports in the same text were left out: give each as a file",)
    told = Told()
    capabilities: dict[str, str] = {}
    used: set[int] = {n for n, line in enumerate(lines) if topology.is_row(line) or _is_legend(line)}
    for each in labelled(lines):
        used |= set(_lines_of(each))
        if match := _CAPABILITY.match(each.label):
            capabilities[match.group(1)] = each.value
        elif match := _GPU.match(each.label):
            told.gpus += [SmiGpu(int(n), each.value) for n in match.group(1).split(",")[:64] if n.isdigit()]
        else:
            _take(told, each.label, each.value)
    told.distributions = list({each.name: each for each in reversed(told.distributions)}.values())[::-1]
    told.gpus = list({each.index: each for each in reversed(told.gpus)}.values())[::-1]
    told.gpus = [SmiGpu(g.index, g.name, None, _capability(g.index, capabilities)) for g in told.gpus]
    told.links = list(topology.links(lines))
    return Reading(NAME, told.facts(), frozenset(used), remarks)


def _lines_of(each: Labelled) -> Iterator[int]:
    if each.label in MARKS | OTHERS or _GPU.match(each.label) or _CAPABILITY.match(each.label) or _is_version(each):
        yield each.at


def _is_legend(line: str) -> bool:
    return bool(re.match(r"^\s{0,8}(?:(?:X|SYS|NODE|PHB|PXB|PIX|NV#)\s{1,8}=|NIC\d{1,3}: |Legend:|NIC Legend:)", line))


def _is_version(each: Labelled) -> bool:
    return " " not in each.label and bool(_VERSION.fullmatch(each.value))


def _capability(index: int | None, capabilities: dict[str, str]) -> str | None:
    for indices, value in capabilities.items():
        if str(index) in indices.split(","):
            return number(value)
    return None


def _take(told: Told, label: str, value: str) -> None:
    match label:
        case "python":
            told.python = told.python or said(value)
        case "cuda available":
            told.available = truth(value)
        case "pytorch":
            told.torch = said(value)
        case "cuda driver version":
            told.driver = whole_or_number(value)
        case "nvcc":
            told.nvcc = (number(value.rpartition(" V")[2]) if " V" in value else number(value)) or None
        case "cuda_home":
            told.cuda_home = said(value)
        case "hypervisor vendor":
            told.hypervisor = said(value)
        case "ulimit soft":
            told.open_files = int(value) if value.isdigit() and len(value) < 12 else None
        case _ if " " not in label and (match := _VERSION.fullmatch(value)):
            name = _NAMES.get(label, normal(label))
            told.distributions.append(Distribution(name, match.group(1), source="pip"))
