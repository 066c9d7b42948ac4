"""What the benchmark's tests start from: suites of the real torch on the CPU, and a GPU that is played by the CPU."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from envdoctor import plan, snapshot
from envdoctor.probe import Context
from envdoctor.runner.collection import collect
from envdoctor.snapshot import Snapshot
from envdoctor.target import Patient

NEEDS_TORCH = [
    pytest.mark.real_torch,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="no torch in this environment"),
    # torch warns of what the benchmark does on purpose: autocast without a GPU, older names of settings.
    pytest.mark.filterwarnings("ignore"),
]
SECONDS = dict.fromkeys(plan.SUITES, 60.0)  # enough on a busy machine: it is the rule that ends a measurement


@pytest.fixture
def no_limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the process of the tests from limiting its own memory, and be content with few samples of small things."""
    import torch
    from envdoctor_probes.bench.stopping import Rule

    monkeypatch.setattr("envdoctor_probes.bench.host_memory.limit_data", lambda _bytes: None)
    few = Rule(least=3, seconds=0.0, spread=None, most_seconds=5.0)
    for name in ("suite.CPU_RULE", "suite.GPU_RULE", "suite.QUICK_GPU_RULE", "loader._RULE"):
        monkeypatch.setattr(f"envdoctor_probes.bench.{name}", few)
    monkeypatch.setattr("envdoctor_probes.bench.gemm._MOST_SECONDS", 0.2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have every suite measure a ViT that takes a moment, whatever model is asked for; gives its recipe."""
    recipe = tiny()
    for name in ("model", "ladder", "host"):
        monkeypatch.setattr(f"envdoctor_probes.bench.{name}.find", lambda *_, **__: recipe)
    return recipe


def tiny() -> Any:
    """Give a ViT of 32 x 32 pixels, two blocks and four tokens and one."""
    import torch
    from envdoctor_probes.bench import recipes, vit

    made = recipes.find(torch, "vit_ti16", on_gpu=False)
    return dataclasses.replace(
        made,
        make=lambda: vit.vit(torch, width=24, depth=2, heads=2, size=32),
        feed=lambda batch: ((torch.randn(batch, 3, 32, 32),), torch.randint(0, 1000, (batch,))),
        feed_block=lambda batch: torch.randn(batch, 5, 24),
        make_block=lambda: vit.block_class(torch)(24, 2),
    )


def context(heard: list[Any] | None = None, **options: Any) -> Context:
    """Give what a suite is given; what it answers in parts is added to ``heard``."""
    events = [] if heard is None else heard
    return Context(options={"bench": {"device": "cpu", "seconds": SECONDS, **options}}, emit=events.append)


def run(suite: str, heard: list[Any] | None = None, **options: Any) -> Any:
    """Run a suite in this process and give its fact."""
    module = importlib.import_module(f"envdoctor_probes.bench.{suite}")
    return getattr(module, f"bench_{suite}").collect(context(heard, **options))


def through_the_engine(*suites: str, timeout: float = 240.0, progress: Any = None, **options: Any) -> Snapshot:
    """Run suites as a run does: each in a fork of one import, one after the other."""
    patient = options.pop("patient", {})
    seconds = options.pop("seconds", dict.fromkeys(suites, 2.0))
    options = {"device": "cpu", "seconds": seconds, **options}
    planned = plan.bench(suites, seconds)
    patient.setdefault("environ", {**os.environ, "OMP_NUM_THREADS": "1"})
    asked = Patient(options={"bench": options}, **patient)
    return collect(asked, planned, timeout=timeout, level="deep", progress=progress, kinds=snapshot.with_bench())


class Event:
    """An event of a pretended GPU: the wall clock at the time it was recorded."""

    def __init__(self, *, enable_timing: bool) -> None:
        self.at = 0.0 if enable_timing else float("nan")

    def record(self) -> None:
        """Note the time."""
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        """Wait: a CPU is always done."""

    def elapsed_time(self, later: Event) -> float:
        """Give the milliseconds between two events."""
        return (later.at - self.at) * 1e3


class PretendedCuda:
    """``torch.cuda`` as far as the benchmark asks it, played by the CPU. ``lost``: what every call then raises."""

    Event = Event
    lost = ""

    def __init__(self, capability: tuple[int, int] = (8, 0)) -> None:
        self.capability = capability

    def synchronize(self, _device: Any = None) -> None:
        """Wait, or say that the card is lost."""
        if self.lost:
            raise RuntimeError(self.lost)

    empty_cache = synchronize

    def get_device_capability(self, _device: Any = None) -> tuple[int, int]:
        """Say what was pretended."""
        return self.capability

    def get_device_properties(self, _device: Any) -> Any:
        """Describe a card with a small cache."""
        major, minor = self.capability
        named = {"name": "Pretended", "major": major, "minor": minor, "multi_processor_count": 4}
        about = {"L2_cache_size": 1 << 16, "is_integrated": 0, "uuid": "0-1", "pci_bus_id": 59, **named}
        return type("Properties", (), {"pci_domain_id": 0, "pci_device_id": 0, **about})

    def reset_peak_memory_stats(self, _device: Any) -> None:
        """Have no statistics."""

    def max_memory_allocated(self, _device: Any) -> int:
        """Have no statistics."""
        return 1 << 20

    def memory_stats(self, _device: Any) -> dict[str, int]:
        """Give two of the counters."""
        return {"reserved_bytes.all.peak": 1 << 21, "num_alloc_retries": 0}

    def get_allocator_backend(self) -> str:
        """Name the usual one."""
        return "native"

    def device_count(self) -> int:
        """Count the one card."""
        return 1

    def mem_get_info(self, _device: Any = None) -> tuple[int, int]:
        """Give free and total bytes."""
        return 3 << 30, 4 << 30


class Pretending:
    """The real torch, but for its ``cuda``."""

    def __init__(self, torch: Any, cuda: PretendedCuda) -> None:
        self._torch, self.cuda = torch, cuda

    def __getattr__(self, name: str) -> Any:
        return getattr(self._torch, name)


@contextlib.contextmanager
def pretended_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int] = (8, 0)) -> Iterator[Any]:
    """Have every suite choose a pretended GPU of that capability; gives its place."""
    import torch
    from envdoctor_probes.bench.place import Cuda

    place = Cuda(Pretending(torch, PretendedCuda(capability)), torch.device("cpu"), 2 << 30)
    monkeypatch.setattr("envdoctor_probes.bench.place._SMALLEST_FLUSH", 1 << 16)
    for name in ("gemm", "memory", "copies", "attention", "model", "ladder", "host", "device"):
        monkeypatch.setattr(f"envdoctor_probes.bench.{name}.choose", lambda *_: place)
    yield place
