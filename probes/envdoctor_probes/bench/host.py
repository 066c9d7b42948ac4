"""[payload] bench-host: what the host side costs: one launch, a stream of them, and the allocator after training."""

from __future__ import annotations

import sys
from typing import Any, Callable, Dict, Tuple

from envdoctor.facts.bench import BenchHost
from envdoctor.probe import Context, probe
from envdoctor_probes.bench.model import usual_amp
from envdoctor_probes.bench.place import Place, choose
from envdoctor_probes.bench.recipes import find
from envdoctor_probes.bench.sizes import usual_batch
from envdoctor_probes.bench.suite import NO_TIME, Suite, Task, Work, words
from envdoctor_probes.bench.training import Settings, Step
from envdoctor_probes.bench.wanted import Wanted

__all__ = ["bench_host"]

MIB = 1 << 20
_STREAM = 200  # launches in one go: more than a GPU's queue holds would measure the GPU
_STEPS = 3
_ALLOCATED = 64 * MIB
_SETTINGS = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")


@probe(level="deep", child="torch", seconds=60.0)
def bench_host(context: Context) -> BenchHost:
    """Launch, dispatch, allocate, and look at the allocator after steps of a growing and shrinking batch."""
    wanted = Wanted.of(context.options)
    place = choose(context, wanted)
    version = ".".join(map(str, sys.version_info[:3]))
    values: Dict[str, Any] = {"python_version": version, "allocator_settings": _settings(context)}
    unknown: Dict[str, str] = {}

    def answer(suite: Suite) -> BenchHost:
        return BenchHost(measured=tuple(suite.measured), unknown=dict(unknown), **values)

    suite = Suite("host", context, place, wanted, answer)
    tasks = list(_tasks(place))
    for number, task in enumerate(tasks):
        suite.measure(task, len(tasks) - number + 1)
    _use_the_allocator(suite, values, unknown)
    suite.tell()
    fact: BenchHost = suite.fact
    return fact


def _settings(context: Context) -> Any:
    found = [f"{name}={context.environ[name]}" for name in _SETTINGS if name in context.environ]
    return " ".join(found) or None


def _tasks(place: Place) -> Tuple[Task, ...]:
    kinds: Tuple[Tuple[str, Callable[[Place], Work]], ...] = (
        ("launch", _launch), ("dispatch", _dispatch), ("autograd-dispatch", _autograd),
        ("allocate-cached", _allocate_cached), ("allocate-anew", _allocate_anew),
    )  # fmt: skip
    return tuple(Task(name, lambda make=make: make(place), {}, "fp32") for name, make in kinds)  # type: ignore[misc]


def _launch(place: Place) -> Work:
    """Run the smallest kernel there is: how long it takes on the device, and until the host knows that it is done."""
    one = place.torch.zeros(1, device=place.device)
    return Work(lambda: one.add_(1), 1, "call", flush=False, singles=True)


def _dispatch(place: Place) -> Work:
    """Run many small kernels in one go: then the host is what is waited for."""
    one = place.torch.zeros(1, device=place.device)

    def run() -> None:
        for _ in range(_STREAM):
            one.add_(1)

    return Work(run, _STREAM, "call", flush=False, singles=True)


def _autograd(place: Place) -> Work:
    """The same through autograd, forward and backward: what a layer costs at the least."""
    torch = place.torch
    weight = torch.ones(1, device=place.device, requires_grad=True)

    def run() -> None:
        value = weight
        for _ in range(_STREAM):
            value = value * 1.0
        value.backward()
        weight.grad = None

    return Work(run, 2 * _STREAM, "call", flush=False, singles=True)


def _allocate_cached(place: Place) -> Work:
    """Take memory that the allocator still has."""
    torch = place.torch
    return Work(lambda: torch.empty(_ALLOCATED, dtype=torch.uint8, device=place.device), 1, "call", flush=False)


def _allocate_anew(place: Place) -> Work:
    """Take memory from the driver: after everything was given back to it."""
    torch = place.torch

    def run() -> None:
        if place.is_cuda:
            torch.cuda.empty_cache()
        torch.empty(_ALLOCATED, dtype=torch.uint8, device=place.device)

    return Work(run, 1, "call", flush=False, singles=True)


def _use_the_allocator(suite: Suite, values: Dict[str, Any], unknown: Dict[str, str]) -> None:
    """Train some steps of three batch sizes, as the last batch of an epoch brings them, and read the counters."""
    place = suite.place
    names = (
        "allocated_mib", "reserved_mib", "peak_allocated_mib", "peak_reserved_mib", "inactive_split_mib", "segments",
        "allocation_retries",
    )  # fmt: skip
    if not place.is_cuda:
        unknown.update(dict.fromkeys((*names, "allocator"), "memory of a CPU comes from the C library"))
        return
    if suite.deadline.left <= 0:
        unknown.update(dict.fromkeys(names, NO_TIME))
        return
    try:
        _name_the_allocator(place.torch, values, unknown)
        place.release()
        with suite.context.calling("host: steps of changing batch size"):
            _train(suite)
        values.update(counters(place.torch.cuda.memory_stats(place.device)))
    except Exception as error:
        unknown.update(dict.fromkeys(names, words(error)))


def _name_the_allocator(torch: Any, values: Dict[str, Any], unknown: Dict[str, str]) -> None:
    if hasattr(torch.cuda, "get_allocator_backend"):
        values["allocator"] = torch.cuda.get_allocator_backend()
    else:
        unknown["allocator"] = f"torch {torch.__version__} does not tell"


def _train(suite: Suite) -> None:
    place, wanted = suite.place, suite.wanted
    recipe = find(place.torch, wanted.model, on_gpu=True, batch=wanted.batch)
    batch = usual_batch(place, recipe, wanted)
    for size in (batch, max(1, batch // 3), batch):
        step = Step(place, recipe, size, Settings(amp=usual_amp(place)))
        with step.settings_on():
            for _ in range(_STEPS):
                step()
        place.synchronize()


def counters(stats: Dict[str, Any]) -> Dict[str, Any]:
    """Read the allocator's counters, bytes as MiB."""
    sizes = {
        "allocated_mib": "allocated_bytes.all.current", "reserved_mib": "reserved_bytes.all.current",
        "peak_allocated_mib": "allocated_bytes.all.peak", "peak_reserved_mib": "reserved_bytes.all.peak",
        "inactive_split_mib": "inactive_split_bytes.all.current",
    }  # fmt: skip
    found: Dict[str, Any] = {name: stats[key] / MIB for name, key in sizes.items() if key in stats}
    numbers = {"segments": "segment.all.current", "allocation_retries": "num_alloc_retries"}
    return {**found, **{name: int(stats[key]) for name, key in numbers.items() if key in stats}}
