"""[payload] The device that is measured, as the stopwatch and the suites need it: a GPU or the CPU."""

from __future__ import annotations

import collections
import contextlib
import gc
import os
import time
from typing import TYPE_CHECKING, Any, Callable, Iterator, Optional

from envdoctor.probe import Context, NotThere

if TYPE_CHECKING:
    from envdoctor_probes.bench.wanted import Wanted

__all__ = ["Cpu", "Cuda", "Place", "choose"]

MIB = 1 << 20
_AHEAD = 4  # operations that are queued before the oldest is waited for
_SMALLEST_FLUSH = 256 * MIB
Operation = Callable[[], Any]


class Place:
    """A device: what there is of it, and how an operation on it is timed."""

    kind = ""

    def __init__(self, torch: Any, device: Any, allowed_bytes: int) -> None:
        self.torch, self.device, self.allowed_bytes = torch, device, allowed_bytes

    @property
    def is_cuda(self) -> bool:
        """Tell whether this is a GPU."""
        return self.kind == "cuda"

    def synchronize(self) -> None:
        """Wait until all that was queued is done."""

    def times(self, operation: Operation, before: Optional[Operation], *, unbroken: bool) -> Iterator[float]:
        """Run the operation again and again; give the seconds of each, as soon as they are known.

        ``before`` runs before each, untimed. ``unbroken``: the operations follow each other without a gap, and each
        lasts from the end of the one before it, as in a training loop.
        """
        raise NotImplementedError

    def flusher(self) -> Optional[Operation]:
        """Give what empties the cache of the device, or None where nothing does."""
        return None

    def release(self) -> None:
        """Give back the memory that nothing uses, and begin to look for a new peak."""

    def peak_mib(self) -> Optional[float]:
        """Give the most memory that was allocated since ``release()``, where it is known."""
        return None

    def leave(self) -> None:
        """Hold nothing on any device any more; nothing may be computed in this process afterwards."""


class Cpu(Place):
    """The processor: an operation is over when its call returns, and there is one clock for all."""

    kind = "cpu"

    def times(self, operation: Operation, before: Optional[Operation], *, unbroken: bool) -> Iterator[float]:
        """Time each call; there are no gaps to speak of."""
        del unbroken
        while True:
            if before:
                before()
            began = time.perf_counter()
            operation()
            yield time.perf_counter() - began


class Cuda(Place):
    """A GPU: operations are queued, and events on the GPU itself tell when each began and ended."""

    kind = "cuda"

    def synchronize(self) -> None:
        """Wait for the GPU."""
        self.torch.cuda.synchronize(self.device)

    def _event(self) -> Any:
        event = self.torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def times(self, operation: Operation, before: Optional[Operation], *, unbroken: bool) -> Iterator[float]:
        """Keep a few operations queued, so that the GPU never waits for the host to read a time."""
        queued: Any = collections.deque()
        ended: Any = None
        while True:
            if before:
                before()
            began = ended if unbroken and ended is not None else self._event()
            operation()
            ended = self._event()
            queued.append((began, ended))
            if len(queued) > _AHEAD:
                first, last = queued.popleft()
                last.synchronize()
                yield first.elapsed_time(last) / 1e3

    def flusher(self) -> Optional[Operation]:
        """Write over more than the L2 cache holds: no operation may find its data there by chance."""
        properties = self.torch.cuda.get_device_properties(self.device)
        size = max(_SMALLEST_FLUSH, 2 * int(getattr(properties, "L2_cache_size", 0) or 0))
        waste = self.torch.empty(min(size, self.allowed_bytes // 4), dtype=self.torch.int8, device=self.device)
        flush: Operation = waste.zero_
        return flush

    def release(self) -> None:
        """Return cached blocks to the driver."""
        self.torch.cuda.empty_cache()
        self.torch.cuda.reset_peak_memory_stats(self.device)

    def peak_mib(self) -> Optional[float]:
        """Ask the caching allocator."""
        return float(self.torch.cuda.max_memory_allocated(self.device)) / MIB

    def leave(self) -> None:
        """Destroy this process's contexts: a card in exclusive mode takes no other process while one is there."""
        import ctypes

        gc.collect()  # what is freed later would start a context again
        with contextlib.suppress(OSError, AttributeError):  # libcuda as torch has loaded it; ROCm has none
            driver = ctypes.CDLL("libcuda.so.1")
            for index in range(self.torch.cuda.device_count()):
                device = ctypes.c_int()
                if driver.cuDeviceGet(ctypes.byref(device), ctypes.c_int(index)) == 0:
                    driver.cuDevicePrimaryCtxReset_v2(device)


def choose(context: Context, wanted: Wanted) -> Place:
    """Give the device that is asked for, with a limit on its memory; raises ``NotThere`` with the words of why not."""
    import torch

    from envdoctor_probes.torch_cuda import why_not_asked

    if wanted.device.partition(":")[0] not in ("", "cpu", "cuda"):
        raise NotThere(f"device {wanted.device!r} cannot be measured, expected cuda, cuda:N or cpu")
    why = "" if wanted.device == "cpu" else (why_not_asked(torch, context) or _why_no_cuda(torch, context))
    if wanted.device == "cpu" or (why and not wanted.device):
        return _cpu(torch, context, wanted)
    if why:
        raise NotThere(f"{wanted.device} cannot be measured: {why}")
    with context.calling("CUDA's start"):
        return _cuda(torch, wanted)


def _why_no_cuda(torch: Any, context: Context) -> str:
    with context.calling("torch.cuda.is_available()"):
        if torch.cuda.is_available():
            return ""
    if torch.version.cuda is None:
        return "this torch was built without CUDA"
    return "torch.cuda.is_available() is False; envdoctor check says why"


def _cuda(torch: Any, wanted: Wanted) -> Place:
    count = torch.cuda.device_count()
    # Under a launcher each rank has a GPU of its own, and under Slurm it may see no other one.
    own = os.environ.get("LOCAL_RANK", "0") if count > 1 else "0"
    index = wanted.device.partition(":")[2] or own
    if not index.isdigit() or int(index) >= count:
        raise NotThere(f"cuda:{index} is not there: torch sees cuda:0 to cuda:{count - 1}")
    device = torch.device("cuda", int(index))
    torch.cuda.set_device(device)
    free, total = torch.cuda.mem_get_info(device)
    allowed = int(free * wanted.memory_fraction)
    # torch itself runs out of memory there: other users of the GPU keep what is theirs
    torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total), device)
    return Cuda(torch, device, allowed)


def _cpu(torch: Any, context: Context, wanted: Wanted) -> Place:
    from envdoctor_probes.bench.host_memory import available_bytes, limit_data

    allowed = int(available_bytes(context) * wanted.memory_fraction)
    with contextlib.suppress(ValueError, OSError):  # a hard limit below it: that one holds then
        limit_data(allowed)
    if wanted.threads:
        torch.set_num_threads(min(wanted.threads, torch.get_num_threads()))
    return Cpu(torch, torch.device("cpu"), allowed)
