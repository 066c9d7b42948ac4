"""The NUMA node that a process is bound to, against the node of its GPU."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.driver import KernelModule
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Environment
from envdoctor.facts.nvml import Gpu, GpuState
from envdoctor.facts.surroundings import Fabric
from envdoctor.finding import Command, Confidence, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.remedy.variables import look
from envdoctor.rule import NotApplicable, Rule, Unknown, known, rule
from envdoctor.rules.launch import own_rank
from envdoctor.rules.presence import need_gpu
from envdoctor.rules.visibility import read_mask


@rule(severity=Severity.WARNING, group="system")
def numa_mismatch(
    fabric: Fabric,
    bus: PciBus,
    state: GpuState | None,
    environment: Environment | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
) -> Iterator[Finding]:
    """This process is bound to a NUMA node that its GPU is not attached to.

    ## What it means
    The CPUs that the process may use, or the memory it must use, belong to another socket than the GPU.

    ## Why it matters
    Each copy between host and GPU crosses the link between the sockets: slower and less even.

    ## How it is detected
    The process's CPUs and memory policy by node, against the node of its GPU on the bus: the GPU of this local rank or
    of CUDA_VISIBLE_DEVICES, else all visible ones. It fires only when none of them is attached to a node of the
    process. An unbound process is no finding.

    ## What to do
    Bind each process to the node of its GPU.

    ## Sources
    https://docs.nvidia.com/cuda/cuda-c-best-practices-guide/
    """
    need_gpu(bus, nodes, module)
    total = known(fabric, "numa_nodes")
    if total < 2:
        raise NotApplicable("one NUMA node")
    own = _bound_to(fabric, total)
    if not own:
        if not fabric.process_numa_nodes and "process_numa_nodes" in fabric.unknown:
            raise Unknown(fabric.unknown["process_numa_nodes"])
        return
    wanted = _nodes_of_gpus(bus, state, environment)
    if not wanted:
        raise Unknown("the NUMA node of the GPU is not known")
    if set(own[0]) & wanted:
        return
    where, node = ", ".join(map(str, own[0])), min(wanted)
    yield Finding(
        f"This process is bound to NUMA node {where}, its GPU is on node {', '.join(map(str, sorted(wanted)))}",
        evidence=(own[1], see(bus, "gpus", "node of the GPU", ", ".join(map(str, sorted(wanted))))),
        fixes=(
            _bind(node),
            look("See which CPUs belong to which GPU", "nvidia-smi topo -m"),
        ),
        confidence=Confidence.LIKELY,
    )  # fmt: skip


def _bind(node: int) -> Fix:
    command = Command(None, f"numactl --cpunodebind={node} --membind={node} python train.py")
    return Fix("Start it on the GPU's node", (command,), Safety.SAFE, "the job that is started so")


def _bound_to(fabric: Fabric, total: int) -> tuple[tuple[int, ...], Evidence] | None:
    """Give the nodes that the process is bound to by CPUs or by memory policy; None when it is not bound."""
    cpus = fabric.process_numa_nodes
    if cpus and len(cpus) < total:
        return cpus, see(fabric, "process_numa_nodes", "nodes of this process's CPUs", ", ".join(map(str, cpus)))
    kind, _, text = (fabric.memory_policy or "").partition(":")
    if kind != "bind" or not text.replace(",", "").replace("-", "").isdigit():
        return None
    found = tuple(_numbers(text))
    return (found, see(fabric, "memory_policy", "memory policy")) if found and len(found) < total else None


def _numbers(text: str) -> Iterator[int]:
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            yield from range(int(first), int(last or first) + 1)


def _nodes_of_gpus(bus: PciBus, state: GpuState | None, environment: Environment | None) -> set[int]:
    """Give the nodes of the GPUs that this process uses, in the order of the bus, as NVML counts them."""
    cards = sorted(bus.gpus, key=lambda each: each.address)
    if state and state.gpus:
        passed = {_short(gpu) for gpu in state.gpus}
        cards = [each for each in cards if each.address[-10:].lower() in passed] or cards
    chosen = _chosen(environment, len(cards))
    found = [cards[each].numa_node for each in chosen if each < len(cards)]
    return {each for each in found if each is not None and each >= 0}


def _short(gpu: Gpu) -> str:
    """Cut NVML's address to the bus's: ``00000000:3B:00.0`` -> ``3b:00.0`` with three more places of the domain."""
    return (gpu.pci_address or "")[-10:].lower()


def _chosen(environment: Environment | None, count: int) -> tuple[int, ...]:
    value = environment.get("CUDA_VISIBLE_DEVICES") if environment else None
    taken = read_mask(value, count).taken if value else tuple(map(str, range(count)))
    if any(not each.isdigit() for each in taken):  # chosen by UUID: which one that is, is not known here
        return tuple(range(count))
    indices = tuple(map(int, taken))
    rank = own_rank(environment)
    return indices[rank : rank + 1] if rank is not None and len(indices) > 1 else indices


RULES: tuple[Rule, ...] = (numa_mismatch,)
