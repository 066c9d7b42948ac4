"""Words of jobs over several GPUs or machines, and of the limits that they run into."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.driver import NvidiaSmi
from envdoctor.facts.host import Environment, Host, Resources
from envdoctor.facts.nvml import GpuFabric
from envdoctor.facts.packages import Packages
from envdoctor.facts.text import ErrorText, Pasted
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Confidence, Evidence, Finding, Severity, see
from envdoctor.knowledge.cuda import cuda_minor
from envdoctor.remedy.container import more_shm
from envdoctor.remedy.install import install
from envdoctor.remedy.variables import export, look, start_anew, unset
from envdoctor.rule import Witness, cross_examined, witness
from envdoctor.rules.cards import cards, gpu_names
from envdoctor.rules.limits import ENOUGH_FILES, raise_files
from envdoctor.rules.nccl import INSIDE, SOCKETS
from envdoctor.rules.peers import WIRED_BY_NVLINK
from envdoctor.rules.rdma import without_lock_limit
from envdoctor.rules.said import NO_PACKAGES, hear, lead, said
from envdoctor.rules.system import ENOUGH_SHM_MIB, SHM

BRIDGES = frozenset({"phb", "node", "sys"})  # from card to card through a host bridge or further


@witness
def nccl_p2p_broken(
    words: ErrorText | None,
    pasted: Pasted | None,
    smi: NvidiaSmi | None,
    fabric: GpuFabric | None,
    host: Host | None,
) -> Iterator[Finding]:
    """CUDA refuses peers, or switching peer-to-peer off helps; a hang is a lead on cards that PCIe joins alone."""
    heard = hear(words, "nccl-p2p-broken")
    names = gpu_names(None, smi, None)
    wired = any(WIRED_BY_NVLINK.search(each) for each in names)
    if heard is None:
        if pasted:
            yield from _no_peers_in_a_guest(fabric, host)
        return
    several = sum(each.count for each in cards(None, smi, None)) > 1
    if not heard.plain and wired:
        return
    vague = heard.own_words or heard.message.id == "nccl-cuda-error"
    if heard.message.id == "nccl-cuda-error" and not several:
        return
    yield lead(
        heard,
        "Peer-to-peer between the GPUs does not work" if not vague else "Peer-to-peer between the GPUs may not work",
        export("As a test, and until it is repaired: let NCCL go through the host", "NCCL_P2P_DISABLE=1"),
        look("See what peers may do", "nvidia-smi topo -p2p r", "nvidia-smi topo -m"),
        look("See whether ACS or the IOMMU is in the way", "sudo lspci -vvv | grep -i ACSCtl", _iommu(), root=True),
        also=(see(smi, "gpus", "GPUs", ", ".join(dict.fromkeys(names))),) if smi and names else (),
        severity=(Severity.WARNING if several else Severity.INFO) if vague else Severity.ERROR,
    )


def _iommu() -> str:
    return "sudo dmesg | grep -i -E 'iommu|AMD-Vi|DMAR' | tail"


def _no_peers_in_a_guest(fabric: GpuFabric | None, host: Host | None) -> Iterator[Finding]:
    """Say of cards in a virtual machine that only host bridges join: mostly there is no peer-to-peer between them."""
    links = fabric.links if fabric else ()
    guest = host.virtualization if host and host.virtualization not in {None, "none"} else None
    if fabric and links and guest and host and all((each.path or "").lower() in BRIDGES for each in links):
        shown = ", ".join(f"{each.first}-{each.second}: {each.path}" for each in links[:4])
        yield Finding(
            "The GPUs of this virtual machine are joined by host bridges alone: mostly without peer-to-peer",
            "NCCL then goes through the host's memory. Programs with an all-reduce of their own may fail.",
            (see(fabric, "links", "topology", shown), see(host, "virtualization", "hypervisor")),
            (
                look("See what peers may do", "nvidia-smi topo -p2p r"),
                export("Until it is known: let NCCL go through the host", "NCCL_P2P_DISABLE=1"),
            ),
            severity=Severity.INFO,
            confidence=Confidence.POSSIBLE,
        )


@witness
def nccl_network_misconfig(words: ErrorText, environment: Environment | None) -> Iterator[Finding]:
    """NCCL or gloo finds no interface; a system error where a setting names one that leads nowhere."""
    heard = hear(words, "nccl-network-misconfig")
    if heard is None:
        return
    settings = _socket_settings(environment)
    nowhere = [name for name, value in settings if value.strip().lstrip("=").startswith(INSIDE)]
    vague = heard.message.id == "nccl-system-error"
    if vague and said(words, "shm-nccl", "shm-bus-error", "ib-register"):
        return  # the first warning names another cause
    name = (nowhere or [name for name, _ in settings] or [SOCKETS[0]])[0]
    yield lead(
        heard,
        f"{name} leaves no interface to NCCL that leads to the others"
        if not vague or nowhere
        else "A system call failed inside NCCL: network, shared or locked memory; its first warning says which",
        *((unset(name),) if not vague or settings else ()),
        export("Let NCCL say what failed", "NCCL_DEBUG=WARN"),
        look("See which interfaces have an address", "ip -o -4 addr show"),
        also=tuple(see(environment, "variables", each, value) for each, value in settings if environment),
        severity=Severity.INFO if vague and not nowhere else None,
        confirmed=True if nowhere else None,
        doubtful=vague,
    )


def _socket_settings(environment: Environment | None) -> list[tuple[str, str]]:
    found = [(name, environment.get(name)) for name in SOCKETS] if environment else []
    return [(name, value) for name, value in found if value]


@cross_examined
def nccl_too_old_for_gpu(
    words: ErrorText, build: TorchBuild | None, smi: NvidiaSmi | None, packages: Packages | None
) -> Iterator[Finding]:
    """NCCL's kernels ask for more than the GPU has."""
    heard = hear(words, "nccl-too-old-for-gpu")
    if heard:
        major = (cuda_minor(build.cuda if build else None) or (12,))[0]
        title = f"Install a newer nvidia-nccl-cu{major}"
        yield lead(
            heard,
            "NCCL is older than the GPU: its kernels ask for more shared memory than there is",
            install(packages or NO_PACKAGES, (f"nvidia-nccl-cu{major}>=2.26.2",), title=title, alone=True),
            also=tuple(each.evidence for each in cards(None, smi, None)[:2]),
        )


