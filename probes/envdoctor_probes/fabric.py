"""[payload] fabric: what several GPUs and several machines talk over, and what of it the kernel redirects."""

from __future__ import annotations

import os
import re
from typing import Any, List, Optional, Tuple

from envdoctor.facts.gpu import PciBus
from envdoctor.facts.surroundings import Fabric
from envdoctor.probe import Context, probe
from envdoctor_probes.kernel_module import parse_modules, parse_nvrm
from envdoctor_probes.network import read_network
from envdoctor_probes.numa import read_numa
from envdoctor_probes.pci import parse_id
from envdoctor_probes.running import process_of
from envdoctor_probes.tree import Notes, Tree, why

__all__ = ["acs_redirects", "fabric", "kernel_at_least"]

_DEVICES = "/sys/bus/pci/devices"
_GROUPS = "/sys/kernel/iommu_groups"
_NVIDIA, _DISPLAY, _BRIDGE = "10de", "03", "0604"
_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")
_FIRST_EXTENDED, _ACS = 0x100, 0x000D
_REDIRECTS = 0x04 | 0x08 | 0x10  # peer requests, completions and upstream traffic go by way of the root
_MOST_CAPABILITIES = 48
_FOR_ROOT = (
    "the extended PCI configuration space is shown to root alone: sudo lspci -vvv | grep -i acsctl"
    " (SrcValid+ or ReqRedir+ means that it is on)"
)


@probe()
def fabric(context: Context) -> Fabric:
    """Read the network, the switches above the GPUs, the IOMMU and the NUMA nodes."""
    notes = Notes(Tree(context.roots))
    read_network(notes)
    _read_gpudirect(notes)
    gpus = _gpus(notes, context.facts.get("pci_bus"))
    _read_iommu(notes, gpus)
    _read_acs(notes, gpus)
    read_numa(notes, process_of(context))
    fact: Fabric = notes.into(Fabric)
    return fact


def _gpus(notes: Notes, bus: Any) -> Optional[Tuple[str, ...]]:
    """Give the addresses of NVIDIA's GPUs, None when the bus is not shown; a large machine's is not read twice."""
    if isinstance(bus, PciBus) and bus.readable:
        return tuple(each.address for each in bus.gpus)
    tree = notes.tree
    try:
        names = tree.names(_DEVICES)
    except OSError as error:
        notes.miss("acs_enabled_bridges", why(error, _DEVICES))
        return None
    return tuple(each for each in names if _is_nvidia_gpu(tree, f"{_DEVICES}/{each}"))


def _is_nvidia_gpu(tree: Tree, folder: str) -> bool:
    vendor = parse_id(tree.text_or(folder + "/vendor"))
    return vendor == _NVIDIA and parse_id(tree.text_or(folder + "/class")).startswith(_DISPLAY)


def _read_gpudirect(notes: Notes) -> None:
    """Say whether a network card can reach GPU memory: by the peermem module, or by dma-buf."""

    def peermem(text: str) -> bool:
        return bool({"nvidia_peermem", "nv_peer_mem"} & set(parse_modules(text)))

    notes.read("peermem_loaded", "/proc/modules", peermem)
    built_in = notes.tree.names_or_none("/sys/module")
    if "peermem_loaded" in notes.unknown and built_in:  # a kernel without loadable modules keeps no list of them
        notes.put("peermem_loaded", peermem("\n".join(built_in)), "/sys/module")
    _, flavor = parse_nvrm(notes.tree.text_or("/proc/driver/nvidia/version"))
    newer = kernel_at_least(notes.tree.text_or("/proc/sys/kernel/osrelease"), (5, 12))
    if flavor is None:
        notes.miss("dmabuf_supported", "no NVIDIA driver is loaded, or it does not say whether it is the open one")
    elif newer is None:
        notes.miss("dmabuf_supported", "the kernel's release cannot be read")
    else:
        notes.put("dmabuf_supported", newer and flavor == "open")


