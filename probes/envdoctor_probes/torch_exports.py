"""[payload] What the libraries of an installed torch define, asked symbol by symbol; they are mapped, not loaded."""

from __future__ import annotations

import glob
import os
from typing import Dict, List, Optional

from envdoctor_probes.elf import Elf, ElfError
from envdoctor_probes.mangled import name_start, std_string

__all__ = ["TorchExports", "library_folders"]

# In the order in which most symbols are found soon; others of torch/lib are test libraries, or loaded by few.
_FIRST = ("libtorch_cpu", "libc10", "libtorch_python", "libtorch_cuda", "libc10_cuda")
_PATTERNS = ("libtorch*.so", "libc10*.so", "libcaffe2*.so")


def library_folders(torch: str) -> List[str]:
    """Give the folders that hold torch's libraries: its own, and conda's, where conda keeps them."""
    prefix = os.path.normpath(os.path.join(torch, *[os.pardir] * 4))  # lib/python3.11/site-packages/torch
    conda = [os.path.join(prefix, "lib")] if os.path.isdir(os.path.join(prefix, "conda-meta")) else []
    return [os.path.join(torch, "lib"), *conda]


class TorchExports:
    """The symbols of one torch. Use it with ``with``; ``problem`` says why nothing can be said of them."""

    def __init__(self, torch: str) -> None:
        self.problem = ""
        self._libraries: List[Elf] = []
        self._explained: Dict[str, bool] = {}
        for path in _libraries(torch):
            self._open(path)
        if not self._libraries:
            self.problem = self.problem or f"no libc10.so in {os.path.join(torch, 'lib')}"
        told = (_abi_of(each) for each in self._libraries)
        self._abi: Optional[bool] = next((abi for abi in told if abi is not None), None)

    def _open(self, path: str) -> None:
        try:
            self._libraries.append(Elf(path))
        except (OSError, ElfError) as error:
            self.problem = str(error)

    def __enter__(self) -> TorchExports:  # noqa: PYI034 - Self is not in 3.8's typing
        return self

    def __exit__(self, *_exc: object) -> None:
        for each in self._libraries:
            each.close()

    @property
    def readable(self) -> bool:
        """Tell whether all of torch's libraries could be read: only then is a name that none has really missing."""
        return not self.problem

    def exports(self, symbol: str) -> bool:
        """Tell whether one of the libraries defines this symbol."""
        return any(each.exports(symbol) for each in self._libraries)

    def has_with_other_string(self, symbol: str) -> bool:
        """Tell whether torch has the same function with the other ABI's std::string, as argument or as result."""
        start, _ = name_start(symbol)
        theirs = std_string(symbol)
        if theirs is None:  # the old ABI's functions that return a string have no mark of it
            return self._has(start + "B5cxx11E") or self._has(start + "B5cxx11v")
        if theirs and symbol.startswith(start + "B5cxx11"):
            return self._has(start + symbol[len(start) + len("B5cxx11") :])
        return self._abi is not None and self._abi is not theirs and self._has(start)

    def _has(self, start: str) -> bool:
        if start not in self._explained:
            self._explained[start] = any(each.has_name_starting(start) for each in self._libraries)
        return self._explained[start]


def _libraries(torch: str) -> List[str]:
    """Give torch's libraries, those that define most first."""
    folders = [glob.escape(folder) for folder in library_folders(torch)]
    patterns = [os.path.join(folder, pattern) for folder in folders for pattern in _PATTERNS]
    found = [path for pattern in patterns for path in sorted(glob.glob(pattern))]
    names = {name + ".so": place for place, name in enumerate(_FIRST)}
    return sorted(found, key=lambda path: names.get(os.path.basename(path), len(names)))


def _abi_of(library: Elf) -> Optional[bool]:
    """Tell which std::string a library speaks of, where it is the one that defines c10's exceptions."""
    names = library.names(rb"_ZN3c105ErrorC[12][^\0]*") if "libc10.so" in library.path else ()
    return next((abi for abi in map(std_string, names) if abi is not None), None)
