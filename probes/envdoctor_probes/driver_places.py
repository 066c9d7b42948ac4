"""[payload] Where driver libraries can lie: the loader's folders in its order, then those that it does not search."""

from __future__ import annotations

import fnmatch
import os
import posixpath
import re
from typing import TYPE_CHECKING, List, Mapping, Optional, Tuple

from envdoctor_probes.ld_cache import LdCache, parse_cache

if TYPE_CHECKING:
    from envdoctor_probes.tree import Tree

__all__ = ["Places", "find_places", "parse_ld_conf"]

_MACHINES = ("x86_64", "aarch64")
_DEFAULTS = (
    *(f"{top}/{machine}-linux-gnu" for machine in _MACHINES for top in ("/lib", "/usr/lib")),
    "/lib64", "/usr/lib64", "/lib", "/usr/lib",
)  # fmt: skip
# Found by no search, but a driver, a compat package or a stub may lie there: WSL, GKE, NixOS, Jetson, Debian.
_ELSEWHERE = (
    "/usr/lib/wsl/lib", "/usr/local/nvidia/lib64", "/usr/local/nvidia/lib", "/run/opengl-driver/lib",
    "/usr/lib/aarch64-linux-gnu/tegra", "/usr/lib/aarch64-linux-gnu/nvidia",
    "/usr/lib/x86_64-linux-gnu/nvidia/current",
)  # fmt: skip
_IN_TOOLKIT = ("compat", "compat/lib", "compat/lib.real", "lib64/stubs")


class Places:
    """The folders to look into. ``search`` asks the loader's question: which file is taken for this name?"""

    def __init__(
        self, tree: Tree, chosen: Tuple[str, ...], cache: Optional[LdCache], configured: Tuple[str, ...]
    ) -> None:
        self.tree = tree
        self.chosen = chosen  # LD_LIBRARY_PATH
        self.cache = cache
        self.configured = configured  # ld.so.conf: searched through the cache only

    def search(self, name: str) -> Optional[Tuple[str, str]]:
        """Give the path that the loader would take for ``name`` and the step that finds it, or None."""
        steps: List[Tuple[str, str]] = [(f"{folder}/{name}", "LD_LIBRARY_PATH") for folder in self.chosen]
        cached = self.cache.lookup(name) if self.cache else None
        if cached:
            steps.append((cached, "/etc/ld.so.cache"))
        elif self.cache is None:
            steps.extend((f"{folder}/{name}", "/etc/ld.so.conf") for folder in self.configured)
        steps.extend((f"{folder}/{name}", "default folders") for folder in _DEFAULTS)
        return next((step for step in steps if self.tree.exists(step[0])), None)

    def folders(self, names: Tuple[str, ...], environ: Mapping[str, str]) -> Tuple[str, ...]:
        """Give every folder worth listing for ``names``, the loader's first."""
        found = [step[0] for step in map(self.search, names) if step]
        folders = [*map(posixpath.dirname, found), *self.chosen, *self.configured, *_DEFAULTS, *_ELSEWHERE]
        prefix = environ.get("CONDA_PREFIX")
        if prefix:
            folders += [f"{prefix}/{sub}" for sub in ("lib", "cuda-compat", "lib/stubs")]
        for toolkit in self.tree.names_or_none("/usr/local"):
            if toolkit.startswith("cuda"):
                folders += [f"/usr/local/{toolkit}/{sub}" for sub in _IN_TOOLKIT]
        once = {self.tree.real(folder): folder for folder in reversed(folders)}
        return tuple(sorted(once.values(), key=folders.index))


def find_places(tree: Tree, environ: Mapping[str, str], cwd: str) -> Places:
    """Read LD_LIBRARY_PATH, the loader's cache and its configuration."""
    value = environ.get("LD_LIBRARY_PATH", "")
    chosen = tuple(posixpath.join(cwd, part) for part in re.split("[:;]", value)) if value else ()
    return Places(tree, chosen, _cache(tree), _configured(tree))


def _cache(tree: Tree) -> Optional[LdCache]:
    machine = tree.text_or("/proc/sys/kernel/arch").strip()
    if tree.live:
        machine = os.uname().machine
    try:
        with open(tree.here("/etc/ld.so.cache"), "rb") as file:
            return parse_cache(file.read(), machine)
    except (OSError, ValueError):  # musl has none; the defaults are searched without one
        return None


def _configured(tree: Tree) -> Tuple[str, ...]:
    folders, includes = parse_ld_conf(tree.text_or("/etc/ld.so.conf"))
    found = list(folders)
    for pattern in includes:
        folder, _, name = posixpath.join("/etc", pattern).rpartition("/")
        for each in fnmatch.filter(tree.names_or_none(folder), name):
            found.extend(parse_ld_conf(tree.text_or(f"{folder}/{each}"))[0])
    return tuple(found)


def parse_ld_conf(text: str) -> Tuple[Tuple[str, ...], Tuple[str, ...]]:
    """Read folders and ``include`` patterns out of an ld.so.conf file."""
    folders: List[str] = []
    includes: List[str] = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if words[:1] == ["include"]:
            includes.extend(words[1:])
        elif words and words[0].startswith("/"):
            folders.append(words[0].partition("=")[0])
    return tuple(folders), tuple(includes)
