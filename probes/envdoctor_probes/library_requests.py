"""[payload] What the loaded libraries ask of each other: symbol versions and functions, and which a copy lacks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Dict, Iterable, Optional, Set, Tuple

from envdoctor_probes.elf import Elf, ElfError
from envdoctor_probes.library_names import FUNCTIONS, Library

if TYPE_CHECKING:
    from envdoctor_probes.loader import Loader, Object

__all__ = ["Requests", "newest_of"]

_Answer = Tuple[Tuple[str, ...], Tuple[str, ...], Tuple[str, ...]]
_NOT_JUDGED = ("stdcxx", "cuda", "gomp", "iomp5")  # their own versions are asked for by the whole system


class Requests:
    """The requests of one played process; each file is read once, whatever number of libraries it asks."""

    def __init__(self, loader: Loader) -> None:
        self._objects = (*loader.loaded, *loader.attempted)
        self._versions: Dict[str, Dict[str, Tuple[str, ...]]] = {}
        self._names: Dict[str, Tuple[str, ...]] = {}

    def to(self, library: Library, first: Optional[Object]) -> _Answer:
        """Give the symbol versions asked of this copy, those that it lacks, and the functions that it lacks."""
        if first is None or library.name in _NOT_JUDGED:
            return (), (), ()
        versions: Set[str] = set()
        functions: Set[str] = set()
        for each in self._objects:
            if each is not first and first.soname in each.needed:
                self._read(each.path)
                versions.update(self._versions[each.path].get(first.soname or "", ()))
                functions.update(name for name in self._names[each.path] if re.match(library.functions or "$", name))
        offered, lacking = _offers(first.path, functions)
        # A file without any version definition satisfies every request, with a warning of the loader's.
        missing = versions - offered if offered else set()
        return tuple(sorted(versions)), tuple(sorted(missing)), tuple(sorted(lacking))

    def newest(self, soname: str, prefix: str) -> Optional[str]:
        """Give the newest version that anything asks of ``soname``: ``("libc.so.6", "GLIBC_")`` -> ``2.28``."""
        asked: Set[str] = set()
        for each in self._objects:
            if soname in each.needed and each.via not in ("program", "ld.so.cache", "default"):
                self._read(each.path)
                asked.update(self._versions[each.path].get(soname, ()))
        return newest_of(asked, prefix)

    def _read(self, path: str) -> None:
        if path in self._versions:
            return
        self._versions[path], self._names[path] = {}, ()
        try:
            with Elf(path) as elf:
                self._versions[path] = elf.verneed
                self._names[path] = tuple(name for name in elf.names(FUNCTIONS) if not elf.exports(name))
        except (OSError, ElfError):
            return  # a broken file asks for nothing; the loader's complaint names it


def newest_of(names: Iterable[str], prefix: str) -> Optional[str]:
    """Give the newest number among version names: ``GLIBC_2.4``, ``GLIBC_2.28`` -> ``2.28``; other names are left."""
    numbers = [name[len(prefix) :].split(".") for name in names if name.startswith(prefix)]
    known = [tuple(int(part) for part in parts) for parts in numbers if all(part.isdigit() for part in parts)]
    return ".".join(map(str, max(known))) if known else None


def _offers(path: str, functions: Set[str]) -> Tuple[Set[str], Set[str]]:
    try:
        with Elf(path) as elf:
            return set(elf.verdef), {name for name in functions if not elf.exports(name)}
    except (OSError, ElfError):
        return set(), set()
