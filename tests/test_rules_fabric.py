"""Rules about peer-to-peer, ACS, InfiniBand, GPUDirect, locked memory, and NCCL's version and network."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envdoctor.facts import Fact
from envdoctor.facts.driver import KernelModule, NvidiaSmi, SmiGpu
from envdoctor.facts.host import Environment, Resources, Variable
from envdoctor.facts.libraries import Copy, LedgerRow, Libraries, MappedLibraries, Toolkit
from envdoctor.facts.nvml import Gpu, GpuFabric, GpuState, NvLink, PeerLink
from envdoctor.facts.surroundings import Fabric, InfinibandPort, Nic
from envdoctor.facts.torch import TorchSettings
from envdoctor.finding import Severity, Status
from envdoctor.rules import peers, rdma
from envdoctor.rules.names import match_names
from envdoctor.rules.nccl import nccl_network_misconfig, nccl_too_old_for_gpu
from envdoctor.rules.peers import acs_blocks_p2p, nccl_p2p_broken
from envdoctor.rules.rdma import gpudirect_rdma_missing, infiniband_port_down, memlock_limit_too_low
from envdoctor.testing import check
from tests.rule_facts import CPU_BUILD, DOCKER, NO_GPU, NO_NODES, NODES, ONE_GPU, UBUNTU, build, module

ALL_RULES = (*peers.RULES, *rdma.RULES)

SWITCH = "00000000:07:00.0"


def variables(**values: str) -> Environment:
    """Make an environment."""
    return Environment(variables=tuple(Variable(name, value) for name, value in values.items()))


def pair(status: str | None, path: str = "sys", *, linked: bool = False) -> GpuFabric:
    """Make two GPUs with this peer-to-peer status, joined by one switch or not."""
    links = (NvLink(0, active=True, remote=SWITCH),) if linked else ()
    return GpuFabric(links=(PeerLink(0, 1, path, status),), nvlinks=(links, links))


def two(name: str, *, mig_enabled: bool | None = None) -> GpuState:
    """Make what NVML reports of two cards of this model."""
    cards = (Gpu(0, name, mig_enabled=mig_enabled), Gpu(1, name, mig_enabled=mig_enabled))
    return GpuState(init_code=0, count=2, gpus=cards)


H100 = "NVIDIA H100 80GB HBM3"


def test_peers_refused_over_nvlink() -> None:
    """Two cards on one NVSwitch whose peer-to-peer is refused are an error with the pair."""
    finding = check(nccl_p2p_broken, pair("chipset-not-supported", linked=True), two(H100)).finding
    assert (Severity.ERROR, "0-1: chipset-not-supported (sys)") == (finding.severity, finding.evidence[0].value)
    assert "export NCCL_P2P_DISABLE=1" == finding.fixes[1].commands[0].shell


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ((pair("ok", linked=True), two(H100)), []),
        ((pair("chipset-not-supported", "phb"), two(H100)), [Severity.WARNING]),
        ((pair("topology-not-supported"), two("NVIDIA A100-SXM4-80GB")), [Severity.WARNING]),
        ((pair("chipset-not-supported"), two("NVIDIA GeForce RTX 4090")), []),
        ((pair("not-supported"), two("NVIDIA L4")), []),
        ((pair("chipset-not-supported"), two("NVIDIA A100-PCIE-40GB")), []),
        ((pair("not-supported", linked=True), two(H100, mig_enabled=True)), []),
    ],
)
def test_peer_to_peer_boundaries(facts: tuple[Fact, ...], found: list[Severity]) -> None:
    """Boards without peer-to-peer are healthy; SXM cards without it are a warning."""
    assert found == [each.severity for each in check(nccl_p2p_broken, *facts).findings]


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((GpuFabric(), two(H100)), Status.UNKNOWN),
        ((pair("unknown"), two(H100)), Status.UNKNOWN),
        ((GpuFabric(), GpuState(init_code=0, count=1)), Status.NOT_APPLICABLE),
        ((pair("not-supported", linked=True), variables(NCCL_P2P_DISABLE="1")), Status.NOT_APPLICABLE),
    ],
)
def test_peer_to_peer_that_is_not_told(facts: tuple[Fact, ...], status: Status) -> None:
    """What NVML does not say is unknown, and a switched-off way is not judged."""
    assert status == check(nccl_p2p_broken, *facts).status


IB = InfinibandPort("mlx5_0", 1, "4: ACTIVE", "5: LinkUp", link_layer="InfiniBand")
IB_DOWN = InfinibandPort("mlx5_1", 1, "1: DOWN", "2: Polling", link_layer="InfiniBand")
IB_WAITS = InfinibandPort("mlx5_1", 1, "2: INIT", "5: LinkUp", link_layer="InfiniBand")
ROCE = InfinibandPort("mlx5_2", 1, "4: ACTIVE", "5: LinkUp", link_layer="Ethernet")
ROCE_DOWN = InfinibandPort("mlx5_3", 1, "1: DOWN", "3: Disabled", link_layer="Ethernet")
EFA = InfinibandPort("rdmap0s1", 1, "4: ACTIVE", "5: LinkUp", link_layer="Unspecified")
BRIDGE = "0000:15:01.0"
ACS = Fabric(acs_enabled_bridges=(BRIDGE,))


def test_acs_above_gpus_of_one_switch() -> None:
    """ACS above two PCIe cards of one switch is a warning, with the register to write."""
    finding = check(acs_blocks_p2p, ACS, pair("ok", "pix"), ONE_GPU, UBUNTU).finding
    assert f"sudo setpci -s {BRIDGE} ECAP_ACS+0x6.w=0000" == finding.fixes[0].commands[0].shell


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((replace(ACS, infiniband=(IB,)), pair("ok", linked=True), ONE_GPU), Status.FIRED),
        ((ACS, pair("ok", "pix", linked=True), ONE_GPU), Status.PASSED),
        ((ACS, pair("ok", "phb"), ONE_GPU), Status.PASSED),
        ((ACS, ONE_GPU), Status.PASSED),
        ((Fabric(), pair("ok", "pix"), ONE_GPU), Status.PASSED),
        ((Fabric(unknown={"acs_enabled_bridges": "root alone"}), pair("ok", "pix"), ONE_GPU), Status.UNKNOWN),
        ((ACS, pair("ok", "pix"), ONE_GPU, replace(UBUNTU, virtualization="kvm")), Status.NOT_APPLICABLE),
    ],
)
def test_acs_boundaries(facts: tuple[Fact, ...], status: Status) -> None:
    """ACS matters below one switch or beside RDMA, not between root ports and not in a virtual machine."""
    assert status == check(acs_blocks_p2p, *facts).status


A100 = NvidiaSmi(gpus=(SmiGpu(0, "NVIDIA A100-SXM4-80GB", compute_capability="8.0"),))
GEFORCE = NvidiaSmi(gpus=(SmiGpu(0, "NVIDIA GeForce RTX 4090"),))


def network(*ports: InfinibandPort, peermem: bool | None = False, dmabuf: bool | None = False) -> Fabric:
    """Make the RDMA ports and what reaches GPU memory."""
    return Fabric(infiniband=ports, peermem_loaded=peermem, dmabuf_supported=dmabuf)


@pytest.mark.parametrize(
    ("facts", "severity"),
    [
        ((network(IB), A100), Severity.WARNING),
        ((network(ROCE), A100), Severity.INFO),
        ((network(ROCE), A100, variables(NCCL_IB_HCA="mlx5")), Severity.WARNING),
        ((network(IB, peermem=True), A100), None),
        ((network(IB, dmabuf=True), A100), None),
        ((network(IB_DOWN), A100), None),
        ((network(EFA), A100), None),
        ((network(IB), GEFORCE), None),
        ((network(IB), A100, variables(NCCL_IB_DISABLE="1")), None),
        ((network(), A100), None),
        ((network(IB, dmabuf=None), A100), None),
    ],
)
def test_gpudirect(facts: tuple[Fact, ...], severity: Severity | None) -> None:
    """An active InfiniBand port without a way to GPU memory warns; unused RDMA over Ethernet is info."""
    findings = check(gpudirect_rdma_missing, *facts, ONE_GPU, UBUNTU).findings
    assert ([severity] if severity else []) == [each.severity for each in findings]


@pytest.mark.parametrize(
    ("ports", "environment", "subjects"),
    [
        ((IB, IB_DOWN), variables(), ["mlx5_1:1"]),
        ((IB, IB_WAITS), variables(), ["mlx5_1:1"]),
        ((IB_WAITS,), variables(), ["mlx5_1:1"]),
        ((IB_DOWN,), variables(), []),
        ((IB, ROCE_DOWN), variables(), []),
        ((ROCE, ROCE_DOWN), variables(NCCL_IB_HCA="mlx5_2,mlx5_3"), ["mlx5_3:1"]),
        ((IB, IB_DOWN), variables(NCCL_IB_HCA="=mlx5_0"), []),
        ((IB, ROCE), variables(), []),
    ],
)
def test_port_down(ports: tuple[InfinibandPort, ...], environment: Environment, subjects: list[str]) -> None:
    """A port that is down while its neighbour is up is named; an unused or an unwanted one is not."""
    findings = check(infiniband_port_down, network(*ports), environment).findings
    assert subjects == [each.subject for each in findings]


@pytest.mark.parametrize(
    ("port", "severity"),
    [
        (replace(IB_DOWN, pci_address="0000:1a:00.1"), Severity.INFO),
        (replace(IB_DOWN, device="mlx5_0", port=2), Severity.INFO),
        (replace(IB_DOWN, physical_state="3: Disabled"), Severity.INFO),
        (replace(IB_DOWN, pci_address="0000:2a:00.0"), Severity.WARNING),
        (replace(IB_WAITS, pci_address="0000:1a:00.1"), Severity.WARNING),
    ],
)
def test_spare_port(port: InfinibandPort, severity: Severity) -> None:
    """A port that is switched off, or the second one of a card whose first is up, may never have had a cable."""
    first = replace(IB, pci_address="0000:1a:00.0")
    assert severity is check(infiniband_port_down, network(first, port)).finding.severity


def limited(kib: int, hard: int = 8192) -> Resources:
    """Make a limit of locked memory."""
    return Resources(locked_memory_soft_kib=kib, locked_memory_hard_kib=hard)


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((limited(8192), network(IB), UBUNTU), Status.FIRED),
        ((limited(8192), network(IB), replace(DOCKER, is_root=True)), Status.FIRED),
        ((limited(-1), network(IB), UBUNTU), Status.PASSED),
        ((limited(1 << 20), network(IB), UBUNTU), Status.PASSED),
        ((limited(8192), network(), UBUNTU), Status.NOT_APPLICABLE),
        ((limited(8192), network(IB_DOWN), UBUNTU), Status.NOT_APPLICABLE),
        ((limited(8192), network(IB), replace(UBUNTU, is_root=True)), Status.NOT_APPLICABLE),
        ((replace(limited(64), may_lock_memory=True), network(IB), DOCKER), Status.NOT_APPLICABLE),
        ((replace(limited(64), may_lock_memory=False), network(IB), DOCKER), Status.FIRED),
        ((Resources(unknown={"locked_memory_soft_kib": "x"}), network(IB), UBUNTU), Status.UNKNOWN),
    ],
)
def test_locked_memory(facts: tuple[Fact, ...], status: Status) -> None:
    """Less than 1 GiB beside an active port fires; root outside a container, and a pod with IPC_LOCK, are not bound."""
    assert status == check(memlock_limit_too_low, *facts, ONE_GPU).status


def test_locked_memory_is_lifted_where_it_is_set() -> None:
    """A container gets its option; a shell whose hard limit allows it gets ulimit."""
    inside = check(memlock_limit_too_low, limited(64), network(IB), DOCKER, ONE_GPU).finding
    shell = check(memlock_limit_too_low, limited(64, -1), network(IB), UBUNTU, ONE_GPU).finding
    assert ("docker run --ulimit memlock=-1 IMAGE", "ulimit -l unlimited") == (
        inside.fixes[0].commands[0].shell,
        shell.fixes[0].commands[0].shell,
    )


def cards(capability: str, count: int = 2) -> NvidiaSmi:
    """Make GPUs of this compute capability."""
    return NvidiaSmi(gpus=tuple(SmiGpu(n, "Some GPU", compute_capability=capability) for n in range(count)))


def ledger(version: str | None) -> Libraries:
    """Make a ledger whose NCCL is of this version."""
    return Libraries(rows=(LedgerRow("nccl", "libnccl.so.2", first=Copy("/x/libnccl.so.2", version=version)),))


def test_nccl_of_the_first_blackwell_release_on_an_rtx_50() -> None:
    """NCCL 2.25.1 on two cards of 12.0 is an error with the first version that works."""
    finding = check(nccl_too_old_for_gpu, build("12.8"), ledger("2.25.1"), cards("12.0")).finding
    assert Severity.ERROR == finding.severity
    assert "python -m pip install --upgrade 'nvidia-nccl-cu12>=2.26.2'" == finding.fixes[0].commands[0].shell


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((build("12.8"), ledger("2.26.2"), cards("12.0")), Status.PASSED),
        ((build("12.8"), ledger("2.25.1"), cards("10.0")), Status.PASSED),
        ((build("12.8"), ledger("2.24.3"), cards("10.3")), Status.FIRED),
        ((build("12.8"), ledger("2.14.3"), cards("9.0")), Status.PASSED),
        ((build("12.8"), ledger("2.25.1"), MappedLibraries(nccl_version="2.27.5"), cards("12.0")), Status.PASSED),
        ((build("12.8"), TorchSettings(nccl_version="2.21.5"), cards("12.0")), Status.FIRED),
        ((build("12.8"), ledger(None), cards("12.0")), Status.UNKNOWN),
        ((build("12.8"), ledger("2.25.1"), cards("12.0", 1)), Status.NOT_APPLICABLE),
        ((build("12.8"), ledger("2.25.1"), cards("12.0", 1), variables(SLURM_NNODES="2")), Status.FIRED),
        ((CPU_BUILD, ledger("2.25.1"), cards("12.0")), Status.NOT_APPLICABLE),
    ],
)
def test_nccl_version_boundaries(facts: tuple[Fact, ...], status: Status) -> None:
    """What is mapped counts before what is on disk; older GPUs and single ones have no floor."""
    assert status == check(nccl_too_old_for_gpu, *facts).status


NICS = Fabric(nics=(Nic("eth0", up=True), Nic("ib0", up=False), Nic("lo", up=True), Nic("docker0", up=True)))


@pytest.mark.parametrize(
    ("environment", "severity"),
    [
        (variables(NCCL_SOCKET_IFNAME="ens5"), Severity.WARNING),
        (variables(NCCL_SOCKET_IFNAME="ib"), Severity.WARNING),
        (variables(NCCL_SOCKET_IFNAME="=eth"), Severity.WARNING),
        (variables(GLOO_SOCKET_IFNAME="eth"), Severity.WARNING),
        (variables(NCCL_IB_HCA="mlx5_9"), Severity.WARNING),
        (variables(NCCL_IB_HCA="mlx5_9", NCCL_IB_DISABLE="0", NCCL_NET="IB"), Severity.WARNING),
        (variables(NCCL_IB_HCA="mlx5_9", NCCL_IB_DISABLE="1"), None),
        (variables(NCCL_IB_HCA="mlx5_9", NCCL_NET="Socket"), None),
        (variables(NCCL_SOCKET_IFNAME="lo", WORLD_SIZE="16", LOCAL_WORLD_SIZE="8"), Severity.WARNING),
        (variables(NCCL_SOCKET_IFNAME="lo", WORLD_SIZE="8", LOCAL_WORLD_SIZE="8"), Severity.INFO),
        (variables(NCCL_SOCKET_IFNAME="docker0"), Severity.INFO),
        (variables(NCCL_SOCKET_IFNAME="eth"), None),
        (variables(NCCL_SOCKET_IFNAME="^docker0,lo"), None),
        (variables(NCCL_SOCKET_IFNAME="=eth0"), None),
        (variables(NCCL_SOCKET_IFNAME="ib,eth"), None),
        (variables(GLOO_SOCKET_IFNAME="eth0"), None),
        (variables(NCCL_SOCKET_IFNAME=""), None),
        (variables(), None),
    ],
)
def test_network_settings(environment: Environment, severity: Severity | None) -> None:
    """A name that leaves no interface warns; loopback warns in a job over several machines and is info else."""
    findings = check(nccl_network_misconfig, NICS, environment, ONE_GPU).findings
    assert ([severity] if severity else []) == [each.severity for each in findings]


def test_network_setting_of_nccls_own_file() -> None:
    """What nccl.conf sets is found there and named; the variable comes before it."""
    toolkit = Toolkit(nccl_conf=(("NCCL_SOCKET_IFNAME", "ens5"),), nccl_conf_path="/etc/nccl.conf")
    finding = check(nccl_network_misconfig, NICS, toolkit, ONE_GPU).finding
    assert "/etc/nccl.conf" == finding.evidence[0].source
    assert not check(nccl_network_misconfig, NICS, toolkit, variables(NCCL_SOCKET_IFNAME="eth0"), ONE_GPU).fired


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((Fabric(unknown={"nics": "denied"}), variables(NCCL_SOCKET_IFNAME="eth0"), NODES), Status.UNKNOWN),
        ((NICS, variables(NCCL_SOCKET_IFNAME="ens5"), NO_GPU, NO_NODES), Status.NOT_APPLICABLE),
        ((NICS, variables(GLOO_SOCKET_IFNAME="ens5"), NO_GPU, NO_NODES), Status.FIRED),
    ],
)
def test_network_settings_without_facts_or_gpu(facts: tuple[Fact, ...], status: Status) -> None:
    """Unread interfaces are unknown; without a GPU only gloo's choice counts."""
    assert status == check(nccl_network_misconfig, *facts, KernelModule(loaded=False)).status


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ("eth", ["eth0", "eth1"]),
        ("=eth0", ["eth0"]),
        ("^eth", ["ib0"]),
        ("^=eth0", ["eth1", "ib0"]),
        ("ib0:1", ["ib0"]),
        ("", ["eth0", "eth1", "ib0"]),
        ("wlan", []),
    ],
)
def test_names_are_read_as_nccl_reads_them(value: str, taken: list[str]) -> None:
    """Prefixes, whole names, exclusions and ports."""
    assert taken == match_names(value, ["eth0", "eth1", "ib0"])


def test_fabric_rules_leave_a_machine_without_gpu_alone() -> None:
    """Nothing about the fabric is judged where there is no NVIDIA device and no RDMA port."""
    bare = (Fabric(), Resources(locked_memory_soft_kib=64), NO_GPU, NO_NODES, KernelModule(loaded=False), UBUNTU)
    rest = [rule for rule in ALL_RULES if rule is not nccl_p2p_broken]
    assert {Status.NOT_APPLICABLE} == {check(rule, *bare).status for rule in rest}
    assert module().loaded
