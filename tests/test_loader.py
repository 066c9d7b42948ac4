"""The played loader against the real one: dlopen in a child and /proc/self/maps are the oracle."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from envdoctor_probes.ld_cache import CacheEntry, LdCache, parse_cache
from envdoctor_probes.loader import Loader, LoaderError, hwcaps

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
TREES = 24

ORACLE = """
import ctypes, os, sys
for path in sys.argv[2:]:
    try:
        ctypes.CDLL(path)
    except OSError as error:
        print("error", error)
mapped = {os.path.realpath(line.split()[-1]) for line in open("/proc/self/maps") if sys.argv[1] in line}
print(*sorted(mapped), sep="\\n")
"""


def link(path: Path, soname: str, needed: list[str], stubs: Path, rpath: str = "", runpath: str = "") -> None:
    """Link a tiny shared object with these names; what it needs is taken from ``stubs``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = ["-Wl,--no-as-needed", "-Wl,--allow-shlib-undefined", f"-Wl,-soname,{soname}"]
    flags += ["-Wl,--disable-new-dtags", f"-Wl,-rpath,{rpath}"] if rpath else []
    flags += ["-Wl,--enable-new-dtags", f"-Wl,-rpath,{runpath}"] if runpath else []
    libraries = [str(stubs / name) for name in needed]
    command = ["gcc", "-w", "-shared", "-nostdlib", "-x", "c", "/dev/null", "-o", str(path), "-x", "none", *flags]
    subprocess.run([*command, *libraries], check=True)


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give empty libraries libt0.so … libt5.so to link against."""
    folder = tmp_path_factory.mktemp("stubs")
    for number in range(6):
        link(folder / f"libt{number}.so", f"libt{number}.so", [], folder)
    return folder


def plant(top: Path, stubs: Path, seed: int) -> dict[str, str]:
    """Grow a random tree of libraries with copies, RPATHs and RUNPATHs; give the environment to load it in."""
    chance = random.Random(seed)
    folders = ["a", "b", "c"]
    for number in range(6):
        needed = [f"libt{n}.so" for n in range(number + 1, 6) if chance.random() < 0.5]
        for folder in chance.sample(folders, chance.choice([1, 1, 2, 3])):
            paths = ":".join(chance.choice(["$ORIGIN", "$ORIGIN/../a", "$ORIGIN/../b", "${ORIGIN}/../c"]) for _ in "ab")
            kind = chance.choice(["rpath", "runpath", "none"])
            how = {} if kind == "none" else {kind: paths}
            link(top / folder / f"libt{number}.so", f"libt{number}.so", needed, stubs, **how)
    environ = {"PATH": os.environ["PATH"]}
    if chance.random() < 0.5:
        environ["LD_LIBRARY_PATH"] = ":".join(str(top / each) for each in chance.sample(folders, 2))
    if chance.random() < 0.3:
        environ["LD_PRELOAD"] = str(next(iter(sorted(top.glob("*/libt4.so")))))
    return environ


def roots_of(top: Path) -> list[str]:
    """Give the libraries to open, in order: every copy of the first, then of the second."""
    return [str(each) for name in ("libt0.so", "libt1.so") for each in sorted(top.glob(f"*/{name}"))]


def really_mapped(top: Path, environ: dict[str, str]) -> tuple[set[str], int]:
    """Open the libraries in a child: which of the tree's files are mapped, and how many opens failed."""
    command = [sys.executable, "-S", "-E", "-c", ORACLE, str(top), *roots_of(top)]
    lines = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.split("\n")
    return {each for each in lines if each.startswith("/")}, sum(each.startswith("error") for each in lines)


def played(top: Path, environ: dict[str, str]) -> tuple[set[str], int]:
    """Play the same opens: the same two answers."""
    loader = Loader(sys.executable, environ)
    failed = 0
    for path in roots_of(top):
        try:
            loader.dlopen(path)
        except LoaderError:
            failed += 1
    return {os.path.realpath(each.path) for each in loader.loaded if str(top) in each.path}, failed


@needs_gcc
@pytest.mark.parametrize("seed", range(TREES))
def test_random_trees_are_loaded_as_the_real_loader_does(tmp_path: Path, stubs: Path, seed: int) -> None:
    """Over random trees of copies, RPATHs, RUNPATHs, LD_LIBRARY_PATH and LD_PRELOAD the same files are mapped."""
    environ = plant(tmp_path, stubs, seed)
    assert really_mapped(tmp_path, environ) == played(tmp_path, environ)