@cross_examined
def shm_too_small(words: ErrorText, host: Host | None, resources: Resources | None) -> Iterator[Finding]:
    """DataLoader's or NCCL's own words; doubtful where /dev/shm is known to be large."""
    heard = hear(words, "shm-too-small")
    size = resources.shm_total_mib if resources else None
    if heard:
        large = size is not None and size >= ENOUGH_SHM_MIB
        yield lead(
            heard,
            "Shared memory, /dev/shm, ran out",
            *more_shm(host),
            start_anew("In a container: start it with more", "docker run --shm-size=8g IMAGE"),
            also=(see(resources, "shm_total_mib", SHM, f"{size} MiB"),) if resources and size else (),
            severity=Severity.WARNING if large else Severity.ERROR,
            confirmed=True if size is not None and not large else None,
        )


@witness
def memlock_limit_too_low(words: ErrorText, resources: Resources | None, host: Host | None) -> Iterator[Finding]:
    """InfiniBand may not register memory; not where nothing limits it."""
    heard = hear(words, "memlock-limit-too-low")
    limit = resources.locked_memory_soft_kib if resources else None
    if heard and limit != -1:
        yield lead(
            heard,
            "The limit of locked memory is too low for InfiniBand",
            *without_lock_limit(host, resources or Resources()),
            also=_limit(resources, limit),
            severity=Severity.ERROR,
            confirmed=True if limit is not None else None,
        )


@witness
def open_files_limit_low(words: ErrorText, resources: Resources | None, host: Host | None) -> Iterator[Finding]:
    """A process reached the limit; not where nothing limits it."""
    heard = hear(words, "open-files-limit-low")
    soft, hard = (resources.open_files_soft, resources.open_files_hard) if resources else (None, None)
    if heard and soft != -1:
        yield lead(
            heard,
            "A process reached its limit of open files",
            raise_files(host, hard),
            detail="Where it is high already: torch.multiprocessing.set_sharing_strategy('file_system') needs fewer.",
            also=(see(resources, "open_files_soft", "limit of open files (soft)"),) if resources and soft else (),
            severity=Severity.ERROR,
            confirmed=True if soft is not None and soft < ENOUGH_FILES else None,
        )


def _limit(resources: Resources | None, limit: int | None) -> tuple[Evidence, ...]:
    return (see(resources, "locked_memory_soft_kib", "locked memory", f"{limit} KiB"),) if resources and limit else ()


WITNESSES: tuple[Witness, ...] = (
    nccl_p2p_broken, nccl_network_misconfig, nccl_too_old_for_gpu, shm_too_small, memlock_limit_too_low,
    open_files_limit_low,
)  # fmt: skip
