"""[payload] Collectives timed inside a process group that is there already; every rank does the same.

Needs torch and the standard library alone: the ranks that we start ourselves import nothing else of ours.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Tuple

__all__ = ["OPS", "exchange", "local_device"]

OPS = ("all-reduce", "all-gather", "reduce-scatter")
_WARM = 5
_LEAST, _MOST = 20, 200
_SECONDS = 0.5
Row = Dict[str, Any]


def local_device(torch: Any, backend: str, local_rank: int) -> Any:
    """Give this rank's device: its own GPU for NCCL, which may be the only one that it sees; the CPU for gloo."""
    if backend != "nccl":
        return torch.device("cpu")
    device = torch.device("cuda", local_rank if torch.cuda.device_count() > 1 else 0)
    torch.cuda.set_device(device)
    return device


def exchange(torch: Any, device: Any, plan: Dict[str, Any], report: Callable[[Row], None]) -> None:
    """Measure every step of the plan, and report each on every rank.

    ``plan``: steps (pairs of an operation and S in bytes), seconds (for all of it), least (samples). A row holds op,
    bytes, state, reason, correct, began, ended, and seconds: the slowest rank's, sample by sample.
    """
    end = time.monotonic() + float(plan["seconds"])
    for op, size in plan["steps"]:
        if _agreed(torch, device, end > time.monotonic()):
            report(_measure(torch, device, op, int(size), int(plan.get("least", _LEAST))))
        else:
            why = "the time for this suite was over"
            report({"op": op, "bytes": int(size), "state": "skipped", "reason": why, "seconds": []})


def _agreed(torch: Any, device: Any, mine: bool) -> bool:
    """Do what the first rank says: clocks differ, and a rank that stops alone leaves the others waiting."""
    flag = torch.tensor([1.0 if mine else 0.0], device=device)
    torch.distributed.broadcast(flag, 0)
    return bool(flag.item())


def _measure(torch: Any, device: Any, op: str, size: int, least: int) -> Row:
    row: Row = {"op": op, "bytes": size, "state": "measured", "reason": "", "seconds": []}
    row["began"] = time.monotonic()
    try:
        run, check = _ready(torch, device, op, size)
        row["correct"] = check()
        once = _warm(torch, device, run)
        row["seconds"] = _times(torch, device, run, _count(torch, device, once, least))
    except Exception as error:
        row["state"] = "out-of-memory" if "out of memory" in str(error) else "failed"
        row["reason"] = f"{type(error).__name__}: {error}"[:2000]
    row["ended"] = time.monotonic()
    return row


def _ready(torch: Any, device: Any, op: str, size: int) -> Tuple[Callable[[], Any], Callable[[], bool]]:
    """Make the buffers of S bytes together; give the call and a check of its result."""
    dist = torch.distributed
    ranks, rank = dist.get_world_size(), dist.get_rank()
    part = max(1, size // 4 // ranks)
    whole = torch.full((part * ranks,), float(rank + 1), device=device)
    mine = torch.full((part,), float(rank + 1), device=device)
    total = ranks * (ranks + 1) / 2
    if op == "all-reduce":
        return lambda: dist.all_reduce(whole), lambda: _sums(dist, whole, total)
    if op == "all-gather":
        gather = getattr(dist, "all_gather_into_tensor", None) or dist._all_gather_base  # noqa: SLF001 - before 1.13
        return lambda: gather(whole, mine), lambda: _gathers(torch, gather, whole, mine, ranks)
    scatter = getattr(dist, "reduce_scatter_tensor", None) or dist._reduce_scatter_base  # noqa: SLF001 - before 1.13
    return lambda: scatter(mine, whole), lambda: _scatters(scatter, mine, whole, total)


def _sums(dist: Any, whole: Any, total: float) -> bool:
    dist.all_reduce(whole)
    right = bool((whole == total).all())
    whole.zero_()  # so that repeating it never overflows
    return right


def _gathers(torch: Any, gather: Any, whole: Any, mine: Any, ranks: int) -> bool:
    gather(whole, mine)
    expected = torch.arange(1, ranks + 1, device=whole.device, dtype=whole.dtype).repeat_interleave(mine.numel())
    return bool((whole == expected).all())


def _scatters(scatter: Any, mine: Any, whole: Any, total: float) -> bool:
    scatter(mine, whole)
    return bool((mine == total).all())


def _wait(torch: Any, device: Any) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _warm(torch: Any, device: Any, run: Callable[[], Any]) -> float:
    for _ in range(_WARM):
        run()
    _wait(torch, device)
    began = time.perf_counter()
    run()
    _wait(torch, device)
    return time.perf_counter() - began


def _count(torch: Any, device: Any, once: float, least: int) -> int:
    """Agree on how many: what takes half a second, and not fewer than wanted."""
    count = torch.tensor([float(min(max(_SECONDS / max(once, 1e-6), least), max(_MOST, least)))], device=device)
    torch.distributed.all_reduce(count, torch.distributed.ReduceOp.MIN)
    return int(count.item())


def _times(torch: Any, device: Any, run: Callable[[], Any], count: int) -> List[float]:
    """Time each call on this rank, and give the slowest rank's time of each."""
    torch.distributed.barrier()
    mine = _on_gpu(torch, run, count) if device.type == "cuda" else _on_cpu(run, count)
    slowest = torch.tensor(mine, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(slowest, torch.distributed.ReduceOp.MAX)
    found: List[float] = slowest.tolist()
    return found


def _on_cpu(run: Callable[[], Any], count: int) -> List[float]:
    found = []
    for _ in range(count):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return found


def _on_gpu(torch: Any, run: Callable[[], Any], count: int) -> List[float]:
    """Time without a gap between them, as buckets of gradients follow each other."""
    events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    events[0].record()
    for event in events[1:]:
        run()
        event.record()
    events[-1].synchronize()
    return [a.elapsed_time(b) / 1e3 for a, b in zip(events, events[1:])]  # noqa: B905, RUF007 - newer than 3.8
