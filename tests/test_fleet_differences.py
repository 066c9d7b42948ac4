"""What members differ in: values, who has them, and what differs in the same way."""

from __future__ import annotations

import pytest

from envdoctor.facts.driver import KernelModule
from envdoctor.facts.fleet import Difference, RankDifferences
from envdoctor.facts.host import Resources
from envdoctor.facts.nvml import Gpu, GpuState
from envdoctor.finding import Severity
from envdoctor.fleet.headlines import HEADLINES, is_headline, name_of
from tests.fleet_members import document, report_on, torch, variables


def differences(*documents: bytes, nodes: int = 0) -> dict[str, Difference]:
    """Compare documents; give the differences by name."""
    return {each.name: each for each in report_on(documents, nodes=nodes).differences.differences}


def shares(difference: Difference) -> list[tuple[str, str, int, bool]]:
    """Give value, ranks, count and whether most have it."""
    return [(each.value, each.ranks, each.count, each.majority) for each in difference.shares]


def test_alike_members_differ_in_nothing() -> None:
    """Host names, temperatures, free memory and a launcher's own variables are no difference."""
    documents = [
        document(
            *torch(),
            Resources(memory_total_mib=1000, memory_available_mib=number),
            GpuState(gpus=(Gpu(0, "H100", f"GPU-{number}", temperature_celsius=30 + number),)),
            variables(RANK=str(number), SLURM_PROCID=str(number), CUDA_VISIBLE_DEVICES=str(number), NCCL_DEBUG="INFO"),
            hostname=f"node{number}",
        )
        for number in range(8)
    ]
    assert {} == differences(*documents)


def test_minority_and_majority_are_named_as_ranges() -> None:
    """The rare value comes first, with its ranks and nodes; the one that most have is marked."""
    documents = [document(*torch(nccl="2.21.5" if 4 <= number < 8 else "2.27.5")) for number in range(32)]
    found = differences(*documents, nodes=4)
    assert ["nccl"] == list(found)
    assert [("2.21.5", "4-7", 4, False), ("2.27.5", "0-3,8-31", 28, True)] == shares(found["nccl"])
    assert "node1" == found["nccl"].shares[0].nodes


def test_a_tie_has_no_majority() -> None:
    """Two of each: nobody is called the odd one."""
    documents = [document(*torch(nccl=f"2.{number % 2}")) for number in range(4)]
    assert [("2.0", "0,2", 2, False), ("2.1", "1,3", 2, False)] == shares(differences(*documents)["nccl"])


def test_keys_that_part_the_members_alike_are_one_difference() -> None:
    """Torch brings its NCCL with it, so it leads; the rest is told beside it."""
    documents = [document(*(torch("2.8.0", "2.26") if number == 3 else torch())) for number in range(4)]
    found = differences(*documents)
    assert ["torch"] == list(found)
    assert (("nccl", "2.26"),) == found["torch"].shares[0].also
    assert {"package.torch", "package.nvidia-nccl-cu12"} <= set(found["torch"].alike)


def test_differences_that_part_them_otherwise_stay_apart() -> None:
    """Another driver on one rank and another variable on two others are two differences, drivers first."""
    documents = [
        document(
            KernelModule(version="535.1" if number == 2 else "580.1"),
            variables(**({"NCCL_ALGO": "Tree"} if number < 2 else {"NCCL_ALGO": "Ring"})),
        )
        for number in range(6)
    ]
    found = differences(*documents)
    assert ["driver", "NCCL_ALGO"] == list(found)
    assert [("Tree", "0-1", 2, False), ("Ring", "2-5", 4, True)] == shares(found["NCCL_ALGO"])


def test_a_variable_that_only_some_have_is_a_difference() -> None:
    """Not set is a value of its own: the shell of mpirun's own node has variables that the other nodes lack."""
    documents = [document(variables(**({"NCCL_IB_DISABLE": "1"} if number else {}))) for number in range(4)]
    assert [("not set", "0", 1, False), ("1", "1-3", 3, True)] == shares(differences(*documents)["NCCL_IB_DISABLE"])


def test_a_package_that_only_some_have_is_a_difference() -> None:
    """Not installed is a value as well."""
    with_more = document(*torch()[:2], torch()[2].__class__(distributions=(*torch()[2].distributions,)))  # type: ignore[attr-defined]
    lacking = document(*torch()[:2], torch()[2].__class__(distributions=torch()[2].distributions[:1]))  # type: ignore[attr-defined]
    found = differences(with_more, with_more, lacking)
    assert [("not installed", "2", 1, False), ("2.27.5", "0-1", 2, True)] == shares(found["nccl"])


