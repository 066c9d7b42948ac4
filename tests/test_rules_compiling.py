"""Rules about what torch.compile needs: where each fires and where it must not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envdoctor.facts import Fact
from envdoctor.facts.driver import KernelModule
from envdoctor.facts.host import Host
from envdoctor.facts.packages import Packages
from envdoctor.facts.storage import Mount, Storage
from envdoctor.facts.torch import CompileTools, Pin, TorchBuild
from envdoctor.finding import Severity, Status
from envdoctor.rules.compiling import c_compiler_missing, compile_toolchain_missing, python_headers_missing
from envdoctor.testing import check
from tests.rule_facts import CPU_BUILD, CU130, DOCKER, NO_GPU, NO_NODES, ONE_GPU, UBUNTU, build

WHOLE = CompileTools(
    c_compiler="/usr/bin/gcc", python_headers="/usr/include/python3.11/Python.h", triton_version="3.5.0"
)
NO_GCC = replace(WHOLE, c_compiler=None, unknown={"c_compiler": "no gcc, clang, cc on PATH"})
NO_HEADERS = replace(WHOLE, python_headers=None)
NO_TRITON = replace(WHOLE, triton_version=None, unknown={"triton_version": "triton is not installed"})
PYTHON = Packages(python_version="3.11.9", has_pip=True)
FEDORA = Host(system="Linux", os_id="fedora", container="none")


@pytest.mark.parametrize(
    ("host", "command"),
    [
        (UBUNTU, "sudo apt-get install -y python3.11-dev"),
        (FEDORA, "sudo dnf install -y python3-devel"),
        (replace(DOCKER, is_root=True), "apt-get install -y python3.11-dev"),
    ],
)
def test_headers_are_installed_as_the_system_does(host: Host, command: str) -> None:
    """Missing headers are info with the system's own package."""
    finding = check(python_headers_missing, NO_HEADERS, CU130, PYTHON, host).finding
    assert (Severity.INFO, command) == (finding.severity, finding.fixes[0].commands[0].shell)


def test_missing_compiler_is_info_with_the_reason() -> None:
    """A missing compiler says where it was looked for."""
    finding = check(c_compiler_missing, NO_GCC, CU130, UBUNTU).finding
    assert (Severity.INFO, "no gcc, clang, cc on PATH") == (finding.severity, finding.evidence[0].value)


@pytest.mark.parametrize("rule", [python_headers_missing, c_compiler_missing])
def test_whole_toolchain_passes(rule: object) -> None:
    """Nothing is missing, or torch is too old to compile."""
    nothing = CompileTools()
    assert Status.PASSED == check(rule, WHOLE, CU130).status  # type: ignore[arg-type]
    assert Status.NOT_APPLICABLE == check(rule, nothing, build("11.7", "1.13.1")).status  # type: ignore[arg-type]
    assert Status.UNKNOWN == check(rule, nothing, TorchBuild()).status  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((WHOLE, CU130, ONE_GPU), Status.PASSED),
        ((NO_GCC, CU130, ONE_GPU), Status.FIRED),
        ((NO_HEADERS, CU130, ONE_GPU), Status.FIRED),
        ((NO_TRITON, CU130, ONE_GPU), Status.FIRED),
        ((NO_GCC, CPU_BUILD, ONE_GPU), Status.NOT_APPLICABLE),
        ((NO_GCC, build("11.7", "1.13.1"), ONE_GPU), Status.NOT_APPLICABLE),
        ((NO_GCC, CU130, NO_GPU, NO_NODES, KernelModule(loaded=False)), Status.NOT_APPLICABLE),
        ((NO_GCC, CU130, ONE_GPU, Host(system="Windows")), Status.NOT_APPLICABLE),
    ],
)
def test_torch_compile_needs_all_three(facts: tuple[Fact, ...], status: Status) -> None:
    """On a GPU with a CUDA build each missing part is a warning; elsewhere it does not apply."""
    assert status == check(compile_toolchain_missing, *facts).status


def test_all_that_is_missing_is_one_finding() -> None:
    """One finding names all that is missing, and installs Triton as torch pins it."""
    pinned = replace(CU130, pins=(Pin("triton", "==3.5.0"),))
    finding = check(compile_toolchain_missing, CompileTools(), pinned, PYTHON, ONE_GPU, UBUNTU).finding
    assert "torch.compile cannot work here: no Triton, no C compiler, no Python.h" == finding.title
    assert [
        "python -m pip install --no-deps 'triton==3.5.0'",
        "sudo apt-get install -y build-essential python3.11-dev",
    ] == [each.commands[0].shell for each in finding.fixes]


def places(options: str = "rw,relatime", free_mib: int | None = 9000, **more: object) -> Storage:
    """Make /tmp with these mount options and this space, beside a home that is well."""
    temporary = Mount("/tmp", "tmpfs", options, free_mib, purpose="temporary files", **more)  # type: ignore[arg-type]
    return Storage(mounts=(temporary, Mount("/home/ada/.cache", "ext4", "rw", 50_000, purpose="caches")))


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        (places("rw,nosuid,noexec"), "is mounted noexec"),
        (places("ro,relatime"), "is mounted read-only"),
        (places(free_mib=3), "is full"),
        (places(free_inodes=0), "is full"),
        (places(), ""),
        (places(free_mib=None), ""),
        (Storage(), ""),
    ],
)
def test_place_for_what_is_compiled(storage: Storage, words: str) -> None:
    """A place that nothing can be loaded from, or written to, is a warning with another place named."""
    checked = check(compile_toolchain_missing, WHOLE, CU130, ONE_GPU, UBUNTU, storage)
    assert bool(words) is checked.fired
    if words:
        assert checked.finding.title.endswith(words)
        shell = checked.finding.fixes[0].commands[0].shell
        assert "export TORCHINDUCTOR_CACHE_DIR=/home/ada/.cache/torchinductor" == shell


def test_inductors_own_folder_goes_before_the_temporary_one() -> None:
    """With TORCHINDUCTOR_CACHE_DIR on a good disk a noexec /tmp does no harm."""
    own = Mount("/scratch/inductor", "xfs", "rw", 90_000, purpose="inductor cache")
    storage = Storage(mounts=(*places("noexec").mounts, own))
    assert Status.PASSED == check(compile_toolchain_missing, WHOLE, CU130, ONE_GPU, UBUNTU, storage).status
