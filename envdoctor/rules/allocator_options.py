"""How PyTorch reads its allocator's options: ``option:value`` between commas, lists in brackets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from envdoctor.knowledge.cuda import dotted

SMALLEST_MIB = 20  # torch 2.13 takes its own buffer's 20 MiB, older ones want more


def _boolean(text: str) -> str:
    return "" if text in {"True", "False"} else "must be True or False"


def _size(text: str) -> str:
    return "" if text.isdigit() and int(text) >= SMALLEST_MIB else f"must be a number, {SMALLEST_MIB} at least"


def _share(text: str) -> str:
    try:
        return "" if 0.0 < float(text) < 1.0 else "must lie between 0.0 and 1.0"
    except ValueError:
        return "must be a number between 0.0 and 1.0"


def _number(text: str) -> str:
    return "" if text.isdigit() else "must be a number"


def _power(text: str) -> str:
    if text.startswith("["):
        parts = re.fullmatch(r"\[((?:(?:\d+|>):\d+,?)+)\]", text)
        return "" if parts else "must be a list such as [256:1,512:2,>:4]"
    return "" if text.isdigit() and int(text).bit_count() == 1 else "must be a power of two"


def _backend(text: str) -> str:
    return "" if text in {"native", "cudaMallocAsync", "hipMallocAsync"} else "must be native or cudaMallocAsync"


OPTIONS: dict[str, Callable[[str], str]] = {
    "max_split_size_mb": _size,
    "max_non_split_rounding_mb": _size,
    "garbage_collection_threshold": _share,
    "roundup_power2_divisions": _power,
    "roundup_bypass_threshold_mb": _number,
    "backend": _backend,
    "expandable_segments": _boolean,
    "release_lock_on_cudamalloc": _boolean,
    "release_lock_on_hipmalloc": _boolean,
    "pinned_use_cuda_host_register": _boolean,
    "pinned_use_hip_host_register": _boolean,
    "pinned_num_register_threads": _power,
    "pinned_use_background_threads": _boolean,
    "pinned_reserve_segment_size_mb": _number,
    "pinned_max_round_threshold_mb": _number,
    "pinned_max_cached_size_mb": _number,
    "large_segment_size_mb": lambda text: "" if text.isdigit() and int(text) > 10 else "must be a number above 10",
    "graph_capture_record_stream_reuse": _boolean,
    "per_process_memory_fraction": lambda text: _share(text) if text not in {"1", "1.0"} else "",
    "throw_on_cudamalloc_oom": _boolean,
}

# The first torch that has an option, where an older one is in use: earlier ones reject it like one that there is not.
SINCE = {
    "expandable_segments": (2, 1),
    "pinned_use_cuda_host_register": (2, 2),
    "pinned_num_register_threads": (2, 2),
}
UNHEARD_OF = "there is no option"


def not_yet(value: str, torch: tuple[int, ...]) -> tuple[str, ...]:
    """Say which options came after this torch."""
    names = (each.partition(":")[0] for each in re.split(r",(?![^\[]*\])", "".join(value.split())))
    return tuple(f"{each} came with torch {dotted(SINCE[each])}" for each in names if SINCE.get(each, ()) > torch[:2])


def problems(value: str) -> tuple[str, ...]:
    """Say what PyTorch would reject in the options, the first thing first; nothing for what it takes."""
    return tuple(_problems("".join(value.split())))


def _problems(value: str) -> Iterator[str]:
    if value.count("[") != value.count("]"):
        yield "a bracket is not closed"
        return
    for part in re.split(r",(?![^\[]*\])", value):
        name, colon, text = part.partition(":")
        if not part:
            continue
        if name not in OPTIONS:
            yield f"{UNHEARD_OF} {name!r}"
        elif not colon:
            yield f"{name} has no value"
        elif wrong := OPTIONS[name](text):
            yield f"{name} {wrong}, not {text!r}"
