"""The host probe: systems, hypervisors and containers by the marks that each leaves."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from envdoctor_probes.container import kind_by_cgroup, kind_by_mounts, kind_by_version
from envdoctor_probes.host import host, parse_kernel, parse_os_release, parse_virtualization

from envdoctor.facts.host import Host
from envdoctor.probe import Context
from envdoctor.testing import collect
from tests.stands import trees
from tests.stands.trees import Machine


def host_of(tmp_path: Path, machine: Machine, **environ: str) -> Host:
    """Collect the host of a recorded machine."""
    fact = collect(host, trees.write(tmp_path, machine), environ=environ)
    assert isinstance(fact, Host)
    return fact


@pytest.mark.parametrize(
    ("machine", "container", "virtualization", "wsl", "jetson"),
    [
        (trees.native_8gpu, "none", "none", False, False),
        (trees.native_no_driver, "none", "none", False, False),
        (trees.wsl2, "none", "wsl", True, False),
        (trees.gvisor, "gvisor", None, False, False),
        (trees.rootless_container, "podman", "none", False, False),
        (trees.jetson, "none", "none", False, True),
        (trees.docker_v1, "docker", "none", False, False),
    ],
)
def test_recorded_machine_is_told_apart(
    tmp_path: Path, machine: Callable[[], Machine], container: str, virtualization: str | None, wsl: bool, jetson: bool
) -> None:
    """Each kind of machine is known by its own marks."""
    fact = host_of(tmp_path, machine())
    assert (container, virtualization, wsl, jetson) == (fact.container, fact.virtualization, fact.wsl, fact.jetson)


def test_names_are_read_with_their_sources(tmp_path: Path) -> None:
    """The recorded machine's names are given, not this one's, and where each was read."""
    fact = host_of(tmp_path, trees.native_8gpu())
    assert ("node7", "Linux", "x86_64", trees.RELEASE) == (fact.hostname, fact.system, fact.machine, fact.kernel)
    assert ("ubuntu", "22.04", "Ubuntu 22.04.4 LTS") == (fact.os_id, fact.os_version, fact.os_name)
    assert "/etc/os-release" == fact.sources["os_id"]


def test_kernel_without_osrelease_is_read_from_its_version(tmp_path: Path) -> None:
    """A gVisor sandbox had no /proc/sys/kernel/osrelease for years."""
    fact = host_of(tmp_path, trees.gvisor())
    assert ("4.4.0", "/proc/version") == (fact.kernel, fact.sources["kernel"])


def test_libc_of_a_recorded_machine_is_unknown_unless_musl(tmp_path: Path) -> None:
    """Nothing runs there to be asked; musl's loader is seen by its name."""
    fact = host_of(tmp_path / "glibc", trees.docker_v1())
    assert (None, True) == (fact.libc, "libc" in fact.unknown)
    assert "musl" == host_of(tmp_path / "musl", {"lib/ld-musl-x86_64.so.1": ""}).libc


def test_this_machine_answers_for_itself() -> None:
    """On the live machine names, libc and user are those of this process."""
    fact = host.collect(Context())
    assert (os.uname().nodename, os.uname().release) == (fact.hostname, fact.kernel)
    assert (os.confstr("CS_GNU_LIBC_VERSION"), os.geteuid() == 0) == (fact.libc, fact.is_root)


def test_absolute_link_of_a_recorded_tree_stays_inside(tmp_path: Path) -> None:
    """/etc/os-release is a link in most distributions; an absolute one must not lead to this machine's file."""
    machine = {
        "etc/os-release": trees.Link("/usr/lib/os-release"),
        "usr/lib/os-release": "ID=nixos\nVERSION_ID='24.05'\n",
    }
    fact = host_of(tmp_path, machine)
    assert ("nixos", "24.05") == (fact.os_id, fact.os_version)


def test_os_release_is_read_as_a_shell_would() -> None:
    """Quotes of both kinds, escapes, comments and lines that are none."""
    text = '# comment\nID=ubuntu\nVERSION_ID="22.04"\nNAME=\'A "B"\'\nPRETTY_NAME="cost \\$5"\nrubbish\n'
    assert {"ID": "ubuntu", "VERSION_ID": "22.04", "NAME": 'A "B"', "PRETTY_NAME": "cost $5"} == parse_os_release(text)


def test_kernel_release_is_read() -> None:
    """The release follows "Linux version"; any other text has none."""
    assert "6.8.0-31-generic" == parse_kernel("Linux version 6.8.0-31-generic (buildd@x)\n")
    assert parse_kernel("Darwin Kernel Version 23") is None


