"""[payload] storage: the file systems under temporary files, packages, caches and the working directory."""

from __future__ import annotations

import contextlib
import os
from typing import Dict, Iterator, Sequence, Tuple

from envdoctor.facts.storage import Mount, Storage
from envdoctor.probe import Context, probe
from envdoctor_probes.mounts import Mounted, holder_of, parse_mountinfo
from envdoctor_probes.tree import Tree, why

__all__ = ["places", "storage"]

_MIB = 1 << 20
_SHM = "/dev/shm"  # noqa: S108 - looked at, not used
_SERVED = frozenset((
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "beegfs_nodev", "ceph", "glusterfs", "afs",
    "9p", "virtiofs", "autofs", "orangefs", "pvfs2", "wekafs", "panfs", "ocfs2", "gfs2", "daos",
))  # fmt: skip
_SITES = ("/site-packages", "/dist-packages")


@probe(child="storage", seconds=5.0)
def storage(context: Context) -> Storage:
    """Measure each place; those on a file server come last, since one that does not answer costs the places after."""
    tree = Tree(context.roots)
    try:
        mounts = parse_mountinfo(tree.text("/proc/self/mountinfo"))
    except OSError as error:
        return Storage(unknown={"mounts": why(error, "/proc/self/mountinfo")})
    unknown: Dict[str, str] = {}
    found = {purpose: _described(purpose, path, path, mounts) for purpose, path in places(context)}
    careful = any(_is_served(each.filesystem) for each in mounts)  # a link on a local disk may lead to any of them
    for purpose in sorted(found, key=lambda each: _is_served(found[each].filesystem)):
        if careful:
            context.so_far(_reached(found, purpose, unknown))
        with context.calling(f"statvfs {found[purpose].path}") if careful else contextlib.nullcontext():
            found[purpose] = _measured(tree, found[purpose], mounts, unknown)
    return Storage(mounts=tuple(found.values()), unknown=unknown)


def _is_served(filesystem: str) -> bool:
    """Tell whether a server or a program must answer for this kind of file system."""
    return filesystem in _SERVED or filesystem.startswith("fuse")


def _reached(found: Dict[str, Mount], purpose: str, unknown: Dict[str, str]) -> Storage:
    """Give what is known before a place is asked that may never answer."""
    asked = f"{found[purpose].path} was asked for its size, and the places without a size were not reached"
    return Storage(mounts=tuple(found.values()), unknown={**unknown, "mounts": asked})


def places(context: Context) -> Iterator[Tuple[str, str]]:
    """Name the places that training writes to and reads from, and what each is for."""
    environ = context.environ
    home = environ.get("HOME", "")
    temporary = environ.get("TMPDIR") or "/tmp"  # noqa: S108 - the default of everything that asks
    site = next((each for each in context.path if each.endswith(_SITES)), "")
    cache = environ.get("XDG_CACHE_HOME") or (os.path.join(home, ".cache") if home else "")
    triton_home = environ.get("TRITON_HOME") or home
    named = (
        ("temporary files", temporary),
        ("packages", site),
        ("inductor cache", environ.get("TORCHINDUCTOR_CACHE_DIR", "")),
        ("triton cache", environ.get("TRITON_CACHE_DIR") or (triton_home and os.path.join(triton_home, ".triton"))),
        ("caches", cache),
        ("model cache", environ.get("HF_HOME", "")),
        ("working directory", context.cwd),
        ("shared memory", _SHM),
    )
    for purpose, path in named:
        if path and os.path.isabs(path):
            yield purpose, os.path.normpath(path)


def _described(purpose: str, path: str, real: str, mounts: Sequence[Mounted]) -> Mount:
    """Describe a place by the list of mounts alone, which asks no file server."""
    held = holder_of(real, mounts)
    if held is None:
        return Mount(path=path, purpose=purpose)
    return Mount(path, held.filesystem, held.options, mount_point=held.point, purpose=purpose)


def _measured(tree: Tree, place: Mount, mounts: Sequence[Mounted], unknown: Dict[str, str]) -> Mount:
    """Describe a place with links followed and its sizes; one that is not there yet by its nearest ancestor."""
    path, purpose = place.path, place.purpose
    real = tree.real(path)
    plain = _described(purpose, path, real, mounts)
    if not tree.live:
        unknown["mounts"] = "a recorded machine does not keep the sizes of its file systems"
        return plain
    try:
        status = os.statvfs(_nearest(tree, real))
    except OSError as error:
        unknown["mounts"] = why(error, path)
        return plain
    inodes = status.f_favail if status.f_files else None
    free, total = (status.f_frsize * each // _MIB for each in (status.f_bavail, status.f_blocks))
    return Mount(path, plain.filesystem, plain.options, free, total, inodes, plain.mount_point, purpose)


def _nearest(tree: Tree, path: str) -> str:
    while path != "/" and not os.path.lexists(tree.here(path)):
        path = os.path.dirname(path)
    return tree.here(path)
