"""Collectives in the terms of nccl-tests: algorithm and bus bandwidth, and what the links should give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from envdoctor.bench.statistics import Summary, summarize
from envdoctor.facts.bench import WITHOUT
from envdoctor.knowledge import references

if TYPE_CHECKING:
    from envdoctor.bench.machine import Machine
    from envdoctor.facts.bench import BenchCollectives, Measured
    from envdoctor.facts.nvml import GpuFabric

GIGA = 1e9
PLATEAU_BYTES = 256 << 20  # below this size, latency counts
ALL_REDUCE = "all-reduce"
PAIR = 2


@dataclass(frozen=True)
class Collective:
    """One collective of one size. Bandwidths in decimal GB/s, of the slowest rank."""

    op: str
    bytes: int
    ranks: int
    measured: Measured
    algbw: Summary | None
    busbw: Summary | None
    bus_samples: tuple[float, ...] = ()


def factor(op: str, ranks: int) -> float:
    """Give bus bandwidth over algorithm bandwidth (nccl-tests, doc/PERFORMANCE.md)."""
    if ranks < 1:
        return 0.0
    if op == ALL_REDUCE:
        return 2.0 * (ranks - 1) / ranks
    return (ranks - 1) / ranks if op in {"all-gather", "reduce-scatter", "all-to-all"} else 1.0


def collectives(found: BenchCollectives) -> tuple[Collective, ...]:
    """Give each measurement's bandwidths."""
    return tuple(_collective(each, found.ranks or 0) for each in found.measured)


def _collective(measured: Measured, ranks: int) -> Collective:
    op = measured.config.get("op", measured.name)
    size, ranks = _whole(measured.config.get("bytes"), int(measured.work)), _whole(measured.config.get("ranks"), ranks)
    rates = [size / each / GIGA for each in measured.seconds if each > 0]
    scale = factor(op, ranks)
    bus = tuple(each * scale for each in rates)
    return Collective(op, size, ranks, measured, summarize(rates), summarize(bus), bus)


def _whole(text: str | None, otherwise: int) -> int:
    return int(text) if text and text.isdecimal() else otherwise


def plateau(found: BenchCollectives, op: str = ALL_REDUCE) -> Collective | None:
    """Give the fastest measurement of an operation at a size where bandwidth decides, not latency.

    Only those made with the environment as it is count.
    """
    plain = [each for each in collectives(found) if each.op == op and WITHOUT not in each.measured.config]
    big = [each for each in plain if each.busbw and each.bytes >= PLATEAU_BYTES]
    return max(big, key=lambda each: each.busbw.median if each.busbw else 0.0, default=None)


@dataclass(frozen=True)
class LinkExpectation:
    """What an all-reduce should reach, from the active links: bandwidth in GB/s and how it comes about."""

    busbw: float
    links: int
    source: str


def expected_over_links(machine: Machine, fabric: GpuFabric | None, ranks: int) -> LinkExpectation | None:
    """Give what a ring over the active NVLinks of the weakest GPU reaches; None without NVLinks or knowledge of them.

    NVLink SHARP goes beyond it: that is no fault. Bridges between two cards make no ring of more.
    """
    if fabric is None or machine.capability is None or (ranks > PAIR and _bridged(fabric)):
        return None
    active = [sum(link.active is True for link in links) for links in fabric.nvlinks]
    if not active or min(active) == 0:
        return None
    reach = references.over_nvlink(machine.capability, min(active))
    return LinkExpectation(reach, min(active), references.NVLINK_SOURCE) if reach else None


def _bridged(fabric: GpuFabric) -> bool:
    """Tell whether some GPU has one other at the ends of all its links: a switch is at the ends of everybody's."""
    ends = [frozenset(e.remote.lower() for e in links if e.active and e.remote) for links in fabric.nvlinks]
    return any(len(each) == 1 and ends.count(each) == 1 for each in ends)
