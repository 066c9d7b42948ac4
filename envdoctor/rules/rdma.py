"""What machines talk over: InfiniBand and RoCE ports, GPUDirect, and the memory a process may lock for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from envdoctor.facts.driver import CudaDriver, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Environment, Host, Resources
from envdoctor.facts.libraries import Toolkit
from envdoctor.facts.surroundings import Fabric, InfinibandPort
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.knowledge.gpus import is_consumer
from envdoctor.remedy.driver import shell
from envdoctor.remedy.variables import administer, look, start_anew
from envdoctor.rule import NotApplicable, Rule, Unknown, known, rule
from envdoctor.rules.cards import gpu_names
from envdoctor.rules.launch import nccl_setting
from envdoctor.rules.names import match_names
from envdoctor.rules.presence import in_container, need_gpu, need_native_driver

ENOUGH_LOCKED_KIB = 1 << 20  # NCCL registers buffers of hundreds of MiB a process; NVIDIA says unlimited


def is_active(port: InfinibandPort) -> bool:
    """Tell whether a port carries traffic: ``4: ACTIVE``."""
    return "ACTIVE" in (port.state or "")


def is_verbs(port: InfinibandPort) -> bool:
    """Tell whether NCCL itself uses a port: InfiniBand or RoCE. Others, as EFA, have a plug-in of their own."""
    return port.link_layer in {"InfiniBand", "Ethernet"}


def name_ports(ports: list[InfinibandPort]) -> str:
    """Name ports as NCCL does, the first dozen."""
    return ", ".join(f"{each.device}:{each.port}" for each in ports[:12])


def _need_rdma(fabric: Fabric) -> None:
    if not fabric.infiniband:
        if "infiniband" in fabric.unknown:
            raise Unknown(fabric.unknown["infiniband"])
        raise NotApplicable("no InfiniBand or RoCE device")


def _in_use(
    fabric: Fabric, environment: Environment | None, toolkit: Toolkit | None
) -> tuple[list[InfinibandPort], bool]:
    """Give the active ports that NCCL would use, and whether that is sure: InfiniBand, or cards named for NCCL."""
    named = nccl_setting(environment, toolkit, "NCCL_IB_HCA")
    off = nccl_setting(environment, toolkit, "NCCL_IB_DISABLE")
    if off and off[0].strip() == "1":
        raise NotApplicable("NCCL_IB_DISABLE=1: NCCL does not use RDMA")
    wanted = match_names(named[0], [port.device for port in fabric.infiniband]) if named else None
    ports = [each for each in fabric.infiniband if is_active(each) and (wanted is None or each.device in wanted)]
    real = [each for each in ports if is_verbs(each)]
    return real, bool(named) or any(each.link_layer == "InfiniBand" for each in real)


@rule(severity=Severity.WARNING, group="fabric")
def gpudirect_rdma_missing(
    fabric: Fabric,
    module: KernelModule | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    smi: NvidiaSmi | None,
    driver: CudaDriver | None,
    environment: Environment | None,
    toolkit: Toolkit | None,
    host: Host | None,
) -> Iterator[Finding]:
    """The network cards cannot reach the GPUs' memory directly: GPUDirect RDMA is not set up.

    ## What it means
    A network card reads GPU memory through the module nvidia-peermem, or through dma-buf with the open NVIDIA module
    on Linux 5.12 or newer. Neither is here.

    ## Why it matters
    Between machines NCCL copies through the host's memory. All-reduce loses half of its bandwidth or more.

    ## How it is detected
    An active RDMA port, the loaded modules, the flavour of the NVIDIA module and the kernel's release. A warning for
    InfiniBand and for cards that NCCL_IB_HCA names; else info, for many Ethernet cards speak RDMA that nobody uses.
    GeForce cards have no GPUDirect and are left out.

    ## What to do
    Load nvidia-peermem, or install the open kernel module.

    ## Sources
    https://docs.nvidia.com/datacenter/cloud-native/gpu-operator/latest/gpu-operator-rdma.html
    https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/troubleshooting.html
    """
    need_native_driver(host)
    need_gpu(bus, nodes, module, smi, driver)
    _need_rdma(fabric)
    names = gpu_names(driver, smi, None)
    if names and all(is_consumer(each) for each in names):
        raise NotApplicable("GeForce cards have no GPUDirect RDMA")
    ports, sure = _in_use(fabric, environment, toolkit)
    if not ports or fabric.peermem_loaded or fabric.dmabuf_supported:
        return
    known(fabric, "peermem_loaded"), known(fabric, "dmabuf_supported")
    where = ", on the host" if in_container(host) else ""
    yield Finding(
        "GPUDirect RDMA is not set up: traffic between machines goes through the host's memory",
        evidence=(
            see(fabric, "infiniband", "RDMA ports that are up", name_ports(ports)),
            see(fabric, "peermem_loaded", "nvidia-peermem", "not loaded"),
            see(fabric, "dmabuf_supported", "dma-buf (open module, Linux 5.12)", "no"),
        ),
        fixes=(
            administer(
                f"Load nvidia-peermem now and at each boot{where}",
                "the running kernel's modules",
                "sudo modprobe nvidia-peermem",
                "echo nvidia-peermem | sudo tee /etc/modules-load.d/nvidia-peermem.conf",
            ),
        ),
        severity=None if sure else Severity.INFO,
        confidence=Confidence.LIKELY,
    )


@rule(severity=Severity.WARNING, group="fabric")
def infiniband_port_down(fabric: Fabric, environment: Environment | None, toolkit: Toolkit | None) -> Iterator[Finding]:
    """An InfiniBand port is down while its neighbours are up, or waits for a subnet manager.

    ## What it means
    A cable, a transceiver, a switch port or the subnet manager is missing for this port.

    ## Why it matters
    NCCL uses fewer rails, or other machines wait for this one for ever.

    ## How it is detected
    State and physical state of each port. InfiniBand ports are compared with each other: where none is up, the
    machine does not use them. An Ethernet port that is down counts only when NCCL_IB_HCA names it. A port that somebody
    disabled, or that is the second one of a card whose first one is up, is info: few machines use both.

    ## What to do
    Look at the cable and the switch. In state INIT with the link up, start the subnet manager.

    ## Sources
    https://docs.nvidia.com/networking/display/ofedv512580/infiniband+fabric+utilities
    """
    _need_rdma(fabric)
    named = nccl_setting(environment, toolkit, "NCCL_IB_HCA")
    wanted = match_names(named[0], [port.device for port in fabric.infiniband]) if named else None
    used = any(is_active(each) for each in fabric.infiniband if each.link_layer == "InfiniBand")
    for port in fabric.infiniband:
        chosen = wanted is not None and port.device in wanted
        if port.state is None or is_active(port) or (wanted is not None and not chosen):
            continue
        linked = "LinkUp" in (port.physical_state or "")
        if chosen or (port.link_layer == "InfiniBand" and (used or linked)):
            finding = _port_down(fabric, port, named[1] if named and chosen else None, linked=linked)
            yield replace(finding, severity=Severity.INFO) if _is_spare(fabric, port) and not linked else finding


def _is_spare(fabric: Fabric, port: InfinibandPort) -> bool:
    """Tell whether a port is switched off, or shares its card with one that is up and so may never have had a cable."""
    card = _card(port)
    beside = [each for each in fabric.infiniband if each != port and is_active(each)]
    twins = [each for each in beside if each.device == port.device or (card and _card(each) == card)]
    return "Disabled" in (port.physical_state or "") or bool(twins)


def _card(port: InfinibandPort) -> str:
    return (port.pci_address or "").rpartition(".")[0]


def _port_down(fabric: Fabric, port: InfinibandPort, named: Evidence | None, *, linked: bool) -> Finding:
    name, waits = f"{port.device}:{port.port}", linked and port.link_layer == "InfiniBand"
    state = f"{port.state}, {port.physical_state or 'physical state not known'}"
    return Finding(
        f"{port.link_layer or 'RDMA'} port {name} is not up" + (": it waits for a subnet manager" if waits else ""),
        evidence=(see(fabric, "infiniband", name, state), *((named,) if named else ())),
        fixes=(look("Look at the port and its errors", f"ibstat {port.device} {port.port}; perfquery -x 2>/dev/null"),),
        subject=name,
    )


@rule(severity=Severity.WARNING, group="system")
def memlock_limit_too_low(
    resources: Resources,
    fabric: Fabric,
    environment: Environment | None,
    toolkit: Toolkit | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    host: Host | None,
) -> Iterator[Finding]:
    """The limit of locked memory is too low for InfiniBand.

    ## What it means
    RDMA pins the buffers that it sends. A process may pin no more than its limit of locked memory.

    ## Why it matters
    NCCL fails with "Call to ibv_create_cq failed" or "Cannot allocate memory", or falls back to sockets.

    ## How it is detected
    RLIMIT_MEMLOCK against 1 GiB, on a machine with a GPU and an active RDMA port. Root outside a container is not
    bound by it, nor is a container that was given the capability IPC_LOCK, as pods with RDMA are. For Ethernet ports
    that NCCL_IB_HCA does not name it is info.

    ## What to do
    Set the limit to unlimited where the job is started: in the container's options, the service or limits.conf.

    ## Sources
    https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/troubleshooting.html
    """
    need_gpu(bus, nodes, module)
    _need_rdma(fabric)
    if host and host.is_root and not in_container(host):
        raise NotApplicable("root outside a container is not bound by this limit")
    if resources.may_lock_memory:
        raise NotApplicable("with the capability IPC_LOCK a process is not bound by this limit")
    ports, sure = _in_use(fabric, environment, toolkit)
    if not ports:
        raise NotApplicable("no RDMA port is up")
    limit = known(resources, "locked_memory_soft_kib")
    if limit < 0 or limit >= ENOUGH_LOCKED_KIB:
        return
    yield Finding(
        f"A process may lock {limit} KiB of memory: too little for InfiniBand",
        evidence=(
            see(resources, "locked_memory_soft_kib", "limit of locked memory", f"{limit} KiB"),
            see(fabric, "infiniband", "RDMA ports that are up", name_ports(ports)),
        ),
        fixes=without_lock_limit(host, resources),
        severity=None if sure else Severity.INFO,
        confidence=Confidence.LIKELY,
    )


def without_lock_limit(host: Host | None, resources: Resources) -> tuple[Fix, ...]:
    """Lift the limit of locked memory: of the container, of this shell where that is allowed, of everyone."""
    if in_container(host):
        tool = "podman" if host and host.container == "podman" else "docker"
        return (start_anew("Start the container without the limit", f"{tool} run --ulimit memlock=-1 IMAGE"),)
    lines = tuple(
        f"echo '* {kind} memlock unlimited' | sudo tee -a /etc/security/limits.conf" for kind in ("soft", "hard")
    )
    lasting = administer("Lift it for everyone, then log in again", "the limits of new logins", *lines)
    if resources.locked_memory_hard_kib == -1:
        return (Fix("Lift it in this shell", shell("ulimit -l unlimited"), Safety.SAFE, "this shell only"), lasting)
    return (lasting,)


RULES: tuple[Rule, ...] = (gpudirect_rdma_missing, infiniband_port_down, memlock_limit_too_low)
