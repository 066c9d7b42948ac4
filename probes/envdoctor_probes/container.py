"""[payload] Which kind of container this process lives in, by the marks that each kind leaves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Callable, Iterator, Mapping, Optional, Tuple

if TYPE_CHECKING:
    from envdoctor_probes.tree import Tree

__all__ = ["container_kind", "kind_by_cgroup", "kind_by_mounts", "kind_by_version", "sees_the_kernels_threads"]

# gVisor's kernel says it was built then, in every release up to 2026.
_GVISOR = re.compile(r"gvisor|Sun Jan 10 15:06:54 PST 2016", re.IGNORECASE)
_CGROUPS = (
    ("kubernetes", re.compile(r"kubepods")),
    ("docker", re.compile(r"/docker[/-][0-9a-f]{12,}")),
    ("podman", re.compile(r"/libpod-[0-9a-f]{12,}")),
    ("lxc", re.compile(r"/lxc(\.payload)?[./]")),
    ("containerd", re.compile(r"cri-containerd-|/containerd/")),
)
# The runtime binds its own resolv.conf and hosts into the container, or keeps the root below a folder of its name.
_MOUNTS = (
    ("kubernetes", re.compile(r"/kubelet/pods/|/kubernetes\.io~")),
    ("docker", re.compile(r"/docker/containers/|/docker/overlay2/|/docker/rootfs/")),
    ("podman", re.compile(r"/overlay-containers/|/containers/storage/overlay/")),
    ("enroot", re.compile(r"/enroot/|[/_]pyxis_")),
    ("lxc", re.compile(r" - fuse\.lxcfs ")),
)
_TELLING = frozenset((
    "/", "/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/proc/cpuinfo", "/proc/meminfo", "/dev/termination-log",
))  # fmt: skip


def container_kind(tree: Tree, environ: Mapping[str, str]) -> Tuple[str, str]:
    """Name the kind of container (``none`` outside one) and the mark that shows it, the more telling mark first."""
    return next(_marks(tree, environ), ("none", ""))


def _marks(tree: Tree, environ: Mapping[str, str]) -> Iterator[Tuple[str, str]]:
    if kind_by_version(tree.text_or("/proc/version")):
        yield "gvisor", "/proc/version"
    yield from _by_environment(environ)
    for path in ("/var/run/secrets/kubernetes.io", "/run/secrets/kubernetes.io"):
        if tree.exists(path):
            yield "kubernetes", path
    for kind, path in (("apptainer", "/.singularity.d"), ("podman", "/run/.containerenv")):
        if tree.exists(path):
            yield kind, path
    clues: Tuple[Tuple[str, Callable[[str], Optional[str]]], ...] = (
        ("/proc/self/cgroup", kind_by_cgroup),
        ("/proc/self/mountinfo", kind_by_mounts),
        ("/run/systemd/container", _plain_name),
    )
    for path, read in clues:
        found = read(tree.text_or(path))
        if found:
            yield found, path
    if tree.exists("/.dockerenv") and not sees_the_kernels_threads(tree):
        yield "docker", "/.dockerenv"
    named = _plain_name(environ.get("container", ""))
    if named:
        yield named, "$container"


def sees_the_kernels_threads(tree: Tree) -> bool:
    """Tell whether the first PID namespace is seen: a virtual machine made from an image keeps its /.dockerenv."""
    return tree.text_or("/proc/2/comm").strip() == "kthreadd"


def kind_by_version(text: str) -> Optional[str]:
    """Tell gVisor by the kernel that /proc/version names."""
    return "gvisor" if _GVISOR.search(text) else None


def _by_environment(environ: Mapping[str, str]) -> Iterator[Tuple[str, str]]:
    if environ.get("APPTAINER_CONTAINER"):
        yield "apptainer", "$APPTAINER_CONTAINER"
    if environ.get("SINGULARITY_CONTAINER"):
        yield "singularity", "$SINGULARITY_CONTAINER"
    if environ.get("KUBERNETES_SERVICE_HOST"):
        yield "kubernetes", "$KUBERNETES_SERVICE_HOST"


def kind_by_cgroup(text: str) -> Optional[str]:
    """Tell the kind by this process's cgroup; ``/system.slice/docker.service`` is the host's daemon, no container."""
    return next((kind for kind, mark in _CGROUPS if mark.search(text)), None)


def kind_by_mounts(text: str) -> Optional[str]:
    """Tell the kind by what is mounted at the root and over /etc; a host's list of other mounts proves nothing."""
    telling = [line for line in text.splitlines() if _mount_point(line) in _TELLING]
    return next((kind for kind, mark in _MOUNTS for line in telling if mark.search(line)), None)


def _mount_point(line: str) -> str:
    parts = line.split(" ", 5)
    return parts[4] if len(parts) > 4 else ""


def _plain_name(text: str) -> Optional[str]:
    """Take a runtime's own word for itself (systemd's convention), when it is one word."""
    word = text.strip().lower()
    return {"oci": "docker"}.get(word, word) if re.fullmatch(r"[a-z][a-z0-9-]{1,20}", word) else None