FLAGS = "flags\t\t: fpu vme"


@pytest.mark.parametrize(
    ("dmi", "xen", "device_tree", "cpuinfo", "expected"),
    [
        (("Supermicro", "SYS-821GE"), "", "", FLAGS, "none"),
        (("QEMU", "Standard PC"), "", "", FLAGS + " hypervisor", "qemu"),
        (("Amazon EC2", "p5.48xlarge"), "", "", FLAGS + " hypervisor", "kvm"),
        (("Amazon EC2", "g4dn.metal"), "", "", FLAGS, "none"),
        (("Google", "Google Compute Engine"), "", "", FLAGS, "kvm"),
        (("Microsoft Corporation", "Virtual Machine"), "", "", FLAGS, "microsoft"),
        (("VMware, Inc.", "VMware7,1"), "", "", FLAGS, "vmware"),
        ((), "xen", "", FLAGS, "xen"),
        ((), "", "linux,kvm\0", "Features\t: fp", "kvm"),
        ((), "", "", FLAGS + " hypervisor", "vm"),
        ((), "", "", FLAGS, "none"),
        ((), "", "", "Features\t: fp asimd", None),
        (("NVIDIA", "Grace CPU"), "", "", "Features\t: fp", "none"),
        ((), "", "", "", None),
    ],
)
def test_hypervisor_is_named(
    dmi: tuple[str, ...], xen: str, device_tree: str, cpuinfo: str, expected: str | None
) -> None:
    """Firmware names tell first, the CPU's flag last; without any of them it is unknown, not bare metal."""
    assert expected == parse_virtualization(dmi, xen, device_tree, cpuinfo)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, "kubernetes"),
        ({"APPTAINER_CONTAINER": "/x.sif"}, "apptainer"),
        ({"SINGULARITY_CONTAINER": "/x.sif"}, "singularity"),
        ({"container": "systemd-nspawn"}, "systemd-nspawn"),
        ({"container": "oci"}, "docker"),
        ({"container": "two words"}, "none"),
    ],
)
def test_environment_tells_the_container(tmp_path: Path, environ: dict[str, str], expected: str) -> None:
    """Runtimes that leave no file leave a variable."""
    assert expected == host_of(tmp_path, trees.native_8gpu(), **environ).container


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0::/\n", None),
        ("0::/system.slice/docker.service\n", None),
        ("12:cpu:/docker/0123456789abcdef\n", "docker"),
        ("0::/system.slice/docker-0123456789abcdef.scope\n", "docker"),
        ("0::/kubepods.slice/kubepods-burstable.slice/cri-containerd-1.scope\n", "kubernetes"),
        ("0::/user.slice/user-1000.slice/user@1000.service/libpod-0123456789abcdef.scope/container\n", "podman"),
        ("0::/lxc.payload.c1\n", "lxc"),
    ],
)
def test_cgroup_tells_the_container(text: str, expected: str | None) -> None:
    """A process in a container's group is in the container; the daemon's own service is not."""
    assert expected == kind_by_cgroup(text)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("600 500 0:50 / / rw - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/X", "docker"),
        ("700 600 8:1 /var/lib/kubelet/pods/1/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw", "kubernetes"),
        ("700 600 0:61 / / rw - overlay none rw,lowerdir=/run/enroot/overlay", "enroot"),
        ("700 600 8:1 /raid/enroot-data/user-1/pyxis_4711 / rw - ext4 /dev/sda1 rw", "enroot"),
        ("99 30 0:44 / /var/lib/docker/overlay2/abc/merged rw - overlay overlay rw,lowerdir=/var/lib/docker", None),
        ("27 1 254:0 / / rw - ext4 /dev/vda rw", None),
        ("", None),
    ],
)
def test_mounts_tell_the_container(line: str, expected: str | None) -> None:
    """What is mounted over the root and /etc tells; a host's mounts of its containers do not."""
    assert expected == kind_by_mounts(line)


def test_gvisor_is_known_by_its_kernel() -> None:
    """Old releases claim a build date of 2016, new ones say their name."""
    assert "gvisor" == kind_by_version("Linux version 4.19.0-gvisor #1 SMP")
    assert "gvisor" == kind_by_version("Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016")
    assert kind_by_version("Linux version 4.4.0-210-generic (buildd)") is None


def test_virtual_machine_made_from_an_image_is_no_container(tmp_path: Path) -> None:
    """A micro-VM keeps the image's /.dockerenv; the kernel's own threads give it away."""
    machine = trees.native_no_driver() | {".dockerenv": ""}
    assert "none" == host_of(tmp_path, machine).container
