"""``python -m torch.utils.collect_env``, every layout since 1.0, and vLLM's forms of it (old and new)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envdoctor.facts.libraries import Copy
from envdoctor.readers import listed, topology
from envdoctor.readers.cards import cards
from envdoctor.readers.labels import labelled, said, truth, why_not
from envdoctor.readers.reading import Reading
from envdoctor.readers.told import Told
from envdoctor.readers.variables import variables
from envdoctor.readers.versions import number, whole_or_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.readers.labels import Labelled

NAME = "collect_env"
FIRST = "pytorch version"
# Two of these make a report, also of a block that was cut at either end.
MARKS = frozenset({
    FIRST, "cuda used to build pytorch", "rocm used to build pytorch", "is debug build", "is cuda available",
    "nvidia driver version", "gpu models and configuration", "versions of relevant libraries", "cuda runtime version",
    "is xnnpack available", "miopen runtime version", "cuda_module_loading set to",
})  # fmt: skip
WORDS = {
    FIRST: "torch", "cuda used to build pytorch": "cuda", "rocm used to build pytorch": "hip", "os": "os",
    "libc version": "libc", "python version": "python", "python platform": "platform", "cuda runtime version": "nvcc",
    "hypervisor vendor": "hypervisor", "model name": "cpu_model", "cuda_home": "cuda_home",
}  # fmt: skip
TRUTHS = {"is debug build": "debug", "is cuda available": "available"}
OTHERS = frozenset({
    "gcc version", "clang version", "cmake version", "cudnn version", "hip runtime version", "cpu", "architecture",
    "vllm version", "vllm build flags", "neuron sdk version", "rocm version", "gpu topology", "legend", "nic legend",
    "cpu(s)", "flags", "l3 cache",
})  # fmt: skip
_HEADING = re.compile(
    r"^\s{0,20}(?:={5,}|(?:System|PyTorch|CUDA / GPU|CPU|vLLM) Info|Python Environment|Environment Variables)\s*$"
)
_PLAIN = re.compile(
    r"^\s{0,40}(?:\[(?:pip3?|conda)\]|GPU ?\d{1,3}\b|NIC\d|MIG |(?:X|SYS|NODE|PHB|PXB|PIX|NV#)\s+=|Versions of relevant"
    r"|(?:[A-Za-z]:)?[/\\].{0,300}cudnn|Collecting environment information|Vulnerability |NUMA node|CUDA Archs:)"
)
_FURTHEST = 400  # lines between a first label and the last that belongs to it


def recognises(lines: tuple[str, ...]) -> bool:
    """Tell whether the text holds a report or a piece of one: at least two of the labels that only it has."""
    return len({each.label for each in labelled(lines)} & MARKS) > 1 or any("[pip3] torch==" in line for line in lines)


def read(lines: tuple[str, ...]) -> Reading:
    """Give the facts of the first report in the text; the others are left out, and that is said."""
    starts = [n for n, line in enumerate(lines) if re.match(r"\W{0,8}pytorch version\b.{0,30}:", line, re.IGNORECASE)]
    end = starts[1] if len(starts) > 1 else len(lines)
    told = Told()
    own = lines[:end]
    marked = list(labelled(own))
    for each in marked:
        _take(told, each)
    told.gpus = list(cards(own))
    told.distributions = list(listed.bracketed(own))
    told.variables = list(variables(own))
    told.links = list(topology.links(own))
    remarks = (f"{len(starts) - 1} more report(s) in the same text were left out: give each as a file of its own",)
    return Reading(NAME, told.facts(), frozenset(_used(lines)), remarks if len(starts) > 1 else ())


def _used(lines: tuple[str, ...]) -> Iterator[int]:
    """Give the lines that the reports themselves take, so that what is left can be read as words of an error."""
    for each in labelled(lines):
        known = each.label in MARKS or each.label in WORDS or each.label in OTHERS
        yield from (
            [each.at]
            if known or re.match(r"gpu \d|nic\d|numa |vulnerability|l\d|cpu|thread|core|socket", each.label)
            else []
        )
    for number_, line in enumerate(lines):
        if _PLAIN.match(line) or _HEADING.match(line) or topology.is_row(line):
            yield number_


def _take(told: Told, each: Labelled) -> None:
    value = each.value or next((line.strip() for line in each.below[:1]), "")
    if each.label in WORDS:
        _say(told, WORDS[each.label], value if each.label != "os" else each.value)
    elif each.label in TRUTHS:
        setattr(told, TRUTHS[each.label], truth(value))
    elif taker := _TAKERS.get(each.label):
        taker(told, each)
    if each.label == "cuda used to build pytorch":
        told.has_build = bool(value) and not _is_missing_torch(told)


def _is_missing_torch(told: Told) -> bool:
    """Tell a report of a Python without torch: everything in it is N/A then, the CUDA of the build as well."""
    return told.torch is None


def _say(told: Told, name: str, value: str) -> None:
    if getattr(told, name) is None:
        setattr(told, name, said(value))
    if said(value) is None and why_not(value):
        told.not_collected.setdefault(name, value)


def _driver(told: Told, each: Labelled) -> None:
    """Take the driver: newer layouts print one line for each GPU."""
    found = next(filter(None, map(whole_or_number, each.values[:1])), None)
    told.driver = told.driver or found
    if not found and why_not(each.value):
        told.not_collected["driver"] = each.value


def _models(told: Told, each: Labelled) -> None:
    if why_not(each.value):
        told.not_collected["gpus"] = each.value


def _gcc(told: Told, each: Labelled) -> None:
    words = re.sub(r"\([^()]{0,120}\)", " ", each.value)
    told.gcc = number(words) or number(each.value)
    if told.gcc is None and why_not(each.value):
        told.not_collected["gcc"] = each.value


def _cudnn(told: Told, each: Labelled) -> None:
    """Take the libraries that were found outside the wheels: one of them, or none, is the one that is used."""
    for line in each.values[:40]:
        if found := re.search(r"([/\\][^\s]{0,300}libcudnn[^\s/\\]{0,40}\.so)\.(\d{1,3}(?:\.\d{1,3}){1,3})", line):
            told.cudnn.append(Copy(path=found.group(), version=found.group(2)))
        elif number(each.value) and "/" not in each.value and "\\" not in each.value:
            told.cudnn.append(Copy(version=number(each.value)))
            return


def _cpus(told: Told, each: Labelled) -> None:
    told.cpus = int(each.value) if each.value.isdigit() and len(each.value) < 6 else told.cpus


_TAKERS = {
    "nvidia driver version": _driver, "gpu models and configuration": _models, "gcc version": _gcc,
    "cudnn version": _cudnn, "cpu(s)": _cpus,
}  # fmt: skip
