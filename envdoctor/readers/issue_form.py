"""What people type themselves into an issue form: ``- PyTorch Version: 1.7``, ``- CUDA/cuDNN version: 11.0 / 8.0``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envdoctor.facts.libraries import Copy
from envdoctor.facts.packages import Distribution
from envdoctor.readers.cards import cards
from envdoctor.readers.labels import labelled, said, truth
from envdoctor.readers.reading import Reading
from envdoctor.readers.told import Told
from envdoctor.readers.variables import variables
from envdoctor.readers.versions import both_halves, normal, number, whole_or_number

if TYPE_CHECKING:
    from envdoctor.readers.labels import Labelled

NAME = "issue form"
TORCH = frozenset(
    {
        "pytorch version",
        "torch version",
        "pytorch",
        "torch",
        "pytorch/libtorch version",
        "torch.__version__",
        "version of pytorch",
    }
)
CUDA = frozenset(
    {
        "cuda version",
        "cuda",
        "cuda/cudnn version",
        "cuda/cudnn",
        "cuda toolkit",
        "cuda toolkit version",
        "cuda / cudnn version",
        "nvcc",
        "nvcc version",
    }
)
OF_DRIVER = frozenset({"driver cuda version", "cuda umd version", "driver supports cuda", "cuda driver api"})
DRIVER = frozenset(
    {
        "nvidia driver version",
        "driver version",
        "nvidia driver",
        "gpu driver",
        "driver",
        "kmd version",
        "cuda driver version",
        "nvidia drivers",
        "gpu driver version",
    }
)
GPU = frozenset(
    {
        "gpu",
        "gpus",
        "gpu model",
        "gpu models",
        "gpu models and configuration",
        "graphics card",
        "gpu type",
        "gpu name",
        "video card",
        "hardware",
        "device",
    }
)
SYSTEM = frozenset(
    {
        "os",
        "operating system",
        "os version",
        "platform",
        "os platform and distribution",
        "system",
        "operating system + version",
    }
)
PYTHON = frozenset({"python version", "python"})
BUILD = frozenset(
    {
        "torch.version.cuda",
        "cuda used to build pytorch",
        "pytorch cuda version",
        "torch cuda version",
        "built with cuda",
    }
)
AVAILABLE = frozenset({"is cuda available", "cuda available", "torch.cuda.is_available()"})
CUDNN = frozenset({"cudnn version", "cudnn"})
GCC = frozenset({"gcc version", "gcc", "gcc/compiler version", "compiler", "compiler version"})
PACKAGES = frozenset({
    "torchvision", "torchaudio", "triton", "xformers", "flash-attn", "flash_attn", "numpy", "vllm", "deepspeed",
    "bitsandbytes", "transformers", "onnxruntime-gpu", "onnxruntime", "apex", "torchao", "nccl", "mmcv", "mmcv-full",
    "accelerate", "lightning",
    "pytorch-lightning",
})  # fmt: skip
KNOWN = TORCH | CUDA | DRIVER | GPU | SYSTEM | PYTHON | BUILD | AVAILABLE | CUDNN | GCC | OF_DRIVER
_CUDA_AND_CUDNN = re.compile(r"(?:CUDA )?v?\d[\d.]{0,12}\s?[/,]\s?(?:cuDNN )?v?(\d[\d.]{1,12})", re.IGNORECASE)
_VERSION_OF = re.compile(r"(.{2,30}?) version$")
_LIMIT = re.compile(
    r"^\s{0,8}max locked memory\s{1,40}\((?:kbytes|kb), ?-l\)\s{1,20}(\d{1,12}|unlimited)"
    r"|^\s{0,8}ulimit (?:-l|memlock)\s?[:=]?\s?(\d{1,12}|unlimited)\b"
)
_FILES = re.compile(r"^\s{0,8}open files\s{1,40}\(-n\)\s{1,20}(\d{1,12}|unlimited)")


def recognises(lines: tuple[str, ...]) -> bool:
    """Tell whether at least two of the labels have a value, or limits of a shell are shown."""
    found = {each.label for each in labelled(lines) if each.label in KNOWN and said(each.value)}
    return len(found) > 1 or any(_LIMIT.match(line) or _FILES.match(line) for line in lines)


def read(lines: tuple[str, ...]) -> Reading:
    """Give what the form says; empty fields and untouched examples say nothing."""
    told = Told(source="the filled-in form")
    used = set()
    for each in labelled(lines):
        if _take(told, each):
            used.add(each.at)
    for number_, line in enumerate(lines):
        if _limits(told, line):
            used.add(number_)
    told.cudnn = list(dict.fromkeys(told.cudnn))
    told.gpus = told.gpus or list(cards(lines))
    told.variables = list(variables(lines))
    return Reading(NAME, told.facts(), frozenset(used))


def _take(told: Told, each: Labelled) -> bool:
    value = said(each.value)
    if value is None or re.fullmatch(r"\(?e\.?g\.?.{0,60}", value):
        return each.label in KNOWN
    for labels, taker in _TAKERS:
        if each.label in labels:
            taker(told, value)
            return True
    name = _VERSION_OF.sub(r"\1", each.label)
    if name in PACKAGES and number(value) and len(value) < 60:
        told.distributions.append(Distribution(normal(name), value.split()[0].lstrip("v"), source="pip"))
        return True
    return False


def _torch(told: Told, value: str) -> None:
    version = re.match(r"v?(\d{1,2}\.\d{1,3}(?:\.\d{1,3})?[\w.+-]{0,60})", value)
    if version and told.torch is None:
        told.torch = version.group(1).rstrip(".-")


def _cuda(told: Told, value: str) -> None:
    """Take the CUDA that somebody names: nobody knows whether it is the toolkit's, the driver's or the build's."""
    told.nvcc = told.nvcc or number(value)
    if both := _CUDA_AND_CUDNN.match(value):
        told.cudnn.append(Copy(version=number(both.group(1))))


