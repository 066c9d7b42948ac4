"""Rules about toolkit, host compiler and architecture list: info, because nothing may be built here at all."""

from __future__ import annotations

import pytest

from envdoctor.facts import Fact
from envdoctor.facts.host import Environment, Variable
from envdoctor.facts.libraries import Compiler, Toolkit
from envdoctor.finding import Severity, Status
from envdoctor.knowledge import rows
from envdoctor.knowledge.toolchain import nccl_floors, newest_gcc
from envdoctor.rules.building import (
    arch_list_unsupported,
    cuda_home_wrong,
    cuda_toolkit_torch_mismatch,
    host_compiler_too_new,
)
from envdoctor.testing import check
from tests.rule_facts import CPU_BUILD, build


def toolkit(version: str | None = "12.4.131", gcc: str | None = None, **values: object) -> Toolkit:
    """Make a machine with one toolkit and one compiler."""
    return Toolkit(
        nvcc=(Compiler("/usr/local/cuda/bin/nvcc", version),),
        host_compiler=Compiler("/usr/bin/gcc", gcc) if gcc else None,
        **values,  # type: ignore[arg-type]
    )


def listed(value: str) -> Environment:
    """Make an environment with this architecture list."""
    return Environment(variables=(Variable("TORCH_CUDA_ARCH_LIST", value),))


def test_other_major_of_the_toolkit_is_info() -> None:
    """A CUDA 12 toolkit beside a CUDA 11 build is info, with both versions and a CUDA_HOME to set."""
    both = Toolkit(nvcc=(Compiler("/usr/bin/nvcc", "12.4"), Compiler("/usr/local/cuda-11.8/bin/nvcc", "11.8")))
    finding = check(cuda_toolkit_torch_mismatch, build("11.8", "2.1.0"), both).finding
    assert (Severity.INFO, "export CUDA_HOME=/usr/local/cuda-11.8") == (
        finding.severity,
        finding.fixes[0].commands[0].shell,
    )


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((build("12.8"), toolkit("12.4.131")), Status.PASSED),
        ((build("12.8"), toolkit("11.8")), Status.FIRED),
        ((build("12.8"), toolkit(None)), Status.UNKNOWN),
        ((build("12.8"), Toolkit()), Status.NOT_APPLICABLE),
        ((CPU_BUILD, toolkit("11.8")), Status.NOT_APPLICABLE),
    ],
)
def test_toolkit_boundaries(facts: tuple[Fact, ...], status: Status) -> None:
    """Another minor is normal; no toolkit and a CPU build do not apply."""
    assert status == check(cuda_toolkit_torch_mismatch, *facts).status


@pytest.mark.parametrize(
    ("fact", "words"),
    [
        (Toolkit(cuda_home="/opt/cuda-9", cuda_home_exists=False), "is not there"),
        (Toolkit(cuda_home="/usr/local/cuda:/opt/cuda", cuda_home_exists=False), "holds several paths"),
        (toolkit(cuda_home="/opt/empty", cuda_home_exists=True), "has no bin/nvcc"),
        (toolkit(cuda_home="/usr/local/cuda", cuda_home_exists=True), None),
        (toolkit(cuda_home="/usr/local/cuda/", cuda_home_exists=True), None),
        (Toolkit(), None),
    ],
)
def test_cuda_home(fact: Toolkit, words: str | None) -> None:
    """A folder that is not there, is several, or holds no nvcc is info; an unset variable is normal."""
    findings = check(cuda_home_wrong, fact).findings
    assert [Severity.INFO] * bool(words) == [each.severity for each in findings]
    assert all(str(words) in each.title for each in findings)


@pytest.mark.parametrize(
    ("fact", "status"),
    [
        (toolkit("10.0.130", "9.2.1"), Status.FIRED),
        (toolkit("9.0", "7"), Status.FIRED),
        (toolkit("11.7", "12"), Status.FIRED),
        (toolkit("11.8", "12"), Status.FIRED),
        (toolkit("11.8", "11"), Status.PASSED),
        (toolkit("9.2", "8"), Status.FIRED),
        (toolkit("13.3", "16"), Status.FIRED),
        (toolkit("12.8", "14"), Status.PASSED),
        (toolkit("12.4", "13"), Status.PASSED),
        (toolkit("12.4", "14"), Status.FIRED),
        (toolkit("99.0", "14"), Status.UNKNOWN),
        (Toolkit(nvcc=(Compiler("/c/bin/nvcc", "12.4"),), host_compiler=Compiler("/usr/bin/gcc")), Status.UNKNOWN),
        (
            Toolkit(nvcc=(Compiler("/c/bin/nvcc", "12.4"),), host_compiler=Compiler("/usr/bin/clang", "18")),
            Status.NOT_APPLICABLE,
        ),
        (toolkit("12.4"), Status.NOT_APPLICABLE),
        (Toolkit(host_compiler=Compiler("/usr/bin/gcc", "14")), Status.NOT_APPLICABLE),
    ],
)
def test_host_compiler(fact: Toolkit, status: Status) -> None:
    """A gcc beyond the table's limit for this nvcc is info; what the table does not know is unknown."""
    checked = check(host_compiler_too_new, fact)
    assert status == checked.status
    assert {Severity.INFO} >= {each.severity for each in checked.findings}


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((listed("5.2 6.0 6.1 7.0 7.5 8.0 8.6 9.0+PTX"), toolkit("11.7")), Status.FIRED),
        ((listed("8.0;8.6+PTX"), toolkit("11.7")), Status.PASSED),
        ((listed("Ampere;Hopper"), toolkit("11.8")), Status.PASSED),
        ((listed("Hopper"), toolkit("11.4")), Status.FIRED),
        ((listed("sm_80"), toolkit("12.4")), Status.FIRED),
        ((listed("9.0a"), toolkit("12.4")), Status.PASSED),
        ((listed("10.1"), toolkit("13.0")), Status.PASSED),
        ((listed("12.0"), build("12.6")), Status.FIRED),
        ((listed("12.0"), build("12.8")), Status.PASSED),
        ((listed("native"), build("12.6")), Status.NOT_APPLICABLE),
        ((Environment(), build("12.6")), Status.NOT_APPLICABLE),
        ((listed("8.0"),), Status.UNKNOWN),
        ((listed("sm_80"),), Status.FIRED),
    ],
)
def test_architecture_list(facts: tuple[Fact, ...], status: Status) -> None:
    """An entry that torch cannot read or the compiler does not know is info; the nvcc here counts before torch's."""
    checked = check(arch_list_unsupported, *facts)
    assert status == checked.status
    assert {Severity.INFO} >= {each.severity for each in checked.findings}


def test_tables_load_whole_with_their_sources() -> None:
    """Each row of both tables is read and names its source."""
    assert all(newest_gcc(tuple(map(int, row["cuda"].split(".")))) for row in rows("host_compilers.csv"))
    assert len(rows("nccl_arch.csv")) == len(nccl_floors())
    assert all(each.gpu and each.nccl and each.words and each.source for each in nccl_floors())
    assert all(row["source"] for row in rows("host_compilers.csv"))
