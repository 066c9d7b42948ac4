"""The fabric probe: RDMA ports, interfaces, IOMMU, switches above the GPUs and NUMA nodes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from envdoctor_probes.fabric import fabric, kernel_at_least
from envdoctor_probes.numa import parse_policy, parse_status_list

from envdoctor.facts.surroundings import Fabric, InfinibandPort, Nic
from envdoctor.probe import Context
from envdoctor.testing import collect
from tests.stands import trees
from tests.stands.trees import Machine

GPU, SWITCH, PORT = "0000:19:00.0", "0000:15:01.0", "0000:16:00.0"
NODES: Machine = {
    "sys/devices/system/node/node0/cpulist": "0-95\n",
    "sys/devices/system/node/node1/cpulist": "96-191\n",
    "sys/devices/system/node/online": "0-1\n",
}


def fabric_of(top: Path, *parts: Machine) -> Fabric:
    """Collect the fabric of a machine made of these parts."""
    machine: Machine = {}
    for each in parts:
        machine |= each
    fact = collect(fabric, trees.write(top, machine))
    assert isinstance(fact, Fabric)
    return fact


def test_ports_are_given_as_the_kernel_prints_them(tmp_path: Path) -> None:
    """State, rate and layer keep the kernel's words; node and address come from the device behind the port."""
    down = trees.rdma("mlx5_1", "0000:1b:00.0", state="1: DOWN", layer="Ethernet", numa=-1)
    fact = fabric_of(tmp_path, trees.rdma("mlx5_0", "0000:1a:00.0", numa=1), down)
    up = InfinibandPort("mlx5_0", 1, "4: ACTIVE", "5: LinkUp", "400 Gb/sec (4X NDR)", "InfiniBand", 1, "0000:1a:00.0")
    assert (up, "1: DOWN", None) == (fact.infiniband[0], fact.infiniband[1].state, fact.infiniband[1].numa_node)


def test_machine_without_rdma_has_none(tmp_path: Path) -> None:
    """The folder appears with the first RDMA driver: without it there are no ports, and that is known."""
    fact = fabric_of(tmp_path, trees.nic("lo"))
    assert ((), False) == (fact.infiniband, "infiniband" in fact.unknown)


def test_hidden_sysfs_is_unknown_and_not_empty(tmp_path: Path) -> None:
    """A sandbox without /sys has no answer, which is not the answer that there is nothing."""
    fact = fabric_of(tmp_path, trees.gvisor())
    assert {"infiniband", "nics", "iommu", "numa_nodes", "acs_enabled_bridges"} <= set(fact.unknown)


def test_interfaces_are_told_apart(tmp_path: Path) -> None:
    """Hardware comes first; a link that is down has no speed; the loopback's unknown state is settled by its flag."""
    fact = fabric_of(
        tmp_path, trees.nic("lo", operstate="unknown", mtu="65536", flags="0x9"), trees.nic("ens1", "0000:2b:00.0"),
        trees.nic("ens2", "0000:2c:00.0", operstate="down", speed="-1"),
    )  # fmt: skip
    expected = (
        Nic("ens1", True, 100_000, 1500, 1, False, "0000:2b:00.0"),
        Nic("ens2", False, None, 1500, 1, False, "0000:2c:00.0"),
        Nic("lo", True, None, 65536, None, True),
    )
    assert expected == fact.nics


@pytest.mark.parametrize(
    ("control", "expected"), [(0x1D, (PORT,)), (0x04, (PORT,)), (0x01, ()), (0x00, ()), (None, ())]
)
def test_bridge_that_redirects_peer_traffic_is_named(
    tmp_path: Path, control: int | None, expected: tuple[str, ...]
) -> None:
    """Redirecting requests sends peer traffic by way of the root; source validation alone does not."""
    fact = fabric_of(tmp_path, trees.behind_switch(GPU, SWITCH, PORT, control=control))
    assert (expected, False) == (fact.acs_enabled_bridges, "acs_enabled_bridges" in fact.unknown)


def test_registers_hidden_from_users_are_unknown_with_the_command_for_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel shows everyone but root the first bytes only; nothing is claimed then, and root's command is named."""
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, count, at: real(fd, count, at) if at < 64 else b"")
    fact = fabric_of(tmp_path, trees.behind_switch(GPU, SWITCH, PORT, control=0x1D))
    assert () == fact.acs_enabled_bridges
    assert "sudo lspci -vvv" in fact.unknown["acs_enabled_bridges"]


def test_bridge_without_extended_registers_has_no_such_control(tmp_path: Path) -> None:
    """A plain PCI bridge of a virtual machine ends after 256 bytes, for root too."""
    fact = fabric_of(tmp_path, trees.behind_switch(GPU, SWITCH, PORT, control=None, extended=False))
    assert ((), False) == (fact.acs_enabled_bridges, "acs_enabled_bridges" in fact.unknown)


