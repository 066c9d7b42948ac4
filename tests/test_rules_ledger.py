"""Rules over the ledger: literal rows for each boundary, and the broken trees from end to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from envdoctor_probes.libraries import libraries

from envdoctor.facts import Fact
from envdoctor.facts.driver import DriverFiles, DriverLibrary, KernelModule
from envdoctor.facts.host import Host
from envdoctor.facts.libraries import Copy, LedgerRow, Libraries
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.finding import Severity, Status
from envdoctor.probe import Context
from envdoctor.rule import Rule
from envdoctor.rules import cudnn, library_copies, library_search, system_libraries
from envdoctor.rules.cudnn import cudnn_not_found, cudnn_version_mismatch, multiple_cudnn, nvidia_wheel_lib_not_found
from envdoctor.rules.library_copies import library_not_the_declared_one, nccl_mixed
from envdoctor.rules.library_search import cublas_mismatch, ld_library_path_shadowing, nvjitlink_mismatch
from envdoctor.rules.system_libraries import duplicate_openmp_runtime, glibc_too_old, libcuda_stub_or_stale_on_path
from envdoctor.testing import check

ALL_RULES = (*library_search.RULES, *cudnn.RULES, *library_copies.RULES, *system_libraries.RULES)

SITE = "/env/lib/python3.11/site-packages"
PIP = Packages(executable="/env/bin/python", environment_kind="venv", has_pip=True, python_version="3.11.7")


def copy(name: str, version: str | None, *, home: str = SITE, via: str = "rpath", owner: str = "x 1") -> Copy:
    """Make one copy of a library."""
    return Copy(f"{home}/{name}", version, owner, via, real_path=f"{home}/{name}")


def row(name: str, soname: str, version: str, **more: object) -> LedgerRow:
    """Make a healthy row: the bundled copy is the one that would be loaded."""
    mine = copy(soname, version)
    wheel = f"nvidia-{name}-cu12"
    base = LedgerRow(name, soname, f"{wheel} =={version}", version, version, (mine,), mine)
    return replace(base, **more)  # type: ignore[arg-type]


def foreign(name: str, soname: str, version: str, theirs: str) -> LedgerRow:
    """Make a row whose bundled copy loses to one that LD_LIBRARY_PATH names."""
    return row(name, soname, version, first=copy(soname, theirs, home="/opt/cuda/lib64", via="LD_LIBRARY_PATH"))


HEALTHY = (
    row("cudnn", "libcudnn.so.9", "9.1.0.70"),
    row("cudnn_graph", "libcudnn_graph.so.9", "9.1.0.70"),
    row("nccl", "libnccl.so.2", "2.21.5"),
    row("cublas", "libcublas.so.12", "12.4.5.8"),
    row("cublasLt", "libcublasLt.so.12", "12.4.5.8"),
    row("nvjitlink", "libnvJitLink.so.12", "12.4.127"),
)


def book(*rows: LedgerRow, **more: object) -> Libraries:
    """Make a ledger of the healthy rows, with these in place of those of the same name."""
    named = {each.name: each for each in (*HEALTHY, *rows)}
    return Libraries(rows=tuple(named.values()), glibc="2.35", glibc_needed="2.28", **more)  # type: ignore[arg-type]


DRIVER = DriverLibrary("/usr/lib/libcuda.so.535.183.01", "libcuda.so.1", "535.183.01")
OLD = DriverLibrary("/opt/old/libcuda.so.470.82", "libcuda.so.1", "470.82")
STUB = DriverLibrary("/usr/local/cuda/lib64/stubs/libcuda.so", "libcuda.so.1", None, stub=True)
LOADED = KernelModule(loaded=True, version="535.183.01")
SPLIT = copy("libcudnn_graph.so.9", "9.1.0", home="/usr/lib", via="ld.so.cache")

FIRES: list[tuple[Rule, tuple[Fact, ...]]] = [
    (ld_library_path_shadowing, (book(foreign("cublas", "libcublas.so.12", "12.4.5.8", "12.1.3.1")),)),
    (
        nvjitlink_mismatch,
        (book(row("nvjitlink", "libnvJitLink.so.12", "12.1", needed_symbols_missing=("__x",))), PIP),
    ),
    (cublas_mismatch, (book(foreign("cublasLt", "libcublasLt.so.12", "12.4.5.8", "12.1.3.1")), PIP)),
    (
        cublas_mismatch,
        (book(row("cublas", "libcublas.so.12", "12.4.5.8", needed_symbols_missing=("cublasX",))), PIP),
    ),
    (cudnn_version_mismatch, (book(foreign("cudnn", "libcudnn.so.9", "9.1.0.70", "9.0.0")), PIP)),
    (cudnn_version_mismatch, (book(foreign("cudnn", "libcudnn.so.9", "9.1.0.70", "8.9.7")), PIP)),
    (multiple_cudnn, (book(row("cudnn_graph", "libcudnn_graph.so.9", "9.1.0.70", first=SPLIT)), PIP)),
    (cudnn_not_found, (book(missing=("libcudnn.so.9 (needed by libtorch_cuda.so)",)), PIP)),
    (nvidia_wheel_lib_not_found, (book(missing=("libnccl.so.2 (needed by libtorch_cuda.so)",)), PIP)),
    (nccl_mixed, (book(foreign("nccl", "libnccl.so.2", "2.21.5", "2.18.1")), PIP)),
    (
        nccl_mixed,
        (book(row("nccl", "libnccl.so.2", "2.21.5", first=copy("libnccl.so.2", None, owner="a 1, b 2"))), PIP),
    ),
    (library_not_the_declared_one, (book(foreign("cufft", "libcufft.so.11", "11.2.1.3", "11.0")),)),
    (
        library_not_the_declared_one,
        (book(row("cufft", "libcufft.so.11", "11.2.1.3", mapped=("/opt/other/libcufft.so.11.0",))),),
    ),
    (glibc_too_old, (replace(book(), glibc="2.27"), Host(os_name="Ubuntu 18.04"))),
    (glibc_too_old, (book(glibcxx_needed="3.4.30", glibcxx_newest="3.4.29"),)),
    (libcuda_stub_or_stale_on_path, (DriverFiles(first_libcuda=STUB, libcuda=(STUB, DRIVER)), LOADED)),
    (libcuda_stub_or_stale_on_path, (DriverFiles(first_libcuda=OLD, libcuda=(OLD, DRIVER)), LOADED)),
    (duplicate_openmp_runtime, (book(openmp=(copy("libgomp.so.1", None), copy("libiomp5.so", None))),)),
]


@pytest.mark.parametrize(("rule", "facts"), FIRES, ids=[f"{r.id}-{i}" for i, (r, _) in enumerate(FIRES)])
def test_fault_is_found_with_evidence_and_a_command(rule: Rule, facts: tuple[Fact, ...]) -> None:
    """Each fault is found once, shows what it rests on, and says what to paste."""
    finding = check(rule, *facts).finding
    assert rule.severity == finding.severity
    assert all(each.source and each.label for each in finding.evidence)
    assert finding.fixes[0].commands[0].shell


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.id)
def test_healthy_environment_is_left_alone(rule: Rule) -> None:
    """On a healthy stack each rule passes."""
    healthy = (
        book(openmp=(copy("libgomp.so.1", None),)),
        PIP,
        LOADED,
        DriverFiles(first_libcuda=DRIVER, libcuda=(DRIVER,)),
    )
    assert Status.PASSED == check(rule, *healthy).status


@pytest.mark.parametrize("rule", [r for r in ALL_RULES if r.inputs[0].fact is Libraries], ids=lambda rule: rule.id)
def test_ledger_that_could_not_be_kept_is_unknown(rule: Rule) -> None:
    """Where the loader's order could not be played nothing is passed."""
    silent = Libraries(unknown={"rows": "python: made for another machine"})
    assert (Status.UNKNOWN, "python: made for another machine") == (
        check(rule, silent).status,
        check(rule, silent).reason,
    )


