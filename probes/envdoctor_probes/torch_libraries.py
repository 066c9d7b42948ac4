"""[payload] What torch's own libraries show without being loaded: device code, C++ ABI, how CUDA is linked."""

from __future__ import annotations

import os
import re
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

from envdoctor_probes.elf import Elf, ElfError

# Where the CUDA part lies: since 1.5 in libtorch_cuda, for a while in two halves, before that in caffe2's library.
CUDA_LIBRARIES = ("libtorch_cuda.so", "libtorch_cuda_cu.so", "libtorch_cuda_cpp.so", "libcaffe2_gpu.so")
_ARCHES = rb"(?:sm|compute)_\d+[af]?"


class Unreadable(Exception):  # noqa: N818 - an answer, not an error
    """A library that is not there or that cannot be read; the words say which and why."""


class Libraries:
    """The libraries in these folders, the first folder's first; each question names its library when it fails."""

    def __init__(self, folders: Sequence[str]) -> None:
        self.folders = tuple(folders)

    def find(self, *names: str) -> Optional[str]:
        """Give the path of the first of these libraries that is there."""
        paths = (os.path.join(folder, name) for name in names for folder in self.folders)
        return next((path for path in paths if os.path.exists(path)), None)

    def read(self, look: Callable[[Elf], Any], *names: str) -> Any:
        """Look into the first of these libraries; raises ``Unreadable``."""
        path = self.find(*names)
        if path is None:
            raise Unreadable(f"{names[0]} is not in {' or '.join(self.folders)}")
        try:
            with Elf(path) as library:
                return look(library)
        except ElfError as error:
            raise Unreadable(str(error)) from error
        except OSError as error:
            raise Unreadable(f"{path}: {error.strerror or error}") from error


def arch_list(libraries: Libraries) -> Tuple[Tuple[str, ...], str]:
    """Give the architectures, and where they were read: the flags that torch keeps as a text, else the code itself."""
    try:
        flags = libraries.read(_arch_flags, "libtorch_python.so")
    except Unreadable:
        flags = ()
    if flags:
        return flags, "torch/lib/libtorch_python.so .rodata"
    for name in CUDA_LIBRARIES:
        if libraries.find(name):
            found: Dict[str, int] = libraries.read(Elf.fatbin_arches, name)
            if found:
                return tuple(sorted(found, key=_by_number)), f"torch/lib/{name} .nv_fatbin"
    raise Unreadable("no list of architectures in libtorch_python.so, and no device code in torch's CUDA libraries")


def _arch_flags(library: Elf) -> Tuple[str, ...]:
    """Find the text ``sm_80 sm_90 compute_90``. A literal start keeps the search quick."""
    several = library.find_text(b"sm_\\d+[af]?(?: " + _ARCHES + b")+(?=\\0)")
    text = several or library.find_text(b"compute_\\d+[af]?(?: " + _ARCHES + b")+(?=\\0)")
    text = text or library.find_text(b"(?<=\\0)sm_\\d{2,3}[af]?(?=\\0)")
    return tuple((text or "").split())


def _by_number(arch: str) -> Tuple[bool, int]:
    return arch.startswith("compute"), int(re.sub(r"\D", "", arch) or 0)


def cxx11_abi(libraries: Libraries) -> bool:
    """Tell which ``std::string`` the names of c10's exceptions carry."""
    name = libraries.read(lambda c10: c10.find_text(rb"_ZN3c105ErrorC[12][^\0]*", ".dynstr"), "libc10.so")
    if name is None:
        raise Unreadable("libc10.so has no symbol that shows its C++ ABI")
    return "__cxx11" in name


def cuda_linkage(libraries: Libraries) -> str:
    """Say how the CUDA runtime is linked: shared (libcudart.so.12), hashed (libcudart-d0da41ae.so.11.0), static."""
    needed = " ".join(libraries.read(lambda library: library.needed, *CUDA_LIBRARIES))
    if re.search(r"libcudart\.so", needed):
        return "shared"
    return "hashed" if re.search(r"libcudart-[0-9a-f]+\.so", needed) else "static"


def numpy_headers_major(libraries: Libraries) -> int:
    """Say which NumPy torch was compiled with: with the headers of 1.x it cannot use NumPy 2.

    Headers of 2.x look for ``numpy._core`` and then for ``numpy.core``, those of 1.x for ``numpy.core`` alone.
    """

    def look(library: Elf) -> Optional[int]:
        if library.find_text(rb"numpy\._core\._multiarray_umath"):
            return 2
        return 1 if library.find_text(rb"numpy\.core\._?multiarray") else None

    major: Optional[int] = libraries.read(look, "libtorch_python.so")
    if major is None:
        raise Unreadable("libtorch_python.so names no NumPy module: built without NumPy, or unknown")
    return major
