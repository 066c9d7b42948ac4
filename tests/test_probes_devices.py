"""The device-nodes and pci-bus probes, and the harm gate: nothing is opened, nothing is asked where it could harm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from envdoctor_probes.devices import device_nodes, require_cuda, require_driver
from envdoctor_probes.pci import parse_id, parse_numa_node, pci_bus

from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.probe import Context, NotThere, Roots
from envdoctor.testing import collect
from tests.stands import trees
from tests.stands.fakes import may_unshare, private_dev
from tests.stands.trees import Machine, Node


def nodes_of(tmp_path: Path, machine: Machine) -> DeviceNodes:
    """Collect the device nodes of a recorded machine."""
    fact = collect(device_nodes, trees.write(tmp_path, machine))
    assert isinstance(fact, DeviceNodes)
    return fact


def bus_of(tmp_path: Path, machine: Machine) -> PciBus:
    """Collect the bus of a recorded machine."""
    fact = collect(pci_bus, trees.write(tmp_path, machine))
    assert isinstance(fact, PciBus)
    return fact


def test_every_gpu_and_switch_node_is_seen_in_numeric_order(tmp_path: Path) -> None:
    """nvidia10 comes after nvidia9, and tools and control nodes are no GPUs."""
    machine = trees.native_8gpu() | {f"dev/nvidia{number}": Node() for number in (8, 9, 10)}
    fact = nodes_of(tmp_path, machine)
    assert [f"/dev/nvidia{number}" for number in range(11)] == [node.path for node in fact.gpus]
    assert 5 == len(fact.nvswitches)
    assert ("nvidia-cap1", "nvidia-cap2") == fact.caps
    assert (True, True) == (fact.may_ask_driver, fact.may_start_cuda)


def test_recorded_node_is_judged_by_its_mode_alone(tmp_path: Path) -> None:
    """0666 is open to all, 0400 lets nobody write; what only a group may do is not known of a recorded machine."""
    machine = {"dev/nvidia0": Node(0o666), "dev/nvidia1": Node(0o400), "dev/nvidia2": Node(0o660)}
    gpus = nodes_of(tmp_path, machine).gpus
    assert ["0666", "0400", "0660"] == [node.mode for node in gpus]
    assert [True, None, None] == [node.readable for node in gpus]
    assert [True, False, None] == [node.writable for node in gpus]


def test_machine_without_nodes_closes_the_gate(tmp_path: Path) -> None:
    """A workstation without a driver may not be asked: the libraries could create nodes."""
    fact = nodes_of(tmp_path, trees.native_no_driver())
    assert (False, False, ()) == (fact.may_ask_driver, fact.may_start_cuda, fact.gpus)


@pytest.mark.parametrize("machine", [trees.wsl2(), trees.jetson()], ids=["wsl2", "jetson"])
def test_wsl_and_tegra_open_the_gate_with_their_own_nodes(tmp_path: Path, machine: Machine) -> None:
    """/dev/dxg and Tegra's nodes stand for a driver that is there."""
    fact = nodes_of(tmp_path, machine)
    assert (False, True, True) == (fact.nvidiactl.exists, fact.may_ask_driver, fact.may_start_cuda)


def test_tegra_nodes_are_listed(tmp_path: Path) -> None:
    """nvgpu, nvhost-* and nvmap are Tegra's."""
    names = [node.path for node in nodes_of(tmp_path, trees.jetson()).tegra]
    assert ["/dev/nvgpu", "/dev/nvhost-ctrl-gpu", "/dev/nvhost-gpu", "/dev/nvmap"] == names


def test_unreadable_dev_is_unknown_not_empty(tmp_path: Path) -> None:
    """A /dev that cannot be listed says so for each list."""
    fact = device_nodes.collect(Context(roots=Roots(dev=str(tmp_path / "nowhere"))))
    assert {"gpus", "nvswitches", "tegra"} == set(fact.unknown)