def test_newer_minor_cudnn_is_accepted() -> None:
    """A cuDNN of the same major and a higher minor passes: torch accepts it."""
    assert Status.PASSED == check(cudnn_version_mismatch, book(foreign("cudnn", "x", "9.1.0.70", "9.5.1"))).status


def test_unknown_cudnn_version_is_unknown() -> None:
    """A foreign cuDNN whose version nobody tells is not called right."""
    strange = row(
        "cudnn", "libcudnn.so.9", "9.1.0.70", first=copy("libcudnn.so.9", None, home="/opt", via="LD_LIBRARY_PATH")
    )
    assert Status.UNKNOWN == check(cudnn_version_mismatch, book(strange)).status


def test_torch_without_bundled_libraries_shadows_nothing() -> None:
    """A container's torch that was built against the system's CUDA loads it from there: no finding."""
    system = row(
        "cublas", "libcublas.so.12", "12.4", bundled=(), declared=None, first=copy("x", "12.4", via="ld.so.cache")
    )
    assert Status.PASSED == check(ld_library_path_shadowing, book(system)).status


def test_compat_libcuda_is_no_stale_one() -> None:
    """A newer libcuda of cuda-compat in front of the driver's own is meant to be there."""
    compat = DriverLibrary("/usr/local/cuda/compat/libcuda.so.550.54.15", "libcuda.so.1", "550.54.15", compat=True)
    files = DriverFiles(first_libcuda=compat, libcuda=(compat, DRIVER))
    assert Status.PASSED == check(libcuda_stub_or_stale_on_path, files, LOADED).status


