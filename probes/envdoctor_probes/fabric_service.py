"""[payload] The Fabric Manager of NVSwitch machines: whether it runs, and which version is installed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Optional

from envdoctor_probes.container import sees_the_kernels_threads

if TYPE_CHECKING:
    from envdoctor_probes.tree import Notes, Tree

__all__ = ["parse_dpkg_version", "read_fabric_manager"]

_COMM = "nv-fabricmanage"  # the kernel keeps 15 characters of nv-fabricmanager
_PID_FILE = "/run/nvidia-fabricmanager/nv-fabricmanager.pid"
_DPKG = "/var/lib/dpkg"
_DOC = "/usr/share/doc"


def read_fabric_manager(notes: Notes) -> None:
    """Write down whether the Fabric Manager runs and its version; a container does not see the host's processes."""
    _read_running(notes)
    _read_version(notes)


def _read_running(notes: Notes) -> None:
    tree, field = notes.tree, "fabric_manager_running"
    pid = tree.text_or(_PID_FILE).strip()
    if pid.isdigit() and _is_it(tree, pid):
        notes.put(field, True, _PID_FILE)
        return
    if notes.values.get("loaded") is False:  # a busy host has thousands of processes: not walked for nothing
        notes.miss(field, "not looked for: no nvidia kernel module is loaded")
        return
    if not sees_the_kernels_threads(tree):
        notes.miss(field, "the host's processes are not seen here (another PID namespace, or hidepid)")
        return
    notes.put(field, any(_is_it(tree, name) for name in tree.names_or_none("/proc") if name.isdigit()), "/proc/*/comm")


def _is_it(tree: Tree, pid: str) -> bool:
    return tree.text_or(f"/proc/{pid}/comm", "").strip() == _COMM


def _read_version(notes: Notes) -> None:
    tree, field = notes.tree, "fabric_manager_version"
    packages = [name for name in tree.names_or_none(_DPKG + "/info") if _is_package(name) and name.endswith(".list")]
    if packages:
        version = parse_dpkg_version(
            tree.text_or(_DPKG + "/status", ""), packages[0][: -len(".list")].partition(":")[0]
        )
        if version:
            notes.put(field, version, _DPKG + "/status")
            return
    names = (re.search(r"-(\d{3}(?:\.\d+){1,3})", name) for name in tree.names_or_none(_DOC) if _is_package(name))
    version = next((match.group(1) for match in names if match), None)
    if version:
        notes.put(field, version, _DOC)
    else:
        notes.miss(field, "no installed package of the Fabric Manager is found")


def _is_package(name: str) -> bool:
    return name.startswith(("nvidia-fabricmanager", "nvidia-fabric-manager"))


def parse_dpkg_version(status: str, package: str) -> Optional[str]:
    """Read an installed package's upstream version out of dpkg's status file: ``535.183.01-1`` -> ``535.183.01``."""
    start = status.find(f"Package: {package}\n")
    paragraph = status[start : status.find("\n\n", start)] if start >= 0 else ""
    match = re.search(r"^Version: (?:\d+:)?([0-9.]+)", paragraph, re.MULTILINE)
    return match.group(1) if match and " installed" in paragraph else None