def test_machine_without_gpus_has_no_bridge_that_matters(tmp_path: Path) -> None:
    """Bridges are read only above NVIDIA's GPUs: each read is a slow access to a device."""
    fact = fabric_of(tmp_path, trees.pci("0000:00:02.0", "8086", "a780", "030000"))
    assert "no NVIDIA GPU" in fact.unknown["acs_enabled_bridges"]


def test_iommu_of_the_gpus_group_counts(tmp_path: Path) -> None:
    """Identity is passthrough; any translation is on; no groups is off."""
    gpu = trees.pci(GPU, "10de", "2330", "030200")
    group = {f"sys/bus/pci/devices/{GPU}/iommu_group/type": "DMA-FQ\n", "sys/kernel/iommu_groups/7/type": "identity\n"}
    assert "on" == fabric_of(tmp_path / "on", gpu, group).iommu
    group[f"sys/bus/pci/devices/{GPU}/iommu_group/type"] = "identity\n"
    assert "passthrough" == fabric_of(tmp_path / "pt", gpu, group).iommu
    assert "off" == fabric_of(tmp_path / "off", gpu, {"sys/kernel/mm/x": ""}).iommu


def test_iommu_of_an_older_kernel_is_read_from_its_command_line(tmp_path: Path) -> None:
    """Groups without a type leave the boot parameters to tell."""
    machine: Machine = {"sys/kernel/iommu_groups/0/devices/x": "", "proc/cmdline": "root=/dev/sda1 iommu=pt quiet\n"}
    fact = fabric_of(tmp_path, machine)
    assert ("passthrough", "/proc/cmdline") == (fact.iommu, fact.sources["iommu"])


def test_gpudirect_is_possible_by_module_or_by_dmabuf(tmp_path: Path) -> None:
    """The open driver on a kernel from 5.12 on exports dma-bufs; the closed one needs its peer module."""
    fact = fabric_of(tmp_path / "open", trees.native_8gpu())
    assert (True, True) == (fact.peermem_loaded, fact.dmabuf_supported)
    closed = fabric_of(tmp_path / "closed", trees.rootless_container())
    assert (False, False) == (closed.peermem_loaded, closed.dmabuf_supported)
    assert fabric_of(tmp_path / "none", trees.native_no_driver()).dmabuf_supported is None


@pytest.mark.parametrize(
    ("release", "expected"), [("5.11.0-46-generic", False), ("5.12.0", True), ("6.8.0-31-generic", True), ("", None)]
)
def test_kernels_are_compared_by_numbers(release: str, expected: bool | None) -> None:
    """5.12 is newer than 5.9, and what is no release is not compared."""
    assert expected is kernel_at_least(release, (5, 12))


def test_nodes_of_a_bound_process(tmp_path: Path) -> None:
    """CPUs and memory may be bound apart; both are said, with the policy that numactl has set."""
    status = "Cpus_allowed_list:\t100-110\nMems_allowed_list:\t0\n"
    process = {"proc/self/status": status, "proc/self/numa_maps": "55d0 bind:0 file=/usr/bin/python3 mapped=3\n7f00 "}
    fact = fabric_of(tmp_path, NODES, process)
    assert (2, (1,), (0,), "bind:0") == (
        fact.numa_nodes, fact.process_numa_nodes, fact.memory_policy_nodes, fact.memory_policy,
    )  # fmt: skip


def test_kernel_without_numa_is_unknown(tmp_path: Path) -> None:
    """Without nodes in /sys nothing is said of them."""
    fact = fabric_of(tmp_path, {"proc/self/status": "Cpus_allowed_list:\t0-3\n"})
    assert (None, ()) == (fact.numa_nodes, fact.process_numa_nodes)
    assert {"numa_nodes", "process_numa_nodes", "memory_policy_nodes", "memory_policy"} <= set(fact.unknown)


def test_pure_readers_refuse_what_is_none() -> None:
    """A line without a policy or a list is not read as one."""
    assert (None, None, "interleave:0-1") == (
        parse_policy(""), parse_status_list("x", "Mems_allowed_list"), parse_policy("00400000 interleave:0-1 anon=1"),
    )  # fmt: skip


def test_this_machine_answers() -> None:
    """On the live machine the probe ends well, whatever is there, and each gap has its reason."""
    fact = fabric.collect(Context())
    assert isinstance(fact, Fabric)
    gaps = [name for name in ("peermem_loaded", "iommu", "numa_nodes", "memory_policy") if getattr(fact, name) is None]
    assert [] == [name for name in gaps if name not in fact.unknown]
