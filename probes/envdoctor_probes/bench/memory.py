"""[payload] bench-memory: copy and triad on the device itself, over buffers that no cache holds."""

from __future__ import annotations

import glob
import re
from typing import Any, Iterator, Optional, Tuple

from envdoctor.facts.bench import BenchMemory
from envdoctor.probe import Context, probe
from envdoctor_probes.bench.place import Place, choose
from envdoctor_probes.bench.suite import Suite, Task, Work
from envdoctor_probes.bench.wanted import Wanted

__all__ = ["bench_memory", "cache_bytes", "parse_cache_size"]

MIB = 1 << 20
TIMES_CACHE = 8
_SMALLEST, _SMALLEST_CPU = 1024 * MIB, 64 * MIB
_BUFFERS = 3
_LOOKED_AT = 1 << 16
_SCALE = 3.0


@probe(level="deep", child="torch", seconds=60.0)
def bench_memory(context: Context) -> BenchMemory:
    """Copy and add: 2 and 3 bytes moved for each byte of a buffer."""
    wanted = Wanted.of(context.options)
    place = choose(context, wanted)
    cache = cache_bytes(place)
    size = buffer_bytes(place, cache)

    def answer(suite: Suite) -> BenchMemory:
        return BenchMemory(measured=tuple(suite.measured), buffer_bytes=size, cache_bytes=cache)

    suite = Suite("memory", context, place, wanted, answer)
    works = (("copy", _copy, 2), ("triad", _triad, 3))
    for left, (name, prepare, moved) in zip((2, 1), works):  # noqa: B905 - strict= is newer than 3.8
        config = {"buffer": f"{size // MIB} MiB", "bytes_moved": f"{moved} x buffer"}
        suite.measure(Task(name, lambda do=prepare: do(place, size), config, "fp32", _BUFFERS * size), left)  # type: ignore[misc]
    fact: BenchMemory = suite.fact
    return fact


def buffer_bytes(place: Place, cache: Optional[int]) -> int:
    """Give eight times the cache and at least a GiB, as far as the memory that may be used allows it."""
    wished = max(TIMES_CACHE * (cache or 0), _SMALLEST if place.is_cuda else _SMALLEST_CPU)
    return min(wished, place.allowed_bytes // (_BUFFERS + 1)) // 4096 * 4096


def cache_bytes(place: Place) -> Optional[int]:
    """Give the L2 cache of a GPU, the last level of a CPU's caches; None where nobody tells."""
    if place.is_cuda:
        size = getattr(place.torch.cuda.get_device_properties(place.device), "L2_cache_size", None)
        return int(size) if size else None
    return max(_cpu_caches(), default=None)


def _cpu_caches() -> Iterator[int]:
    for path in glob.glob("/sys/devices/system/cpu/cpu0/cache/index*/size"):
        with open(path, encoding="ascii", errors="replace") as file:
            size = parse_cache_size(file.read())
        if size is not None:
            yield size


def parse_cache_size(text: str) -> Optional[int]:
    """Read ``32768K`` or ``260M`` as bytes; None for anything else."""
    match = re.fullmatch(r"(\d+)([KM]?)", text.strip())
    return int(match.group(1)) << {"": 0, "K": 10, "M": 20}[match.group(2)] if match else None


def _random(place: Place, size: int) -> Any:
    return place.torch.empty(size // 4, dtype=place.torch.float32, device=place.device).normal_()


def _copy(place: Place, size: int) -> Work:
    source, target = _random(place, size), _random(place, size)

    def check() -> Tuple[bool, Optional[float]]:
        target.copy_(source)
        return bool((_some(target) == _some(source)).all()), None

    return Work(lambda: target.copy_(source), 2 * size, "byte", check, flush=False)


def _triad(place: Place, size: int) -> Work:
    first, second, target = (_random(place, size) for _ in range(_BUFFERS))

    def run() -> Any:
        return place.torch.add(first, second, alpha=_SCALE, out=target)

    def check() -> Tuple[bool, Optional[float]]:
        run()
        expected = _some(first).double() + _SCALE * _some(second).double()
        error = float((_some(target).double() - expected).abs().max())
        return error < 1e-4, error

    return Work(run, 3 * size, "byte", check, flush=False)


def _some(buffer: Any) -> Any:
    """Give values from all over the buffer, not all of it: the check must not need another buffer."""
    step = max(1, buffer.numel() // _LOOKED_AT)
    return buffer[::step]
