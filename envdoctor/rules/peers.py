"""What GPUs of one machine talk over: peer-to-peer, and PCIe switches that access control keeps from passing it on."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.driver import KernelModule
from envdoctor.facts.gpu import PciBus
from envdoctor.facts.host import Environment, Host
from envdoctor.facts.libraries import Toolkit
from envdoctor.facts.nvml import GpuFabric, GpuState, PeerLink
from envdoctor.facts.surroundings import Fabric
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.remedy.variables import administer, export, look
from envdoctor.rule import NotApplicable, Rule, Unknown, rule
from envdoctor.rules.launch import nccl_setting
from envdoctor.rules.presence import need_gpu, need_native_driver
from envdoctor.rules.rdma import is_active, name_ports

WIRED_BY_NVLINK = re.compile(r"(?:SXM\d?|HBM\d\w?)(?=$|[\s-])", re.IGNORECASE)
NOT_SAID = frozenset({None, "unknown"})
ONE_SWITCH = frozenset({"pix", "pxb"})


@rule(severity=Severity.ERROR, group="fabric", explained_by=("fabric-manager-missing", "nvlink-down"))
def nccl_p2p_broken(
    fabric: GpuFabric, state: GpuState | None, environment: Environment | None, toolkit: Toolkit | None
) -> Iterator[Finding]:
    """Peer-to-peer does not work between GPUs that are joined by NVLink.

    ## What it means
    The driver says that one GPU may not read the other's memory, although NVLink joins them. NCCL will try this way,
    or go through the host's memory.

    ## Why it matters
    Collectives hang, fail with "peer access is not supported between these two devices", or run many times slower.

    ## How it is detected
    NVML's peer-to-peer status of each pair, against the NVLinks that both have to one switch or to each other. Cards
    that are always wired by NVLink (SXM) and have no peer-to-peer, as in a virtual machine that was given them one by
    one, are a warning: NCCL then uses shared memory. Other cards without it are no finding: many boards and all recent
    GeForce cards have none, nor have cards in MIG mode. A transfer that is allowed and still fails is seen by
    "envdoctor bench" only.

    ## What to do
    In a virtual machine, pass the GPUs through together with their NVSwitches. On a host, look at the fabric manager,
    the IOMMU and ACS. Until then, tell NCCL to go through the host.

    ## Sources
    https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
    https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/troubleshooting.html
    """
    off = nccl_setting(environment, toolkit, "NCCL_P2P_DISABLE")
    if off and off[0].strip() == "1":
        raise NotApplicable("NCCL_P2P_DISABLE=1: NCCL does not use peer-to-peer")
    split = {gpu.index for gpu in (state.gpus if state else ()) if gpu.mig_enabled}  # MIG has no peer-to-peer
    pairs = [each for each in _pairs(fabric, state) if not split & {each.first, each.second}]
    refused = [each for each in pairs if each.peer_to_peer_read != "ok"]
    joined = [each for each in refused if _joined(fabric, state, each)]
    wired = [each for each in refused if each not in joined and _both_wired(state, each)]
    for found, severity in ((joined, Severity.ERROR), (wired, Severity.WARNING)):
        if found:
            yield _peers_refused(fabric, found, severity)


def _pairs(fabric: GpuFabric, state: GpuState | None) -> list[PeerLink]:
    """Give the pairs whose status is known, or end the rule with the reason."""
    if not fabric.links:
        if state and state.count is not None and state.count > 1:
            raise Unknown(fabric.unknown.get("links", "NVML did not say how the GPUs are connected"))
        raise NotApplicable("fewer than two GPUs")
    pairs = [each for each in fabric.links if each.peer_to_peer_read not in NOT_SAID]
    if not pairs:
        raise Unknown(fabric.unknown.get("links", "NVML did not say whether peer-to-peer works"))
    return pairs


def _joined(fabric: GpuFabric, state: GpuState | None, pair: PeerLink) -> bool:
    """Tell whether both have active NVLinks to one switch, or to each other."""
    first, second = _remotes(fabric, pair.first), _remotes(fabric, pair.second)
    if first & second:
        return True
    addresses = {gpu.index: (gpu.pci_address or "").lower() for gpu in (state.gpus if state else ())}
    return bool(addresses.get(pair.second)) and addresses.get(pair.second) in first


def _remotes(fabric: GpuFabric, index: int) -> set[str]:
    links = fabric.nvlinks[index] if 0 <= index < len(fabric.nvlinks) else ()
    return {each.remote.lower() for each in links if each.active and each.remote}


def _both_wired(state: GpuState | None, pair: PeerLink) -> bool:
    names = {gpu.index: gpu.name or "" for gpu in (state.gpus if state else ())}
    return all(WIRED_BY_NVLINK.search(names.get(each, "")) for each in (pair.first, pair.second))


def _peers_refused(fabric: GpuFabric, found: list[PeerLink], severity: Severity) -> Finding:
    shown = ", ".join(f"{each.first}-{each.second}: {each.peer_to_peer_read} ({each.path})" for each in found[:8])
    joined = severity is Severity.ERROR
    title = "Peer-to-peer is refused between GPUs that NVLink joins"
    if not joined:
        title = "These GPUs are made for NVLink and have no peer-to-peer: NCCL goes through the host's memory"
    return Finding(
        f"{title} ({len(found)} pairs)",
        evidence=(see(fabric, "links", "peer-to-peer by pair", shown),),
        fixes=(
            look("See the topology and what peers may do", "nvidia-smi topo -m", "nvidia-smi topo -p2p r"),
            export("Until it is repaired: let NCCL go through the host", "NCCL_P2P_DISABLE=1"),
        ),
        subject="" if joined else "no-peer-to-peer",
        severity=severity,
        confidence=Confidence.LIKELY,
    )


@rule(severity=Severity.WARNING, group="fabric")
def acs_blocks_p2p(
    fabric: Fabric, gpus: GpuFabric | None, bus: PciBus | None, module: KernelModule | None, host: Host | None
) -> Iterator[Finding]:
    """PCIe access control (ACS) sends the traffic between devices of one switch up to the CPU and back.

    ## What it means
    With ACS redirection on, a PCIe switch may not pass packets from one device below it to another directly.

    ## Why it matters
    Peer-to-peer between GPUs, and between a GPU and its network card, is much slower or does not work. Hangs of NCCL
    were traced to it.

    ## How it is detected
    The ACS control bits of the bridges above the GPUs (root only). It matters where two GPUs share a switch, or where
    InfiniBand is there; elsewhere nothing is reported. In a virtual machine ACS is needed and not judged.

    ## What to do
    Switch ACS off in the firmware's settings, or for the bridges until the next boot. Leave it on where devices are
    passed to virtual machines.

    ## Sources
    https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/troubleshooting.html
    """
    need_native_driver(host)
    need_gpu(bus, None, module)
    if host and host.virtualization not in {None, "none"}:
        raise NotApplicable("in a virtual machine access control is needed, and not seen")
    bridges = fabric.acs_enabled_bridges
    if not bridges:
        if "acs_enabled_bridges" in fabric.unknown:
            raise Unknown(fabric.unknown["acs_enabled_bridges"])
        return
    sharing = _share_a_switch(fabric, gpus)
    if not sharing:
        return
    yield Finding(
        "ACS is on above the GPUs: traffic between devices of one switch takes the way through the CPU",
        evidence=(see(fabric, "acs_enabled_bridges", "bridges that redirect", ", ".join(bridges[:8])), *sharing),
        fixes=tuple(_without_acs(bridges)),
        confidence=Confidence.LIKELY,
    )


def _share_a_switch(fabric: Fabric, gpus: GpuFabric | None) -> tuple[Evidence, ...]:
    """Give what makes the redirection matter: GPUs below one switch without NVLink, or a fabric card in use."""
    ports = [port for port in fabric.infiniband if is_active(port)]
    if ports:
        return (see(fabric, "infiniband", "RDMA ports that are up", name_ports(ports)),)
    near = [each for each in (gpus.links if gpus else ()) if each.path in ONE_SWITCH]
    if gpus is None or not near or any(link.active for links in gpus.nvlinks for link in links):
        return ()
    return (see(gpus, "links", "GPUs below one switch", ", ".join(f"{each.first}-{each.second}" for each in near[:8])),)


def _without_acs(bridges: tuple[str, ...]) -> Iterator[Fix]:
    commands = tuple(f"sudo setpci -s {each} ECAP_ACS+0x6.w=0000" for each in bridges[:16])
    yield administer("Switch the redirection off until the next boot", "the bridges' registers", *commands)
    yield look("See it for all bridges", "sudo lspci -vvv | grep -i acsctl", root=True)


RULES: tuple[Rule, ...] = (nccl_p2p_broken, acs_blocks_p2p)
