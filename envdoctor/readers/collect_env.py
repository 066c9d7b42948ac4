"""``python -m torch.utils.collect_env``, every layout since 1.0, and vLLM's forms of it (old and new)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envdoctor.facts.host import Variable
from envdoctor.facts.libraries import Copy
from envdoctor.readers import listed, topology
from envdoctor.readers.cards import cards, slices
from envdoctor.readers.labels import labelled, said, truth, why_not
from envdoctor.readers.reading import Reading
from envdoctor.readers.told import Told
from envdoctor.readers.variables import is_variable, unset, variables
from envdoctor.readers.versions import both_halves, number, whole_or_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.readers.labels import Labelled

NAME = "collect_env"
FIRST = "pytorch version"
# Two of these make a report, also of a block that was cut at either end.
MARKS = frozenset({
    FIRST, "cuda used to build pytorch", "rocm used to build pytorch", "is debug build", "is cuda available",
    "nvidia driver version", "gpu models and configuration", "versions of relevant libraries", "cuda runtime version",
    "is xnnpack available", "miopen runtime version", "cuda_module_loading set to", "hip used to build pytorch",
    "rocm sdk used to build pytorch", "is xpu available", "caching allocator config",
})  # fmt: skip
WORDS = {
    FIRST: "torch", "cuda used to build pytorch": "cuda", "rocm used to build pytorch": "hip",
    "hip used to build pytorch": "hip", "os": "os", "libc version": "libc", "python version": "python",
    "python platform": "platform", "cuda runtime version": "nvcc", "hypervisor vendor": "hypervisor",
    "model name": "cpu_model", "cuda_home": "cuda_home",
}  # fmt: skip
TRUTHS = {"is debug build": "debug", "is cuda available": "available"}
OTHERS = frozenset({
    "gcc version", "clang version", "cmake version", "cudnn version", "hip runtime version", "cpu", "architecture",
    "vllm version", "vllm build flags", "neuron sdk version", "rocm version", "gpu topology", "legend", "nic legend",
    "flags", "cpu info",
})  # fmt: skip
# What lscpu (Linux) and wmic or CIM (Windows) print below "CPU:".
_PROCESSOR = re.compile(
    r"architecture|cpu\b|address sizes|byte order|o[nf]f?-line cpu|vendor id|bios |model\b|thread|core|socket|cluster"
    r"|stepping|frequency|bogomips|flags|virtualization|hypervisor|l\d|caches|numa |vulnerability|name$|manufacturer"
    r"|family|processortype|deviceid|currentclockspeed|maxclockspeed|revision"
)
_HEADING = re.compile(
    r"^\s{0,20}(?:={5,}|(?:System|PyTorch|CUDA / GPU|CPU|vLLM) Info|Python Environment|Environment Variables)\s*$"
)
_ALLOCATOR = re.compile(r"'(PYTORCH_[A-Z_]{1,40})': '([^']{0,500})'")
_PLAIN = re.compile(
    r"^\s{0,40}(?:\[(?:pip3?|conda)\]|GPU ?\d{1,3}\b|NIC\d|MIG |(?:X|SYS|NODE|PHB|PXB|PIX|NV#)\s+=|Versions of relevant"
    r"|(?:[A-Za-z]:)?[/\\].{0,300}cudnn|Collecting environment information|Vulnerability |NUMA node|CUDA Archs:)"
)
_ABOVE = 32  # lines of vLLM's newer form before PyTorch's version

_PACKAGE = re.compile(r"^\s{0,20}[-*]?\s{0,4}\[(?:pip3?|conda)\] {1,10}\S")


def recognises(lines: tuple[str, ...]) -> bool:
    """Tell whether the text holds a report or a piece of one: a label that only it has, or its list of packages.

    The version of torch alone may as well stand in an issue form.
    """
    found = {each.label for each in labelled(lines)} & MARKS
    return bool(found - {FIRST}) or any(_PACKAGE.match(line) for line in lines)


def read(lines: tuple[str, ...]) -> Reading:
    """Give the facts of the first report in the text; the others are left out, and that is said."""
    starts = _starts(lines)
    begin, end = (*starts[:2], *(0, len(lines))[len(starts[:2]) :])
    told = Told()
    own = lines[begin:end]
    for each in labelled(own):
        _take(told, each)
    told.gpus = list(cards(own))
    told.distributions = list(listed.bracketed(own))
    told.variables += variables(own)
    told.unset += unset(own)
    told.slices += slices(own)
    told.links = list(topology.links(own))
    remarks = (f"{len(starts) - 1} more report(s) in the same text were left out: give each as a file of its own",)
    return Reading(NAME, told.facts(), frozenset(_used(lines)), remarks if len(starts) > 1 else ())


def _starts(lines: tuple[str, ...]) -> list[int]:
    """Give the line with which each whole report begins: PyTorch's version, and below it the next label of a report.

    The same words stand in bug templates. vLLM's newer form tells the system before it.
    """
    found = []
    marked = [each for each in labelled(lines) if each.label in MARKS or each.label == "os"]
    for number_, each in enumerate(marked[:-1]):
        if each.label == FIRST and marked[number_ + 1].label in {"is debug build", "cuda used to build pytorch"}:
            above = range(each.at, max(each.at - _ABOVE, -1), -1)
            found.append(next((n for n in above if lines[n].strip() == "System Info"), each.at))
    return found


def _used(lines: tuple[str, ...]) -> Iterator[int]:
    """Give the lines that the reports themselves take, so that what is left can be read as words of an error."""
    for each in labelled(lines):
        known = each.label in MARKS or each.label in WORDS or each.label in OTHERS
        if known or _PROCESSOR.match(each.label) or re.match(r"gpu \d|nic\d", each.label):
            yield each.at
    for number_, line in enumerate(lines):
        if _PLAIN.match(line) or _HEADING.match(line) or topology.is_row(line) or _is_listed(lines, number_):
            yield number_


def _is_listed(lines: tuple[str, ...], number_: int) -> bool:
    """Tell a variable of vLLM's list, which stand one below the other, from one in somebody's own words."""
    beside = lines[max(0, number_ - 1) : number_ + 2]
    return is_variable(lines[number_]) and sum(map(is_variable, beside)) > 1


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
    told.libcuda, told.driver = both_halves(each.value) or (told.libcuda, told.driver or found)
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


def _allocator(told: Told, each: Labelled) -> None:
    """Take the variables of the allocator, which torch prints as a dictionary."""
    told.variables += [Variable(name, value) for name, value in _ALLOCATOR.findall(each.value)]


_TAKERS = {
    "nvidia driver version": _driver, "gpu models and configuration": _models, "gcc version": _gcc,
    "cudnn version": _cudnn, "cpu(s)": _cpus,
    "caching allocator config": _allocator,
}  # fmt: skip
