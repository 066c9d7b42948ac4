"""Recorded machines as small trees of /proc, /sys, /dev and /etc, written from a dictionary; no root needed.

``write(tmp_path, native_8gpu())`` gives a folder for ``Roots.under``. A device node is a plain file with the node's
mode: numbers cannot be recorded without root, and nothing that reads a tree opens a node.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Link:
    """A symbolic link; an absolute target means the recorded machine's root."""

    target: str


@dataclass(frozen=True)
class Node:
    """A device node by its mode."""

    mode: int = 0o666


@dataclass(frozen=True)
class Program:
    """An executable file."""

    text: str = "#!/bin/sh\n"


Entry = str | bytes | Link | Node | Program
Machine = dict[str, Entry]


def write(top: Path, machine: Machine) -> Path:
    """Write the tree below ``top`` and give it."""
    for name in ("proc", "sys", "dev", "etc", "run"):
        (top / name).mkdir(exist_ok=True, parents=True)
    for path, entry in machine.items():
        _write(top / path, entry)
    return top


def _write(file: Path, entry: Entry) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(entry, Link):
        os.symlink(entry.target, file)
    elif isinstance(entry, Node):
        file.touch()
        file.chmod(entry.mode)
    elif isinstance(entry, Program):
        file.write_text(entry.text)
        file.chmod(0o755)
    else:
        file.write_bytes(entry.encode() if isinstance(entry, str) else entry)


UBUNTU = (
    'PRETTY_NAME="Ubuntu 22.04.4 LTS"\nNAME="Ubuntu"\nVERSION_ID="22.04"\nVERSION="22.04.4 LTS (Jammy)"\nID=ubuntu\n'
)
MEMINFO = "MemTotal:       {total} kB\nMemFree:        1048576 kB\nMemAvailable:   {free} kB\nSwapTotal:      0 kB\n"
NVRM = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\nGCC version:  gcc\n"
NVRM_OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release Build  (dvs-builder@U16-A23-20-3)  "
    "Wed Feb 26 02:03:26 UTC 2025\nGCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n"
)
LIMITS = (
    "Limit                     Soft Limit           Hard Limit           Units     \n"
    "Max stack size            8388608              unlimited            bytes     \n"
    "Max processes             2061578              2061578              processes \n"
    "Max open files            1024                 1048576              files     \n"
    "Max locked memory         67108864             67108864             bytes     \n"
)
RELEASE = "5.15.0-105-generic"


def kernel(release: str, words: str, hostname: str = "node7", arch: str = "x86_64") -> Machine:
    """Give what the kernel says of itself."""
    return {
        "proc/version": f"Linux version {release} {words}\n",
        "proc/sys/kernel/osrelease": release + "\n",
        "proc/sys/kernel/ostype": "Linux\n",
        "proc/sys/kernel/hostname": hostname + "\n",
        "proc/sys/kernel/arch": arch + "\n",
        "proc/self/limits": LIMITS,
    }


def cpus(count: int, model: str, flags: str = "fpu vme sse4_2 avx2") -> Machine:
    """Give a machine's processors."""
    one = f"vendor_id\t: AuthenticAMD\nmodel name\t: {model}\nflags\t\t: {flags}\n\n"
    return {
        "proc/cpuinfo": "".join(f"processor\t: {number}\n{one}" for number in range(count)),
        "sys/devices/system/cpu/online": f"0-{count - 1}\n",
        "proc/self/status": f"Name:\tpython\nCpus_allowed_list:\t0-{count - 1}\n",
    }


def pci(address: str, vendor: str, device: str, class_code: str, driver: str = "", numa: int = -1) -> Machine:
    """Give one device on the PCI bus."""
    folder = f"sys/bus/pci/devices/{address}"
    entries: Machine = {
        f"{folder}/vendor": f"0x{vendor}\n",
        f"{folder}/device": f"0x{device}\n",
        f"{folder}/class": f"0x{class_code}\n",
        f"{folder}/numa_node": f"{numa}\n",
    }
    if driver:
        entries[f"{folder}/driver"] = Link(f"../../../../bus/pci/drivers/{driver}")
    return entries


