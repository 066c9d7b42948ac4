"""Links, measured: copies between host and GPU, collectives between GPUs, and what carries them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from envdoctor.facts.bench import FORCES_NCCL, WITHOUT, BenchClocks, BenchCollectives, BenchCopies, BenchDevice
from envdoctor.facts.host import Environment
from envdoctor.facts.libraries import Toolkit
from envdoctor.facts.nvml import GpuFabric
from envdoctor.facts.surroundings import Fabric
from envdoctor.finding import Command, Confidence, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.remedy.variables import look, unset
from envdoctor.rule import NotApplicable, Unknown, rule
from envdoctor.rules.measuring import again, amount, measured_gpu, need_judged, shown

if TYPE_CHECKING:
    from envdoctor.bench.collectives import Collective
    from envdoctor.bench.judgement import Judgement

SLOW_LINK = 0.85
NOTICEABLE = 1.05
MILLI = 1e-3


@rule(
    severity=Severity.WARNING,
    group="measured",
    explained_by=("pcie-link-degraded", "numa-mismatch", "not-exclusive", "memlock-limit-too-low"),
)
def copies_below_link(device: BenchDevice, copies: BenchCopies, clocks: BenchClocks | None) -> Iterator[Finding]:
    """Copies between host and GPU are slower than their link allows.

    ## What it means
    Pinned memory is copied by the GPU's own copy engine at the speed of the PCIe link. Here it stays below that.

    ## Why it matters
    Each batch goes over this link, and so do offloaded weights, checkpoints and, without peer access, gradients.

    ## How it is detected
    Pinned copies in each direction, from each NUMA node, against what healthy machines reach over a link of this
    generation and width. The link is read while it copies: an idle link trains down. Below 85 % from the best node
    fires. Pageable memory depends on the host's CPU and is not judged.

    ## What to do
    Bind the process to the GPU's NUMA node. In a virtual machine look at the IOMMU, on bare metal at the slot, at
    ACS, and at what else shares the switch.

    ## Sources
    https://github.com/NVIDIA/nvbandwidth
    """
    from envdoctor.bench import judging
    from envdoctor.bench.verdict import Verdict

    machine = measured_gpu(device, clocks)
    found = [each for each in judging.copies(machine, copies) if "pageable" not in each.name]
    need_judged(found)
    best = _best_of_each(found)
    slow = [each for each in best if each.verdict is Verdict.BAD]
    if not slow:
        return
    worst = min(slow, key=lambda each: each.share_of_reference or 1.0)
    way = "GPU to host" if judging.is_to_host(worst.measured) else "host to GPU"
    conditions = worst.expected.conditions if worst.expected else ""
    title = f"Copies {way} reach {amount(worst.value, 'GB/s')}, {worst.share_of_reference:.0%} of what this link gives"
    replays = _replays(clocks, copies, machine.track.index if machine.track else None)
    yield Finding(
        title,
        f"The link: {conditions}.",
        (*(shown(copies, each, _named(each)) for each in found), *replays),
        (_bind(copies, device),),
    )


def _best_of_each(found: list[Judgement]) -> list[Judgement]:
    """Give the fastest of each direction: which NUMA node it came from is another question."""
    names = dict.fromkeys(each.name for each in found)
    return [max((e for e in found if e.name == name), key=lambda each: each.value or 0.0) for name in names]


def _named(found: Judgement) -> str:
    node = found.config.get("numa_node", "")
    return f"{found.name}, from NUMA node {node}" if node else found.name


def _replays(clocks: BenchClocks | None, _copies: BenchCopies, index: int | None) -> tuple[Evidence, ...]:
    track = next((each for each in clocks.gpus if each.index == index), None) if clocks else None
    if clocks is None or track is None or track.pcie_replays_before is None or track.pcie_replays_after is None:
        return ()
    more = track.pcie_replays_after - track.pcie_replays_before
    return (see(clocks, "gpus", "PCIe replays meanwhile", more),) if more else ()


def _bind(copies: BenchCopies, device: BenchDevice) -> Fix:
    verify = again("copies", device=device)
    if copies.gpu_numa_node is not None and len(copies.numa_nodes) > 1:
        node = copies.gpu_numa_node
        command = f"numactl --cpunodebind={node} --membind={node} python train.py"
        return Fix(
            "Bind to the GPU's NUMA node", (Command(None, command),), Safety.SAFE, "this run only", verify=verify
        )
    which = device.pci_address or ""
    return replace(look("Look at the link", f"sudo lspci -vv -s {which}".rstrip(" -s"), root=True), verify=verify)


@rule(
    severity=Severity.WARNING,
    group="measured",
    explained_by=("nvlink-down", "nccl-protocol-setting-slow", "nccl-p2p-broken", "acs-blocks-p2p",
                  "fabric-manager-missing", "not-exclusive"),
)  # fmt: skip
def allreduce_below_links(
    device: BenchDevice, collectives: BenchCollectives, fabric: GpuFabric | None, clocks: BenchClocks | None
) -> Iterator[Finding]:
    """An all-reduce between the GPUs of this machine is slower than their NVLinks allow.

    ## What it means
    The bus bandwidth of a large all-reduce stays below active links x NCCL's own figure for a link.

    ## Why it matters
    Data-parallel training reduces all gradients at each step; sharded training moves the weights as well.

    ## How it is detected
    Bus bandwidth as nccl-tests defines it, of the slowest rank, from 256 MiB on. Healthy machines reach 98 % of NCCL's
    figure: 235 of 240 GB/s on 8 A100. Below 85 % fires. More than 100 % is NVLink SHARP, and no fault. Without NVLinks,
    or with bridges that join the cards in pairs, there is no expectation.

    ## What to do
    Look at the transport in NCCL's log: SHM or NET where P2P should be. Look at links that are down, and at NCCL_*
    variables that forbid something.

    ## Sources
    https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md
    """
    from envdoctor.bench.collectives import expected_over_links, plateau

    machine = measured_gpu(device, clocks)
    if (collectives.ranks or 0) > (collectives.ranks_here or 0):
        raise NotApplicable("the ranks are on several hosts: bus bandwidth there is no link's speed")
    expected = expected_over_links(machine, fabric, collectives.ranks or 0)
    if expected is None:
        raise NotApplicable("no active NVLinks are known that join these GPUs")
    found = plateau(collectives)
    if found is None or found.busbw is None:
        raise Unknown("no all-reduce of 256 MiB or more was measured")
    if found.busbw.median >= SLOW_LINK * expected.busbw:
        return
    share = found.busbw.median / expected.busbw
    variable = "NCCL_DEBUG=INFO"
    fix = look("See what NCCL decides and why", f"{variable} envdoctor bench --suite collectives")
    yield Finding(
        f"An all-reduce over {found.ranks} GPUs reaches {share:.0%} of what their NVLinks give",
        "",
        (
            see(collectives, "measured", "bus bandwidth", _bandwidth(found)),
            see(collectives, "measured", f"{expected.links} active NVLinks give", amount(expected.busbw, "GB/s")),
            *_carried(collectives),
        ),
        (fix,),
    )


def _bandwidth(found: Collective) -> str:
    bus = found.busbw
    if bus is None:
        return "not measured"
    said = f"{amount(bus.median, 'GB/s')} ({amount(bus.q1)} to {amount(bus.q3)}, n {bus.n})"
    return f"{said} at {found.bytes >> 20} MiB"


def _carried(collectives: BenchCollectives) -> tuple[Evidence, ...]:
    names = ("transports", "networks", "algorithms")
    return tuple(see(collectives, each, each) for each in names if getattr(collectives, each))


@rule(
    severity=Severity.WARNING,
    group="measured",
    explained_by=("infiniband-port-down", "gpudirect-rdma-missing", "nccl-network-misconfig"),
)
def nccl_over_sockets(collectives: BenchCollectives, rdma: Fabric | None) -> Iterator[Finding]:
    """NCCL carries the gradients over TCP sockets.

    ## What it means
    NCCL's own log names the transport that it took between ranks: NET/Socket, not InfiniBand, RoCE, P2P or shared
    memory.

    ## Why it matters
    The gradients of a ViT-B/16 take 2.6 ms over NVLink, and half a second over 10 Gbit/s Ethernet: longer than the
    step itself.

    ## How it is detected
    The transports in NCCL's log of the ranks that were measured, and what the all-reduce took. It is info where no
    RDMA device is known and the ranks are on several hosts: sockets may be all there is.

    ## What to do
    Make the InfiniBand devices visible in the container, load the driver's peer memory module, and let NCCL_IB_HCA and
    NCCL_SOCKET_IFNAME alone unless you know why.

    ## Sources
    https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html
    """
    if collectives.backend != "nccl":
        raise NotApplicable(f"the collectives ran over {collectives.backend or 'nothing'}")
    if not collectives.transports:
        raise Unknown("NCCL's log did not say what carries the data")
    if not any("NET/Socket" in each for each in collectives.transports):
        return
    several_hosts = (collectives.ranks or 0) > (collectives.ranks_here or 0)
    has_rdma = rdma is not None and any("ACTIVE" in (each.state or "") for each in rdma.infiniband)
    cost = _cost(collectives)
    fix = look(
        "See why NCCL found nothing better",
        "NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=INIT,NET envdoctor bench --suite collectives",
    )
    yield Finding(
        f"NCCL sends over TCP sockets{cost}",
        "",
        (
            *_carried(collectives),
            *((see(rdma, "infiniband", "RDMA ports", _ports(rdma)),) if rdma and has_rdma else ()),
        ),
        (fix,),
        severity=None if has_rdma or not several_hosts else Severity.INFO,
    )


def _ports(rdma: Fabric) -> str:
    return ", ".join(f"{each.device} {each.state or ''}".rstrip() for each in rdma.infiniband)


def _cost(collectives: BenchCollectives) -> str:
    from envdoctor.bench.ceilings import all_reduce_seconds
    from envdoctor.bench.collectives import plateau

    found = plateau(collectives)
    if found is None or found.busbw is None:
        return ""
    said = f": an all-reduce reaches {amount(found.busbw.median, 'GB/s')}"
    if not collectives.gradient_bytes:
        return said
    seconds = all_reduce_seconds(collectives.gradient_bytes, found.busbw.median, found.ranks)
    return f"{said}, {seconds / MILLI:.0f} ms for one step's gradients"


@rule(severity=Severity.WARNING, group="measured")
def nccl_protocol_setting_slow(
    collectives: BenchCollectives, environment: Environment, toolkit: Toolkit | None
) -> Iterator[Finding]:
    """A variable that forces NCCL's protocol, algorithm or transport makes it slower here.

    ## What it means
    NCCL chooses protocol and algorithm by size and topology. A variable in this environment forbids that, and without
    it the same all-reduce is faster.

    ## Why it matters
    Such settings are copied from machine to machine. What helped on one with two cards costs most of the bandwidth of
    another with eight.

    ## How it is detected
    The same all-reduce with the environment as it is, and in newly started ranks without the variables, both
    measured; where several are set and it is faster without all of them, without each one as well. A variable without
    a measured difference is not blamed. What nccl.conf sets cannot be taken out that way: that is unknown.

    ## What to do
    Unset it.

    ## Sources
    https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html#nccl-proto
    """
    if collectives.backend not in {None, "nccl"}:
        raise NotApplicable(f"the collectives ran over {collectives.backend}")
    forced = [name for name in FORCES_NCCL if environment.get(name)]
    filed = {name: value for name, value in (toolkit.nccl_conf if toolkit else ()) if name in FORCES_NCCL}
    if not forced and filed:
        raise Unknown(f"{_files(toolkit)} sets {' and '.join(filed)}, which cannot be taken out for a measurement")
    if not forced:
        raise NotApplicable("no variable forces NCCL's protocol, algorithm or transport")
    pairs = list(_pairs(collectives))
    if not pairs:
        raise Unknown(f"{' and '.join(forced)} set, but the all-reduce was not measured without{_why(collectives)}")
    for names, with_it, without, speedup in _blamed(pairs):
        told = " ".join(f"{name}={environment.get(name)}" for name in names)
        yield Finding(
            f"{told} {'makes' if len(names) == 1 else 'make'} an all-reduce {speedup:.2f} times as slow",
            _conf(toolkit, [name for name in names if name in filed]),
            (
                *(see(environment, "variables", name, environment.get(name)) for name in names),
                see(collectives, "measured", "with it" if len(names) == 1 else "with them", _bandwidth(with_it)),
                see(collectives, "measured", "without it" if len(names) == 1 else "without them", _bandwidth(without)),
            ),
            (replace(unset(*names), verify=again("collectives")),),
            "+".join(names),
            confidence=Confidence.CERTAIN,
        )


def _files(toolkit: Toolkit | None) -> str:
    return (toolkit.nccl_conf_path if toolkit else None) or "nccl.conf"


def _conf(toolkit: Toolkit | None, names: list[str]) -> str:
    """Say what takes a variable's place once it is gone."""
    if not names:
        return ""
    return f"{_files(toolkit)} sets {' and '.join(names)} as well: without the variable, its value was measured."


