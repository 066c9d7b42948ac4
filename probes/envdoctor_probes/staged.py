"""[payload] The staged tests of ``envdoctor fleet --deep`` on one rank: each step small, and in a process of its own.

A step says its rows as soon as they are known: what a rank did before it hung is kept. Deadlines and processes are the
caller's. Nothing is judged here.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Callable, Dict, List, Tuple

from envdoctor.probe import Context

__all__ = ["run"]

MIB = 1 << 20
_SAMPLES = 9
_CPU_SIDE, _GPU_SIDE = 512, 8192
_CPU_SAMPLE, _GPU_SAMPLE = 0.2, 0.05  # seconds: long enough that a turn of the scheduler is no sample of its own
_CPU_WARM, _GPU_WARM = 0.2, 1.0
_COPY, _COPIES = 64 * MIB, 9
_LEAST = 5  # samples of a collective
_SHARE = 0.5  # of a step's time that a collective measures; the rest is for meeting and for being late
_ADDRESS = 32  # bytes of a PCI address as libcuda writes it
_ENOUGH = 0.75  # of a step's time, after which no further pair of GPUs is begun: many of them are not one that hangs
_PATIENCE = 0.6  # of a step's time, after which torch gives up: its words say more than that it was killed
Step = Dict[str, Any]
Say = Callable[[Dict[str, Any]], None]


class StepError(Exception):
    """A step failed: the words are those of torch."""


def run(step: Step, say: Say) -> None:
    """Do one step and say what it gave, row by row. Raises whatever torch raises."""
    kinds = {"compute": _compute, "p2p": _copies, "collective": _collective}
    if step["do"] == "ready":
        _ready(say)
    else:
        kinds[step["do"]](step, say)


def _ready(say: Say) -> None:
    """Say what this torch can do; that it was imported is known by now."""
    import torch

    dist: Any = getattr(torch, "distributed", None)
    there = dist is not None and dist.is_available()
    say({
        "torch": str(torch.__version__), "gloo": bool(there and dist.is_gloo_available()),
        "nccl": bool(there and dist.is_nccl_available()),
    })  # fmt: skip


def own_device(torch: Any, local_rank: int) -> Tuple[Any, Dict[str, Any]]:
    """Give this rank's device and what tells it from others: its own GPU, as far as there are enough, else the CPU."""
    from envdoctor_probes.torch_cuda import why_not_asked

    why = why_not_asked(torch, Context())
    if torch.version.cuda is None or why or not torch.cuda.is_available():
        why = why or "" if torch.version.cuda is None else why or "torch.cuda.is_available() is False"
        return torch.device("cpu"), {"kind": "cpu", "name": "CPU", "why": why}
    count = torch.cuda.device_count()
    device = torch.device("cuda", local_rank % count)
    torch.cuda.set_device(device)
    properties = torch.cuda.get_device_properties(device)
    card = _pci_address(device.index) or str(getattr(properties, "uuid", None) or device.index)
    told = {"kind": "cuda", "name": str(properties.name), "index": device.index, "count": count, "card": card}
    return device, told


def _pci_address(index: int) -> str:
    """Ask libcuda, as torch has loaded it, for what NCCL tells GPUs apart by: older torch knows no name of a card.

    A rank that sees one GPU of many calls it 0, as the other ranks call theirs.
    """
    import ctypes

    text, device = ctypes.create_string_buffer(_ADDRESS), ctypes.c_int()
    with contextlib.suppress(OSError, AttributeError):
        driver = ctypes.CDLL("libcuda.so.1")
        failed = driver.cuDeviceGet(ctypes.byref(device), ctypes.c_int(index))
        if not failed and not driver.cuDeviceGetPCIBusId(text, ctypes.c_int(_ADDRESS), device):
            return text.value.decode("ascii", "replace")
    return ""


def _compute(step: Step, say: Say) -> None:
    """Multiply: say the device first, then the seconds of one product, sample by sample."""
    import torch

    device, told = own_device(torch, step["local_rank"])
    say(told)
    product, flop, shown = _product(torch, device)
    on_gpu = device.type == "cuda"
    once = _warm(torch, device, product, _GPU_WARM if on_gpu else _CPU_WARM)
    repeats = max(1, int((_GPU_SAMPLE if on_gpu else _CPU_SAMPLE) / max(once, 1e-6)))
    say({"flop": flop, "shown": shown})
    for _ in range(_SAMPLES):
        began = time.perf_counter()
        for _ in range(repeats):
            product()
        _wait(torch, device)
        say({"seconds": (time.perf_counter() - began) / repeats})


