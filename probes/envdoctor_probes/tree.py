"""[payload] The machine's own files as a context's roots show them; paths are written as the machine names them.

``Tree.text("/proc/version")`` reads under the roots, so that a recorded tree answers like a live machine, its
absolute links included. ``Notes`` collects a fact's values together with where they were read and why not.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple

if TYPE_CHECKING:
    from envdoctor.probe import Roots

__all__ = ["Notes", "Tree", "why"]

_LINKS = 40  # as many as the kernel follows


class Tree:
    """Reads small files, folders and links of the machine that ``roots`` show."""

    def __init__(self, roots: Roots) -> None:
        self.roots = roots
        self.live = roots.live
        self._places = tuple((f"/{name}", getattr(roots, name)) for name in ("proc", "sys", "dev", "etc", "run"))

    def place(self, path: str) -> str:
        """Say where ``path`` of the machine lies here."""
        for start, root in self._places:
            if path == start or path.startswith(start + "/"):
                return str(root) + path[len(start) :]
        return path if self.roots.root == "/" else os.path.join(self.roots.root, path.lstrip("/"))

    def real(self, path: str) -> str:
        """Follow the links of ``path``, an absolute one from the machine's root; what is missing stays as it is."""
        if self.roots.root == "/":
            return os.path.realpath(path)
        done, left, links = "/", [part for part in path.split("/") if part], 0
        while left:
            part = left.pop(0)
            done, here = (os.path.dirname(done), "") if part == ".." else (os.path.join(done, part), part)
            if here and links < _LINKS and os.path.islink(self.place(done)):
                links += 1
                target = os.readlink(self.place(done))
                left = [each for each in target.split("/") if each not in ("", ".")] + left
                done = "/" if target.startswith("/") else os.path.dirname(done)
        return done

    def here(self, path: str) -> str:
        """Say which file of this machine to open for ``path``, links followed as the recorded machine would."""
        return self.place(path) if self.roots.root == "/" else self.place(self.real(path))

    def text(self, path: str, limit: int = 1 << 20) -> str:
        """Read a text file, at most ``limit`` bytes of it; raises ``OSError``."""
        with open(self.here(path), "rb") as file:
            return file.read(limit).decode("utf-8", "replace")

    def text_or(self, path: str, default: str = "") -> str:
        """Read a text file; ``default`` when it cannot be read, for what is only one clue of several."""
        try:
            return self.text(path)
        except OSError:
            return default

    def names(self, path: str) -> Tuple[str, ...]:
        """List a folder's names in order; raises ``OSError``."""
        return tuple(sorted(os.listdir(self.here(path))))

    def names_or_none(self, path: str) -> Tuple[str, ...]:
        """List a folder's names; nothing when it cannot be listed."""
        try:
            return self.names(path)
        except OSError:
            return ()

    def exists(self, path: str) -> bool:
        """Tell whether ``path`` leads to something."""
        return os.path.exists(self.here(path))

    def size(self, path: str) -> Optional[int]:
        """Give a file's size in bytes, or None when there is none."""
        try:
            return os.stat(self.here(path)).st_size
        except OSError:
            return None


class Notes:
    """A fact in the making: values, where each was read, and why one could not be had."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.values: Dict[str, Any] = {}
        self.sources: Dict[str, str] = {}
        self.unknown: Dict[str, str] = {}

    def put(self, field: str, value: Any, source: str = "") -> None:
        """Write down a value, and where it was read when that is not the field's usual place."""
        self.values[field] = value
        self.unknown.pop(field, None)
        if source:
            self.sources[field] = source

    def miss(self, field: str, reason: str) -> None:
        """Write down why a value could not be had."""
        self.unknown[field] = reason

    def read(self, field: str, path: str, parse: Callable[[str], Any]) -> None:
        """Read a file into a field; what goes wrong becomes the reason, a None from ``parse`` too."""
        try:
            value = parse(self.tree.text(path))
        except (OSError, ValueError) as error:
            self.miss(field, why(error, path))
            return
        if value is None:
            self.miss(field, f"{path} does not say")
        else:
            self.put(field, value, path)

    def into(self, fact: Callable[..., Any]) -> Any:
        """Make the fact."""
        return fact(sources=self.sources, unknown=self.unknown, **self.values)


def why(error: BaseException, path: str = "") -> str:
    """Say in words why reading failed: ``/proc/x: Permission denied``."""
    words = (error.strerror if isinstance(error, OSError) else None) or f"{error}" or type(error).__name__
    return f"{path}: {words}" if path else words