def test_what_is_not_known_of_some_is_no_value() -> None:
    """A fact that was not collected on one rank is counted as unknown, and makes no difference by itself."""
    documents = [document(KernelModule(version="1")), document(KernelModule(version="2")), document()]
    found = differences(*documents)
    assert 1 == found["driver"].unknown_count
    assert {} == differences(*documents[1:])


def test_numbers_that_are_nearly_the_same_are_the_same() -> None:
    """Firmware keeps a little memory for itself, a little more here than there."""
    nearly = [document(Resources(memory_total_mib=1_000_000 + 100 * number)) for number in range(9)]
    assert {} == differences(*nearly)
    half = document(Resources(memory_total_mib=500_000))
    found = differences(*nearly, half)["resources.memory_total_mib"]
    assert [("500000", "9", 1, False), ("1000000", "0-8", 9, True)] == shares(found)


def test_many_values_are_counted_together() -> None:
    """A setting that every rank has otherwise is shown by its largest shares, the rest as one."""
    found = differences(*(document(variables(NCCL_ALGO=f"A{number}")) for number in range(20)))["NCCL_ALGO"]
    assert 8 == len(found.shares)
    assert ("13 other values", 13) == (found.shares[0].value, found.shares[0].count)
    assert 20 == sum(each.count for each in found.shares)


def test_the_doctors_own_versions_are_compared() -> None:
    """Version skew of envdoctor itself is named before anything that may follow from it."""
    documents = [document(*torch(), tool_version="0.0.9" if number == 1 else "0.1.0") for number in range(4)]
    found = differences(*documents)
    assert [("0.0.9", "1", 1, False), ("0.1.0", "0,2-3", 3, True)] == shares(found["envdoctor"])


def test_facts_about_many_take_no_time_where_they_are_alike() -> None:
    """Nothing is flattened that all members have in common."""
    from envdoctor.fleet.pool import Content

    looked: list[str] = []
    real = Content.flat.fget  # type: ignore[attr-defined]
    counted = property(lambda self: (looked.append(self.key), real(self))[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Content, "flat", counted)
        report_on([document(*torch(), Resources(cpu_model=str(number % 2))) for number in range(50)])
    assert {"resources"} == set(looked)
    assert 2 == len(looked)


def test_headlines_name_what_a_person_calls_it() -> None:
    """Every headline is reached by a key of a flattened snapshot, and other keys keep their own names."""
    told = {
        "torch_build.version": "torch", "mapped_libraries.nccl_version": "nccl", "gpu.3.name": "gpu",
        "library.nccl.first.version": "nccl", "package.nvidia-nccl-cu12": "nccl", "kernel_module.version": "driver",
        "library.cudnn.api_version": "cudnn", "host.kernel": "kernel", "package.numpy": "numpy",
        "variable.NCCL_ALGO": "NCCL_ALGO", "resources.shm_total_mib": "resources.shm_total_mib",
    }  # fmt: skip
    assert told == {key: name_of(key) for key in told}
    assert (True, False) == (is_headline("torch_build.version"), is_headline("package.numpy"))
    assert len(HEADLINES) == len({name for name, _ in HEADLINES})


def test_a_member_that_has_what_most_have_stands_for_all() -> None:
    """The machine at the top of the report is a usual one, though the first rank is the odd one."""
    report = report_on([document(*torch("2.8.0")), *[document(*torch())] * 3])
    assert ("1-3", 3) == (report.usual.ranks, report.usual.count)
    assert "2.9.0" == report.report.snapshot.get(torch()[0].__class__).version  # type: ignore[union-attr]


def test_severities_by_what_differs() -> None:
    """What a collective depends on is a warning; a package is worth knowing."""
    report = report_on([document(*torch(nccl=f"2.{number % 2}")) for number in range(4)]).report
    assert {"differs-across-ranks@nccl": Severity.WARNING} == {
        f.key: f.severity for f in report.findings if "nccl" in f.key
    }


def test_one_alone_is_not_compared() -> None:
    """With one member there is nothing to compare with, and the rule says so."""
    report = report_on([document(*torch())])
    assert RankDifferences(members=1, noun="rank") == report.differences
    check = next(each for each in report.report.checks if each.id == "differs-across-ranks")
    assert ("not-applicable", "there is nothing to compare with: one alone") == (check.status.value, check.reason)