def kernel_at_least(release: str, wanted: Tuple[int, int]) -> Optional[bool]:
    """Compare a kernel's release such as 6.8.0-31-generic; None when it is none."""
    match = re.match(r"(\d+)\.(\d+)", release.strip())
    return (int(match.group(1)), int(match.group(2))) >= wanted if match else None


def _read_iommu(notes: Notes, gpus: Optional[Tuple[str, ...]]) -> None:
    """Say what the IOMMU does with the GPUs' traffic; without GPUs, with that of all devices."""
    tree = notes.tree
    try:
        groups = tree.names(_GROUPS)
    except FileNotFoundError:
        if tree.exists("/sys/kernel"):
            notes.put("iommu", "off", _GROUPS)
        else:
            notes.miss("iommu", "/sys is not shown here")
        return
    except OSError as error:
        notes.miss("iommu", why(error, _GROUPS))
        return
    if not groups:
        notes.put("iommu", "off", _GROUPS)
        return
    folders = [f"{_DEVICES}/{each}/iommu_group" for each in gpus or ()] or [f"{_GROUPS}/{each}" for each in groups[:8]]
    types = {tree.text_or(folder + "/type").strip() for folder in folders} - {""}
    if types:
        notes.put("iommu", "passthrough" if types == {"identity"} else "on", folders[0] + "/type")
        return
    asked = set(tree.text_or("/proc/cmdline").split())
    through = asked & {"iommu=pt", "iommu.passthrough=1"}
    notes.put("iommu", "passthrough" if through else "on", "/proc/cmdline")


def _read_acs(notes: Notes, gpus: Optional[Tuple[str, ...]]) -> None:
    """Read the access control of every bridge above a GPU; only root is shown that part of their registers."""
    if gpus is None:
        return
    if not gpus:
        notes.miss("acs_enabled_bridges", "no NVIDIA GPU on the bus: no bridge matters")
        return
    enabled: List[str] = []
    for bridge in _bridges_above(notes.tree, gpus):
        path = f"{_DEVICES}/{bridge}/config"
        try:
            redirects = acs_redirects(notes.tree.here(path))
        except PermissionError:
            notes.miss("acs_enabled_bridges", _FOR_ROOT)
            continue
        except OSError as error:
            notes.miss("acs_enabled_bridges", why(error, path))
            continue
        if redirects:
            enabled.append(bridge)
    notes.values["acs_enabled_bridges"] = tuple(enabled)


def _bridges_above(tree: Tree, gpus: Tuple[str, ...]) -> Tuple[str, ...]:
    """Name the PCI bridges on the GPUs' ways to the root, as the real path of each device shows them."""
    found = {}
    for gpu in gpus:
        above = tree.real(f"{_DEVICES}/{gpu}").split("/")[:-1]
        for name in filter(_ADDRESS.match, above):
            if name not in found:
                found[name] = parse_id(tree.text_or(f"{_DEVICES}/{name}/class")).startswith(_BRIDGE)
    return tuple(sorted(name for name, is_bridge in found.items() if is_bridge))


def acs_redirects(config: str) -> bool:
    """Tell whether a device's Access Control Services send peer traffic by way of the root.

    Reads a few bytes at a time: each is a slow access to the device. Raises ``PermissionError`` when the extended
    part is hidden, as it is from everyone but root.
    """
    with open(config, "rb", buffering=0) as file:
        whole = os.fstat(file.fileno()).st_size > _FIRST_EXTENDED
        at = _FIRST_EXTENDED if whole else 0
        for _ in range(_MOST_CAPABILITIES if whole else 0):
            header = os.pread(file.fileno(), 4, at)
            if len(header) < 4:
                raise PermissionError
            value = int.from_bytes(header, "little")
            if value & 0xFFFF == _ACS:
                control = os.pread(file.fileno(), 2, at + 6)
                return bool(int.from_bytes(control, "little") & _REDIRECTS)
            at = value >> 20
            if at < _FIRST_EXTENDED:
                break
    return False
