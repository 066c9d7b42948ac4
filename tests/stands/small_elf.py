"""Shared objects of a few KB, made with gcc, with the soname, needs, search paths and symbol versions of real ones.

A process that loads one really goes through the dynamic loader, so the loader's own error text appears.
"""

from __future__ import annotations

import functools
import re
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Needed:
    """A library to need, and the versioned symbols to import from it."""

    soname: str
    symbols: tuple[str, ...] = ()
    version: str = ""


@dataclass(frozen=True)
class Library:
    """A shared object to make. ``undefined``: symbols that nothing defines; ``source``: C to add."""

    soname: str
    needed: tuple[Needed, ...] = ()
    rpath: str = ""
    runpath: str = ""
    defines: tuple[str, ...] = ()
    undefined: tuple[str, ...] = ()
    version: str = ""
    source: str = ""


@functools.cache
def build(library: Library) -> bytes:
    """Give the bytes of this shared object."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        links = [_stub(folder, needed) for needed in library.needed]
        imports = [symbol for needed in library.needed for symbol in needed.symbols] + list(library.undefined)
        source = _functions(library.defines)
        # Taking the address makes an eager relocation: the loader resolves it at load time, as BIND_NOW does.
        source += "".join(f"extern int {s}(void);\nint (*const use_{i})(void) = {s};\n" for i, s in enumerate(imports))
        options = ["-Wl,--no-as-needed", "-Wl,--allow-shlib-undefined", "-Wl,-z,undefs", *links, *_search_path(library)]
        _compile(folder, library.soname, source + library.source, library.version, options)
        return (folder / library.soname).read_bytes()


def _stub(folder: Path, needed: Needed) -> str:
    """Make the library that another needs, only for the linker to see."""
    _compile(folder, needed.soname, _functions(needed.symbols) or "static int x;", needed.version, [])
    return str(folder / needed.soname)


def _functions(names: tuple[str, ...]) -> str:
    return "".join(f"int {name}(void){{return 0;}}\n" for name in names)


def _search_path(library: Library) -> list[str]:
    if library.rpath:
        return ["-Wl,--disable-new-dtags", f"-Wl,-rpath,{library.rpath}"]
    return ["-Wl,--enable-new-dtags", f"-Wl,-rpath,{library.runpath}"] if library.runpath else []


def _compile(folder: Path, soname: str, source: str, version: str, options: list[str]) -> None:
    (folder / "a.c").write_text(source, encoding="utf-8")
    (folder / "map").write_text(f"{version} {{ global: *; }};\n", encoding="utf-8")
    fixed = ["-w", "-O0", "-shared", "-fPIC", "-s", "-nostdlib", f"-Wl,-soname,{soname}"]
    script = f"-Wl,--version-script={folder / 'map'}"
    subprocess.run(["gcc", *fixed, script, "-o", str(folder / soname), str(folder / "a.c"), *options], check=True)


def fatbin(arches: str) -> str:
    """Give the C source of a .nv_fatbin section with the headers that real ones have, and no device code."""
    body = b""
    for kind, number in re.findall(r"(sm|compute)_(\d+)", arches):
        body += struct.pack("<HHIQ", 1 if kind == "compute" else 2, 0x101, 64, 8) + bytes(12)
        body += struct.pack("<I", int(number)) + bytes(32) + bytes(8)
    blob = struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body
    numbers = ",".join(map(str, blob))
    return f'__attribute__((section(".nv_fatbin"), used)) static const unsigned char fb[] = {{{numbers}}};\n'