def test_gate_names_the_missing_node(tmp_path: Path) -> None:
    """Without nvidiactl nothing may be asked; without nvidia-uvm NVML may be asked, CUDA not."""
    context = Context(roots=Roots(dev=str(tmp_path)))
    with pytest.raises(NotThere, match="no NVIDIA device node"):
        require_driver(context)
    (tmp_path / "nvidiactl").touch()
    require_driver(context)
    with pytest.raises(NotThere, match="nvidia-uvm is not there"):
        require_cuda(context)
    (tmp_path / "nvidia-uvm").touch()
    require_cuda(context)


def test_recorded_machines_driver_is_never_asked(tmp_path: Path) -> None:
    """The libraries here are not the recorded machine's, whatever its nodes say."""
    context = Context(roots=Roots.under(str(trees.write(tmp_path, trees.native_8gpu()))))
    with pytest.raises(NotThere, match="recorded machine"):
        require_driver(context)


LIVE = """
from envdoctor.probe import Context
from envdoctor_probes.devices import device_nodes
fact = device_nodes.collect(Context())
print([(n.path, n.mode, n.major, n.minor, n.readable) for n in (fact.nvidiactl, *fact.gpus)])
"""


@pytest.mark.root
def test_real_nodes_give_their_numbers() -> None:
    """In a private /dev with real character devices, major and minor numbers are read without opening one."""
    if not may_unshare():
        pytest.skip("making device nodes needs root")
    command = private_dev([sys.executable, "-c", LIVE], gpus=1, mode="660")
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=_environ())
    expected = [("/dev/nvidiactl", "0660", 195, 255, True), ("/dev/nvidia0", "0660", 195, 0, True)]
    assert repr(expected) == done.stdout.strip()


def _environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_bus_is_sorted_into_gpus_switches_and_others(tmp_path: Path) -> None:
    """H100s are GPUs, NVSwitches bridges of NVIDIA, and the board's own VGA chip another's."""
    fact = bus_of(tmp_path, trees.native_8gpu())
    assert (8, 4, 1) == (len(fact.gpus), len(fact.nvswitches), len(fact.other_gpus))
    first = fact.gpus[0]
    assert ("10de", "2330", "030200", "nvidia", 0) == (
        first.vendor_id, first.device_id, first.class_code, first.driver, first.numa_node,
    )  # fmt: skip


def test_nouveau_is_seen_and_a_cards_sound_device_is_no_gpu(tmp_path: Path) -> None:
    """The driver that is bound is named; class 04 of the same card does not count."""
    fact = bus_of(tmp_path, trees.native_no_driver())
    assert [("0000:01:00.0", "nouveau", None)] == [(gpu.address, gpu.driver, gpu.numa_node) for gpu in fact.gpus]
    assert ["amdgpu"] == [gpu.driver for gpu in fact.other_gpus]


def test_bus_that_is_hidden_is_unknown(tmp_path: Path) -> None:
    """A gVisor sandbox shows no bus: no GPU there proves nothing."""
    fact = bus_of(tmp_path, trees.gvisor())
    assert (False, ()) == (fact.readable, fact.gpus)
    assert "No such file" in fact.unknown["gpus"]


def test_tegra_bridge_is_no_gpu(tmp_path: Path) -> None:
    """Jetson's GPU is not on the bus; NVIDIA's PCI bridge there is not taken for one."""
    fact = bus_of(tmp_path, trees.jetson())
    assert (True, (), ()) == (fact.readable, fact.gpus, fact.nvswitches)


def test_ids_and_numa_nodes_are_parsed() -> None:
    """The kernel writes 0x and -1."""
    assert ("10de", "030200", "") == (parse_id("0x10DE\n"), parse_id("0x030200\n"), parse_id(""))
    assert (1, None, None) == (parse_numa_node("1\n"), parse_numa_node("-1\n"), parse_numa_node(""))
