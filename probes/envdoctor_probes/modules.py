"""[payload] Where an import would find a module: the path finder's own order, without importing anything."""

from __future__ import annotations

import ast
import os
import re
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from typing import Dict, FrozenSet, Iterator, NamedTuple, Optional, Sequence, Tuple

from envdoctor_probes.metadata import Listing, read_text

_SUFFIXES = (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES, *BYTECODE_SUFFIXES)


class Found(NamedTuple):
    """A module: ``kind`` is package, module, namespace or editable; ``path`` the package's folder or the file."""

    path: str
    kind: str
    via: str = ""


def find_module(name: str, directory: str, names: FrozenSet[str], via: str = "") -> Optional[Found]:
    """Give what ``import name`` finds in this directory: a package beats a file, and a bare folder comes last."""
    folder = os.path.join(directory, name)
    is_folder = name in names and os.path.isdir(folder)
    if is_folder and any(os.path.exists(os.path.join(folder, "__init__" + suffix)) for suffix in _SUFFIXES):
        return Found(folder, "package", via)
    for suffix in _SUFFIXES:
        if name + suffix in names and os.path.isfile(folder + suffix):
            return Found(folder + suffix, "module", via)
    return Found(folder, "namespace", via) if is_folder else None


def find_everywhere(name: str, listed: Sequence[Listing]) -> Tuple[Found, ...]:
    """Give every ``name`` on the path, the one that an import takes first; bare folders lose to everything else."""
    on_path = [find_module(name, each.directory, frozenset(each.names), each.via) for each in listed]
    found = [each for each in on_path if each]
    real = [each for each in found if each.kind != "namespace"]
    real += [each for each in editables(name, listed) if each.path not in {other.path for other in real}]
    return (*real, *(each for each in found if each.kind == "namespace"))


def editables(name: str, listed: Sequence[Listing]) -> Iterator[Found]:
    """Give the source trees that ``pip install -e`` reaches through an import hook, which no path entry shows."""
    finder = re.compile(rf"__editable___{name}_.*_finder\.py$")
    for each in listed:
        for file_name in sorted(filter(finder.match, each.names)):
            path = parse_mapping(read_text(os.path.join(each.directory, file_name)) or "").get(name)
            if path and os.path.exists(path):
                yield Found(path, "editable", "editable")


def parse_mapping(text: str) -> Dict[str, str]:
    """Read ``MAPPING = {'torch': '/src/torch'}`` out of the hook that setuptools writes."""
    match = re.search(r"^MAPPING(?::[^=\n]*)? = (\{.*\})\s*$", text, re.MULTILINE)
    try:
        mapping = ast.literal_eval(match.group(1)) if match else {}
    except (ValueError, SyntaxError):
        return {}
    return {str(key): str(value) for key, value in mapping.items()} if isinstance(mapping, dict) else {}


def is_built_torch(folder: str) -> bool:
    """Tell an installed torch from a source tree, or a folder of that name: it has a version.py or libraries."""
    return os.path.exists(os.path.join(folder, "version.py")) or os.path.isdir(os.path.join(folder, "lib"))
