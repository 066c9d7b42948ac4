"""[payload] host: the operating system, the kind of machine, and whether this is a container."""

from __future__ import annotations

import os
import re
from typing import Dict, Optional, Tuple

from envdoctor.facts.host import Host
from envdoctor.probe import Context, probe
from envdoctor_probes.container import container_kind
from envdoctor_probes.tree import Notes, Tree

__all__ = ["host", "parse_kernel", "parse_os_release", "parse_virtualization"]

_DMI = ("sys_vendor", "product_name", "board_vendor", "bios_vendor")
# What firmware calls itself, and which hypervisor that is; the names are those of systemd-detect-virt.
_HYPERVISORS = (
    ("KVM", "kvm"), ("OpenStack", "kvm"), ("KubeVirt", "kvm"), ("Google", "kvm"), ("Amazon EC2", "kvm"),
    ("DigitalOcean", "kvm"), ("Hetzner", "kvm"), ("Alibaba Cloud", "kvm"), ("QEMU", "qemu"), ("VMware", "vmware"),
    ("VMW", "vmware"), ("innotek", "oracle"), ("VirtualBox", "oracle"), ("Xen", "xen"), ("Bochs", "bochs"),
    ("Parallels", "parallels"), ("BHYVE", "bhyve"), ("Hyper-V", "microsoft"), ("Virtual Machine", "microsoft"),
    ("Apple Virtualization", "apple"),
)  # fmt: skip


@probe()
def host(context: Context) -> Host:
    """Say which system, kernel and libc this is, and what stands between it and the hardware."""
    notes = Notes(Tree(context.roots))
    _read_names(notes)
    _read_release(notes)
    _read_kernel(notes)
    _read_libc(notes)
    kind, source = container_kind(notes.tree, context.environ)
    notes.put("container", kind, source)
    _read_virtualization(notes)
    _read_jetson(notes)
    if hasattr(os, "geteuid") and notes.tree.live:
        notes.put("is_root", os.geteuid() == 0)
    else:
        notes.miss("is_root", "a recorded machine does not say who asks")
    fact: Host = notes.into(Host)
    return fact


def _read_names(notes: Notes) -> None:
    if notes.tree.live and hasattr(os, "uname"):
        uname = os.uname()
        notes.put("hostname", uname.nodename)
        notes.put("system", uname.sysname)
        notes.put("machine", uname.machine)
        return
    notes.read("hostname", "/proc/sys/kernel/hostname", str.strip)
    notes.read("system", "/proc/sys/kernel/ostype", str.strip)
    notes.read("machine", "/proc/sys/kernel/arch", str.strip)


def _read_release(notes: Notes) -> None:
    tree = notes.tree
    path = "/etc/os-release" if tree.exists("/etc/os-release") else "/usr/lib/os-release"
    fields = (("os_id", "ID"), ("os_version", "VERSION_ID"), ("os_name", "PRETTY_NAME"))
    for field, name in fields:
        notes.read(field, path, lambda text, name=name: parse_os_release(text).get(name))  # type: ignore[misc]


def parse_os_release(text: str) -> Dict[str, str]:
    """Read ``KEY=value`` lines; quotes and backslashes as a shell would."""
    pairs: Dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
                value = value[1:-1]
            pairs[name] = re.sub(r'\\(["$`\\])', r"\1", value)
    return pairs


def _read_kernel(notes: Notes) -> None:
    notes.read("kernel", "/proc/sys/kernel/osrelease", lambda text: text.strip() or None)
    if "kernel" not in notes.values:  # gVisor before 2026 has no osrelease
        notes.read("kernel", "/proc/version", parse_kernel)
    if "kernel" not in notes.values and notes.tree.live and hasattr(os, "uname"):
        notes.put("kernel", os.uname().release, "uname")
    kernel = notes.tree.text_or("/proc/version") + str(notes.values.get("kernel", ""))
    notes.put("wsl", "microsoft" in kernel.lower() or notes.tree.exists("/dev/dxg"))


def parse_kernel(text: str) -> Optional[str]:
    """Read the release out of ``Linux version 6.8.0-31-generic (…)``."""
    match = re.match(r"Linux version (\S+)", text)
    return match.group(1) if match else None


def _read_libc(notes: Notes) -> None:
    tree = notes.tree
    if tree.live:
        name = _running_libc()
        if name:
            notes.put("libc", name)
            return
    musl = next((each for each in tree.names_or_none("/lib") if each.startswith("ld-musl-")), None)
    if musl:
        notes.put("libc", "musl", "/lib/" + musl)
    else:
        notes.miss("libc", "no C library is running here to be asked")


def _running_libc() -> Optional[str]:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, ValueError, OSError):  # musl, macOS and Windows do not know the name
        return None


def _read_virtualization(notes: Notes) -> None:
    tree = notes.tree
    dmi = tuple(tree.text_or(f"/sys/class/dmi/id/{name}").strip() for name in _DMI)
    xen = tree.text_or("/sys/hypervisor/type").strip()
    device_tree = tree.text_or("/proc/device-tree/hypervisor/compatible")
    cpuinfo = tree.text_or("/proc/cpuinfo", "")
    if notes.values.get("wsl"):
        notes.put("virtualization", "wsl", "/proc/version")
        return
    kind = parse_virtualization(dmi, xen, device_tree, cpuinfo)
    if kind is None and tree.exists("/proc/device-tree/compatible"):
        kind = "none"  # a device tree that names no hypervisor
    if notes.values["container"] == "gvisor":
        notes.miss("virtualization", "gVisor shows a machine of its own making")
    elif kind is None:
        notes.miss("virtualization", "neither DMI, device tree nor CPU flags can be read")
    else:
        notes.put("virtualization", kind)


def parse_virtualization(dmi: Tuple[str, ...], xen: str, device_tree: str, cpuinfo: str) -> Optional[str]:
    """Name the hypervisor; ``vm`` for one that does not say its name, ``none`` for bare metal, None if unsaid.

    ``dmi`` holds the vendor and product names of the firmware, ``xen`` /sys/hypervisor/type.
    """
    if any(each.endswith(".metal") for each in dmi):  # a cloud's bare-metal machine bears the cloud's name
        return "none"
    for mark, name in _HYPERVISORS:
        if any(mark in each for each in dmi):
            return name
    if xen:
        return xen
    if device_tree:
        return "kvm" if "kvm" in device_tree else "vm"
    # Arm's cpuinfo never tells.
    flags = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    if flags and "hypervisor" in flags.group(1).split():
        return "vm"
    return "none" if any(dmi) or flags else None


def _read_jetson(notes: Notes) -> None:
    compatible = notes.tree.text_or("/proc/device-tree/compatible")
    release = notes.tree.exists("/etc/nv_tegra_release")
    notes.put("jetson", release or "nvidia,tegra" in compatible)
