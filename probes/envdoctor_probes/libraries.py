"""[payload] libraries: the ledger of what torch declares, what is bundled, and what the loader would really take."""

from __future__ import annotations

import os
import sys
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from envdoctor.facts.libraries import Copy, LedgerRow, Libraries
from envdoctor.probe import Context, NotThere, probe
from envdoctor_probes.elf import Elf, ElfError
from envdoctor_probes.library_copies import Owner, bundled_files, copy_of, owners
from envdoctor_probes.library_names import LATE, LIBRARIES, Library, library_of
from envdoctor_probes.library_requests import Requests, newest_of
from envdoctor_probes.loader import Loader, LoaderError, Object
from envdoctor_probes.metadata import Installed, installed, listings
from envdoctor_probes.pins import read_pins
from envdoctor_probes.torch_build import torch_folder, torch_metadata
from envdoctor_probes.torch_load_order import play_torch

__all__ = ["libraries"]

Owned = Dict[str, List[Owner]]
_OPENMP = ("gomp", "iomp5")


@probe(child="ledger")
def libraries(context: Context) -> Libraries:
    """Play the load of torch on files, and set beside each library where it is declared, bundled and found."""
    listed = listings(context)
    torch = torch_folder(listed)
    if torch is None:
        raise NotThere("no torch on the module search path")
    found = tuple(installed(listed))
    try:
        loader = Loader(sys.executable, context.environ, roots=context.roots, cwd=context.cwd)
    except LoaderError as error:
        return Libraries(unknown={"rows": str(error)})
    complaints = play_torch(loader, torch, context.path)
    pins = _pins(found, torch)
    owned = owners(found)
    requests = Requests(loader)
    rows = tuple(
        _rows(loader, torch, requests, Wheels(pins, owned, {each.name: each.version for each in reversed(found)}))
    )
    return Libraries(
        rows=rows,
        missing=tuple(dict.fromkeys(f"{name} (needed by {by})" for name, by in loader.missing)),
        complaints=tuple(dict.fromkeys(complaints)),
        preload=loader.preload,
        library_path=loader.library_path,
        glibcxx_newest=_newest(loader, "libstdc++.so.6", "GLIBCXX_"),
        glibc=_newest(loader, "libc.so.6", "GLIBC_"),
        glibc_needed=requests.newest("libc.so.6", "GLIBC_"),
        glibcxx_needed=requests.newest("libstdc++.so.6", "GLIBCXX_"),
        openmp=tuple(_openmp(loader, owned)),
    )


def _pins(found: Sequence[Installed], torch: str) -> Dict[str, str]:
    metadata = torch_metadata(found, torch)
    if metadata is None:
        return {}
    answer: Any = read_pins(metadata.info, {each.name: each for each in found})
    return {pin.name: pin.specifier for pin in getattr(answer, "pins", answer)}


class Wheels(NamedTuple):
    """What the wheels say: torch's pins, the owners of files, the installed versions."""

    pins: Dict[str, str]
    owned: Owned
    versions: Dict[str, str]

    def pin_of(self, library: Library) -> Optional[str]:
        """Give the pinned wheel that brings this library, or None."""
        return next((name for name in self.pins if library.pinned_by(name)), None)


def _rows(loader: Loader, torch: str, requests: Requests, wheels: Wheels) -> Iterator[LedgerRow]:
    beside: Dict[str, List[str]] = {}
    for path in bundled_files(torch):
        library = library_of(os.path.basename(path))
        if library is not None:
            beside.setdefault(library.name, []).append(path)
    taken: Dict[str, Object] = {}
    for each, known in _taken(loader):
        if known is not None:
            taken.setdefault(known.name, each)
    for library in LIBRARIES:
        first, files = taken.get(library.name), beside.get(library.name, [])
        if first is not None or files or (wheels.pin_of(library) and "_" not in library.name):
            yield _row(library, first, files, wheels, requests)


def _row(library: Library, first: Optional[Object], files: List[str], wheels: Wheels, requests: Requests) -> LedgerRow:
    pin = wheels.pin_of(library)
    specifier = wheels.pins[pin] if pin else ""
    needed, missing, symbols = requests.to(library, first)
    return LedgerRow(
        name=library.name,
        soname=(first.soname or "") if first else os.path.basename(files[0]) if files else "",
        declared=f"{pin} {specifier}".strip() if pin else None,
        declared_version=specifier[2:] if specifier.startswith("==") else None,
        installed_version=wheels.versions.get(pin) if pin else None,
        bundled=tuple(copy_of(path, wheels.owned) for path in files),
        first=_first(first, wheels.owned),
        needed_versions=needed,
        missing_versions=missing,
        needed_symbols_missing=symbols,
    )


def _first(taken: Optional[Object], owned: Owned) -> Optional[Copy]:
    if taken is None:
        return None
    return copy_of(taken.path, owned, via=taken.via, requested_by=taken.loader.path if taken.loader else None)


def _taken(loader: Loader) -> Iterator[Tuple[Object, Optional[Library]]]:
    """Give what is loaded, then what would be found for the libraries that are opened by name later on."""
    for each in (*loader.loaded, *loader.attempted):
        yield each, library_of(os.path.basename(each.soname or each.path))
    for opener, pattern in LATE:
        caller = next((each for each in loader.loaded if os.path.basename(each.path).startswith(opener + ".so")), None)
        if caller is None:
            continue
        name = pattern.replace(".so.M", ".so." + _major(caller)).replace(".so.N", ".so." + _cuda_major(loader))
        found = loader.would_find(name, caller)
        if found is not None:
            yield found, library_of(name)


def _major(caller: Object) -> str:
    return (caller.soname or "").rpartition(".so.")[2].partition(".")[0]


def _cuda_major(loader: Loader) -> str:
    cudart = next((each for each in loader.loaded if (each.soname or "").startswith("libcudart.so.")), None)
    return _major(cudart) if cudart else ""


def _newest(loader: Loader, soname: str, prefix: str) -> Optional[str]:
    found = loader.find(soname)
    if found is None:
        return None
    try:
        with Elf(found.path) as elf:
            return newest_of(elf.verdef, prefix)
    except (OSError, ElfError):
        return None


def _openmp(loader: Loader, owned: Owned) -> Iterator[Copy]:
    for each in loader.loaded:
        library = library_of(os.path.basename(each.path))
        if library is not None and library.name in _OPENMP:
            yield copy_of(each.path, owned, via=each.via, requested_by=each.loader.path if each.loader else None)
