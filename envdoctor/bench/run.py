"""All that one benchmark measured, and every judgement of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from envdoctor.bench import judging, training
from envdoctor.bench.judgement import judged
from envdoctor.bench.ladder import Rung, rungs
from envdoctor.bench.machine import Machine, machine_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.bench.judgement import Judgement
    from envdoctor.facts.bench import (
        BenchAttention,
        BenchClocks,
        BenchCollectives,
        BenchCopies,
        BenchDevice,
        BenchGemm,
        BenchHost,
        BenchLadder,
        BenchLoader,
        BenchMemory,
        BenchModel,
    )
    from envdoctor.facts.nvml import GpuFabric
    from envdoctor.snapshot import Snapshot


@dataclass(frozen=True)
class Run:
    """The facts of one benchmark; None: that suite did not run, or nothing of it is known."""

    device: BenchDevice
    clocks: BenchClocks | None = None
    gemm: BenchGemm | None = None
    memory: BenchMemory | None = None
    copies: BenchCopies | None = None
    attention: BenchAttention | None = None
    model: BenchModel | None = None
    ladder: BenchLadder | None = None
    loader: BenchLoader | None = None
    collectives: BenchCollectives | None = None
    host: BenchHost | None = None
    fabric: GpuFabric | None = None

    @cached_property
    def machine(self) -> Machine:
        """Give the device with its row in the tables."""
        return machine_of(self.device, self.clocks)

    @cached_property
    def best(self) -> tuple[Judgement, ...]:
        """Give the best product of each precision."""
        return judging.best_products(self.machine, self.gemm) if self.gemm else ()

    @cached_property
    def judgements(self) -> tuple[Judgement, ...]:
        """Give every measurement, judged, in the order of the suites; the best products before their shapes."""
        return tuple(self._judged())

    def _judged(self) -> Iterator[Judgement]:
        machine = self.machine
        yield from self.best
        if self.gemm:
            yield from judging.products(machine, self.gemm)
        if self.memory:
            yield from judging.memory(machine, self.memory)
        if self.copies:
            yield from judging.copies(machine, self.copies)
        if self.attention:
            yield from judging.attention(machine, self.attention)
        if self.model:
            yield from training.measurements(machine, self.model)
        if self.collectives:
            yield from judging.peers(machine, self.collectives)
            yield from judging.collectives(machine, self.collectives, self.fabric)
        without = "no reference: it depends on this host"
        own = (*(self.loader.measured if self.loader else ()), *(self.host.measured if self.host else ()))
        yield from (judged(machine, each, without=without) for each in own)

    @cached_property
    def rungs(self) -> tuple[Rung, ...]:
        """Give the ladder, each row compared with the one below."""
        return rungs(self.machine, self.ladder) if self.ladder else ()


SUITES = (
    "clocks", "gemm", "memory", "copies", "attention", "model", "ladder", "loader", "collectives", "host",
)  # fmt: skip


def run_of(snapshot: Snapshot) -> Run | None:
    """Give the benchmark that a snapshot holds; None when not even the device was looked at."""
    from envdoctor.facts.bench import BenchDevice
    from envdoctor.facts.nvml import GpuFabric

    device = snapshot.get(BenchDevice)
    if device is None:
        return None
    found = {name: snapshot.facts.get(f"bench_{name}") for name in SUITES}
    return Run(device, fabric=snapshot.get(GpuFabric), **found)  # type: ignore[arg-type]  # the key gives the type
