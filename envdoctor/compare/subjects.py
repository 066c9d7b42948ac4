"""What a key is about, in words for a person, and which keys tell one and the same story.

When the driver changes, twelve facts change with it: they are one line, led by the fact that says it best.
"""

from __future__ import annotations

from functools import cache

from envdoctor.compare.traits import PAIRS, ROWS

# Subjects in the order to read them, each with its keys, the most telling first. "x.*" stands for all keys below x.
STORIES: dict[str, tuple[str, ...]] = {
    "driver": (
        "kernel_module.version", "gpu_state.driver_version", "nvidia_smi.driver_version",
        "kernel_module.on_disk_version", "gpu_state.nvml_version", "gpu_state.library", "cuda_driver.libcuda",
        "driver_files.first_libcuda.version", "driver_files.*", "libcuda.*", "libnvidia_ml.*",
    ),
    "CUDA of the driver": (
        "cuda_driver.cuda_version", "gpu_state.cuda_version", "nvidia_smi.cuda_version", "cuda_runtime.driver_version",
    ),
    "torch": (
        "torch_build.version", "package.torch", "torch_import.version", "torch_build.cuda", "torch_build.git_version",
        "torch_build.*", "torch_import.*", "torch_files.*",
    ),
    "CUDA in torch": ("torch_cuda.available", "torch_cuda.device_count", "torch_cuda.*", "cuda_runtime.*"),
    "Python": ("packages.python_version", "packages.*"),
    "operating system": (
        "host.os_name", "host.os_version", "host.os_id", "host.libc", "libraries.glibc", "host.machine",
    ),
    "kernel": ("host.kernel",),
    "container": ("container.*", "image.*", "host.container"),
    "kernel module": ("kernel_module.loaded", "kernel_module.flavor", "kernel_module.*"),
    "/dev/nvidiactl": ("device_nodes.nvidiactl.exists", "device_nodes.nvidiactl.*"),
    "/dev/nvidia-uvm": ("device_nodes.uvm.exists", "device_nodes.uvm.*"),
    "GPUs": ("gpu_state.count", "cuda_driver.device_count", "gpu_state.*", "cuda_driver.*", "nvidia_smi.*"),
}  # fmt: skip
# Of a library many fields change at once: the most telling first.
LIBRARY = ("api_version", "first.version", "installed_version", "declared_version", "soname", "first.via", "mapped")
# What the ledger's row of a library has from others than the loader, and from whom.
_TOLD_BY = {
    "mapped": "mapped_libraries", "nccl.api_version": "mapped_libraries", "cudnn.api_version": "torch_settings",
    "cudart.api_version": "cuda_runtime",
}  # fmt: skip
# Rows that are subjects of their own: what they are called, in the order to read them after the stories.
CALLED = {
    "gpu": "GPU {}",
    "cuda_device": "GPU {} (CUDA)",
    "smi_gpu": "GPU {} (nvidia-smi)",
    "library": "library {}",
    "variable": "{}",
    "nccl_conf": "{} (nccl.conf)",
    "image": "{} (image)",
    "probe": "question {}",
    "nvlink": "NVLinks of GPU {}",
    "link": "way between GPUs {}",
    "extension": "extension {}",
    "pci_gpu": "GPU {} on the bus",
    "pci_nvswitch": "NVSwitch {} on the bus",
    "pci_other_gpu": "other GPU {} on the bus",
    "node": "/dev/{}",
    "infiniband": "InfiniBand port {}",
    "nic": "network interface {}",
    "mount": "{}",
    "nvcc": "{}",
    "package": "package {}",
}
_DOTTED = frozenset(("extension", "mount", "nic", "node"))  # rows whose names may hold dots, and whose fields do not
# Facts whose fields are read without their fact's name.
_PLAIN = {"torch_settings": "torch setting", "resources": "", "host": ""}
_FACT_OF = {each.name: key.partition(".")[0] for key, each in ROWS.items()}
_FACT_OF |= {name: key.partition(".")[0] for key, name in PAIRS.items()} | {
    "nvlink": "gpu_fabric", "link": "gpu_fabric", "gpu": "gpu_state",
}  # fmt: skip
_ONE_VALUE = {each.name for each in ROWS.values() if each.value} | {*PAIRS.values(), "nvlink", "link", "probe"}


