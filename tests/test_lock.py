"""envdoctor.lock: written so that people can read and merge it, read strictly, compared by tolerances."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import tomllib
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envdoctor import demo, lock
from envdoctor.compare import flatten

FLAT: dict[str, Any] = {
    "packages.python_version": "3.11.7", "torch_build.version": "2.9.0+cu128", "torch_build.cuda": "12.8",
    "kernel_module.version": "580.95.05", "package.numpy": "2.1.0", "package.torch": "2.9.0+cu128",
    "package.nvidia-cudnn-cu12": "9.10.2.21", "package.zope-interface": "6.0", "package.torch-envdoctor": "0.1.0",
    "library.cudnn.api_version": "9.10.2", "variable.NCCL_IB_HCA": "mlx5_0", "variable.LD_LIBRARY_PATH": "/opt/lib",
    "variable.TORCH_HOME": "/data/torch", "variable.CUDA_VISIBLE_DEVICES": "0", "host.kernel": "6.8.0",
}  # fmt: skip


def test_what_decides_about_training_is_locked() -> None:
    """Versions and settings; neither the machine's own names and paths nor every package."""
    values = lock.of_flat(FLAT).values
    assert {
        "packages.python_version", "torch_build.version", "torch_build.cuda", "kernel_module.version", "package.numpy",
        "package.torch", "package.nvidia-cudnn-cu12", "library.cudnn.api_version", "variable.NCCL_IB_HCA",
    } == set(values)  # fmt: skip


def test_patterns_choose_what_is_locked() -> None:
    """Somebody who wants every package says so."""
    assert {key for key in FLAT if key.startswith("package.")} == set(lock.of_flat(FLAT, ("package.*",)).values)


def test_the_driver_may_be_newer_and_python_patched() -> None:
    """The usual tolerances are written down where they apply."""
    assert {"kernel_module.version": "at-least", "packages.python_version": "same-minor"} == lock.of_flat(
        FLAT
    ).tolerance
    assert {} == lock.of_flat({"package.numpy": "2.1.0"}).tolerance


def test_the_file_is_toml_that_reads_back() -> None:
    """Sorted, one value a line, quoted where TOML wants it."""
    made = lock.of_flat(FLAT)
    text = lock.render(made)
    plain = tomllib.loads(text)
    assert ("9.10.2", "580.95.05") == (plain["library"]["cudnn.api_version"], plain["kernel_module"]["version"])
    read = lock.parse(text.encode(), "envdoctor.lock")
    assert (made.values, made.tolerance) == (read.values, read.tolerance)
    assert text == lock.render(lock.Lock(dict(reversed(made.values.items())), made.tolerance))


@pytest.mark.parametrize("name", demo.ABOUT)
def test_every_machine_can_be_locked(name: str) -> None:
    """Everything that a snapshot holds can be written and read back."""
    flat = flatten(demo.load(name))
    made = lock.of_flat(flat, ("*",))
    assert flat == lock.parse(lock.render(made).encode(), "x").values == made.values


NAMES = st.text(min_size=1, max_size=8)
VALUES = st.text(max_size=12) | st.booleans() | st.integers(-(2**62), 2**62) | st.lists(st.text(max_size=5)).map(tuple)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(NAMES.map(lambda name: f"package.{name}"), VALUES, max_size=5))
def test_any_text_survives(values: dict[str, Any]) -> None:
    """Names and values of any characters are written so that TOML gives them back."""
    text = lock.render(lock.Lock(values)).encode("utf-8", "surrogatepass")
    read = lock.parse(text, "x").values
    assert {key: value for key, value in values.items() if ".." not in key} == {
        key: value for key, value in read.items() if ".." not in key
    }


