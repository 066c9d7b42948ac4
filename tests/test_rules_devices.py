"""Rules about the GPU's presence, its driver and its device nodes: where they fire and where they must not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envdoctor.facts.driver import DriverFiles, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNode, DeviceNodes, PciBus, PciDevice
from envdoctor.finding import Severity, Status
from envdoctor.rules.devices import (
    device_nodes_missing,
    device_nodes_no_permission,
    no_nvidia_gpu,
    nvidia_driver_missing,
)
from envdoctor.testing import check
from tests.rule_facts import (
    CARD,
    DOCKER,
    JETSON,
    NO_GPU,
    NO_NODES,
    NODES,
    ONE_GPU,
    UBUNTU,
    WSL,
    answers,
    libcudart,
    module,
    node,
)

UNLOADED = KernelModule(loaded=False)


def test_machine_without_nvidia_is_told_so() -> None:
    """A bus without NVIDIA devices is reported as info, not as a fault."""
    finding = check(no_nvidia_gpu, NO_GPU, NO_NODES, UNLOADED).finding
    assert Severity.INFO == finding.severity


def test_gpu_of_another_vendor_is_named() -> None:
    """A machine with an AMD GPU only has no NVIDIA GPU, and the other vendor is said."""
    bus = PciBus(readable=True, other_gpus=(PciDevice("0000:03:00.0", "1002", "744c", "030000"),))
    assert "1002" in check(no_nvidia_gpu, bus, NO_NODES, UNLOADED).finding.detail


@pytest.mark.parametrize("facts", [(ONE_GPU,), (NO_GPU, NODES), (PciBus(readable=False), NO_NODES, module())])
def test_any_sign_of_a_gpu_is_enough(facts: tuple[object, ...]) -> None:
    """A device on the bus, a node or a loaded module each show a GPU."""
    assert not check(no_nvidia_gpu, *facts).fired  # type: ignore[arg-type]


def test_dxg_alone_proves_nothing() -> None:
    """Under WSL /dev/dxg serves every vendor, so without an answer the rule is unknown."""
    nodes = DeviceNodes(dxg=node("/dev/dxg"))
    assert Status.UNKNOWN == check(no_nvidia_gpu, NO_GPU, nodes).status


def test_driver_missing_on_a_host() -> None:
    """A GPU on the bus with no module loaded is an error with an install command for this system."""
    finding = check(nvidia_driver_missing, ONE_GPU, UNLOADED, NO_NODES, UBUNTU).finding
    assert Severity.ERROR == finding.severity
    assert "sudo apt-get install nvidia-driver-580-server" in [c.shell for c in finding.fixes[0].commands]


def test_driver_missing_for_a_blackwell() -> None:
    """The card's id alone tells that the proprietary kernel modules would not drive it."""
    bus = PciBus(gpus=(replace(CARD, device_id="2901"),), readable=True)
    finding = check(nvidia_driver_missing, bus, UNLOADED, NO_NODES, UBUNTU).finding
    assert "sudo apt-get install nvidia-driver-580-server-open" in [c.shell for c in finding.fixes[0].commands]


def test_nouveau_is_said() -> None:
    """The title names nouveau when it holds the card."""
    bus = PciBus(gpus=(replace(CARD, driver="nouveau"),), readable=True)
    assert "nouveau" in check(nvidia_driver_missing, bus, UNLOADED, UBUNTU).finding.title


def test_installed_but_not_loaded_is_loaded_first() -> None:
    """With a module on disk the first fix is to load it."""
    finding = check(nvidia_driver_missing, ONE_GPU, KernelModule(loaded=False, on_disk_version="535.183.01"), UBUNTU)
    assert "sudo modprobe nvidia" == finding.finding.fixes[0].commands[0].shell


def test_container_sends_the_driver_to_the_host() -> None:
    """Inside a container nobody is told to install a driver there."""
    finding = check(nvidia_driver_missing, ONE_GPU, UNLOADED, DOCKER).finding
    assert "on the host" in finding.fixes[0].title


@pytest.mark.parametrize(
    "facts",
    [
        (ONE_GPU, module(), UBUNTU),
        (ONE_GPU, KernelModule(loaded=False), NODES, UBUNTU),
        (ONE_GPU, KernelModule(loaded=False), NvidiaSmi(driver_version="535.183.01"), UBUNTU),
    ],
)
def test_driver_seen_anywhere_passes(facts: tuple[object, ...]) -> None:
    """A loaded module, a device node or nvidia-smi's answer each show the driver."""
    assert Status.PASSED == check(nvidia_driver_missing, *facts).status  # type: ignore[arg-type]


@pytest.mark.parametrize("host", [WSL, JETSON])
def test_driver_missing_is_not_asked_on_wsl_and_jetson(host: object) -> None:
    """WSL and Jetson have no NVIDIA kernel module of the ordinary kind."""
    assert Status.NOT_APPLICABLE == check(nvidia_driver_missing, ONE_GPU, UNLOADED, host).status  # type: ignore[arg-type]


def test_gpu_given_to_a_virtual_machine_needs_no_driver() -> None:
    """A card bound to vfio-pci is not missing a driver."""
    bus = PciBus(gpus=(replace(CARD, driver="vfio-pci"),), readable=True)
    assert Status.NOT_APPLICABLE == check(nvidia_driver_missing, bus, UNLOADED, UBUNTU).status


