"""[payload] What ``import torch`` would find, and which local files hide what that import needs."""

from __future__ import annotations

import os
import sys
from typing import Iterator, Optional, Sequence, Tuple

from envdoctor.facts.torch import Shadow, TorchPath
from envdoctor.probe import Context, probe
from envdoctor_probes.metadata import Listing, listings, unreadable
from envdoctor_probes.modules import Found, find_everywhere, find_module, is_built_torch

# Standard-library modules that importing torch (1.8 to 2.13) loads, and that no interpreter has loaded before.
STANDARD = frozenset((
    "argparse", "array", "ast", "asyncio", "base64", "bdb", "binascii", "bisect", "bz2", "calendar", "cmath",
    "cmd", "code", "codeop", "collections", "concurrent", "contextlib", "contextvars", "copy", "copyreg", "csv",
    "ctypes", "dataclasses", "datetime", "decimal", "difflib", "dis", "email", "enum", "fcntl", "fnmatch",
    "fractions", "functools", "gettext", "glob", "grp", "gzip", "hashlib", "heapq", "http", "importlib",
    "inspect", "ipaddress", "json", "keyword", "linecache", "locale", "logging", "lzma", "math", "mmap",
    "multiprocessing", "numbers", "opcode", "operator", "pathlib", "pdb", "pickle", "pickletools", "pkgutil",
    "platform", "pprint", "queue", "quopri", "random", "re", "reprlib", "runpy", "select", "selectors",
    "shutil", "signal", "socket", "ssl", "string", "struct", "subprocess", "sysconfig", "tarfile", "tempfile",
    "textwrap", "threading", "timeit", "token", "tokenize", "traceback", "types", "typing", "unittest",
    "urllib", "uuid", "warnings", "weakref", "zipfile", "zlib",
)) - frozenset(sys.builtin_module_names)  # fmt: skip
OTHERS = ("numpy", "typing_extensions", "torchgen", "functorch", "sympy", "mpmath", "tqdm", "pynvml")


@probe()
def torch_path(context: Context) -> TorchPath:
    """Give every torch on the path, and the files in the working directory or PYTHONPATH that come before another."""
    listed = listings(context)
    found = find_everywhere("torch", listed)
    problem = unreadable(listed)
    return TorchPath(
        found=tuple(each.path for each in found),
        namespaces=tuple(each.path for each in found if each.kind == "namespace"),
        shadows=(*_shadowed_torch(found), *_shadowed_others(listed), *_shadowed_standard(listed)),
        unknown={"found": problem} if problem else {},
    )


def _shadowed_torch(found: Sequence[Found]) -> Iterator[Shadow]:
    """Give the first torch when it is a local file, or a folder that was never built, in front of the real one."""
    if not found or found[0].kind == "namespace":
        return
    first = found[0]
    if first.kind == "module" or not is_built_torch(first.path):
        real = next((each.path for each in found[1:] if each.kind != "namespace"), None)
        yield Shadow("torch", first.path, real, first.via)


def _shadowed_others(listed: Sequence[Listing]) -> Iterator[Shadow]:
    """Give modules of the user's own that stand before an installed one that torch imports."""
    for name in OTHERS:
        found = [each for each in find_everywhere(name, listed) if each.kind != "namespace"]
        if len(found) > 1 and found[0].via in ("cwd", "PYTHONPATH") and found[1].via not in ("cwd", "PYTHONPATH"):
            yield Shadow(name, found[0].path, found[1].path, found[0].via)


def _shadowed_standard(listed: Sequence[Listing]) -> Iterator[Shadow]:
    """Give files that an import takes for the standard library's, because their directory comes before it."""
    for each in _before_standard_library(listed):
        names = frozenset(each.names)
        stems = {name.partition(".")[0] for name in names}
        for name in sorted(STANDARD & stems):
            found: Optional[Found] = find_module(name, each.directory, names, each.via)
            if found and found.kind != "namespace":
                yield Shadow(name, found.path, None, each.via)


def _before_standard_library(listed: Sequence[Listing]) -> Tuple[Listing, ...]:
    home = os.path.realpath(os.path.dirname(os.__file__))
    places = [os.path.realpath(each.directory) for each in listed]
    if home in places:
        return tuple(listed[: places.index(home)])
    return tuple(each for each in listed if each.via in ("cwd", "PYTHONPATH"))