def test_two_people_can_add_to_it(tmp_path: Path) -> None:
    """Git merges two additions in different tables, or apart in one, without a conflict."""
    many = {f"package.lib{chr(97 + n)}": "1.0" for n in range(12)} | {"torch_build.version": "2.9.0"}

    def git(*words: str) -> str:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main")
        done = subprocess.run(["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout

    def commit(values: dict[str, str]) -> None:
        (tmp_path / lock.FILE).write_text(lock.render(lock.Lock(values)))
        git("add", "-A")
        git("commit", "-qm", "x")

    git("init", "-q")
    commit(many)
    git("checkout", "-qb", "other")
    commit(many | {"package.libb2": "2.0"})
    git("checkout", "-q", "main")
    commit(many | {"package.libk2": "3.0", "variable.NCCL_DEBUG": "WARN"})
    git("merge", "-q", "other", "-m", "m")
    read = lock.parse((tmp_path / lock.FILE).read_bytes(), "x").values
    assert many | {"package.libb2": "2.0", "package.libk2": "3.0", "variable.NCCL_DEBUG": "WARN"} == read


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "schema is None, expected 'envdoctor.lock/1'"),
        ('schema = "envdoctor.lock/2"', "schema is 'envdoctor.lock/2'"),
        ("schema = ", "is not valid TOML"),
        ('schema = "envdoctor.lock/1"\n[torch_build]\nverison = "2"', "did you mean 'version'"),
        ('schema = "envdoctor.lock/1"\n[torch_bild]\nversion = "2"', "table 'torch_bild': did you mean 'torch_build'"),
        ('schema = "envdoctor.lock/1"\nnumpy = "2"', "unknown table 'numpy'"),
        ('schema = "envdoctor.lock/1"\n[tolerance]\npackage = "roughly"', "tolerance 'roughly': expected one of"),
        ('schema = "envdoctor.lock/1"\ntolerance = "exact"', "expected a table"),
        ('schema = "envdoctor.lock/1"\n[package]\nnumpy = 2026-01-01', "expected a string, a number"),
        ("\xff\xfe".encode("latin-1"), "is not valid TOML"),
        ('schema = "envdoctor.lock/1"\n<<<<<<< HEAD', "is not valid TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text: str | bytes, words: str) -> None:
    """File, key, what was expected, and the nearest valid word."""
    with pytest.raises(lock.LockError) as told:
        lock.parse(text if isinstance(text, bytes) else text.encode(), "team.lock")
    assert str(told.value).startswith("team.lock: ")
    assert words in str(told.value)


@pytest.mark.parametrize(
    ("tolerance", "expected", "found", "fits"),
    [
        ("exact", "2.1.0", "2.1.0", True),
        ("exact", "2.1.0", "2.1.1", False),
        ("exact", "2.9.0+cu128", "2.9.0+cu126", False),
        ("exact", 8, 8, True),
        ("exact", ("a", "b"), ("a", "b"), True),
        ("exact", "2.1.0", None, False),
        ("same-minor", "2.1.0", "2.1.9", True),
        ("same-minor", "2.1.0", "2.2.0", False),
        ("same-minor", "2.1.0", "3.1.0", False),
        ("same-minor", "2.9.0+cu128", "2.9.1", True),
        ("same-minor", "nightly", "nightly", True),
        ("same-minor", "nightly", "weekly", False),
        ("at-least", "580.95.05", "580.105.08", True),
        ("at-least", "580.95.05", "580.95.04", False),
        ("at-least", "440.33", "440.100", True),
        ("at-least", "2.9.0+cu130", "2.9.0+cu126", True),
        ("at-least", 8, 16, True),
        ("at-least", 8, 4, False),
        ("at-least", "2.1.0", None, False),
        ("any", "2.1.0", None, True),
        ("any", "2.1.0", "junk", True),
    ],
)
def test_tolerances(tolerance: str, expected: Any, found: Any, fits: bool) -> None:
    """Versions are compared as versions, never as text."""
    assert fits == lock.fits("package.x", expected, found, tolerance)


def test_the_longest_name_that_fits_counts() -> None:
    """A table, then a pattern, then a key."""
    told = {"package": "same-minor", "package.nvidia-*": "at-least", "package.nvidia-nccl-cu12": "exact"}
    found = lock.Lock({}, told)
    keys = ("package.numpy", "package.nvidia-cudnn-cu12", "package.nvidia-nccl-cu12", "torch_build.version")
    assert ["same-minor", "at-least", "exact", "exact"] == [found.tolerance_of(key) for key in keys]
