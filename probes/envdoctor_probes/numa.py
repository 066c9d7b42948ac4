"""[payload] NUMA: the nodes of the machine, those whose CPUs this process may use, and where its memory may lie."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Dict, Optional, Set, Tuple

from envdoctor_probes.resources import parse_cpu_list
from envdoctor_probes.tree import why

if TYPE_CHECKING:
    from envdoctor_probes.tree import Notes, Tree

__all__ = ["parse_policy", "parse_status_list", "read_numa"]

_NODES = "/sys/devices/system/node"


def read_numa(notes: Notes, process: str = "self") -> None:
    """Write down the nodes of the machine and those of a process."""
    nodes = _nodes(notes)
    if nodes:
        _read_process_nodes(notes, nodes, process)
    else:
        notes.miss("process_numa_nodes", notes.unknown["numa_nodes"])
    status = f"/proc/{process}/status"
    notes.read("memory_policy_nodes", status, lambda text: parse_status_list(text, "Mems_allowed_list"))
    _read_policy(notes, process)


def _nodes(notes: Notes) -> Dict[int, Tuple[int, ...]]:
    """Give the CPUs of each node."""
    tree = notes.tree
    try:
        names = tree.names(_NODES)
    except OSError as error:  # a kernel without NUMA has no such folder
        notes.miss("numa_nodes", why(error, _NODES))
        return {}
    nodes = {}
    for name in names:
        if re.fullmatch(r"node\d+", name):
            nodes[int(name[4:])] = parse_cpu_list(tree.text_or(f"{_NODES}/{name}/cpulist"))
    if nodes:
        notes.put("numa_nodes", len(nodes))
    else:
        notes.miss("numa_nodes", f"{_NODES} names no node")
    return nodes


def _read_process_nodes(notes: Notes, nodes: Dict[int, Tuple[int, ...]], process: str) -> None:
    try:
        cpus = _allowed(notes.tree, process)
    except (OSError, ValueError) as error:
        notes.miss("process_numa_nodes", why(error, f"/proc/{process}/status"))
        return
    if cpus is None:
        notes.miss("process_numa_nodes", f"/proc/{process}/status does not say")
        return
    notes.put("process_numa_nodes", tuple(node for node in sorted(nodes) if cpus & set(nodes[node])))


def _allowed(tree: Tree, process: str) -> Optional[Set[int]]:
    if tree.live and hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0 if process == "self" else int(process))
    cpus = parse_status_list(tree.text(f"/proc/{process}/status"), "Cpus_allowed_list")
    return None if cpus is None else set(cpus)


def parse_status_list(text: str, name: str) -> Optional[Tuple[int, ...]]:
    """Read ``Mems_allowed_list:	0-1`` out of /proc/PID/status; None when it is not there."""
    match = re.search(rf"^{name}:\s*(\S*)", text, re.MULTILINE)
    return parse_cpu_list(match.group(1)) if match else None


def _read_policy(notes: Notes, process: str) -> None:
    """Read the first mapping's policy: that of numactl, for nothing has set one of its own for it."""
    path = f"/proc/{process}/numa_maps"
    try:
        text = notes.tree.text(path, limit=512)  # the kernel walks the whole process for more
    except OSError as error:
        notes.miss("memory_policy", why(error, path))
        return
    policy = parse_policy(text)
    if policy:
        notes.put("memory_policy", policy, path)
    else:
        notes.miss("memory_policy", f"{path} does not say")


def parse_policy(text: str) -> Optional[str]:
    """Read the policy of the first line: ``default``, ``bind:0``, ``prefer:1``, ``interleave:0-1``."""
    parts = text.split("\n", 1)[0].split()
    return parts[1] if len(parts) > 1 and re.match(r"[a-z]", parts[1]) else None