def driver_files(version: str, folder: str = "usr/lib/x86_64-linux-gnu") -> Machine:
    """Give libcuda and NVML as a driver package installs them."""
    return {
        f"{folder}/libcuda.so.{version}": "",
        f"{folder}/libcuda.so.1": Link(f"libcuda.so.{version}"),
        f"{folder}/libcuda.so": Link("libcuda.so.1"),
        f"{folder}/libnvidia-ml.so.{version}": "",
        f"{folder}/libnvidia-ml.so.1": Link(f"libnvidia-ml.so.{version}"),
    }


def native_8gpu() -> Machine:
    """Give a host with 8 H100s and 4 NVSwitches, the open driver 570 and a running Fabric Manager; cgroup v2."""
    machine: Machine = {
        **kernel(RELEASE, "(buildd@lcy02-amd64-030) (gcc (Ubuntu 11.4.0-1ubuntu1~22.04) 11.4.0)"),
        **cpus(192, "AMD EPYC 9654 96-Core Processor"),
        "etc/os-release": UBUNTU,
        "proc/meminfo": MEMINFO.format(total=2113386752, free=2013386752),
        "proc/modules": "nvidia_uvm 4939776 0 - Live 0x0\nnvidia_peermem 16384 0 - Live 0x0\nnvidia 89939968 8 -\n",
        "proc/driver/nvidia/version": NVRM_OPEN,
        "proc/2/comm": "kthreadd\n",
        "proc/4242/comm": "nv-fabricmanage\n",
        "run/nvidia-fabricmanager/nv-fabricmanager.pid": "4242\n",
        "usr/share/doc/nvidia-fabricmanager-570.124.06/copyright": "",
        "proc/self/cgroup": "0::/user.slice/user-1000.slice/session-3.scope\n",
        "proc/self/mountinfo": "34 24 0:29 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
        "sys/fs/cgroup/user.slice/memory.max": "max\n",
        "sys/fs/cgroup/user.slice/user-1000.slice/memory.max": "549755813888\n",
        "sys/fs/cgroup/user.slice/user-1000.slice/memory.current": "1073741824\n",
        "sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope/memory.max": "max\n",
        "sys/class/dmi/id/sys_vendor": "Supermicro\n",
        "sys/class/dmi/id/product_name": "SYS-821GE-TNHR\n",
        f"lib/modules/{RELEASE}/modules.dep": (
            "kernel/drivers/video/fbdev/nvidia/nvidiafb.ko:\n"
            "updates/dkms/nvidia-uvm.ko.zst: updates/dkms/nvidia.ko.zst\nupdates/dkms/nvidia.ko.zst:\n"
        ),
        f"var/lib/dkms/nvidia/570.124.06/{RELEASE}/x86_64/log/make.log": "",
        "usr/bin/nvidia-smi": Program(),
        "dev/nvidiactl": Node(),
        "dev/nvidia-uvm": Node(),
        "dev/nvidia-uvm-tools": Node(),
        "dev/nvidia-modeset": Node(),
        "dev/nvidia-nvswitchctl": Node(),
        "dev/nvidia-caps/nvidia-cap1": Node(0o400),
        "dev/nvidia-caps/nvidia-cap2": Node(0o444),
        **driver_files("570.124.06"),
        **pci("0000:01:00.0", "1a03", "2000", "030000"),
    }
    for number in range(8):
        machine[f"dev/nvidia{number}"] = Node()
        machine |= pci(f"0000:{0x19 + 0x10 * number:02x}:00.0", "10de", "2330", "030200", "nvidia", number // 4)
    for number in range(4):
        machine[f"dev/nvidia-nvswitch{number}"] = Node()
        machine |= pci(f"0000:a{number}:00.0", "10de", "22a3", "068000", "nvidia-nvswitch", number // 2)
    return machine


def native_no_driver() -> Machine:
    """Give a workstation with an RTX 4090 on the bus, nouveau bound to it and no NVIDIA driver at all."""
    return {
        **kernel("6.8.0-31-generic", "(buildd@lcy02-amd64-080) (x86_64-linux-gnu-gcc-13)", "ws"),
        **cpus(16, "AMD Ryzen 9 7950X 16-Core Processor"),
        "etc/os-release": UBUNTU.replace("22.04", "24.04"),
        "proc/meminfo": MEMINFO.format(total=65536000, free=60000000),
        "proc/modules": "nouveau 3096576 4 - Live 0x0\ni915 4206592 0 - Live 0x0\n",
        "proc/2/comm": "kthreadd\n",
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": "34 24 0:29 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n",
        "sys/class/dmi/id/sys_vendor": "ASUS\n",
        "lib/modules/6.8.0-31-generic/modules.dep": "kernel/drivers/gpu/drm/nouveau/nouveau.ko.zst:\n",
        **pci("0000:01:00.0", "10de", "2684", "030000", "nouveau"),
        **pci("0000:01:00.1", "10de", "22ba", "040300", "snd_hda_intel"),
        **pci("0000:0e:00.0", "1002", "164e", "030000", "amdgpu"),
    }


def wsl2() -> Machine:
    """Give Ubuntu under WSL2: /dev/dxg, the driver's libraries in /usr/lib/wsl/lib, nothing on the bus."""
    return {
        **kernel("5.15.153.1-microsoft-standard-WSL2", "(root@941d701f84f1) (gcc (GCC) 11.2.0)", "DESKTOP-1"),
        **cpus(16, "Intel(R) Core(TM) i7-13700K", "fpu avx2 hypervisor"),
        "etc/os-release": UBUNTU,
        "proc/meminfo": MEMINFO.format(total=16384000, free=15000000),
        "proc/modules": "",
        "proc/self/cgroup": "0::/init.scope\n",
        "proc/self/mountinfo": "34 24 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        "sys/bus/pci/devices/7e9f:00:00.0/vendor": "0x1414\n",
        "sys/bus/pci/devices/7e9f:00:00.0/class": "0x030200\n",
        "sys/bus/pci/devices/7e9f:00:00.0/device": "0x008e\n",
        "dev/dxg": Node(),
        "etc/ld.so.conf": "include /etc/ld.so.conf.d/*.conf\n",
        "etc/ld.so.conf.d/ld.wsl.conf": "# This file was automatically generated by WSL.\n/usr/lib/wsl/lib\n",
        "usr/lib/wsl/lib/libcuda.so.1.1": "",
        "usr/lib/wsl/lib/libcuda.so.1": Link("libcuda.so.1.1"),
        "usr/lib/wsl/lib/libcuda.so": Link("libcuda.so.1"),
        "usr/lib/wsl/lib/libnvidia-ml.so.1": "",
        "usr/lib/wsl/lib/nvidia-smi": Program(),
    }


def gvisor() -> Machine:
    """Give a gVisor sandbox with one GPU: no /sys/bus, no /proc/modules, no osrelease, nodes by nvproxy."""
    return {
        "proc/version": "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016\n",
        "proc/sys/kernel/hostname": "sandbox\n",
        **{path: text for path, text in cpus(4, "Intel(R) Xeon(R)").items() if path == "proc/cpuinfo"},
        "etc/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        "proc/meminfo": MEMINFO.format(total=16384000, free=15000000),
        "dev/nvidiactl": Node(),
        "dev/nvidia-uvm": Node(),
        "dev/nvidia0": Node(),
        **driver_files("550.90.07", "usr/local/nvidia/lib64"),
    }


def rootless_container() -> Machine:
    """Give a rootless podman container with 1.5 CPUs and 2 GiB by cgroup v2; the GPU belongs to a group."""
    return {
        **kernel("6.1.0-21-amd64", "(debian-kernel@lists.debian.org)", "4b825dc642cb"),
        **cpus(8, "AMD EPYC 7763 64-Core Processor"),
        "etc/os-release": UBUNTU,
        "proc/meminfo": MEMINFO.format(total=527986000, free=500000000),
        "proc/modules": "nvidia_uvm 1 0 - Live 0x0\nnvidia 1 1 - Live 0x0\n",
        "proc/driver/nvidia/version": NVRM,
        "proc/1/comm": "python\n",
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": (
            "660 550 0:55 / / rw,relatime - overlay overlay rw,lowerdir=/home/u/.local/share/containers/storage/"
            "overlay/l/A\n666 660 0:29 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n"
        ),
        "sys/fs/cgroup/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/memory.max": "2147483648\n",
        "sys/fs/cgroup/memory.current": "104857600\n",
        "run/.containerenv": 'engine="podman-4.3.1"\nrootless=1\n',
        "dev/nvidiactl": Node(),
        "dev/nvidia-uvm": Node(),
        "dev/nvidia0": Node(0o660),
        **pci("0000:3b:00.0", "10de", "20b5", "030200", "nvidia"),
        **driver_files("535.183.01", "usr/lib64"),
    }


def jetson() -> Machine:
    """Give a Jetson AGX Orin: Tegra nodes, a device tree, the driver in its own folder, no PCI GPU."""
    cpu = "processor\t: 0\nBogoMIPS\t: 62.50\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\n\n"
    return {
        **kernel("5.15.136-tegra", "(buildbrain@mobile-u64) (aarch64-buildroot-linux-gnu-gcc)", "orin", "aarch64"),
        "proc/cpuinfo": cpu,
        "sys/devices/system/cpu/online": "0-11\n",
        "proc/self/status": "Cpus_allowed_list:\t0-11\n",
        "etc/os-release": UBUNTU,
        "etc/nv_tegra_release": "# R36 (release), REVISION: 3.0, GCID: 36923193, BOARD: generic\n",
        "proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0005\0nvidia,p3701-0005\0nvidia,tegra234\0",
        "proc/meminfo": MEMINFO.format(total=64349584, free=60000000),
        "proc/modules": "nvgpu 2846720 0 - Live 0x0\nnvmap 237568 1 nvgpu, Live 0x0\n",
        "proc/2/comm": "kthreadd\n",
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": "34 24 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        "sys/bus/pci/devices/0001:00:00.0/vendor": "0x10de\n",
        "sys/bus/pci/devices/0001:00:00.0/device": "0x229e\n",
        "sys/bus/pci/devices/0001:00:00.0/class": "0x060400\n",
        "dev/nvhost-gpu": Node(),
        "dev/nvhost-ctrl-gpu": Node(),
        "dev/nvgpu/igpu0/power": Node(0o664),
        "dev/nvmap": Node(0o440),
        "etc/ld.so.conf": "include /etc/ld.so.conf.d/*.conf\n",
        "etc/ld.so.conf.d/nvidia-tegra.conf": "/usr/lib/aarch64-linux-gnu/nvidia\n",
        "usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1.1": "",
        "usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1": Link("libcuda.so.1.1"),
        "usr/lib/aarch64-linux-gnu/nvidia/libcuda.so": Link("libcuda.so.1.1"),
    }


def docker_v1() -> Machine:
    """Give a docker container on a host with cgroup v1: 2 CPUs, 4 GiB; compat libraries in the image."""
    group = "/docker/3c1e0f7a9b2d4c6e8f0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60"
    mount = "{id} 600 0:{id} {group} /sys/fs/cgroup/{name} ro,nosuid - cgroup cgroup rw,{name}\n"
    return {
        **kernel("4.18.0-513.el8.x86_64", "(mockbuild@x86-64)", "3c1e0f7a9b2d"),
        **cpus(64, "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz"),
        "etc/os-release": UBUNTU,
        "proc/meminfo": MEMINFO.format(total=527986000, free=500000000),
        "proc/modules": "nvidia_uvm 1 0 - Live 0x0\nnvidia 1 1 - Live 0x0\n",
        "proc/driver/nvidia/version": NVRM,
        "proc/self/cgroup": f"11:memory:{group}\n5:cpu,cpuacct:{group}\n1:name=systemd:{group}\n",
        "proc/self/mountinfo": (
            "600 500 0:50 / / rw - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/X\n"
            + mount.format(id=610, group=group, name="memory")
            + mount.format(id=611, group=group, name="cpu,cpuacct")
        ),
        ".dockerenv": "",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.stat": "cache 0\nhierarchical_memory_limit 4294967296\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "209715200\n",
        "dev/nvidiactl": Node(),
        "dev/nvidia-uvm": Node(),
        "dev/nvidia0": Node(),
        "usr/local/cuda": Link("cuda-12.2"),
        "usr/local/cuda-12.2/compat/libcuda.so.535.54.03": "",
        "usr/local/cuda-12.2/compat/libcuda.so.1": Link("libcuda.so.535.54.03"),
        "usr/local/cuda-12.2/lib64/stubs/libcuda.so": "",
        **driver_files("470.256.02"),
    }


def ngc_container() -> Machine:
    """Give NVIDIA's PyTorch image under docker with CDI: driver files mounted one by one, /dev/nvidia* for 2 GPUs."""
    library, driver = "/usr/lib/x86_64-linux-gnu", "570.124.06"
    mounted = (
        *(f"{library}/lib{name}.so.{driver}" for name in ("cuda", "nvidia-ml", "nvidia-nvvm")), "/usr/bin/nvidia-smi",
        "/usr/bin/nvidia-persistenced", f"/usr/lib/firmware/nvidia/{driver}/gsp_ga10x.bin",
    )  # fmt: skip
    mount = "{} 600 259:2 {} {} ro,nosuid,nodev,relatime - ext4 /dev/nvme0n1p2 rw\n"
    root = "600 500 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/X\n"
    return {
        **kernel("6.8.0-79-generic", "(buildd@lcy02)", "8d4c1f"),
        **cpus(64, "AMD EPYC 9354"),
        "etc/os-release": UBUNTU.replace("22.04", "24.04"),
        "etc/ld.so.conf.d/00-nvcr-3141592653.conf": f"{library}\n",
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": root + "".join(mount.format(601 + n, path, path) for n, path in enumerate(mounted)),
        ".dockerenv": "",
        "opt/nvidia/nvidia_entrypoint.sh": Program(),
        "opt/pytorch/NVREADME.md": "",
        "dev/nvidiactl": Node(),
        "dev/nvidia-uvm": Node(),
        "dev/nvidia0": Node(),
        "dev/nvidia1": Node(),
        **driver_files(driver),
    }


def behind_switch(gpu: str, switch: str, port: str, *, control: int | None, extended: bool = True) -> Machine:
    """Give an NVIDIA GPU behind a PCI switch; ``control`` is the register of its port's Access Control Services.

    Without ``extended`` the port's configuration space ends where it does for everyone but root.
    """
    way = f"sys/devices/pci0000:15/{switch}/{port}/{gpu}"
    config = bytes(256)
    if extended:
        vendor = (0x0B | 1 << 16 | 0x148 << 20).to_bytes(4, "little")  # first a vendor's own capability, then the one
        services = (0x0D | 1 << 16).to_bytes(4, "little") + bytes(2) + (control or 0).to_bytes(2, "little")
        config += (vendor + bytes(0x44) + services if control is not None else bytes(64)).ljust(4096 - 256, b"\0")
    entries: Machine = {f"sys/bus/pci/devices/{gpu}": Link(f"../../../../{way}")}
    entries[f"{way}/vendor"], entries[f"{way}/class"] = "0x10de\n", "0x030200\n"
    for name, folder in (
        (switch, f"sys/devices/pci0000:15/{switch}"),
        (port, f"sys/devices/pci0000:15/{switch}/{port}"),
    ):
        entries[f"sys/bus/pci/devices/{name}"] = Link(f"../../../../{folder}")
        entries[f"{folder}/class"] = "0x060400\n"
        entries[f"{folder}/config"] = config if name == port else bytes(4096)
    return entries


def rdma(device: str, address: str, *, state: str = "4: ACTIVE", layer: str = "InfiniBand", numa: int = 0) -> Machine:
    """Give an RDMA adapter with one port."""
    folder, physical = f"sys/class/infiniband/{device}", "5: LinkUp" if state.startswith("4") else "3: Disabled"
    return {
        f"{folder}/device": Link(f"../../../devices/pci0000:15/{address}"),
        f"sys/devices/pci0000:15/{address}/numa_node": f"{numa}\n",
        f"{folder}/ports/1/state": state + "\n",
        f"{folder}/ports/1/phys_state": physical + "\n",
        f"{folder}/ports/1/rate": "400 Gb/sec (4X NDR)\n",
        f"{folder}/ports/1/link_layer": layer + "\n",
    }


def nic(name: str, address: str = "", **files: str) -> Machine:
    """Give a network interface; without an address it is made of software."""
    folder = f"sys/class/net/{name}"
    told = {"operstate": "up", "mtu": "1500", "flags": "0x1003", "speed": "100000", **files}
    entries: Machine = {f"{folder}/{each}": text + "\n" for each, text in told.items()}
    if address:
        entries[f"{folder}/device"] = Link(f"../../../devices/pci0000:15/{address}")
        entries[f"sys/devices/pci0000:15/{address}/numa_node"] = "1\n"
    return entries
