"""Two snapshots side by side: what differs, what changes by itself, and which findings that explains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from envdoctor import demo
from envdoctor.compare import pair
from envdoctor.compare.subjects import subject_of, title_of
from envdoctor.diagnose import examine
from envdoctor.facts import Fact
from envdoctor.facts.driver import KernelModule, NvidiaSmi
from envdoctor.facts.host import Environment, Host, Resources, Variable
from envdoctor.facts.libraries import Copy, LedgerRow, Libraries
from envdoctor.facts.nvml import Gpu, GpuState
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Evidence, Finding
from envdoctor.outcome import Absent, Crashed, Got
from envdoctor.render import diff
from envdoctor.render.json import write
from envdoctor.snapshot import ProbeResult, Snapshot, of
from tests.command import valid


def compared(before: Snapshot, after: Snapshot) -> pair.Difference:
    """Compare two snapshots, judged by every rule."""
    found = pair.compare(examine(before), examine(after))
    valid(write(diff.plain(found, ["before.json", "after.json"])))
    return found


def differing(before: Fact, after: Fact) -> dict[str, tuple[Any, Any]]:
    """Give what differs between two snapshots of one fact each."""
    return {each.key: (each.before, each.after) for each in compared(of(before), of(after)).changes}


@pytest.mark.parametrize("name", demo.ABOUT)
def test_a_machine_does_not_differ_from_itself(name: str) -> None:
    """Nothing changes, nothing is new."""
    found = compared(demo.load(name), demo.load(name))
    assert (True, (), ()) == (found.is_empty, found.volatile, found.one_sided)


def test_what_changes_by_itself_is_set_apart() -> None:
    """Free memory, temperatures and clocks are no difference."""
    gpu = Gpu(0, "NVIDIA H100", temperature_celsius=30, memory_used_mib=4, power_watts=70.0, power_limit_watts=700.0)
    hot = replace(gpu, temperature_celsius=80, memory_used_mib=70_000, power_watts=690.0)
    found = compared(of(GpuState(gpus=(gpu,))), of(GpuState(gpus=(hot,))))
    assert found.is_empty
    assert {"gpu.0.temperature_celsius", "gpu.0.memory_used_mib", "gpu.0.power_watts"} == {
        e.key for e in found.volatile
    }


def test_a_little_memory_more_or_less_is_no_difference() -> None:
    """Kernels keep different parts of the same memory; half of it is a difference."""
    assert {} == differing(Resources(memory_total_mib=515_638), Resources(memory_total_mib=515_100))
    assert {"resources.memory_total_mib": (515_638, 257_000)} == differing(
        Resources(memory_total_mib=515_638), Resources(memory_total_mib=257_000)
    )


def test_packages_and_variables_that_come_and_go_are_told() -> None:
    """What is not there is None."""
    before, after = Distribution("numpy", "2.1.0"), Distribution("numpy", "2.2.0")
    apex = Distribution("apex", "0.1")
    assert {"package.numpy": ("2.1.0", "2.2.0"), "package.apex": ("0.1", None)} == differing(
        Packages(distributions=(before, apex)), Packages(distributions=(after,))
    )
    assert {"variable.NCCL_P2P_DISABLE": (None, "1")} == differing(
        Environment(), Environment(variables=(Variable("NCCL_P2P_DISABLE", "1"),))
    )


def test_what_one_side_did_not_collect_is_no_difference() -> None:
    """A quick snapshot and a standard one differ in what both hold, and in nothing else."""
    found = compared(of(Host(kernel="6.1")), of(Host(kernel="6.1"), TorchBuild(version="2.9.0")))
    assert (True, ("torch_build",)) == (found.is_empty, found.one_sided)


def test_a_probe_that_ends_otherwise_is_a_difference() -> None:
    """It answered before and crashes now; one that was not asked is none."""
    got, crashed = (ProbeResult("torch-import", "torch_import", each) for each in (Got(), Crashed("SIGSEGV")))
    changes = compared(of(probes=(got,)), of(probes=(crashed,))).changes
    assert [("probe.torch-import", "got", "crashed")] == [(each.key, each.before, each.after) for each in changes]
    assert () == compared(of(), of(probes=(ProbeResult("job", "job", Absent("none")),))).changes


def test_own_facts_count_on_one_machine_only() -> None:
    """Another serial number is another card in the same machine, and normal on another one."""
    one, other = (GpuState(gpus=(Gpu(0, "NVIDIA H100", serial=serial),)) for serial in ("1", "2"))
    same = compared(of(Host(hostname="node1"), one), of(Host(hostname="node1"), other))
    assert ["gpu.0.serial"] == [each.key for each in same.changes]
    assert compared(of(Host(hostname="node1"), one), of(Host(hostname="node2"), other)).is_empty
    assert not compared(of(Host(hostname="host-1"), one), of(Host(hostname="host-1"), other)).same_machine


def test_a_driver_is_one_story() -> None:
    """Everything that follows from a new driver is one line, led by the fact that says it best."""
    before, after = (
        of(KernelModule(version=v, on_disk_version=v), NvidiaSmi(driver_version=v), GpuState(driver_version=v))
        for v in ("580.95.05", "580.105.08")
    )
    found = compared(before, after)
    assert ["driver 580.95.05 -> 580.105.08"] == diff.plain(found, ["a", "b"])["headlines"]
    assert 4 == len(found.changes)


def test_a_library_is_one_story() -> None:
    """Version, wheel and soname of a library change together."""
    rows = [
        LedgerRow("cudnn", f"libcudnn.so.{v[0]}", installed_version=v, first=Copy(f"/x/{v}", v), api_version=v)
        for v in ("8.9.7", "9.1.0")
    ]
    (story,) = compared(*(of(Libraries(rows=(row,))) for row in rows)).stories
    assert ("library cudnn", "8.9.7", "9.1.0") == (title_of(story[0].key), story[0].before, story[0].after)


def test_a_row_that_goes_is_one_story() -> None:
    """A GPU that is no longer there is not forty differences."""
    gpus = tuple(Gpu(n, "NVIDIA H100", memory_total_mib=81559, ecc_enabled=True) for n in range(2))
    found = compared(of(GpuState(gpus=gpus, count=2)), of(GpuState(gpus=gpus[:1], count=1)))
    assert ["GPUs 2 -> 1", "GPU 1 there -> not there"] == diff.plain(found, ["a", "b"])["headlines"]


def test_the_same_change_of_eight_gpus_is_one_line() -> None:
    """The terminal names them together."""
    before, after = (
        of(GpuState(gpus=tuple(Gpu(n, "NVIDIA H100", power_limit_watts=watts) for n in range(8))))
        for watts in (700.0, 500.0)
    )
    text = diff.terminal(compared(before, after), ["a", "b"], width=100)
    assert 1 == text.count("power limit watts")
    assert "GPU 0-7: power limit watts" in text


def test_new_findings_name_the_change_that_they_rest_on() -> None:
    """The driver went back: the finding that follows is new, and says because of what."""
    good = demo.load("h100x8-healthy")
    old = KernelModule(version="470.57.02", loaded=True, on_disk_version="470.57.02")
    bad = replace(good, facts={**good.facts, "kernel_module": old})
    found = compared(good, bad)
    explained = {each.finding.id: each.because for each in found.new}
    assert ("kernel_module.version",) == explained["driver-branch-eol"]
    assert {each.finding.id for each in found.new} == {each.finding.id for each in compared(bad, good).gone}


@pytest.mark.parametrize(
    ("evidence", "because"),
    [
        (Evidence("packages.distributions", "2.2.0", "METADATA", "", "numpy"), ("package.numpy",)),
        (Evidence("libraries.rows[cudnn]", "9.1.0", "rpath"), ("library.cudnn.api_version",)),
        (Evidence("gpu_state.gpus[0].persistence", False, "nvml"), ("gpu.0.persistence",)),
        (Evidence("torch_build.version", "2.9.0", "version.py"), ()),
    ],
)
def test_evidence_names_what_changed(evidence: Evidence, because: tuple[str, ...]) -> None:
    """Of many rows that changed, the one that the finding speaks of."""
    keys = ("package.numpy", "package.apex", "library.cudnn.api_version", "gpu.0.persistence", "gpu.1.persistence")
    changes = tuple(pair.Change(key, "", "a", "b") for key in keys)
    assert because == pair.because(Finding("words", evidence=(evidence,)), changes)


@pytest.mark.parametrize(
    ("key", "title"),
    [
        ("kernel_module.version", "driver"),
        ("gpu_state.nvml_version", "driver: nvml version"),
        ("package.numpy", "package numpy"),
        ("variable.NCCL_DEBUG", "NCCL_DEBUG"),
        ("gpu.3.power_limit_watts", "GPU 3: power limit watts"),
        ("gpu.3.mig.0.name", "GPU 3: mig 0 name"),
        ("library.cudnn.first.version", "library cudnn"),
        ("mount.temporary files.filesystem", "temporary files: filesystem"),
        ("libcuda./usr/lib/libcuda.so.535.183.01", "driver"),
        ("host.kernel", "kernel"),
        ("torch_settings.allow_tf32_matmul", "torch setting: allow tf32 matmul"),
        ("extension.flash-attn-_C.so.cxx11_abi", "extension flash-attn-_C.so: cxx11 abi"),
        ("infiniband.mlx5_0-1.rate", "InfiniBand port mlx5_0-1: rate"),
        ("somebody.elses.key", "somebody: elses key"),
    ],
)
def test_keys_have_words(key: str, title: str) -> None:
    """A person reads what a key is about."""
    assert title == title_of(key)
    assert subject_of(key)


def test_lists_show_what_they_have_beyond_each_other() -> None:
    """Of two long lists only the difference is shown."""
    arches = [("sm_70", "sm_80", "sm_90"), ("sm_80", "sm_90", "sm_120")]
    before, after = (of(TorchBuild(version="2.9.0", arch_list=each)) for each in arches)
    text = diff.terminal(compared(before, after), ["a", "b"])
    (line,) = (each for each in text.splitlines() if "arch list" in each)
    assert ["torch: arch list", "sm_70", "sm_120"] == [each.strip() for each in line.split("  ") if each.strip()]
    assert "sm_80" not in text


@pytest.mark.parametrize("width", [24, 40, 80, 200])
def test_the_terminal_fits_any_width(width: int) -> None:
    """No line is wider than the terminal."""
    found = compared(demo.load("wheel-drift"), demo.load("h100x8-healthy"))
    for show in ("problems", "all"):
        text = diff.terminal(found, ["a.json", "b.json"], width=width, show=show)
        assert [] == [line for line in text.splitlines() if len(line) > width]
