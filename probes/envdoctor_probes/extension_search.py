"""[payload] Where the libraries that an extension asks for would come from: torch, the wheels, itself, the system."""

from __future__ import annotations

import glob
import os
import re
from typing import TYPE_CHECKING, Optional, Sequence, Set, Tuple

from envdoctor_probes.loader import Loader, LoaderError
from envdoctor_probes.metadata import search_path
from envdoctor_probes.torch_exports import library_folders

if TYPE_CHECKING:
    from envdoctor.probe import Context
    from envdoctor_probes.elf import Elf

__all__ = ["JUDGED", "Search"]

# Judged: torch's and CUDA's libraries. The driver's come with a driver, FFmpeg's and others are wanted or not.
JUDGED = re.compile(
    r"lib(torch|c10|caffe2|cudart|cublas|cudnn|cufft|curand|cusolver|cusparse|nccl|nvrtc|nvJitLink|nvToolsExt|cupti"
    r"|nvshmem|nvjpeg|npp|amdhip)"
)


class Search:
    """The file names that are there for an import of torch and of the extensions beside it."""

    def __init__(self, program: str, context: Context, torch: str, files: Sequence[str]) -> None:
        self._program, self._context = program, context
        self._there: Set[str] = {os.path.basename(path) for path in files}
        wheels = [os.path.join(glob.escape(entry), "nvidia", "*", "lib") for entry, _ in search_path(context)]
        for folder in (*library_folders(torch), *(path for each in wheels for path in glob.glob(each))):
            self._there.update(_names(folder))
        self._loader: Optional[Loader] = None

    def missing(self, elf: Elf) -> Tuple[str, ...]:
        """Name the libraries of torch and CUDA that this file asks for and nothing provides."""
        own = self._own(elf)
        asked = [name for name in elf.needed if JUDGED.match(name) and name not in self._there and name not in own]
        return tuple(name for name in asked if not self._system_has(name))

    @staticmethod
    def _own(elf: Elf) -> Set[str]:
        """List the folders that the file itself names."""
        origin = os.path.dirname(os.path.realpath(elf.path))
        parts = f"{elf.rpath or ''}:{elf.runpath or ''}".split(":")
        folders = {re.sub(r"\$\{?ORIGIN\}?", lambda _: origin, part) for part in parts if part}
        return {name for folder in folders for name in _names(folder)}

    def _system_has(self, name: str) -> bool:
        """Look where the loader looks last: LD_LIBRARY_PATH, its cache, its defaults."""
        try:
            if self._loader is None:
                context = self._context
                self._loader = Loader(self._program, context.environ, roots=context.roots, cwd=context.cwd)
        except LoaderError:
            return False
        return self._loader.would_find(name) is not None


def _names(folder: str) -> Sequence[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return ()