def _product(torch: Any, device: Any) -> Tuple[Callable[[], Any], int, str]:
    """Make two factors of random numbers: zeros would draw less power, and so run faster than any real data."""
    side, dtype = _CPU_SIDE, torch.float32
    if device.type == "cuda":
        modern = torch.cuda.get_device_capability(device) >= (8, 0)
        side, dtype = _GPU_SIDE, torch.bfloat16 if modern else torch.float16
    first, second = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    result = torch.empty_like(first)
    shown = "%s %dx%dx%d" % (str(dtype).rpartition(".")[2], side, side, side)
    return lambda: torch.mm(first, second, out=result), 2 * side**3, shown


def _warm(torch: Any, device: Any, product: Callable[[], Any], seconds: float) -> float:
    """Repeat until the clocks have settled; give the seconds of one, the very first left out."""
    product()
    _wait(torch, device)
    began, count = time.perf_counter(), 0
    while not count or time.perf_counter() - began < seconds:
        product()
        _wait(torch, device)
        count += 1
    return (time.perf_counter() - began) / count


def _wait(torch: Any, device: Any) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _copies(step: Step, say: Say) -> None:
    """Copy between each two of the GPUs that the step names, both ways; say before each which it is."""
    import torch

    gpus: List[int] = step["gpus"]
    end = time.monotonic() + step["seconds"] * _ENOUGH
    for first, second in [(a, b) for a in gpus for b in gpus if a < b]:
        if time.monotonic() > end:
            return
        say({"at": [first, second]})
        try:
            seconds = _there_and_back(torch, first, second)
        except Exception as error:
            say({"failed": [first, second], "reason": "%s: %s" % (type(error).__name__, error)})
            continue
        direct = bool(torch.cuda.can_device_access_peer(first, second))
        say({"copied": [first, second], "bytes": _COPY, "seconds": seconds, "direct": direct})


def _there_and_back(torch: Any, first: int, second: int) -> List[float]:
    """Give the seconds of each copy, the slower direction's."""
    slower: List[float] = []
    for source, target in ((first, second), (second, first)):
        a, b = (torch.empty(_COPY, dtype=torch.uint8, device="cuda:%d" % each) for each in (source, target))
        a.random_(0, 256)
        found = _timed_copies(torch, torch.device("cuda", source), lambda: b.copy_(a, non_blocking=True))  # noqa: B023
        if not bool((b[::MIB].cpu() == a[::MIB].cpu()).all()):
            raise StepError("what arrived is not what was sent")
        slower = max(slower, found, key=lambda each: sorted(each)[len(each) // 2] if each else 0.0)
    return slower


def _timed_copies(torch: Any, device: Any, copy: Callable[[], Any]) -> List[float]:
    with torch.cuda.device(device):
        copy()
        events = [torch.cuda.Event(enable_timing=True) for _ in range(_COPIES + 1)]
        torch.cuda.synchronize(device)
        events[0].record()
        for event in events[1:]:
            copy()
            event.record()
        torch.cuda.synchronize(device)
    return [a.elapsed_time(b) / 1e3 for a, b in zip(events, events[1:])]  # noqa: B905, RUF007 - newer than 3.8


def _collective(step: Step, say: Say) -> None:
    """Meet the others of the group and reduce a little, then more; the seconds are the slowest rank's."""
    import datetime as dt

    import torch

    from envdoctor_probes.bench.exchange import exchange, local_device

    dist = torch.distributed
    if step.get("interface"):
        os.environ["GLOO_SOCKET_IFNAME"] = step["interface"]
    device = local_device(torch, step["backend"], step["index"])
    limit = dt.timedelta(seconds=step["seconds"] * _PATIENCE)
    if step["backend"] == "nccl":
        limit *= 4  # its watchdog would abort the process: being killed is the plainer end
    host, port = step["store"]
    store = dist.TCPStore(host, port, is_master=False, timeout=limit, wait_for_workers=False)
    dist.init_process_group(
        step["backend"], store=dist.PrefixStore(step["prefix"], store), timeout=limit, rank=step["rank"],
        world_size=step["size"],
    )  # fmt: skip

    def report(row: Dict[str, Any]) -> None:
        if row["state"] == "skipped":
            return
        if row["state"] != "measured":
            raise StepError(row["reason"])
        if not row["correct"]:
            raise StepError("the sum over the ranks is wrong")
        say({"bytes": row["bytes"], "seconds": row["seconds"]})

    steps = [("all-reduce", size) for size in step["sizes"]]
    exchange(torch, device, {"steps": steps, "seconds": step["seconds"] * _SHARE, "least": _LEAST}, report)