def _driver(told: Told, value: str) -> None:
    alone = whole_or_number(re.sub(r"^\D{0,20}", "", value))
    told.libcuda, told.driver = both_halves(value) or (told.libcuda, told.driver or alone)


def _gpus(told: Told, value: str) -> None:
    told.cudnn = list(dict.fromkeys(told.cudnn))
    told.gpus = told.gpus or list(cards((f"GPU models and configuration: {value}",)))


def _build(told: Told, value: str) -> None:
    told.cuda, told.has_build = number(value), True


def _system(told: Told, value: str) -> None:
    told.os = told.os or value


def _python(told: Told, value: str) -> None:
    told.python = told.python or value


def _available(told: Told, value: str) -> None:
    told.available = truth(value)


def _cudnn(told: Told, value: str) -> None:
    if number(value):
        told.cudnn.append(Copy(version=number(value)))


def _gcc(told: Told, value: str) -> None:
    told.gcc = number(value)


def _level(told: Told, value: str) -> None:
    told.driver_cuda = number(value)


_TAKERS = (
    (TORCH, _torch), (BUILD, _build), (OF_DRIVER, _level), (CUDA, _cuda), (DRIVER, _driver), (GPU, _gpus),
    (SYSTEM, _system),    (PYTHON, _python), (AVAILABLE, _available), (CUDNN, _cudnn), (GCC, _gcc),
)  # fmt: skip


def _limits(told: Told, line: str) -> bool:
    """Read ``ulimit -a``."""
    locked, files = _LIMIT.match(line), _FILES.match(line)
    if locked:
        word = locked.group(1) or locked.group(2)
        told.locked_memory_kib = -1 if word == "unlimited" else int(word)
    if files:
        told.open_files = -1 if files.group(1) == "unlimited" else int(files.group(1))
    return bool(locked or files)
