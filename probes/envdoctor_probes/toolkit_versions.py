"""[payload] The version of a CUDA toolkit or of a compiler by the files beside it; running one is the last resort."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Optional, Tuple

if TYPE_CHECKING:
    from envdoctor_probes.tree import Tree

__all__ = [
    "compiler_version", "parse_cuda_h", "parse_header_version", "parse_nvcc", "parse_version_json",
    "parse_version_line", "parse_version_txt", "toolkit_version",
]  # fmt: skip

_HEADERS = ("include/cuda.h", "targets/x86_64-linux/include/cuda.h", "targets/sbsa-linux/include/cuda.h")
_DEBIAN = "/usr/lib/nvidia-cuda-toolkit"


def toolkit_version(tree: Tree, nvcc: str) -> Optional[str]:
    """Give the version of the toolkit that an nvcc belongs to, by version.json, version.txt or cuda.h beside it."""
    top = os.path.dirname(os.path.dirname(tree.real(_behind_script(tree, nvcc))))
    for name, parse in (("version.json", parse_version_json), ("version.txt", parse_version_txt)):
        found = parse(tree.text_or(os.path.join(top, name)))
        if found:
            return found
    if top in ("/usr", "/usr/local", "/"):  # the headers there are those of any toolkit, or of none
        return None
    headers = ("/usr/include/cuda.h",) if top == _DEBIAN else tuple(os.path.join(top, each) for each in _HEADERS)
    return next(filter(None, (parse_cuda_h(tree.text_or(each)) for each in headers)), None)


def _behind_script(tree: Tree, nvcc: str) -> str:
    """Give the nvcc that a shell script stands before, as in Debian's package."""
    try:
        text = tree.text(nvcc, limit=4096)
    except OSError:
        return nvcc
    match = re.search(r"(/[^\s\"']+/nvcc)\b", text.partition("\n")[2]) if text.startswith("#!") else None
    return match.group(1) if match and match.group(1) != nvcc else nvcc


def parse_version_json(text: str) -> Optional[str]:
    """Read nvcc's own version, else that of the toolkit, out of version.json."""
    try:
        parts = json.loads(text)
        named = parts.get("cuda_nvcc") or parts.get("cuda")
        return str(named["version"])
    except (ValueError, AttributeError, KeyError, TypeError):
        return None


def parse_version_txt(text: str) -> Optional[str]:
    """Read ``CUDA Version 10.2.89``."""
    match = re.search(r"CUDA Version (\d+(?:\.\d+)+)", text)
    return match.group(1) if match else None


def parse_cuda_h(text: str) -> Optional[str]:
    """Read ``#define CUDA_VERSION 12040`` as 12.4."""
    match = re.search(r"^#define\s+CUDA_VERSION\s+(\d+)", text, re.MULTILINE)
    return f"{int(match.group(1)) // 1000}.{int(match.group(1)) % 1000 // 10}" if match else None


def parse_nvcc(text: str) -> Optional[str]:
    """Read ``Cuda compilation tools, release 12.4, V12.4.131``."""
    match = re.search(r"release (\d+\.\d+)(?:, V(\d+(?:\.\d+)+))?", text)
    return (match.group(2) or match.group(1)) if match else None


def compiler_version(tree: Tree, path: str) -> Optional[str]:
    """Give a compiler's version by its file name, or by the one folder of its own files; None when that is unclear."""
    real = tree.real(path)
    match = re.search(r"-(\d+(?:\.\d+)*)$", os.path.basename(real))
    if match:
        return match.group(1)
    if not os.path.basename(real).endswith(("gcc", "g++", "cc", "c++")):
        return None
    own = os.path.join(os.path.dirname(os.path.dirname(real)), "lib", "gcc")
    versions = {
        name
        for triple in tree.names_or_none(own)
        for name in tree.names_or_none(f"{own}/{triple}")
        if name[0].isdigit()
    }
    return versions.pop() if len(versions) == 1 else None


def parse_version_line(text: str) -> Optional[str]:
    """Read the version out of the first line of ``--version``: the last number that is not a package's."""
    line = re.sub(r"\([^)]*\)", "", text.partition("\n")[0])
    match = re.search(r"\b(\d+(?:\.\d+)+)\b", line)
    return match.group(1) if match else None


def parse_header_version(text: str, macros: Tuple[str, ...]) -> Optional[str]:
    """Read ``#define CUDNN_MAJOR 9`` and its like; None when one is missing."""
    found = dict(re.findall(r"^#define\s+(\w+)\s+(\d+)", text, re.MULTILINE))
    return ".".join(found[each] for each in macros) if macros and all(each in found for each in macros) else None
