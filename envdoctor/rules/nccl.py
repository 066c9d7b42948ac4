"""NCCL against the GPU and the network: a version that predates the card, interfaces that are not there."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Environment
from envdoctor.facts.libraries import Libraries, MappedLibraries, Toolkit
from envdoctor.facts.surroundings import Fabric
from envdoctor.facts.torch import TorchBuild, TorchCuda, TorchSettings
from envdoctor.finding import Command, Confidence, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.knowledge.cuda import Version, dotted, numbers
from envdoctor.knowledge.gpus import capability
from envdoctor.knowledge.toolchain import NcclFloor, nccl_floor
from envdoctor.remedy.variables import look, unset
from envdoctor.rule import Missing, NotApplicable, Rule, Unknown, rule
from envdoctor.rules.builds import need_cuda_build
from envdoctor.rules.cards import Card, cards
from envdoctor.rules.launch import nccl_setting, several_machines
from envdoctor.rules.names import match_names
from envdoctor.rules.presence import has_gpu

SOCKETS = ("NCCL_SOCKET_IFNAME", "NCCL_OOB_NET_IFNAME", "GLOO_SOCKET_IFNAME")
INSIDE = ("lo", "docker", "virbr", "br-", "veth", "cni", "podman")  # lead to no other machine


@rule(severity=Severity.ERROR, group="fabric", explained_by=("nccl-mixed", "ld-library-path-shadowing"))
def nccl_too_old_for_gpu(
    build: TorchBuild,
    libraries: Libraries | None,
    mapped: MappedLibraries | None,
    settings: TorchSettings | None,
    driver: CudaDriver | None,
    smi: NvidiaSmi | None,
    cuda: TorchCuda | None,
    environment: Environment | None,
) -> Iterator[Finding]:
    """NCCL is older than the GPU.

    ## What it means
    NCCL brings code of its own for each GPU generation. The one that would be loaded was made before this GPU.

    ## Why it matters
    The first collective fails: "unhandled cuda error", or "exceeds device/fn maxSharedMem" on an RTX 50 card.

    ## How it is detected
    NCCL's version as the mapped library says it, else that of the copy the loader would find, else the one torch was
    built with, against the first release that serves the generation. A single GPU outside a job over several machines
    has no use for NCCL.

    ## What to do
    Install the NCCL that torch pins, or a newer one of the same CUDA major, and let nothing older come before it.

    ## Sources
    https://github.com/NVIDIA/nccl/issues/1637
    https://docs.nvidia.com/deeplearning/nccl/release-notes/
    """
    wanted = need_cuda_build(build)
    found = cards(driver, smi, cuda)
    if not found:
        raise Missing(CudaDriver)
    if sum(each.count for each in found) < 2 and several_machines(environment) is None:
        raise NotApplicable("one GPU on one machine has no use for NCCL")
    for card in found:
        floor = nccl_floor(capability(card.capability) or ())
        if floor is None:
            continue
        have = nccl_version(libraries, mapped, settings)
        if have is None:
            raise Unknown("NCCL's version is not known")
        if have[0] < floor.nccl:
            yield _older_nccl(card, floor, *have, wanted, alone=len(found) == 1)


def nccl_version(
    libraries: Libraries | None, mapped: MappedLibraries | None, settings: TorchSettings | None
) -> tuple[Version, Evidence] | None:
    """Give NCCL's version from who knows best: mapped, found first by the loader, or torch's headers."""
    row = libraries.row("nccl") if libraries else None
    places: list[tuple[str | None, Evidence]] = []
    if mapped and mapped.nccl_version:
        places.append((mapped.nccl_version, see(mapped, "nccl_version", "NCCL that is loaded")))
    if row and (row.api_version or row.first):
        path = row.first.path if row.first else row.soname
        text = row.api_version or (row.first.version if row.first else None)
        shown = Evidence("libraries.rows[nccl]", f"{text} ({path})", "loader's search order", "", "NCCL found first")
        places.append((text, shown))
    if settings and settings.nccl_version:
        places.append((settings.nccl_version, see(settings, "nccl_version", "NCCL that torch was built with")))
    return next(((version, shown) for text, shown in places if (version := numbers(text))), None)


def _older_nccl(
    card: Card, floor: NcclFloor, version: Version, shown: Evidence, wanted: Version, *, alone: bool
) -> Finding:
    package, needed = f"nvidia-nccl-cu{wanted[0]}", dotted(floor.nccl)
    table = Evidence("knowledge.nccl_arch", f"{needed} or newer", floor.source, "", "this GPU needs NCCL")
    renew = Command(None, f"python -m pip install --upgrade '{package}>={needed}'")
    return Finding(
        f"NCCL {dotted(version)} is older than the {card.name or 'GPU'}: {floor.words}",
        evidence=(card.evidence, shown, table),
        fixes=(Fix(f"Install a newer {package}", (renew,), Safety.SAFE, "this environment's NCCL"),),
        subject="" if alone else card.name,
        confidence=Confidence.LIKELY,
    )


@rule(severity=Severity.WARNING, group="fabric")
def nccl_network_misconfig(
    fabric: Fabric,
    environment: Environment | None,
    toolkit: Toolkit | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
) -> Iterator[Finding]:
    """A setting names a network interface or card that is not here, or that leads to no other machine.

    ## What it means
    NCCL_SOCKET_IFNAME, NCCL_OOB_NET_IFNAME, GLOO_SOCKET_IFNAME and NCCL_IB_HCA replace the automatic choice of the
    network. A name from another machine leaves nothing to choose from; lo and docker0 end on this machine.

    ## Why it matters
    The start of a distributed job fails with "no socket interface found" or "Unable to find address for", hangs, or
    falls back to slow sockets.

    ## How it is detected
    The value is read as NCCL reads it (prefixes, "=" for whole names, "^" to exclude; from the environment or from
    nccl.conf) against the interfaces and RDMA devices of the kernel. An interface that leads nowhere counts where the
    variables of the launcher show several machines; else it is info.

    ## What to do
    Unset the variable, or name what is here.

    ## Sources
    https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html
    https://docs.pytorch.org/docs/stable/distributed.html
    """
    if has_gpu(bus, nodes, module) is False and not (environment and environment.get("GLOO_SOCKET_IFNAME")):
        raise NotApplicable("no NVIDIA device on this machine, and no interface is chosen for gloo")
    for name in SOCKETS:
        chosen = nccl_setting(environment, toolkit, name)
        if chosen and chosen[0].strip():
            yield from _socket(fabric, environment, name, *chosen)
    cards_chosen = nccl_setting(environment, toolkit, "NCCL_IB_HCA")
    if cards_chosen and cards_chosen[0].strip() and not _without_rdma(environment, toolkit):
        yield from _rdma_card(fabric, *cards_chosen)


def _socket(
    fabric: Fabric, environment: Environment | None, name: str, value: str, shown: Evidence
) -> Iterator[Finding]:
    there = [each.name for each in fabric.nics]
    if not there:
        raise Unknown(fabric.unknown.get("nics", "the network interfaces are not known"))
    text = f"={value}" if name.startswith("GLOO") else value  # gloo takes whole names
    taken = match_names(text, there)
    up = [each.name for each in fabric.nics if each.name in taken and each.up is not False]
    listed = see(fabric, "nics", "interfaces here", ", ".join(there[:12]))
    fixes = (unset(name), look("See which interfaces have an address", "ip -o -4 addr show"))
    if not taken or not up:
        what = "matches no interface here" if not taken else f"leaves only {', '.join(taken[:4])}, which is down"
        yield Finding(f"{name}={value} {what}", "", (shown, listed), fixes, name)
        return
    machines = several_machines(environment)
    if all(each.startswith(INSIDE) for each in up):
        evidence = (shown, listed, *((machines,) if machines else ()))
        title = f"{name}={value} leaves only {', '.join(up[:4])}, which leads to no other machine"
        severity = None if machines else Severity.INFO
        yield Finding(title, "", evidence, fixes, name, severity, confidence=Confidence.LIKELY)


def _without_rdma(environment: Environment | None, toolkit: Toolkit | None) -> bool:
    """Tell whether NCCL is told to use no RDMA: it does not look for cards then."""
    off, net = (nccl_setting(environment, toolkit, name) for name in ("NCCL_IB_DISABLE", "NCCL_NET"))
    return bool((off and off[0].strip() == "1") or (net and net[0].strip().lower() == "socket"))


def _rdma_card(fabric: Fabric, value: str, shown: Evidence) -> Iterator[Finding]:
    if "infiniband" in fabric.unknown:
        raise Unknown(fabric.unknown["infiniband"])
    there = list(dict.fromkeys(port.device for port in fabric.infiniband))
    if match_names(value, there):
        return
    listed = see(fabric, "infiniband", "RDMA devices here", ", ".join(there) or "none")
    fixes = (unset("NCCL_IB_HCA"), look("See which RDMA devices there are", "ls /sys/class/infiniband"))
    yield Finding(f"NCCL_IB_HCA={value} matches no RDMA device here", "", (shown, listed), fixes, "NCCL_IB_HCA")


RULES: tuple[Rule, ...] = (nccl_too_old_for_gpu, nccl_network_misconfig)
