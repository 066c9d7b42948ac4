"""[payload] bench-copies: between host and device, pinned and pageable, each direction, from each NUMA node."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from envdoctor.facts.bench import BenchCopies
from envdoctor.probe import Context, probe
from envdoctor_probes.bench.place import Place, choose
from envdoctor_probes.bench.suite import NotApplicable, Suite, Task, Work
from envdoctor_probes.bench.wanted import Wanted
from envdoctor_probes.resources import parse_cpu_list
from envdoctor_probes.tree import Tree

__all__ = ["bench_copies", "copy_work", "numa_cpus"]

MIB = 1 << 20
_BUFFER = 256 * MIB
_NODES = "/sys/devices/system/node"
_DIRECTIONS = ("h2d", "d2h")
_KINDS = ("pinned", "pageable")
_WARM_SECONDS = 0.3  # an idle link comes up to speed meanwhile
# By node, and held until the end: torch keeps pinned memory that was freed, and gives it to the next node.
Pinned = Dict[Optional[int], Any]


@probe(level="deep", child="torch", seconds=60.0)
def bench_copies(context: Context) -> BenchCopies:
    """Copy from the node that the GPU hangs on first, then from the others; the clocks' probe watches the link."""
    wanted = Wanted.of(context.options)
    place = choose(context, wanted)
    nodes = numa_cpus(Tree(context.roots))
    own = gpu_node(place, Tree(context.roots)) if place.is_cuda else None

    def answer(suite: Suite) -> BenchCopies:
        return BenchCopies(measured=tuple(suite.measured), numa_nodes=tuple(sorted(nodes)), gpu_numa_node=own)

    suite = Suite("copies", context, place, wanted, answer)
    pinned: Pinned = {}
    planned = list(_planned(place, nodes, own))
    for number, (node, kind, direction) in enumerate(planned):
        with _on(nodes.get(node, ()) if node is not None else ()):
            suite.measure(_task(place, node, kind, direction, pinned), len(planned) - number)
    fact: BenchCopies = suite.fact
    return fact


def _planned(
    place: Place, nodes: Dict[int, Tuple[int, ...]], own: Optional[int]
) -> Iterator[Tuple[Optional[int], str, str]]:
    """Give node, kind and direction of each copy. Where the nodes do not matter there is one, and it is not named."""
    numbers: List[Optional[int]] = sorted(nodes, key=lambda node: (node != own, node)) if place.is_cuda else []
    for node in numbers if len(numbers) > 1 else [None]:
        for kind in _KINDS:
            yield from ((node, kind, direction) for direction in _DIRECTIONS)


def _task(place: Place, node: Optional[int], kind: str, direction: str, pinned: Pinned) -> Task:
    size = min(_BUFFER, place.allowed_bytes // 4)
    config = {"bytes": f"{size // MIB} MiB", "direction": direction, "memory": kind}
    if node is not None:
        config["numa_node"] = str(node)

    def host() -> Any:
        if kind != "pinned":
            return host_memory(place, size, kind)
        if node not in pinned:
            pinned[node] = host_memory(place, size, kind)
        return pinned[node]

    return Task(f"{direction}-{kind}", lambda: copy_work(place, size, kind, direction, host), config, "int8", size)


def host_memory(place: Place, size: int, kind: str) -> Any:
    """Give memory of the node that this thread is bound to, by touching it first.

    It is filled at random, because some links compress zeros.
    """
    memory = place.torch.empty(size, dtype=place.torch.uint8, pin_memory=kind == "pinned")
    return memory.random_(0, 256)


def copy_work(
    place: Place, size: int, kind: str, direction: str, make_host: Optional[Callable[[], Any]] = None
) -> Work:
    """Make one copy ready: ``direction`` h2d or d2h, ``kind`` of the host's memory pinned or pageable."""
    if not place.is_cuda:
        raise NotApplicable("a CPU has no host to copy from: bench memory measures its own copies")
    torch = place.torch
    host = make_host() if make_host else host_memory(place, size, kind)
    device = torch.empty(size, dtype=torch.uint8, device=place.device)
    source, target = (host, device) if direction == "h2d" else (device, host)

    def check() -> Tuple[bool, Optional[float]]:
        device.copy_(host)
        back = device[:: max(1, size // MIB)].cpu()
        return bool((back == host[:: max(1, size // MIB)]).all()), None

    def run() -> Any:
        return target.copy_(source, non_blocking=kind == "pinned")

    return Work(run, size, "byte", check, flush=False, warm_seconds=_WARM_SECONDS)


def numa_cpus(tree: Tree) -> Dict[int, Tuple[int, ...]]:
    """Give the CPUs of each NUMA node that this process may use; empty where the kernel names no nodes."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    found: Dict[int, Tuple[int, ...]] = {}
    with contextlib.suppress(OSError, ValueError):
        for name in tree.names(_NODES):
            if name.startswith("node") and name[4:].isdigit():
                cpus = parse_cpu_list(tree.text_or(f"{_NODES}/{name}/cpulist"))
                found[int(name[4:])] = tuple(cpu for cpu in cpus if cpu in allowed)
    return {node: cpus for node, cpus in found.items() if cpus}


def gpu_node(place: Place, tree: Tree) -> Optional[int]:
    """Give the NUMA node that the GPU hangs on, as the kernel says; None where it says none."""
    from envdoctor_probes.bench.device import pci_address

    address = pci_address(place.torch.cuda.get_device_properties(place.device))
    if address is None:
        return None
    text = tree.text_or(f"/sys/bus/pci/devices/{address[4:].lower()}/numa_node").strip()
    return int(text) if text.isdigit() else None


@contextlib.contextmanager
def _on(cpus: Tuple[int, ...]) -> Iterator[None]:
    """Run on these CPUs alone; on all that were allowed when there are none."""
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
