"""What to name first when many keys differ in the same way: the one that brings the others with it."""

from __future__ import annotations

import re

# A name for a person, and the keys of flattened snapshots that tell it, the best witness first. Order: what is
# installed decides what it brings along (torch pins its cuDNN and NCCL), so it is named before them.
HEADLINES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("envdoctor", ("tool.version",)),
    ("machine", ("host.machine",)),
    ("gpu", (r"gpu\.\d+\.name", r"smi_gpu\.\d+\.name", r"cuda_device\.\d+\.name")),
    ("gpus", ("gpu_state.count", "cuda_driver.device_count", "torch_cuda.device_count")),
    (
        "driver",
        ("kernel_module.version", "gpu_state.driver_version", "nvidia_smi.driver_version", "gpu_state.nvml_version"),
    ),
    ("driver-cuda", ("cuda_driver.cuda_version", "gpu_state.cuda_version", "cuda_runtime.driver_version")),
    ("torch", ("torch_import.version", "torch_build.version", "package.torch")),
    ("cuda", ("torch_build.cuda", "cuda_runtime.runtime_version")),
    (
        "cudnn",
        (
            "torch_settings.cudnn_version", r"library\.cudnn\.(api|first|installed).*version",
            r"package\.nvidia-cudnn-cu\d+",
        ),
    ),
    (
        "nccl",
        (
            "mapped_libraries.nccl_version", r"library\.nccl\.(api|first|installed).*version",
            "torch_settings.nccl_version", r"package\.nvidia-nccl-cu\d+",
        ),
    ),
    ("python", ("packages.python_version",)),
    ("image", ("container.nvidia_image_tag",)),
    ("os", ("host.os_name", "host.os_version", "host.os_id")),
    ("glibc", ("libraries.glibc", "host.libc")),
    ("kernel", ("host.kernel",)),
)  # fmt: skip
_PATTERNS = tuple((name, tuple(re.compile(each) for each in keys)) for name, keys in HEADLINES)
# What follows a headline, by how much it says to a person.
_THEN = tuple(
    re.compile(each)
    for each in (
        r"variable\.(NCCL|GLOO|TORCH|CUDA)_.*", r"variable\..*", r"private\..*", r"probe\..*", r"gpu\..*",
        r"torch_settings\..*", r"nic\..*|infiniband\..*", r"package\..*", r"library\..*\.version", r"resources\..*",
    )
)  # fmt: skip
_places: dict[str, tuple[int, int]] = {}


def place(key: str) -> tuple[int, int]:
    """Give the rank of a key among those that could be named: the lowest is named."""
    known = _places.get(key)
    if known is None:
        known = _places[key] = _place(key)
    return known


def _place(key: str) -> tuple[int, int]:
    for number, (_, patterns) in enumerate(_PATTERNS):
        for witness, each in enumerate(patterns):
            if each.fullmatch(key):
                return number, witness
    for number, each in enumerate(_THEN, len(_PATTERNS)):
        if each.fullmatch(key):
            return number, 0
    return len(_PATTERNS) + len(_THEN), 0


def name_of(key: str) -> str:
    """Give the name that a person has for this key, or the key without what only we know by it."""
    number = place(key)[0]
    if number < len(HEADLINES):
        return HEADLINES[number][0]
    head, _, rest = key.partition(".")
    return rest if head in {"package", "variable", "private"} else key


def is_headline(key: str) -> bool:
    """Tell whether a person has a name for this key."""
    return place(key)[0] < len(HEADLINES)
