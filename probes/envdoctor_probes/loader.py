"""[payload] The dynamic loader's search order (glibc), played on files: which copy of a library would be loaded.

The order for a name without a slash, as in ``_dl_map_object`` of glibc's elf/dl-load.c:
what is already loaded under that name or soname; if the requesting object has no RUNPATH, the RPATHs of it, of the
chain that loaded it, and of the program; LD_LIBRARY_PATH; the requesting object's RUNPATH; ld.so.cache; the defaults.
An object with a RUNPATH ignores every RPATH. Nothing is loaded here: the files' headers are read.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from envdoctor.probe import Roots
from envdoctor_probes.elf import AARCH64, X86_64, Elf, ElfError
from envdoctor_probes.ld_cache import LdCache, parse_cache

__all__ = ["Loader", "LoaderError", "Object"]

_MACHINES = {"x86_64": X86_64, "aarch64": AARCH64}
_LEVELS = (
    ("x86-64-v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
    ("x86-64-v3", {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}),
    ("x86-64-v2", {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}),
)


class LoaderError(Exception):
    """What the loader would say when it gives up: ``libx.so.1: cannot open shared object file: …``."""


@dataclass(eq=False)
class Object:
    """A shared object in the played process. ``via`` says which step of the search found it."""

    path: str
    soname: Optional[str] = None
    needed: Tuple[str, ...] = ()
    rpath: Tuple[str, ...] = ()
    runpath: Tuple[str, ...] = ()
    has_runpath: bool = False
    loader: Optional[Object] = None
    via: str = ""
    identity: Tuple[int, int] = (0, 0)
    names: Set[str] = field(default_factory=set)


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


class Loader:
    """One played process: ``program`` and its dependencies are loaded first, then LD_PRELOAD's, then what you ask."""

    def __init__(
        self,
        program: str,
        environ: Mapping[str, str],
        *,
        roots: Optional[Roots] = None,
        machine: str = "",
        cwd: str = "",
    ) -> None:
        self.roots = roots or Roots()
        self.machine = machine or os.uname().machine
        self.cwd = cwd or _cwd()
        self.loaded: List[Object] = []
        self.missing: List[Tuple[str, str]] = []  # (library, requested by)
        self.errors: List[str] = []
        self.attempted: List[Object] = []  # what failed loads had found before they failed
        self.hwcaps = hwcaps(_read(self.roots.proc + "/cpuinfo"), self.machine)
        self.cache = self._read_cache()
        self.library_path: Tuple[str, ...] = ()
        self.program = self._open_program(program)
        origin = os.path.dirname(self.program.path)
        self.library_path = self._expand(re.split("[:;]", environ.get("LD_LIBRARY_PATH", "")), origin)
        self.preload = tuple(_preloads(environ, _read(self.roots.etc + "/ld.so.preload")))
        self._start()

    def _open_program(self, program: str) -> Object:
        opened = self._open(os.path.realpath(program) if self.roots.live else program, None, "program")
        if opened is None:
            raise LoaderError(f"{program}: made for another machine than {self.machine}")
        return opened

    def _start(self) -> None:
        preloaded = [self._preload(name) for name in self.preload]
        self._with_dependencies([self.program, *(each for each in preloaded if each is not None)])

    def _preload(self, name: str) -> Optional[Object]:
        try:
            return self._find(name, self.program, "LD_PRELOAD")
        except LoaderError as error:  # ld.so says "object cannot be preloaded: ignored" and goes on
            self.errors.append(f"LD_PRELOAD: {error}")
            return None

    def dlopen(self, name: str, caller: Optional[Object] = None) -> Object:
        """Load ``name`` (a path or a soname) and all it needs, breadth first; raises ``LoaderError`` as dlopen would.

        What could not be found is also listed in ``missing``; a failed dlopen leaves the process as it was.
        """
        before = len(self.loaded)
        wanted = self._find(name, caller or self.program, "")
        failures = len(self.missing)
        self._with_dependencies([wanted])
        if len(self.missing) > failures:
            library, _ = self.missing[failures]
            self.attempted += self.loaded[before:]
            del self.loaded[before:]
            raise LoaderError(f"{library}: cannot open shared object file: No such file or directory")
        return wanted

    def find(self, soname: str) -> Optional[Object]:
        """Give the object that is loaded under this name, or None."""
        return next((each for each in self.loaded if soname in each.names or each.soname == soname), None)

    def would_find(self, name: str, caller: Optional[Object] = None) -> Optional[Object]:
        """Give what a request for ``name`` by ``caller`` would find now, without loading it."""
        before = len(self.loaded)
        try:
            return self._find(name, caller or self.program, "")
        except LoaderError:
            return None
        finally:
            del self.loaded[before:]

    def _with_dependencies(self, first: Iterable[Object]) -> None:
        queue = list(first)
        for each in queue:  # grows while it is walked: breadth first, as the loader does
            for name in each.needed:
                known = len(self.loaded)
                try:
                    found = self._find(name, each, "")
                except LoaderError as error:
                    self.missing.append((name, each.path))
                    self.errors.append(str(error))
                    continue
                if len(self.loaded) > known:
                    queue.append(found)

    def _find(self, name: str, requester: Object, via: str) -> Object:
        for each in self.loaded:
            if name in each.names or name == each.soname:
                each.names.add(name)
                return each
        places = [(name, via or "path")] if "/" in name else self._places(name, requester, via)
        for path, step in places:
            found = self._try(path, requester, step)
            if found is not None:
                found.names.add(name)
                return found
        raise LoaderError(f"{name}: cannot open shared object file: No such file or directory")

    def _places(self, name: str, requester: Object, via: str) -> Iterator[Tuple[str, str]]:
        for folder, step in self._folders(requester):
            for sub in self.hwcaps:
                yield os.path.join(folder, "glibc-hwcaps", sub, name), via or step
            yield os.path.join(folder, name), via or step
        cached = self.cache.lookup(name, self.hwcaps)
        if cached is not None:
            yield cached, via or "ld.so.cache"
        for folder in self._defaults():
            yield os.path.join(folder, name), via or "default"

    def _folders(self, requester: Object) -> Iterator[Tuple[str, str]]:
        if not requester.has_runpath:
            chain: Optional[Object] = requester
            met_program = False
            while chain is not None:
                met_program = met_program or chain is self.program
                yield from ((folder, "rpath") for folder in chain.rpath)
                chain = chain.loader
            if not met_program:
                yield from ((folder, "rpath") for folder in self.program.rpath)
        yield from ((folder, "LD_LIBRARY_PATH") for folder in self.library_path)
        yield from ((folder, "runpath") for folder in requester.runpath)

    def _defaults(self) -> Tuple[str, ...]:
        multiarch = f"{self.machine}-linux-gnu"
        return ("/lib/" + multiarch, "/usr/lib/" + multiarch, "/lib64", "/usr/lib64", "/lib", "/usr/lib")

    def _try(self, path: str, requester: Object, via: str) -> Optional[Object]:
        """Open one candidate: None when the search goes on, an error when the loader would stop here."""
        try:
            status = os.stat(self._real(path))
        except OSError:
            return None
        for each in self.loaded:
            if each.identity == (status.st_dev, status.st_ino):
                return each
        return self._open(path, requester, via)

    def _real(self, path: str) -> str:
        return path if self.roots.live else os.path.join(self.roots.root, path.lstrip("/"))

    def _open(self, path: str, requester: Optional[Object], via: str) -> Optional[Object]:
        """Read a file as the loader would: another machine's is passed over, a broken one ends the search."""
        try:
            with Elf(self._real(path)) as elf:
                if elf.machine != _MACHINES.get(self.machine, elf.machine):
                    return None
                found = self._object(elf, path, requester, via)
        except OSError as error:
            raise LoaderError(f"{path}: cannot open shared object file: {error.strerror}") from error
        except ElfError as error:
            raise LoaderError(f"{path}: {error}") from error
        self.loaded.append(found)
        return found

    def _object(self, elf: Elf, path: str, requester: Optional[Object], via: str) -> Object:
        status = os.stat(self._real(path))
        origin = os.path.dirname(os.path.realpath(path) if self.roots.live else path)
        runpath = elf.runpath
        rpath = None if runpath is not None else elf.rpath
        return Object(
            path, elf.soname, elf.needed, self._expand((rpath or "").split(":"), origin),
            self._expand((runpath or "").split(":"), origin), runpath is not None, requester, via,
            (status.st_dev, status.st_ino), {path},
        )  # fmt: skip

    def _expand(self, parts: Sequence[str], origin: str) -> Tuple[str, ...]:
        if not any(parts):
            return ()
        # NOTE: an empty element means the working directory, as the loader has it.
        lib = f"lib/{self.machine}-linux-gnu" if os.path.exists(self._real("/etc/debian_version")) else "lib64"
        tokens = {"ORIGIN": origin, "LIB": lib, "PLATFORM": self.machine}
        expanded = (
            re.sub(r"\$\{?(ORIGIN|LIB|PLATFORM)\}?", lambda match: tokens[match.group(1)], part) for part in parts
        )
        return tuple(os.path.join(self.cwd, part) if part else self.cwd for part in expanded)

    def _read_cache(self) -> LdCache:
        try:
            with open(self.roots.etc + "/ld.so.cache", "rb") as file:
                return parse_cache(file.read(), self.machine)
        except (OSError, ValueError) as error:
            self.errors.append(f"ld.so.cache: {error}")
            return LdCache()


def hwcaps(cpuinfo: str, machine: str) -> Tuple[str, ...]:
    """Name the glibc-hwcaps folders that this CPU uses, the best first, from the text of /proc/cpuinfo."""
    if machine != "x86_64":
        return ()
    match = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    flags = set(match.group(1).split()) if match else set()
    supported: List[str] = []
    needed: Set[str] = set()
    for name, more in reversed(_LEVELS):  # each level needs those below it
        needed |= more
        if needed <= flags:
            supported.insert(0, name)
    return tuple(supported)


def _preloads(environ: Mapping[str, str], system: str) -> Iterator[str]:
    yield from (name for name in re.split("[ :]+", environ.get("LD_PRELOAD", "")) if name)
    yield from (name for line in system.splitlines() for name in line.partition("#")[0].split())


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""
