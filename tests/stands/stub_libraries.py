"""Stand-ins for the CUDA libraries that an installed torch needs, so that a CUDA build imports without 2 GB of wheels.

Each stub defines the symbols that torch's libraries import from it, under the right symbol version; a call returns 1,
an error in each of these APIs. libcudart and libcuda are left out: torch calls them, so they must be real or fake.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from envdoctor_probes.elf import Elf

SYSTEM = re.compile(
    r"(lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s|util|z|gomp|quadmath|gfortran|numa)\.so|ld-linux|linux-vdso)"
)
SYMBOL = re.compile(r"\s+[Uw] ([A-Za-z_]\w*)(?:@@?(\S+))?")
# The library of a symbol without a version, by the symbol's beginning; the longer beginnings first.
HOMES = (
    ("cublasLt", "libcublasLt"), ("cublas", "libcublas"), ("cusparseLt", "libcusparseLt"), ("cusparse", "libcusparse"),
    ("cusolver", "libcusolver"), ("cudnn", "libcudnn"), ("cufile", "libcufile"), ("cuFile", "libcufile"),
    ("cufft", "libcufft"), ("curand", "libcurand"), ("cupti", "libcupti"), ("nvrtc", "libnvrtc"), ("nccl", "libnccl"),
    ("nvtx", "libnvToolsExt"), ("nvshmem", "libnvshmem"), ("cuda", "libcudart"), ("__cuda", "libcudart"),
)  # fmt: skip
FOLDERS = {
    "cudart": "cuda_runtime", "cublaslt": "cublas", "nvrtc": "cuda_nvrtc", "cupti": "cuda_cupti", "nvtoolsext": "nvtx",
}  # fmt: skip


@dataclass
class Wanted:
    """One library that is missing: the symbols and symbol versions that torch imports from it."""

    soname: str
    symbols: set[str] = field(default_factory=set)
    versions: set[str] = field(default_factory=set)


def stub(
    site: Path, *, skip: Iterable[str] = ("libcudart", "libcuda.so"), answers: Mapping[str, int] | None = None
) -> list[Path]:
    """Write stubs to where torch's search path looks for them; ``answers``: what some functions return instead of 1."""
    lib = site / "torch" / "lib"
    libraries = sorted(path for path in lib.iterdir() if ".so" in path.name)
    wanted, folders = _wanted(libraries)
    made = []
    for soname, each in sorted(wanted.items()):
        if not soname.startswith(tuple(skip)):
            target = _folder(soname, folders, lib) / soname
            _compile(each, target, answers or {})
            made.append(target)
    return made


def _wanted(libraries: list[Path]) -> tuple[dict[str, Wanted], list[Path]]:
    own = {path.name for path in libraries}
    wanted: dict[str, Wanted] = {}
    folders: list[Path] = []
    for path in libraries:
        with Elf(str(path)) as library:
            origin = str(path.parent)
            parts = (library.rpath or library.runpath or "").split(":")
            folders += [Path(part.replace("$ORIGIN", origin)).resolve() for part in parts if part]
            for soname in library.needed:
                if soname not in own and not SYSTEM.match(soname):
                    wanted.setdefault(soname, Wanted(soname))
            for soname, versions in library.verneed.items():
                if soname in wanted:
                    wanted[soname].versions |= set(versions)
    for path in libraries:
        _share_out(path, wanted)
    return wanted, list(dict.fromkeys(folders))


def _share_out(path: Path, wanted: dict[str, Wanted]) -> None:
    """Give each undefined C symbol of this library to the one that it is imported from."""
    homes = {version: each for each in wanted.values() for version in each.versions}
    command = ["nm", "-D", "-u", "--with-symbol-versions", str(path)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for match in filter(None, map(SYMBOL.match, listed.splitlines())):
        name, version = match.groups()
        home = homes.get(version) or _by_beginning(name, wanted)
        if home is not None and not name.startswith("_Z"):
            home.symbols.add(name)


def _by_beginning(name: str, wanted: dict[str, Wanted]) -> Wanted | None:
    library = next((library for start, library in HOMES if name.startswith(start)), None)
    return next((each for each in wanted.values() if library and each.soname.startswith(library + ".so")), None)


def _folder(soname: str, folders: list[Path], otherwise: Path) -> Path:
    """Choose the folder of the search path that is named after the library."""
    key = soname.removeprefix("lib").partition(".so")[0].lower()
    name = FOLDERS.get(key, key)
    named = next((folder for folder in folders if name in folder.parts), None)
    return named or next((folder for folder in folders if "cu13" in folder.parts), otherwise)


def _compile(wanted: Wanted, target: Path, answers: Mapping[str, int]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source, script = target.with_suffix(".c"), target.with_suffix(".map")
    functions = "".join(f"long {name}(void) {{ return {answers.get(name, 1)}; }}\n" for name in sorted(wanted.symbols))
    source.write_text(functions or "static int unused;\n", encoding="utf-8")
    first, *others = sorted(wanted.versions) or [""]
    script.write_text(f"{first} {{ global: *; }};\n" + "".join(f"{each} {{ }};\n" for each in others), encoding="utf-8")
    options = ["-w", "-O0", "-shared", "-fPIC", "-fno-builtin", "-s", f"-Wl,--version-script={script}"]
    subprocess.run(["gcc", *options, f"-Wl,-soname,{wanted.soname}", "-o", str(target), str(source)], check=True)
    source.unlink()
    script.unlink()