def test_version_parts_are_numbers() -> None:
    """GLIBC 2.9 is older than 2.28, although its text sorts behind it."""
    assert Severity.ERROR == check(glibc_too_old, replace(book(), glibc="2.9")).finding.severity


@pytest.mark.parametrize(
    ("tree", "rule"),
    [
        ("nvjitlink_old", nvjitlink_mismatch),
        ("cudnn8_for_9", cudnn_not_found),
        ("cudnn_older_minor", cudnn_version_mismatch),
        ("nccl_missing", nvidia_wheel_lib_not_found),
    ],
)
def test_broken_tree_is_found_from_end_to_end(stand: Callable[[str], Path], tree: str, rule: Rule) -> None:
    """The probe on a broken tree gives the facts on which the rule fires; on the healthy tree it does not."""
    broken = libraries.collect(Context(path=(str(stand(tree)),), environ={}))
    healthy = libraries.collect(Context(path=(str(stand("healthy_cu124")),), environ={}))
    assert (True, False) == (check(rule, broken, PIP).fired, check(rule, healthy, PIP).fired)


@pytest.mark.parametrize(
    ("wheels", "fires"),
    [
        ({"nvidia-nccl-cu11": "2.19.3", "nvidia-nccl-cu12": "2.20.5"}, True),
        ({"nvidia-nccl-cu12": "2.20.5"}, False),
        ({}, False),
    ],
)
def test_two_nccl_wheels_are_seen_in_a_list_of_packages(wheels: dict[str, str], fires: bool) -> None:
    """Where no file can be looked at, wheels of two CUDA majors say that one wrote over the other."""
    packages = Packages(distributions=tuple(Distribution(name, version) for name, version in wheels.items()))
    checked = check(nccl_mixed, packages)
    assert fires is checked.fired
    assert fires or Status.UNKNOWN is checked.status


def test_the_library_of_two_owners_is_written_anew() -> None:
    """By its name the pinned wheel is there: the other one goes, and the pinned one is put over what it leaves."""
    shared = copy("libnccl.so.2", None, owner="nvidia-nccl-cu11 2.19.3, nvidia-nccl-cu12 2.21.5")
    fix = check(nccl_mixed, book(row("nccl", "libnccl.so.2", "2.21.5", first=shared)), PIP).finding.fixes[0]
    assert [each.shell for each in fix.commands] == [
        "/env/bin/python -m pip uninstall -y 'nvidia-nccl-cu11'",
        "/env/bin/python -m pip install --force-reinstall --no-deps 'nvidia-nccl-cu12==2.21.5'",
    ]


@pytest.mark.parametrize(("installed", "forced"), [("9.1.0.70", True), ("9.0.0", False)])
def test_a_wheel_that_is_there_by_name_is_installed_over(installed: str, forced: bool) -> None:
    """Another's file lies where the pinned wheel's was: only by force does an installer write it again."""
    other = row("cudnn", "libcudnn.so.9", "9.1.0.70", first=copy("libcudnn.so.9", "9.0.0"), installed_version=installed)
    command = check(cudnn_version_mismatch, book(other), PIP).finding.fixes[0].commands[0].shell
    assert forced is ("--force-reinstall" in command)
