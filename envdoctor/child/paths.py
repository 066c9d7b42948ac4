"""[payload] Two module search paths: the standard library's for our own code, the patient's for the patient's.

Our imports must not find a user's ``json.py``; ``import torch`` must find exactly what a script would.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
from typing import AbstractSet, Any, Dict, Iterator, List, Tuple


class Paths:
    """The two paths, the top-level names that travelled with us, and the modules that were there before us.

    ``caches``: bytecode of what we import may be written, because it is our own installation that it comes from.
    """

    def __init__(
        self, stdlib: List[str], full: List[str], homes: Dict[str, str], before: AbstractSet[str], caches: bool = True
    ) -> None:
        self.stdlib = tuple(stdlib)
        self._caches = caches
        self.full = tuple(full)
        self.homes = homes
        self._before = before
        self._hidden: Dict[str, Any] = {}
        self._ours = frozenset(name for name in sys.modules if name not in before)

    @contextlib.contextmanager
    def our_imports(self) -> Iterator[None]:
        """Import our own code: from the standard library and the payload only, and cached as bytecode."""
        path, sys.path[:] = list(sys.path), self.stdlib
        theirs = {name: sys.modules[name] for name in self._hidden if name in sys.modules}
        sys.modules.update(self._hidden)  # a second copy of dataclasses would not know the first one's fields
        sys.dont_write_bytecode = False
        try:
            yield
        finally:
            sys.dont_write_bytecode = True
            for name in self._hidden:
                sys.modules.pop(name, None)
            sys.modules.update(theirs)
            sys.path[:] = path

    def load(self, where: str) -> Any:
        """Give the object that ``module:attribute`` names; modules of the payload are imported as our own."""
        module, _, attribute = where.partition(":")
        if module.partition(".")[0] not in self.homes:
            return getattr(importlib.import_module(module), attribute)
        with self.our_imports():
            return getattr(importlib.import_module(module), attribute)

    def become_the_patient(self) -> None:
        """Give this process the patient's own path and a garbage collector, as ``python script.py`` has them."""
        gc.enable()
        sys.path[:] = self.full
        self.homes.pop("pynvml", None)  # the patient's own, or none
        for name in self._shadowed():
            for loaded in [each for each in sys.modules if each == name or each.startswith(name + ".")]:
                self._hidden[loaded] = sys.modules.pop(loaded)

    def _shadowed(self) -> Iterator[str]:
        """Name the modules that we loaded from the standard library and the patient would find elsewhere first."""
        ahead = [entry for entry in self._ahead_of_stdlib() if os.path.isdir(entry or ".")]
        names = {name.partition(".")[0] for name in self._ours} - set(self.homes)
        for name in names:
            if any(_holds(entry, name) for entry in ahead):
                yield name

    def _ahead_of_stdlib(self) -> Tuple[str, ...]:
        first = min((self.full.index(entry) for entry in self.stdlib if entry in self.full), default=0)
        return self.full[:first]


def _holds(entry: str, name: str) -> bool:
    """Tell whether the directory holds a module or package of this name."""
    base = os.path.join(entry, name)
    return os.path.isfile(base + ".py") or os.path.isfile(os.path.join(base, "__init__.py"))