def _why(collectives: BenchCollectives) -> str:
    reasons = dict.fromkeys(e.reason for e in collectives.measured if WITHOUT in e.config and e.reason)
    return "".join(f": {each}" for each in reasons)


Pair = tuple[tuple[str, ...], "Collective", "Collective"]


def _pairs(collectives: BenchCollectives) -> Iterator[Pair]:
    """Pair each measurement that was made without variables with the same one made with them."""
    from envdoctor.bench.collectives import collectives as all_of

    found = [each for each in all_of(collectives) if each.measured.seconds]
    plain = {(e.op, e.bytes, e.ranks): e for e in found if WITHOUT not in e.measured.config}
    for each in found:
        names, same = each.measured.config.get(WITHOUT), plain.get((each.op, each.bytes, each.ranks))
        if names and same:
            yield tuple(names.split("+")), same, each


def _blamed(pairs: list[Pair]) -> list[tuple[tuple[str, ...], Collective, Collective, float]]:
    """Give the slower of the pairs, each set of variables at the size where it costs most.

    Several together are blamed only where not one of them is to blame alone.
    """
    from envdoctor.bench.statistics import Change, compare

    worst: dict[tuple[str, ...], tuple[Collective, Collective, float]] = {}
    for names, with_it, without in pairs:
        said = compare(with_it.measured.seconds, without.measured.seconds)
        speedup = said.speedup or 0.0
        beats = names not in worst or speedup > worst[names][2]
        if said.change is Change.FASTER and speedup >= NOTICEABLE and beats:
            worst[names] = (with_it, without, speedup)
    alone = {names: found for names, found in worst.items() if len(names) == 1}
    return [(names, *found) for names, found in (alone or worst).items()]


RULES = (copies_below_link, allreduce_below_links, nccl_over_sockets, nccl_protocol_setting_slow)
