"""[payload] device-nodes: what user space talks to the driver through. Nodes are looked at, never opened."""

from __future__ import annotations

import os
import re
import stat
from typing import Callable, Dict, List, Optional, Tuple

from envdoctor.facts.gpu import DeviceNode, DeviceNodes
from envdoctor.probe import Context, NotThere, probe
from envdoctor_probes.tree import Tree, why

__all__ = ["device_nodes", "read_node", "require_cuda", "require_driver"]

_GPU = re.compile(r"nvidia\d+$")
_NVSWITCH = re.compile(r"nvidia-nvswitch")
_TEGRA = re.compile(r"(nvhost-|nvmap$|nvgpu$)")


@probe()
def device_nodes(context: Context) -> DeviceNodes:
    """Look at every node of the NVIDIA driver, of WSL and of Tegra with stat and access."""
    tree = Tree(context.roots)
    unknown: Dict[str, str] = {}
    try:
        names = tree.names("/dev")
    except OSError as error:
        names = ()
        unknown = {field: why(error, "/dev") for field in ("gpus", "nvswitches", "tegra")}

    def nodes(pattern: "re.Pattern[str]") -> Tuple[DeviceNode, ...]:
        found = sorted((name for name in names if pattern.match(name)), key=_natural)
        return tuple(read_node(tree, "/dev/" + name) for name in found)

    return DeviceNodes(
        nvidiactl=read_node(tree, "/dev/nvidiactl"),
        uvm=read_node(tree, "/dev/nvidia-uvm"),
        gpus=nodes(_GPU),
        nvswitches=nodes(_NVSWITCH),
        caps=tuple(sorted(tree.names_or_none("/dev/nvidia-caps"), key=_natural)),
        dxg=read_node(tree, "/dev/dxg"),
        tegra=nodes(_TEGRA),
        groups=_groups() if tree.live else (),
        unknown=unknown,
    )


def read_node(tree: Tree, path: str) -> DeviceNode:
    """Look at one node: its owner, mode and numbers, and whether this user may read and write it."""
    here = tree.here(path)
    try:
        status = os.stat(here)
    except OSError:
        return DeviceNode(path)
    special = stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)
    allows = _asks_access(here) if tree.live else _reads_mode(status.st_mode)
    return DeviceNode(
        path,
        exists=True,
        mode=f"{stat.S_IMODE(status.st_mode):04o}",
        uid=status.st_uid,
        gid=status.st_gid,
        major=os.major(status.st_rdev) if special else None,
        minor=os.minor(status.st_rdev) if special else None,
        readable=allows(os.R_OK),
        writable=allows(os.W_OK),
    )


def _asks_access(path: str) -> Callable[[int], Optional[bool]]:
    """Ask the kernel on behalf of the effective user, who is the one that would open the node."""
    effective = os.access in os.supports_effective_ids
    return lambda wanted: os.access(path, wanted, effective_ids=effective)


def _reads_mode(mode: int) -> Callable[[int], Optional[bool]]:
    """Judge a recorded node by its mode alone: what only the owner or group may do there is not known here."""

    def allows(wanted: int) -> Optional[bool]:
        if mode & wanted:
            return True
        return None if mode & (wanted << 6 | wanted << 3) else False

    return allows


def _groups() -> Tuple[int, ...]:
    if not hasattr(os, "getgroups"):
        return ()
    return tuple(sorted({os.getegid(), *os.getgroups()}))


def _natural(name: str) -> List[Tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def require_driver(context: Context) -> None:
    """Let pass only where asking NVML or nvidia-smi changes nothing (the harm gate); else ``NotThere``.

    As root, the real libraries create ``/dev/nvidiactl`` when it is missing, even without a driver.
    """
    _require_this_machine(context)
    if not device_nodes.collect(context).may_ask_driver:
        raise NotThere(
            "no NVIDIA device node (/dev/nvidiactl, /dev/dxg or Tegra's): asking the driver could create one"
        )


def require_cuda(context: Context) -> None:
    """Let pass only where starting CUDA changes nothing: a native driver needs /dev/nvidia-uvm already there."""
    require_driver(context)
    if not device_nodes.collect(context).may_start_cuda:
        raise NotThere("/dev/nvidia-uvm is not there: starting CUDA could load the nvidia-uvm module and create it")


def _require_this_machine(context: Context) -> None:
    """Refuse for a recorded machine: the libraries that would answer are this one's."""
    if context.roots.root != "/" or context.roots.proc != "/proc":
        raise NotThere("a recorded machine's driver cannot be asked")