def test_unreadable_modules_are_unknown() -> None:
    """When the module list could not be read the rule does not guess, and gives the recorded reason."""
    checked = check(nvidia_driver_missing, ONE_GPU, KernelModule(unknown={"loaded": "/proc/modules: denied"}), UBUNTU)
    assert (Status.UNKNOWN, "/proc/modules: denied") == (checked.status, checked.reason)


def test_container_without_nodes() -> None:
    """A container on a GPU host without nodes is told how to pass the GPUs in."""
    finding = check(device_nodes_missing, NO_NODES, module(), ONE_GPU, DOCKER).finding
    assert Severity.ERROR == finding.severity
    assert "--gpus all" in finding.fixes[0].commands[0].shell


def test_missing_uvm_on_a_host_is_a_warning() -> None:
    """Outside a container only /dev/nvidia-uvm missing is a warning: the first CUDA program may create it."""
    nodes = replace(NODES, uvm=DeviceNode("/dev/nvidia-uvm"))
    assert Severity.WARNING == check(device_nodes_missing, nodes, module(), ONE_GPU, UBUNTU).finding.severity


def test_missing_nodes_that_nvidia_modprobe_makes_are_info() -> None:
    """Just after boot nodes are missing on a healthy host: its setuid nvidia-modprobe creates them when asked."""
    facts = (NO_NODES, module(), ONE_GPU, UBUNTU, DriverFiles(makes_nodes=True))
    assert Severity.INFO == check(device_nodes_missing, *facts).finding.severity


def test_missing_uvm_in_a_container_is_an_error() -> None:
    """A container cannot create /dev/nvidia-uvm."""
    nodes = replace(NODES, uvm=DeviceNode("/dev/nvidia-uvm"))
    assert Severity.ERROR == check(device_nodes_missing, nodes, module(), ONE_GPU, DOCKER).finding.severity


def test_all_nodes_there() -> None:
    """The full set of nodes passes."""
    assert Status.PASSED == check(device_nodes_missing, NODES, module(), ONE_GPU, UBUNTU).status


def test_one_of_eight_gpus_in_a_container_is_a_choice() -> None:
    """A container that was given one of several GPUs is not missing nodes."""
    bus = PciBus(gpus=(CARD,) * 8, readable=True)
    assert Status.PASSED == check(device_nodes_missing, NODES, module(), bus, DOCKER).status


@pytest.mark.parametrize("seen", [libcudart(0), answers(0, "12.2", "A100-SXM4-80GB")])
def test_working_cuda_overrules_missing_nodes(seen: object) -> None:
    """Where CUDA was seen to start, missing nodes are no finding."""
    assert Status.PASSED == check(device_nodes_missing, NO_NODES, module(), ONE_GPU, UBUNTU, seen).status  # type: ignore[arg-type]


def test_no_driver_makes_nodes_not_applicable() -> None:
    """Without a driver the nodes are not missing: the driver is."""
    assert Status.NOT_APPLICABLE == check(device_nodes_missing, NO_NODES, UNLOADED, ONE_GPU, UBUNTU).status


def test_closed_nodes_name_the_group() -> None:
    """Nodes of a group that this user is not in: join that group."""
    closed = DeviceNode("/dev/nvidiactl", True, "0660", 0, 44, 195, 255, readable=False, writable=False)
    finding = check(device_nodes_no_permission, DeviceNodes(nvidiactl=closed), UBUNTU).finding
    assert "getent group 44" in finding.fixes[0].commands[0].shell
    assert "mode 0660, owner 0, group 44" == finding.evidence[0].value


def test_closed_memory_node_of_a_jetson() -> None:
    """A user outside the group video gets no memory of the GPU; nodes that are root's on purpose do not count."""
    closed = DeviceNode("/dev/nvmap", True, "0660", 0, 44, 10, 61, readable=False, writable=False)
    nodes = DeviceNodes(tegra=(replace(closed, path="/dev/nvhost-dbg-gpu", mode="0600", gid=0), closed))
    finding = check(device_nodes_no_permission, nodes, replace(UBUNTU, jetson=True)).finding
    assert ["/dev/nvmap"] == [each.label for each in finding.evidence]
    assert "getent group 44" in finding.fixes[0].commands[0].shell
    inside = check(device_nodes_no_permission, nodes, replace(UBUNTU, jetson=True, container="docker")).finding
    assert "docker run --group-add 44 IMAGE" == inside.fixes[0].commands[0].shell
    opened = DeviceNodes(tegra=(replace(closed, readable=True, writable=True), nodes.tegra[0]))
    assert Status.PASSED == check(device_nodes_no_permission, opened, replace(UBUNTU, jetson=True)).status


def test_one_closed_gpu_among_several_is_a_batch_systems_choice() -> None:
    """One GPU closed and another open is how batch systems share a machine."""
    nodes = replace(NODES, gpus=(node("/dev/nvidia0"), node("/dev/nvidia1", open_to_us=False)))
    assert Status.PASSED == check(device_nodes_no_permission, nodes, UBUNTU).status


def test_open_nodes_pass_and_no_nodes_do_not_apply() -> None:
    """Open nodes pass; with no node there is nothing to open."""
    assert Status.PASSED == check(device_nodes_no_permission, NODES).status
    assert Status.NOT_APPLICABLE == check(device_nodes_no_permission, NO_NODES).status