def fact_of(key: str) -> str:
    """Give the fact that a key belongs to: ``package.numpy`` -> ``packages``; of a probe's end, nothing."""
    top = key.partition(".")[0]
    return "" if top == "probe" else _FACT_OF.get(top, top)


@cache
def facts_of(key: str) -> frozenset[str]:
    """Give every fact that must have been collected for this key to say something; of a probe's end, none."""
    top, _, rest = key.partition(".")
    also = _TOLD_BY.get(rest) or _TOLD_BY.get(rest.rpartition(".")[2]) if top == "library" else None
    return frozenset(filter(None, (fact_of(key), also)))


@cache
def subject_of(key: str) -> str:
    """Say what a key is about: ``driver``, ``package numpy``, ``GPU 0``."""
    story = story_of(key)
    if story:
        return story
    top, _, rest = key.partition(".")
    if top in CALLED:
        return CALLED[top].format(_row(top, rest))
    return _PLAIN.get(top, top.replace("_", " ")) or _words(rest)


def words_of(key: str) -> str:
    """Give the field of a key in words: ``gpu.0.power_limit_watts`` -> ``power limit watts``.

    Nothing where the subject says all: a row that is one value, the fact that leads its story.
    """
    top, _, rest = key.partition(".")
    if top in _ONE_VALUE or (story_of(key) and is_lead(key)):
        return ""
    field = rest[len(_row(top, rest)) + 1 :] if top in CALLED else rest
    return _words(field)


def _words(field: str) -> str:
    return field.replace("_", " ").replace(".", " ")


def title_of(key: str) -> str:
    """Give subject and field of a key: ``GPU 0: power limit watts``, ``driver``."""
    about, field = subject_of(key), words_of(key)
    return f"{about}: {field}" if field and field != about else about


def _row(top: str, rest: str) -> str:
    """Give the name of the row: all of it where a row is one value, else what comes before the fields."""
    if top in _ONE_VALUE:
        return rest
    return (rest.rpartition(".")[0] or rest) if top in _DOTTED else rest.partition(".")[0]


def is_lead(key: str) -> bool:
    """Tell whether a key is the one that says its story best."""
    story = story_of(key)
    if key.startswith("library."):
        return key.endswith(LIBRARY[:3])
    return not story or STORIES[story][0] == key


@cache
def rank_of(key: str) -> tuple[int, int, str]:
    """Give the place of a key: its subject's among subjects, then its own in the story."""
    top = key.partition(".")[0]
    if top != "library" and (story := story_of(key)):
        return list(STORIES).index(story), _place(key, STORIES[story]), key
    called = list(CALLED)
    place = next((n for n, each in enumerate(LIBRARY) if key.endswith("." + each)), len(LIBRARY))
    return len(STORIES) + (called.index(top) if top in CALLED else len(called)), place * (top == "library"), key


def story_of(key: str) -> str:
    """Give the story that a key belongs to; nothing when it stands for itself."""
    if key.startswith("library."):
        return CALLED["library"].format(_row("library", key.partition(".")[2]))
    return next((name for name, keys in STORIES.items() if _place(key, keys) < len(keys)), "")


def row_of(key: str) -> str:
    """Give the row that a field belongs to (``gpu.0`` for ``gpu.0.name``); nothing for what is no field of a row."""
    top, _, rest = key.partition(".")
    if top not in CALLED or top in _ONE_VALUE:
        return ""
    return f"{top}.{_row(top, rest)}"


def title_of_rows(top: str, names: list[str], field: str) -> str:
    """Give the title of one field of several rows: ``GPU 0-7: power limit watts``."""
    numbers = [int(each) for each in names if each.isdigit()]
    in_a_row = len(numbers) == len(names) > 2 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    called = CALLED[top].format(f"{numbers[0]}-{numbers[-1]}" if in_a_row else ", ".join(names))
    return f"{called}: {_words(field)}" if field else called


def _place(key: str, keys: tuple[str, ...]) -> int:
    if key in keys:
        return keys.index(key)
    wide = (n for n, each in enumerate(keys) if each.endswith(".*") and key.startswith(each[:-1]))
    return next(wide, len(keys))
