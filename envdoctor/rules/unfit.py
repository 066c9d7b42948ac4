"""What the compiled files of a package show: that they do not fit this torch, and how. Names are written for people."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.libraries import Extension, Extensions
from envdoctor.finding import Evidence

# Without these no file of the package loads; others (NVSHMEM, cuBLAS, …) may be opened by hand or not at all.
DECISIVE = re.compile(r"lib(torch|c10|caffe2|cudart)")
CUDA_PARTS = {"libtorch_cuda.so", "libc10_cuda.so"}
MOST_SHOWN, MOST_SYMBOLS = 3, 2
FACT = "extensions.extensions"


def misfits(extensions: Extensions | None, distribution: str) -> tuple[Extension, ...]:
    """Give the compiled files of a package that ask for what this torch has not, the other C++ ABI left out."""
    found = extensions.of(distribution) if extensions else ()
    return tuple(each for each in found if each.unresolved_count > each.abi_only_count or _lacks(each))


def of_other_abi(extensions: Extensions | None, distribution: str) -> tuple[Extension, ...]:
    """Give the compiled files that ask torch for functions with the other ABI's std::string."""
    return tuple(each for each in (extensions.of(distribution) if extensions else ()) if each.abi_only_count)


def of_package(extensions: Extensions | None, distribution: str) -> tuple[Extension, ...]:
    """Give the compiled files of a package that do not fit, for whichever reason, the plainest misfits first."""
    found = misfits(extensions, distribution)
    return (*found, *(each for each in of_other_abi(extensions, distribution) if each not in found))


def _lacks(each: Extension) -> tuple[str, ...]:
    return tuple(name for name in each.needs_missing if DECISIVE.match(name))


def words(files: tuple[Extension, ...]) -> str:
    """Say in a few words what is missing: ``it asks for libcudart.so.11.0``, ``it asks for c10::cuda::SetDevice``."""
    missing = tuple(dict.fromkeys(name for each in files for name in _lacks(each)))
    if set(missing) & CUDA_PARTS:
        return "it is built for CUDA, and this torch has none"
    if missing:
        return f"it asks for {missing[0]}, which is not there"
    names = tuple(dict.fromkeys(name for each in files for name in each.unresolved))
    return f"it asks for {readable(names[0])}, which this torch does not have" if names else "it does not fit"


def shown(files: tuple[Extension, ...]) -> Iterator[Evidence]:
    """Give the symbols and libraries that are missing, file by file."""
    for each in files[:MOST_SHOWN]:
        name = each.path.rpartition("/")[2]
        if each.needs_missing:
            missing = ", ".join(each.needs_missing)
            yield Evidence(FACT, missing, each.path, label=f"{name} needs, and nothing provides")
        if each.unresolved and not set(each.needs_missing) & CUDA_PARTS:  # a torch without CUDA lacks a hundred of them
            first = ", ".join(each.unresolved[:MOST_SYMBOLS])
            label = f"{name} needs {each.unresolved_count} symbols that torch does not export"
            yield Evidence(FACT, first, each.path, label=label)


def readable(symbol: str) -> str:
    """Give the C++ name in a mangled one: ``_ZN3c104cuda9SetDeviceEa`` -> ``c10::cuda::SetDevice``."""
    match = re.match(r"_Z(?:T[VTISCW]|GV)?(N[VKr]*[RO]?)?", symbol)
    if match is None:
        return symbol
    rest, parts = symbol[match.end() :], []
    while length := re.match(r"\d+", rest):
        end = length.end() + int(length[0])
        parts.append(rest[length.end() : end])
        rest = rest[end:]
        if not match[1]:
            break
    return "::".join(parts) or symbol
