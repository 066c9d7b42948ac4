"""The ELF reader: held to readelf's answers where it is there, and to one kind of error on damaged files."""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from envdoctor_probes.elf import X86_64, Elf, ElfError

from tests.stands.small_elf import Library, Needed, build, fatbin

pytestmark = [
    pytest.mark.gcc,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="the libraries are made with gcc"),
]
DAMAGES = 1500


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a library with all that the reader reads."""
    made = Library(
        "libthing.so.12",
        needed=(Needed("libother.so.3", ("other_call",), "libother.so.3"), Needed("libplain.so")),
        runpath="$ORIGIN:${ORIGIN}/../lib",
        defines=("thing_version", "thing"),
        undefined=("nobody_has_it",),
        version="libthing.so.12",
        source='const char *const words = "NCCL version 2.21.5+cuda12.4";' + fatbin("sm_80 sm_90 compute_90"),
    )
    path = tmp_path_factory.mktemp("elf") / "libthing.so.12"
    path.write_bytes(build(made))
    return path


def read_everything(path: Path) -> None:
    """Ask every question that there is."""
    with Elf(str(path)) as elf:
        questions: list[Callable[[], object]] = [
            lambda: elf.needed, lambda: elf.soname, lambda: elf.rpath, lambda: elf.runpath, lambda: elf.verneed,
            lambda: elf.verdef, lambda: list(elf.dynsyms()), lambda: elf.defines("thing"),
            lambda: elf.exports("thing"), lambda: elf.names(rb"thing\w*"), lambda: elf.section(".rodata"),
            lambda: elf.find_text(rb"NCCL version \S+"), elf.fatbin_arches, lambda: list(elf.undefined()),
            lambda: elf.has_name_starting("thi"),
        ]  # fmt: skip
        for question in questions:
            try:
                question()
            except ElfError:
                continue


def test_headers_are_read(library: Path) -> None:
    """Machine, names, needs and search paths as written."""
    with Elf(str(library)) as elf:
        assert (X86_64, "libthing.so.12", None) == (elf.machine, elf.soname, elf.rpath)
        assert "$ORIGIN:${ORIGIN}/../lib" == elf.runpath
        assert {"libother.so.3", "libplain.so"} <= set(elf.needed)
        assert ("libother.so.3",) == elf.verneed["libother.so.3"]


def test_symbols_are_told_apart_by_who_defines_them(library: Path) -> None:
    """What the library defines, and what it wants of others."""
    with Elf(str(library)) as elf:
        symbols = dict(elf.dynsyms())
        assert (True, False, False) == (symbols["thing"], symbols["other_call"], symbols["nobody_has_it"])
        assert (True, False, False) == (elf.defines("thing"), elf.defines("other_call"), elf.defines("thin"))


def test_text_and_sections_are_found(library: Path) -> None:
    """A version string in .rodata is found, what is not there is None."""
    with Elf(str(library)) as elf:
        assert "NCCL version 2.21.5+cuda12.4" == elf.find_text(rb"NCCL version [\d.]+\+cuda[\d.]+")
        assert (None, None) == (elf.find_text(rb"no such words"), elf.find_text(rb".", ".nowhere"))
        assert elf.section(".text") is not None
        assert elf.section(".bss") is None


def test_embedded_device_code_is_counted(library: Path) -> None:
    """Machine code and PTX by architecture."""
    with Elf(str(library)) as elf:
        assert {"sm_80": 1, "sm_90": 1, "compute_90": 1} == elf.fatbin_arches()


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"#!/bin/sh\n" * 20, b"\x7fELF\x01\x01" + bytes(100), bytes(500)])
def test_file_that_is_no_such_elf_is_an_elf_error(tmp_path: Path, content: bytes) -> None:
    """Too short, a script, 32 bits, zeros: each is refused with the file's name."""
    path = tmp_path / "x.so"
    path.write_bytes(content)
    with pytest.raises(ElfError, match=r"x\.so"):
        Elf(str(path))


def test_missing_file_is_an_os_error(tmp_path: Path) -> None:
    """What cannot be opened is another matter than what is damaged; a folder too."""
    with pytest.raises(FileNotFoundError):
        Elf(str(tmp_path / "none.so"))
    with pytest.raises(OSError, match=r"."):
        Elf(str(tmp_path))


def survives(path: Path) -> bool:
    """Tell whether reading this file ends in answers or an ElfError."""
    try:
        read_everything(path)
    except ElfError:
        return True
    return True


def test_truncated_file_never_raises_anything_else(library: Path, tmp_path: Path) -> None:
    """A download that broke off ends in answers or an ElfError, whatever its length."""
    whole, path = library.read_bytes(), tmp_path / "cut.so"
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        assert survives(path)


def test_damaged_file_never_raises_anything_else(library: Path, tmp_path: Path) -> None:
    """Wrong numbers anywhere in the file end in answers or an ElfError too, and end."""
    chosen = random.Random(7)
    whole, path = library.read_bytes(), tmp_path / "damaged.so"
    values = [0, 1, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF]
    for _ in range(DAMAGES):
        content = bytearray(whole)
        for _ in range(chosen.randint(1, 4)):
            limit = chosen.choice([0x400, 0x1000, len(whole)])
            at = chosen.randrange(4, min(limit, len(whole)) - 8) & ~3
            content[at : at + 8] = struct.pack("<Q", chosen.choice(values))
        path.write_bytes(content)
        assert survives(path)


def test_undefined_names_are_told_and_weak_ones_left_out(tmp_path: Path) -> None:
    """A symbol that may stay open is not asked of anybody."""
    source = "extern int may_be_there(void) __attribute__((weak));\nint (*const use_weak)(void) = may_be_there;\n"
    path = tmp_path / "libopen.so"
    path.write_bytes(build(Library("libopen.so", defines=("here",), undefined=("_ZN3c105ErrorE",), source=source)))
    with Elf(str(path)) as elf:
        assert ["_ZN3c105ErrorE"] == list(elf.undefined())
        assert ("may_be_there", False) in set(elf.dynsyms())
        assert (True, False) == (elf.has_name_starting("_ZN3c105"), elf.has_name_starting("ZN3c105"))
