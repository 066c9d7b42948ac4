"""[payload] driver-files: libcuda and NVML on disk, by file name, in the order in which the loader finds them."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from envdoctor.facts.driver import DriverFiles, DriverLibrary
from envdoctor.probe import Context, probe
from envdoctor_probes.driver_places import Places, find_places
from envdoctor_probes.elf import Elf, ElfError
from envdoctor_probes.tree import Tree

__all__ = ["driver_files", "find_program", "parse_version"]

_LIBCUDA, _NVML = "libcuda.so.1", "libnvidia-ml.so.1"
_COMPAT = re.compile(r"(^|/)(cuda-)?compat(/|$)")
_MODPROBE = "/usr/bin/nvidia-modprobe"  # the driver's libraries start it by this path
_STUB_BYTES = 256 * 1024
# What a library calls that really talks to a driver; a link-time stub calls none of them.
_TALKS = frozenset(("open", "open64", "openat", "ioctl", "dlopen", "fopen", "read", "write", "syscall"))


@probe()
def driver_files(context: Context) -> DriverFiles:
    """List the driver's user-space libraries, compat packages and stubs included, and nvidia-smi."""
    tree = Tree(context.roots)
    places = find_places(tree, context.environ, context.cwd)
    folders = places.folders((_LIBCUDA, _NVML), context.environ)
    libcuda = _libraries(places, folders, _LIBCUDA)
    first = places.search(_LIBCUDA)
    taken = tree.real(first[0]) if first else None
    smi = find_program(tree, "nvidia-smi", context.environ)
    unknown: Dict[str, str] = {}
    if first is None:
        unknown["first_libcuda"] = f"the loader finds no {_LIBCUDA}"
    if smi is None:
        unknown["nvidia_smi"] = "no nvidia-smi on PATH"
    return DriverFiles(
        libcuda=libcuda,
        nvml=_libraries(places, folders, _NVML),
        nvidia_smi=smi,
        first_libcuda=next((each for each in libcuda if each.path == taken), None),
        makes_nodes=_is_setuid(tree, _MODPROBE),
        sources={"first_libcuda": f"{first[0]} by {first[1]}"} if first else {},
        unknown=unknown,
    )


def _is_setuid(tree: Tree, path: str) -> bool:
    """Tell whether a program is there and runs as its owner, whoever starts it."""
    try:
        return bool(os.stat(tree.here(path)).st_mode & stat.S_ISUID)
    except OSError:
        return False


def _libraries(places: Places, folders: Sequence[str], soname: str) -> Tuple[DriverLibrary, ...]:
    """List the real files behind ``soname`` and its like, each once, what the loader takes first."""
    tree = places.tree
    base = soname.partition(".so")[0]
    pattern = re.compile(re.escape(base) + r"\.so(\.\d+)*$")
    first = places.search(soname)
    paths: List[str] = [first[0]] if first else []
    for folder in folders:
        names = [name for name in tree.names_or_none(folder) if pattern.match(name)]
        paths.extend(f"{folder}/{name}" for name in sorted(names, key=lambda name: (name != soname, name)))
    behind: Dict[str, str] = {}
    for path in paths:
        behind.setdefault(tree.real(path), path)
    return tuple(_library(tree, real, path, soname) for real, path in behind.items() if tree.exists(real))


def _library(tree: Tree, real: str, found_at: str, soname: str) -> DriverLibrary:
    name, is_stub = _look_inside(tree, real)
    return DriverLibrary(
        path=real,
        soname=name or soname,
        version=parse_version(posixpath.basename(real)),
        compat=bool(_COMPAT.search(posixpath.dirname(real)) or _COMPAT.search(posixpath.dirname(found_at))),
        stub=is_stub or "/stubs/" in real or "/stubs/" in found_at,
        size_bytes=tree.size(real),
    )


def parse_version(file_name: str) -> Optional[str]:
    """Read the driver's version out of ``libcuda.so.535.183.01``; ``.so.1`` is an ABI number, no version."""
    match = re.search(r"\.so\.(\d{2,}(?:\.\d+)+)$", file_name)
    return match.group(1) if match else None


def _look_inside(tree: Tree, path: str) -> Tuple[Optional[str], bool]:
    """Read the soname, and tell a stub: a small library that never calls what talks to a driver."""
    try:
        with Elf(tree.here(path)) as elf:
            size = tree.size(path) or 0
            if size > _STUB_BYTES:
                return elf.soname, False
            return elf.soname, not any(name in _TALKS for name, defined in elf.dynsyms() if not defined)
    except (OSError, ElfError):
        return None, False


def find_program(tree: Tree, name: str, environ: Mapping[str, str]) -> Optional[str]:
    """Find an executable on PATH, else where WSL keeps nvidia-smi, which is not on everybody's PATH."""
    folders = [part for part in environ.get("PATH", "").split(os.pathsep) if part]
    for folder in (*folders, "/usr/lib/wsl/lib"):
        path = f"{folder}/{name}"
        here = tree.here(path)
        if os.path.isfile(here) and os.access(here, os.X_OK):
            return path
    return None
