"""[payload] What machines talk over: RDMA ports and network interfaces, as sysfs shows them."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Iterator, Optional

from envdoctor.facts.surroundings import InfinibandPort, Nic
from envdoctor_probes.pci import parse_numa_node
from envdoctor_probes.tree import why

if TYPE_CHECKING:
    from envdoctor_probes.tree import Notes, Tree

__all__ = ["pci_address", "read_network"]

_RDMA = "/sys/class/infiniband"
_NET = "/sys/class/net"
_MOST_NICS = 128  # a host of many pods has thousands
_PCI = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")
_IFF_UP = 1


def read_network(notes: Notes) -> None:
    """Write down the RDMA ports and the network interfaces."""
    _read_ports(notes)
    tree = notes.tree
    try:
        names = tree.names(_NET)
    except OSError as error:
        notes.miss("nics", why(error, _NET))
        return
    real_first = sorted(names, key=lambda name: (not tree.exists(f"{_NET}/{name}/device"), name))
    notes.put("nics", tuple(_nic(tree, name) for name in real_first[:_MOST_NICS] if name != "bonding_masters"))
    if len(names) > _MOST_NICS:
        notes.miss("nics", f"{len(names) - _MOST_NICS} more interfaces without a device were not read")


def _read_ports(notes: Notes) -> None:
    try:
        devices = notes.tree.names(_RDMA)
    except FileNotFoundError:
        if notes.tree.exists("/sys/class"):
            notes.put("infiniband", ())  # the kernel has made the folder if any RDMA driver is loaded
        else:
            notes.miss("infiniband", "/sys is not shown here")
        return
    except OSError as error:
        notes.miss("infiniband", why(error, _RDMA))
        return
    notes.put("infiniband", tuple(port for device in devices for port in _ports(notes.tree, device)))


def _ports(tree: Tree, device: str) -> Iterator[InfinibandPort]:
    folder = f"{_RDMA}/{device}"
    numa, address = _numa_node(tree, folder), pci_address(tree, folder)
    for number in sorted(filter(str.isdigit, tree.names_or_none(folder + "/ports")), key=int):
        port = f"{folder}/ports/{number}"
        yield InfinibandPort(
            device,
            int(number),
            _word(tree, port + "/state"),
            _word(tree, port + "/phys_state"),
            _word(tree, port + "/rate"),
            _word(tree, port + "/link_layer"),
            numa,
            address,
        )


def _nic(tree: Tree, name: str) -> Nic:
    folder = f"{_NET}/{name}"
    virtual = not tree.exists(folder + "/device")
    return Nic(
        name,
        _is_up(tree, folder),
        None if virtual else _positive(_word(tree, folder + "/speed")),
        _positive(_word(tree, folder + "/mtu")),
        _numa_node(tree, folder),
        virtual,
        pci_address(tree, folder),
    )


def _is_up(tree: Tree, folder: str) -> Optional[bool]:
    """Tell whether packets can pass; loopback and tunnels leave their state unknown, and their flag says it."""
    state = _word(tree, folder + "/operstate")
    if state in ("up", "down", "lowerlayerdown", "notpresent", "dormant", "testing"):
        return state == "up"
    try:
        return bool(int(_word(tree, folder + "/flags") or "", 16) & _IFF_UP)
    except ValueError:
        return None


def _word(tree: Tree, path: str) -> Optional[str]:
    """Read a file of one line; reading the speed of a link that is down is refused."""
    return tree.text_or(path).strip() or None


def _positive(text: Optional[str]) -> Optional[int]:
    return int(text) if text is not None and text.isdigit() and int(text) > 0 else None


def _numa_node(tree: Tree, folder: str) -> Optional[int]:
    return parse_numa_node(tree.text_or(folder + "/device/numa_node"))


def pci_address(tree: Tree, folder: str) -> Optional[str]:
    """Give the PCI address that ``folder/device`` points at, or None for what is no PCI device."""
    try:
        name = os.path.basename(os.readlink(tree.here(folder) + "/device"))
    except OSError:
        return None
    return name if _PCI.match(name) else None
