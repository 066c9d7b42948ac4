"""[payload] pci-bus: accelerators as the bus shows them, whether or not a driver is there."""

from __future__ import annotations

import os
from typing import List, Optional

from envdoctor.facts.gpu import PciBus, PciDevice
from envdoctor.probe import Context, probe
from envdoctor_probes.tree import Tree, why

__all__ = ["pci_bus", "read_device"]

_DEVICES = "/sys/bus/pci/devices"
_NVIDIA, _AMD, _HABANA = "10de", "1002", "1da3"
_DISPLAY, _BRIDGE_OTHER, _ACCELERATOR = "03", "0680", "12"


@probe()
def pci_bus(context: Context) -> PciBus:
    """List NVIDIA's GPUs and NVSwitches, and the GPUs and accelerators of others."""
    tree = Tree(context.roots)
    try:
        addresses = tree.names(_DEVICES)
    except OSError as error:
        reason = why(error, _DEVICES)
        return PciBus(readable=False, unknown=dict.fromkeys(("gpus", "nvswitches", "other_gpus"), reason))
    gpus: List[PciDevice] = []
    switches: List[PciDevice] = []
    others: List[PciDevice] = []
    for address in addresses:
        device = read_device(tree, address)
        display = device.class_code.startswith(_DISPLAY)
        if device.vendor_id == _NVIDIA:
            if display:
                gpus.append(device)
            elif device.class_code.startswith(_BRIDGE_OTHER):
                switches.append(device)
        elif display or (device.class_code.startswith(_ACCELERATOR) and device.vendor_id in (_AMD, _HABANA)):
            others.append(device)
    return PciBus(gpus=tuple(gpus), nvswitches=tuple(switches), other_gpus=tuple(others), readable=True)


def read_device(tree: Tree, address: str) -> PciDevice:
    """Read one device's ids, driver and NUMA node; only what is interesting costs more than two files."""
    folder = f"{_DEVICES}/{address}"
    class_code = parse_id(tree.text_or(folder + "/class"))
    vendor = parse_id(tree.text_or(folder + "/vendor"))
    if not class_code.startswith((_DISPLAY, _ACCELERATOR)) and vendor != _NVIDIA:
        return PciDevice(address, vendor, "", class_code)
    return PciDevice(
        address,
        vendor,
        parse_id(tree.text_or(folder + "/device")),
        class_code,
        _driver(tree, folder),
        parse_numa_node(tree.text_or(folder + "/numa_node")),
    )


def parse_id(text: str) -> str:
    """Turn ``0x10de`` into ``10de``."""
    text = text.strip().lower()
    return text[2:] if text.startswith("0x") else text


def parse_numa_node(text: str) -> Optional[int]:
    """Give the NUMA node, None where the machine does not say (-1)."""
    try:
        node = int(text)
    except ValueError:
        return None
    return node if node >= 0 else None


def _driver(tree: Tree, folder: str) -> Optional[str]:
    """Name the kernel driver that is bound, by the link that sysfs shows."""
    try:
        return os.path.basename(os.readlink(tree.here(folder) + "/driver"))
    except OSError:
        return None
