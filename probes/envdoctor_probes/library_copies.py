"""[payload] Copies of a library on disk: which lie beside torch, who owns each, and which version it is."""

from __future__ import annotations

import os
import re
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence

from envdoctor.facts.libraries import Copy
from envdoctor_probes.elf import Elf, ElfError
from envdoctor_probes.library_names import library_of
from envdoctor_probes.metadata import Installed, read_text
from envdoctor_probes.records import parse_record, read_record
from envdoctor_probes.toolkit_versions import parse_header_version

__all__ = ["Owner", "bundled_files", "copy_of", "owners"]

_IN_NAME = re.compile(r"\.so\.(\d+(?:\.\d+)+)$")
_HEADERS = {
    "cudnn": ("cudnn_version.h", ("CUDNN_MAJOR", "CUDNN_MINOR", "CUDNN_PATCHLEVEL")),
    "nccl": ("nccl.h", ("NCCL_MAJOR", "NCCL_MINOR", "NCCL_PATCH")),
}
_WHEELS = ("nvidia-", "torch", "intel-openmp", "mkl")


class Owner(NamedTuple):
    """The distribution whose RECORD lists a file."""

    name: str
    version: str


def owners(found: Sequence[Installed]) -> Dict[str, List[Owner]]:
    """Give the owners of each shared object of the nvidia-* wheels and their like, by path."""
    owned: Dict[str, List[Owner]] = {}
    for each in found:
        if not each.name.startswith(_WHEELS) or each.name == "torch":  # torch's own folder tells by itself
            continue
        for entry in parse_record(read_record(each.info) or ""):
            if ".so" in entry.path:
                path = os.path.normpath(os.path.join(each.home, entry.path))
                owned.setdefault(path, []).append(Owner(each.name, each.version))
    return owned


def bundled_files(torch: str) -> Iterator[str]:
    """Give the libraries that lie in torch/lib and in the nvidia folders beside torch."""
    site = os.path.dirname(torch)
    folders = [os.path.join(torch, "lib")]
    folders += [os.path.join(site, "nvidia", name, "lib") for name in _names(os.path.join(site, "nvidia"))]
    for folder in folders:
        for name in _names(folder):
            if ".so" in name and library_of(name) is not None:
                yield os.path.join(folder, name)


def _names(folder: str) -> List[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def copy_of(path: str, owned: Dict[str, List[Owner]], *, via: str = "", requested_by: Optional[str] = None) -> Copy:
    """Describe one copy: owner by RECORD (the last installed one wrote the file), version by what says it best."""
    path = os.path.normpath(path)
    mine = owned.get(path, [])
    name = ", ".join(f"{each.name} {each.version}" for each in mine) or ("torch" if "/torch/lib/" in path else None)
    return Copy(path, _version(path, mine), name, via, requested_by, os.path.realpath(path))


def _version(path: str, mine: Sequence[Owner]) -> Optional[str]:
    library = library_of(os.path.basename(path))
    by_header = _by_header(path, library.name) if library else None
    if by_header:
        return by_header
    if len(mine) == 1:
        return mine[0].version
    match = _IN_NAME.search(os.path.realpath(path))
    if match:
        return match.group(1)
    return _by_content(path, library.name) if library else None


def _by_header(path: str, name: str) -> Optional[str]:
    header, macros = _HEADERS.get(name, ("", ()))
    folder = os.path.join(os.path.dirname(os.path.dirname(path)), "include")
    text = read_text(os.path.join(folder, header)) if header and "/nvidia/" in path else None
    return parse_header_version(text, macros) if text else None


def _by_content(path: str, name: str) -> Optional[str]:
    try:
        with Elf(path) as elf:
            if name == "nccl":
                text = elf.find_text(rb"NCCL version [0-9.]+(?=\+cuda)")
                return text.rpartition(" ")[2] if text else None
            if name == "nvjitlink":
                return _newest_marker(elf.names(rb"__nvJitLinkComplete_\d+_\d+"))
    except (OSError, ElfError):
        return None  # what is wrong with the file itself is torch-files' and the loader's to say
    return None


def _newest_marker(names: Sequence[str]) -> Optional[str]:
    versions = [tuple(int(part) for part in name.split("_")[-2:]) for name in names]
    return "{}.{}".format(*max(versions)) if versions else None