@needs_gcc
@pytest.mark.parametrize(
    "damage",
    [b"", b"version https://git-lfs.github.com/spec/v1", b"\x7fELF\x02\x01" + b"\0" * 100],
    ids=["empty", "lfs-pointer", "no-program-headers"],
)
def test_broken_copy_found_first_ends_the_search(tmp_path: Path, stubs: Path, damage: bytes) -> None:
    """A broken file in the first folder is an error even when a good copy lies in the second."""
    link(tmp_path / "a/libt0.so", "libt0.so", ["libt1.so"], stubs, runpath="$ORIGIN/../b:$ORIGIN/../c")
    link(tmp_path / "c/libt1.so", "libt1.so", [], stubs)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/libt1.so").write_bytes(damage)
    environ = {"PATH": os.environ["PATH"]}
    assert really_mapped(tmp_path, environ) == played(tmp_path, environ)


@needs_gcc
def test_other_machines_copy_is_passed_over(tmp_path: Path, stubs: Path) -> None:
    """A library of another machine is skipped, and the next folder's copy is taken."""
    link(tmp_path / "a/libt0.so", "libt0.so", ["libt1.so"], stubs, runpath="$ORIGIN/../b:$ORIGIN/../c")
    for folder in "bc":
        link(tmp_path / folder / "libt1.so", "libt1.so", [], stubs)
    foreign = bytearray((tmp_path / "b/libt1.so").read_bytes())
    foreign[18:20] = b"\xb7\x00"
    (tmp_path / "b/libt1.so").write_bytes(foreign)
    environ = {"PATH": os.environ["PATH"]}
    assert really_mapped(tmp_path, environ) == played(tmp_path, environ)
    assert str(tmp_path / "c/libt1.so") in played(tmp_path, environ)[0]


def test_real_torch_is_loaded_as_played() -> None:
    """The libraries of the installed torch are found where the real loader maps them."""
    torch = pytest.importorskip("torch")
    folder = Path(torch.__file__).parent
    opened = [str(folder / "lib/libtorch_global_deps.so"), *map(str, sorted(folder.glob("_C.*.so")))]
    command = [sys.executable, "-S", "-E", "-c", ORACLE, ".so", *opened]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    loader = Loader(sys.executable, os.environ)
    for path in opened:
        loader.dlopen(path)
    expected = {os.path.realpath(each.path) for each in loader.loaded} - {os.path.realpath(sys.executable)}
    assert set() == expected - set(lines)


def test_this_machines_cache_reads_like_ldconfig() -> None:
    """Every library that ldconfig prints for this machine is found at the path that it prints first."""
    if shutil.which("ldconfig", path="/sbin:/usr/sbin:/usr/bin") is None or not os.path.exists("/etc/ld.so.cache"):
        pytest.skip("no ldconfig here")
    printed = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    first: dict[str, str] = {}
    for line in printed.splitlines()[1:]:
        if " => " in line and ("x86-64" in line or "AArch64" in line) and "hwcap" not in line:
            first.setdefault(line.split()[0], line.partition(" => ")[2])
    cache = parse_cache(Path("/etc/ld.so.cache").read_bytes(), os.uname().machine)
    assert first == {name: cache.lookup(name) for name in first}


def test_cache_prefers_the_best_folder_this_cpu_supports() -> None:
    """Of several entries the one in the best supported hwcaps folder wins; legacy ones never do."""
    entries = [("", "plain"), ("x86-64-v3", "v3"), ("legacy", "old")]
    cache = LdCache([CacheEntry("liba.so", path, hwcap) for hwcap, path in entries])
    assert ("v3", "plain", None) == (
        cache.lookup("liba.so", ("x86-64-v4", "x86-64-v3")),
        cache.lookup("liba.so"),
        cache.lookup("libb.so"),
    )


@pytest.mark.parametrize("data", [b"", b"glibc-ld.so.cache1.1", b"ld.so-1.7.0\0\xff\xff\0\0", b"garbage" * 9])
def test_damaged_cache_is_an_error_not_a_crash(data: bytes) -> None:
    """A cache that is cut or foreign raises ValueError, which the loader notes and goes on."""
    with pytest.raises(ValueError, match=r"ld\.so\.cache"):
        parse_cache(data, "x86_64")


def test_hwcaps_need_every_flag_of_the_levels_below() -> None:
    """A level counts only with all flags of it and of those below; other machines have none."""
    v2 = "flags : cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"
    v3_without_fma = v2 + " avx avx2 bmi1 bmi2 f16c abm movbe xsave"
    assert [("x86-64-v2",), ("x86-64-v2",), ("x86-64-v3", "x86-64-v2"), ()] == [
        hwcaps(v2, "x86_64"),
        hwcaps(v3_without_fma, "x86_64"),
        hwcaps(v3_without_fma + " fma", "x86_64"),
        hwcaps(v2, "aarch64"),
    ]
