"""Driver and container remedies: every command parses, goes to the right place, and is classed by what it touches."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from envdoctor.facts.driver import KernelModule, NvidiaSmi, SmiGpu
from envdoctor.facts.gpu import PciDevice
from envdoctor.facts.host import Host
from envdoctor.finding import Fix, Safety
from envdoctor.remedy import container, driver
from envdoctor.remedy.machine import needs_open_modules
from tests.rule_facts import DOCKER, JETSON, UBUNTU, WSL

HOSTS: tuple[Host | None, ...] = (
    None, UBUNTU, DOCKER, WSL, JETSON,
    *(Host(system="Linux", os_id=each, container="none") for each in ("debian", "rhel", "fedora", "sles", "arch")),
    *(Host(system="Linux", container=each) for each in ("podman", "kubernetes", "apptainer", "lxc")),
)  # fmt: skip


def every_fix(host: Host | None) -> list[Fix]:
    """Give every remedy for one place."""
    return [
        driver.install_driver(host), driver.install_driver(host, 580, verb="Raise"), driver.load_module(),
        driver.install_driver(host, open_modules=True),
        driver.make_nodes(), driver.reboot("Restart"), driver.reload_modules(), driver.reload_uvm(),
        *driver.start_fabric_manager(host, "535.183.01"), *driver.start_fabric_manager(host, None),
        driver.cuda_compat("13.0", host), container.pass_gpus(host), *container.more_shm(host),
    ]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS, ids=lambda each: f"{each and each.os_id}-{each and each.container}")
def test_every_command_parses(host: Host | None) -> None:
    """A shell accepts each command as it would be pasted."""
    script = "\n".join(each.shell for fix in every_fix(host) for each in fix.commands)
    ran = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (0, "") == (ran.returncode, ran.stderr)


@pytest.mark.parametrize("host", HOSTS, ids=lambda each: f"{each and each.os_id}-{each and each.container}")
def test_every_fix_says_what_it_touches(host: Host | None) -> None:
    """No driver or container remedy is called safe, each says what it changes, and root goes with sudo."""
    for fix in every_fix(host):
        assert fix.changes
        assert Safety.SAFE is not fix.safety
        assert fix.needs_root or not any("sudo" in each.shell for each in fix.commands)


def test_driver_goes_where_it_belongs() -> None:
    """Ubuntu gets its package, Red Hat its module stream, a container a word about the host, WSL no Linux driver."""
    titles = {place: driver.install_driver(host, 580).title for place, host in {"docker": DOCKER, "wsl": WSL}.items()}
    assert "on the host" in titles["docker"]
    assert "Windows" in titles["wsl"]
    assert "sudo apt-get install nvidia-driver-580-server" in [e.shell for e in driver.install_driver(UBUNTU).commands]
    rhel = driver.install_driver(Host(os_id="rhel", container="none"), 580)
    assert ["sudo dnf module reset nvidia-driver", "sudo dnf module install nvidia-driver:580-dkms"] == [
        each.shell for each in rhel.commands[:2]
    ]
    windows = driver.install_driver(Host(system="Windows"), 580, verb="Raise", open_modules=True)
    assert ((), False) == (windows.commands, "WSL" in windows.title)


@pytest.mark.parametrize(
    ("os_id", "command"),
    [
        (None, "sudo apt-get install nvidia-driver-580-server-open  # Ubuntu; else the distribution's package of it"),
        ("ubuntu", "sudo apt-get install nvidia-driver-580-server-open"),
        ("debian", "sudo apt-get install nvidia-open"),
        ("rocky", "sudo dnf install nvidia-open"),
        ("sles", "sudo zypper install nvidia-open"),
    ],
)
def test_open_modules_are_named_by_each_system(os_id: str | None, command: str) -> None:
    """Blackwell is driven by the open kernel modules alone: the package that brings the others is never named."""
    fix = driver.install_driver(Host(os_id=os_id, container="none"), 580, open_modules=True)
    assert "with the open kernel modules" in fix.title
    assert command in [each.shell for each in fix.commands]
    assert not [each for each in fix.commands if "dkms" in each.shell or "cuda-drivers" in each.shell]


@pytest.mark.parametrize(
    ("facts", "opened"),
    [
        ((None, None, NvidiaSmi(gpus=(SmiGpu(0, "NVIDIA B200"),))), True),
        ((None, None, NvidiaSmi(gpus=(SmiGpu(0, "NVIDIA GH200 480GB"),))), True),
        ((None, None, NvidiaSmi(gpus=(SmiGpu(0, "NVIDIA H100 80GB HBM3"),))), False),
        ((KernelModule(flavor="open"), None, NvidiaSmi(gpus=(SmiGpu(0, "NVIDIA A100-SXM4-80GB"),))), True),
        ((KernelModule(flavor="proprietary"), None, None), False),
        ((None, None, None, (PciDevice(vendor_id="10de", device_id="2b85"),)), True),
        ((None, None, None, (PciDevice(vendor_id="10de", device_id="2342"),)), True),
        ((None, None, None, (PciDevice(vendor_id="10de", device_id="28e1"),)), False),
        ((None, None, None, (PciDevice(vendor_id="10de", device_id="1db6"),)), False),
    ],
)
def test_open_modules_are_needed(facts: Any, opened: bool) -> None:
    """By the GPU's name or capability, by its id where no driver names it, or because they run already."""
    assert opened is needs_open_modules(*facts)


@pytest.mark.parametrize(
    ("os_id", "tool"), [(None, "apt-get"), ("debian", "apt-get"), ("rocky", "dnf"), ("opensuse", "zypper")]
)
def test_forward_compatibility_comes_by_the_tool_of_the_system(os_id: str | None, tool: str) -> None:
    """The package has one name everywhere, and another tool to install it."""
    assert f"sudo {tool} install cuda-compat-13-0" == driver.cuda_compat("13.0", Host(os_id=os_id)).commands[0].shell
