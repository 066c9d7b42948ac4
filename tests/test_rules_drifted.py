"""Rules about this machine's own normal: what fires, what does not, and what cannot be judged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from envdoctor import demo, drift
from envdoctor.bench.compare import Difference, Pair
from envdoctor.bench.statistics import compare as compare_seconds
from envdoctor.compare import flatten
from envdoctor.compare.pair import compare
from envdoctor.diagnose import examine
from envdoctor.facts.drift import Drift
from envdoctor.facts.driver import KernelModule
from envdoctor.facts.host import Environment, Host, Variable
from envdoctor.facts.libraries import Libraries
from envdoctor.facts.nvml import Gpu, GpuState
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Finding, Severity, Status
from envdoctor.lock import Lock, of_flat
from envdoctor.rules.drifted import RULES, differs_from_baseline, slower_than_baseline
from envdoctor.snapshot import Snapshot, of
from envdoctor.testing import Checked, check


def machine(
    driver: str = "580.95.05", *more: Distribution, variables: tuple[Variable, ...] = (), name: str = "n1"
) -> Snapshot:
    """Give a machine with a driver, torch, numpy and what else is given."""
    found = (Distribution("numpy", "2.1.0"), Distribution("torch", "2.9.0"))
    packages = {each.name: each for each in (*found, *more)}
    return of(
        Host(hostname=name), KernelModule(version=driver), TorchBuild(version="2.9.0"),
        Packages(distributions=tuple(packages.values())), Environment(variables=variables),
    )  # fmt: skip


def differs(then: Snapshot, now: Snapshot, **how: Any) -> tuple[Finding, ...]:
    """Give what the rule says of now against then."""
    return check(differs_from_baseline, drift.from_baseline(then, now, "/state/base.json", **how)).findings


def against(lock: Lock, now: Snapshot, **how: Any) -> Checked:
    """Give what the rule says of a machine against a lock file."""
    return check(differs_from_baseline, drift.from_lock(lock, now, **how))


def test_the_same_machine_passes() -> None:
    """Nothing differs."""
    assert () == differs(machine(), machine())


@pytest.mark.parametrize("name", demo.ABOUT)
def test_no_machine_differs_from_itself(name: str) -> None:
    """Every recorded machine against its own snapshot, its findings notwithstanding."""
    there = demo.load(name)
    found = drift.from_baseline(there, there, "x")
    report = examine(replace(there, facts={**there.facts, "drift": found}), RULES)
    assert ((), [Status.PASSED, Status.NOT_APPLICABLE]) == (report.findings, [each.status for each in report.checks])


def test_another_driver_is_a_warning_that_names_both() -> None:
    """What it was, what it is, since when, and what to do."""
    (finding,) = differs(machine("580.95.05"), machine("580.105.08"))
    assert ("differs-from-baseline@kernel_module.version", Severity.WARNING) == (finding.key, finding.severity)
    assert finding.title.startswith("driver: 580.105.08, but 580.95.05 in the baseline of 20")
    assert "envdoctor diff /state/base.json" in [each.commands[0].shell for each in finding.fixes]


def test_what_changes_by_itself_is_no_finding() -> None:
    """A hot card with full memory is the same card."""
    cool = of(GpuState(gpus=(Gpu(0, "NVIDIA H100", temperature_celsius=30, memory_used_mib=4),)))
    hot = of(GpuState(gpus=(Gpu(0, "NVIDIA H100", temperature_celsius=85, memory_used_mib=80_000),)))
    assert () == differs(cool, hot)


def test_another_card_in_this_machine_is_a_finding() -> None:
    """The serial number is the machine's own: it counts here, and not on another machine."""
    one, other = (of(Host(hostname="n1"), GpuState(gpus=(Gpu(0, "NVIDIA H100", serial=each),))) for each in "12")
    assert ["differs-from-baseline@gpu.0.serial"] == [each.key for each in differs(one, other)]
    elsewhere = of(Host(hostname="n2"), GpuState(gpus=(Gpu(0, "NVIDIA H100", serial="2"),)))
    assert () == differs(one, elsewhere)


