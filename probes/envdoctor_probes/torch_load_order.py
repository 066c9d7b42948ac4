"""[payload] The order in which ``import torch`` loads its libraries, read from torch/__init__.py and played on files.

First torch/lib/libtorch_global_deps.so; then what that version of torch preloads from the nvidia-* wheels, always
or when the first step failed; then torch/_C.*.so, which brings libtorch_python.so and the rest.
"""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from typing import List, Sequence, Tuple

from envdoctor_probes.loader import Loader, LoaderError

__all__ = ["Preloads", "parse_preloads", "play_torch"]

Library = Tuple[str, str]  # folder under nvidia/, file pattern

_ENTRY = re.compile(r"""["'](\w+)["'][,:]\s*["'](lib[\w-]+\.so\.[^"']+)["']""")
_OPTIONAL = "nvtx"


@dataclass(frozen=True)
class Preloads:
    """What ``_load_global_deps`` of one torch version preloads.

    ``on_failure``: when libtorch_global_deps.so does not load. ``on_success``: when it does and ``marker`` is among
    the mapped files.
    """

    on_failure: Tuple[Library, ...] = ()
    on_success: Tuple[Library, ...] = ()
    marker: str = ""


def parse_preloads(init: str) -> Preloads:
    """Read the preloads from the text of torch/__init__.py; a version without any gives empty ones."""
    success, _, failure = _function(init, "_load_global_deps").partition("except OSError")
    every = tuple(_ENTRY.findall(_function(init, "_preload_cuda_deps")) or _ENTRY.findall(failure))
    marker = re.search(r"""if ["']([^"']+)["'] not in \w*maps""", success)
    if marker is None:
        return Preloads(every)
    named = tuple(_ENTRY.findall(success.partition("not in")[2]))
    return Preloads(every, named or (every if "_preload_cuda_deps()" in success else ()), marker.group(1))


def _function(source: str, name: str) -> str:
    match = re.search(rf"^def {name}\(.*?(?=^\S)", source, re.MULTILINE | re.DOTALL)
    return match.group(0) if match else ""


def play_torch(loader: Loader, torch: str, path: Sequence[str]) -> List[str]:
    """Play ``import torch`` from the directory ``torch``; gives the loader's complaints, in order.

    ``path`` is the module search path: the wheels' libraries are looked for in each of its entries.
    """
    complaints: List[str] = []
    preloads = parse_preloads(_read(os.path.join(torch, "__init__.py")))
    cuda_major = _cuda_major(_read(os.path.join(torch, "version.py")))
    first = os.path.join(torch, "lib", "libtorch_global_deps.so")
    if os.path.exists(first) and not _open(loader, first, complaints):
        _preload(loader, preloads.on_failure, path, cuda_major, complaints)
        _open(loader, first, complaints)
    elif preloads.marker and any(preloads.marker in each.path for each in loader.loaded):
        _preload(loader, preloads.on_success, path, cuda_major, complaints)
    for extension in sorted(glob.glob(os.path.join(glob.escape(torch), "_C.*.so"))) or _python_library(torch):
        _open(loader, extension, complaints)
    return complaints


def _python_library(torch: str) -> List[str]:
    path = os.path.join(torch, "lib", "libtorch_python.so")
    return [path] if os.path.exists(path) else []


def _open(loader: Loader, path: str, complaints: List[str]) -> bool:
    try:
        loader.dlopen(path)
    except LoaderError as error:
        complaints.append(str(error))
        return False
    return True


def _preload(
    loader: Loader, libraries: Sequence[Library], path: Sequence[str], cuda_major: str, complaints: List[str]
) -> None:
    """Open each in turn; like torch, give up at the first that is required and not there or does not load."""
    for folder, pattern in libraries:
        found = next(filter(None, (_candidates(entry, folder, pattern, cuda_major) for entry in path)), [])
        if not found and folder != _OPTIONAL:
            complaints.append(f"{pattern} not found in the system path")
            return
        if found and not _open(loader, found[0], complaints):
            return


def _candidates(entry: str, folder: str, pattern: str, cuda_major: str) -> List[str]:
    places = [("nvidia", folder), ("nvidia", "cu" + cuda_major), (folder,)]
    here = glob.escape(entry)
    return [each for place in places for each in glob.glob(os.path.join(here, *place, "lib", pattern))]


def _cuda_major(version: str) -> str:
    match = re.search(r"^cuda(?:: [^=]+)? = '(\d+)", version, re.MULTILINE)
    return match.group(1) if match else ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""