def test_many_packages_are_one_finding() -> None:
    """Fourteen upgrades are one line with their names, and one command to go back."""
    more = tuple(Distribution(f"lib{n}", "1.0") for n in range(6))
    newer = tuple(Distribution(f"lib{n}", "2.0") for n in range(6))
    (finding,) = differs(machine("1", *more), machine("1", *newer))
    assert ("differs-from-baseline@packages", Severity.INFO) == (finding.key, finding.severity)
    assert "lib0, lib1, lib2, lib3 and 2 more" in finding.title
    assert "python -m pip install lib0==1.0 lib1==1.0 lib2==1.0" in finding.fixes[0].commands[0].shell


def test_a_variable_that_came_is_unset_and_one_that_went_is_set() -> None:
    """Each way has its command."""
    debug = (Variable("NCCL_DEBUG", "INFO"),)
    (came,) = differs(machine(), machine(variables=debug))
    (went,) = differs(machine(variables=debug), machine())
    assert ["unset NCCL_DEBUG", "export NCCL_DEBUG=INFO"] == [each.fixes[0].commands[0].shell for each in (came, went)]


def test_strict_makes_every_difference_an_error() -> None:
    """For those who want no surprise at all."""
    more, newer = Distribution("lib", "1.0"), Distribution("lib", "2.0")
    (finding,) = differs(machine("1", more), machine("1", newer), strict=True)
    assert Severity.ERROR is finding.severity
    assert finding.fixes[0].verify.endswith("--against /state/base.json --strict")


def test_nothing_in_common_is_unknown() -> None:
    """A baseline that holds other facts says nothing of this machine."""
    said = check(differs_from_baseline, drift.from_baseline(of(Host(kernel="6")), of(TorchBuild(version="2")), "x"))
    assert (Status.UNKNOWN, "x and this machine have no fact in common") == (said.status, said.reason)


def test_without_a_baseline_it_does_not_apply() -> None:
    """And says how to name one."""
    said = check(differs_from_baseline)
    assert Status.NOT_APPLICABLE is said.status
    assert "--against FILE" in said.reason


# A lock file


def test_what_a_lock_allows_passes() -> None:
    """A newer driver by its tolerance; a package that is not named."""
    lock = Lock(
        {"kernel_module.version": "575.51.03", "package.numpy": "2.1.5"},
        {"kernel_module": "at-least", "package": "same-minor"},
    )
    assert Status.PASSED is against(lock, machine("580.95.05", Distribution("lib", "9"))).status


def test_what_a_lock_does_not_allow_is_an_error() -> None:
    """The value, what was wanted and how, and the command to get it."""
    lock = Lock(
        {"kernel_module.version": "590.1", "package.numpy": "2.2.0"}, {"kernel_module": "at-least"}, "/p/envdoctor.lock"
    )
    found = against(lock, machine()).findings
    assert [Severity.ERROR, Severity.ERROR] == [each.severity for each in found]
    assert {
        "driver: 580.95.05, but at least 590.1 in envdoctor.lock",
        "package numpy: 2.1.0, but 2.2.0 in envdoctor.lock",
    } == {each.title for each in found}
    assert {"envdoctor check --only differs-from-baseline --against /p/envdoctor.lock"} == {
        fix.verify for each in found for fix in each.fixes
    }


def test_a_package_that_is_missing_is_an_error() -> None:
    """Not there is not as it was agreed."""
    (finding,) = against(Lock({"package.apex": "0.1"}), machine()).findings
    assert "package apex: not there, but 0.1" in finding.title


def test_strict_allows_nothing_beyond_the_lock() -> None:
    """Packages and variables that it does not name, and values that are only near enough."""
    lock = Lock({"package.numpy": "2.1.5", "package.torch": "2.9.0"}, {"package": "same-minor"})
    extra = machine("1", Distribution("apex", "0.1"), variables=(Variable("NCCL_DEBUG", "INFO"),))
    assert Status.PASSED is against(lock, extra).status
    (finding,) = against(lock, extra, strict=True).findings
    assert "2 packages are not those of envdoctor.lock: apex, numpy" == finding.title


def test_what_was_not_collected_is_no_violation() -> None:
    """A lock that names a library's version says nothing about a quick look that does not ask for it."""
    found = drift.from_lock(Lock({"library.cudnn.api_version": "9.1.0", "package.numpy": "2.1.0"}), machine())
    assert ((), ("libraries", "torch_settings"), 1) == (found.rows, found.not_compared, found.compared)


def quick(snapshot: Snapshot) -> Snapshot:
    """Give what a quick look finds on the same machine: the ledger is there, and nobody has imported torch for it."""
    ledger = snapshot.get(Libraries)
    assert ledger
    rows = tuple(replace(each, mapped=(), api_version=None) for each in ledger.rows)
    unasked = {"mapped_libraries", "torch_settings", "cuda_runtime"}
    facts = {key: fact for key, fact in snapshot.facts.items() if key not in unasked}
    return replace(snapshot, facts=facts | {"libraries": replace(ledger, rows=rows)}, level="quick")


def test_a_quick_look_is_no_other_machine() -> None:
    """What is mapped and what libraries answer is known where torch was imported: elsewhere it is not gone."""
    there = demo.load("h100x8-healthy")
    here = quick(there)
    assert () == drift.from_baseline(there, here, "x", strict=True).rows
    assert () == drift.from_baseline(here, there, "x", strict=True).rows
    lock = of_flat(flatten(there))
    assert {"library.cudnn.api_version", "library.nccl.api_version"} <= set(lock.values)
    found = drift.from_lock(lock, here)
    assert ((), ("mapped_libraries", "torch_settings")) == (found.rows, found.not_compared)
    assert () == compare(examine(there, ()), examine(here, ())).changes


# Measurements


def pair(before: list[float], after: list[float]) -> Pair:
    """Give one measurement in both, compared by its samples."""
    return Pair(
        "measurement", "gemm", "bf16", {"shape": "4096"}, "TFLOPS", 700.0, 500.0, compare_seconds(before, after)
    )


def speeds(*pairs: Pair) -> Drift:
    """Give a drift with these measurements."""
    from envdoctor.bench.result import Result
    from envdoctor.finding import Report, Verdict

    nothing = Result(Report(machine(), (), (), None, Verdict.OK), None)
    return drift.from_baseline(machine(), machine(), "/b.json", speeds=Difference(nothing, nothing, pairs, ()))


STEADY = [1.0 + n / 10_000 for n in range(12)]
SLOW = [1.4 + n / 10_000 for n in range(12)]
WILD = [0.5 + n / 8 for n in range(12)]


def test_a_measured_slowdown_fires() -> None:
    """Both values, the interval, and where to look."""
    said = check(slower_than_baseline, speeds(pair(STEADY, SLOW), pair(STEADY, STEADY)))
    assert "slower-than-baseline@gemm bf16, shape 4096" == said.finding.key
    assert "gemm gives 500 TFLOPS, it gave 700 TFLOPS" in said.finding.title
    assert "0.714" in str(said.finding.evidence[2].value)


def test_what_is_as_fast_or_faster_passes() -> None:
    """No slowdown is no finding."""
    assert Status.PASSED is check(slower_than_baseline, speeds(pair(STEADY, STEADY))).status
    assert Status.PASSED is check(slower_than_baseline, speeds(pair(SLOW, STEADY))).status


def at_clocks(before: float, after: float) -> Pair:
    """Give a measurement whose time is by the clock alone."""
    seconds = [each * before / after for each in STEADY]
    found = compare_seconds(STEADY, seconds, clock_before=before, clock_after=after)
    return replace(pair(STEADY, seconds), found=found)


def test_a_clock_that_is_far_lower_is_no_excuse() -> None:
    """This machine gave more: the finding says that it is the clock. A few percent are the room's temperature."""
    found = speeds(at_clocks(1410, 1000))
    said = check(slower_than_baseline, found)
    assert (1, 0) == (found.measured, found.ambiguous)
    assert "The clock explains the difference: 1410 MHz against 1000 MHz." == said.finding.detail
    assert () == speeds(at_clocks(1410, 1380), pair(STEADY, STEADY)).slower


def test_what_is_ambiguous_is_no_finding() -> None:
    """Wild samples allow no judgement; alone they leave it unknown."""
    found = speeds(pair(WILD, [each * 1.2 for each in WILD]))
    assert (1, 1) == (found.measured, found.ambiguous)
    assert Status.UNKNOWN is check(slower_than_baseline, found).status


def test_without_measurements_it_does_not_apply() -> None:
    """A snapshot holds none."""
    said = check(slower_than_baseline, drift.from_baseline(machine(), machine(), "x"))
    assert Status.NOT_APPLICABLE is said.status
