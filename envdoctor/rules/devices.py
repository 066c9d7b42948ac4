"""Is there an NVIDIA GPU, is its driver loaded, and may this user reach it?"""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, CudaRuntime, DriverFiles, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNode, DeviceNodes, PciBus, PciDevice
from envdoctor.facts.host import Host
from envdoctor.finding import Command, Confidence, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.remedy import container as container_ways
from envdoctor.remedy import driver as ways
from envdoctor.remedy.machine import needs_open_modules
from envdoctor.remedy.variables import start_anew
from envdoctor.rule import NotApplicable, Unknown, rule
from envdoctor.rules.presence import NO_DEVICE, has_gpu, in_container, need_native_driver, own_gpus, seen_working


@rule(severity=Severity.INFO, group="GPUs")
def no_nvidia_gpu(
    bus: PciBus,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    smi: NvidiaSmi | None,
    driver: CudaDriver | None,
) -> Iterator[Finding]:
    """No NVIDIA GPU is on this machine.

    ## What it means
    Neither the PCI bus nor a device node nor a driver shows an NVIDIA GPU. PyTorch computes on the CPU.

    ## Why it matters
    It is no fault. Every rule about CUDA is "not applicable" here: neither passed nor failed.

    ## How it is detected
    PCI devices of class 03 with NVIDIA's vendor id 10de under /sys/bus/pci/devices, the nodes /dev/nvidia*, the loaded
    modules, and what the driver's own libraries answer where they may be asked.

    ## What to do
    Nothing, if this machine is meant to have none. In a container, pass the GPUs in. In a virtual machine, attach one.

    ## Sources
    https://docs.kernel.org/PCI/sysfs-pci.html
    """
    present = has_gpu(bus, nodes, module, smi, driver)
    if present is None:
        raise Unknown("/dev/dxg is there, but it serves every vendor's GPU, and NVIDIA's libraries gave no answer")
    if present:
        return
    others = ", ".join(sorted({each.vendor_id for each in bus.other_gpus}))
    yield Finding(
        "No NVIDIA GPU here: PyTorch uses the CPU",
        f"GPUs of other vendors are on the bus (PCI vendor {others})." if others else "",
        evidence=(see(bus, "gpus", "NVIDIA GPUs on the PCI bus", 0),),
        confidence=Confidence.CERTAIN if bus.readable else Confidence.LIKELY,
    )


@rule(severity=Severity.ERROR, group="GPUs", essential=True)
def nvidia_driver_missing(
    bus: PciBus, module: KernelModule, nodes: DeviceNodes | None, smi: NvidiaSmi | None, host: Host | None
) -> Iterator[Finding]:
    """An NVIDIA GPU is on the bus, but no NVIDIA driver is loaded.

    ## What it means
    The kernel sees the card and no NVIDIA kernel module serves it. Often the open-source nouveau driver holds it.

    ## Why it matters
    Without the module no CUDA program can start, whatever is installed in Python.

    ## How it is detected
    PCI devices of class 03 with vendor 10de, /proc/modules, and the driver that /sys says is bound to each device.
    A card handed to virtual machines (vfio-pci) is left out. An NVIDIA device node or an answer of nvidia-smi
    overrules it.

    ## What to do
    Load the module if one is on disk. Otherwise install the driver and restart. With Secure Boot the module must be
    signed. In a container the driver is the host's business.

    ## Sources
    https://docs.nvidia.com/datacenter/tesla/driver-installation-guide/
    """
    need_native_driver(host)
    if not bus.gpus:
        raise NotApplicable(NO_DEVICE if bus.readable else "no GPU is seen on the PCI bus")
    cards = own_gpus(bus)
    if not cards:
        raise NotApplicable("the GPUs are handed to virtual machines")
    if module.loaded or (nodes and nodes.nvidiactl.exists) or (smi and smi.driver_version):
        return
    if module.loaded is None:
        raise Unknown(module.unknown.get("loaded", "whether the NVIDIA kernel module is loaded is not known"))
    yield Finding(
        _driver_title(module, cards),
        evidence=(
            see(bus, "gpus", "NVIDIA GPUs on the PCI bus", ", ".join(each.address for each in cards)),
            see(module, "loaded", "NVIDIA kernel module", "not loaded"),
            *_holder(bus, cards),
        ),
        fixes=_driver_fixes(module, cards, host),
    )


def _driver_title(module: KernelModule, cards: tuple[PciDevice, ...]) -> str:
    if module.nouveau_loaded or any(each.driver == "nouveau" for each in cards):
        return "The NVIDIA driver is not loaded: nouveau holds the GPU"
    if module.on_disk_version:
        return f"The NVIDIA driver {module.on_disk_version} is installed but not loaded"
    return "The NVIDIA driver is missing"


def _holder(bus: PciBus, cards: tuple[PciDevice, ...]) -> tuple[Evidence, ...]:
    names = sorted({each.driver for each in cards if each.driver})
    return (see(bus, "gpus", "driver bound to them", ", ".join(names)),) if names else ()


def _driver_fixes(module: KernelModule, cards: tuple[PciDevice, ...], host: Host | None) -> tuple[Fix, ...]:
    install = ways.install_driver(host, open_modules=needs_open_modules(module, None, None, cards))
    if module.on_disk_version and not in_container(host):
        return (ways.load_module(), install)
    return (install,)


@rule(
    severity=Severity.ERROR,
    group="GPUs",
    essential=True,
    explained_by=("nvidia-driver-missing", "container-gpu-not-passed"),
)
def device_nodes_missing(
    nodes: DeviceNodes,
    module: KernelModule,
    bus: PciBus | None,
    host: Host | None,
    files: DriverFiles | None,
    runtime: CudaRuntime | None,
    driver: CudaDriver | None,
) -> Iterator[Finding]:
    """The NVIDIA driver is loaded, but its device nodes are not here.

    ## What it means
    Programs reach the driver through /dev/nvidiactl, /dev/nvidia0 and so on, and CUDA also through /dev/nvidia-uvm.
    In a container they appear only when the GPUs are passed in. On a host nvidia-modprobe or the persistence daemon
    creates them.

    ## Why it matters
    CUDA finds no device, although the driver itself is well.

    ## How it is detected
    The nodes are looked at, never opened, and no driver library is called while they are missing: as root that call
    would create them. Where CUDA was seen to start, nothing is reported. Outside a container this is info where
    nvidia-modprobe is setuid root, because the first CUDA program then creates them; else, when only /dev/nvidia-uvm is
    missing, a warning.

    ## What to do
    Container: start it with the GPUs passed in. Host: create the nodes with nvidia-modprobe, or start the persistence
    daemon at boot.

    ## Sources
    https://docs.nvidia.com/datacenter/tesla/driver-installation-guide/
    https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/
    """
    need_native_driver(host)
    if not module.loaded and not nodes.nvidiactl.exists:
        raise NotApplicable("no NVIDIA driver is loaded")
    gone = _gone(nodes)
    if not gone or seen_working(None, runtime, driver) or (bus and bus.readable and not bus.gpus):
        return
    evidence = (
        see(module, "loaded", "NVIDIA kernel module loaded"),
        see(nodes, "nvidiactl", "missing", ", ".join(gone)),
    )
    yield _nodes_gone_inside(gone, evidence, host) if in_container(host) else _nodes_gone_outside(gone, evidence, files)


def _nodes_gone_inside(gone: tuple[str, ...], evidence: tuple[Evidence, ...], host: Host | None) -> Finding:
    """A container cannot create its nodes: this is certain."""
    title = (
        "The container has no NVIDIA device nodes: the GPUs were not passed in"
        if "/dev/nvidiactl" in gone
        else f"The container lacks device nodes of the NVIDIA driver: {', '.join(gone)}"
    )
    return Finding(title, evidence=evidence, fixes=(container_ways.pass_gpus(host),))


def _nodes_gone_outside(gone: tuple[str, ...], evidence: tuple[Evidence, ...], files: DriverFiles | None) -> Finding:
    """On a host the first CUDA program may create them, so nothing is certain."""
    severity = Severity.WARNING if gone == ("/dev/nvidia-uvm",) else None
    if files and files.makes_nodes:
        severity = Severity.INFO
        evidence = (*evidence, see(files, "makes_nodes", "nvidia-modprobe", "setuid root"))
    return Finding(
        f"Device nodes of the NVIDIA driver are missing: {', '.join(gone)}",
        "A program that runs as root, or nvidia-modprobe where it is setuid root, creates them.",
        evidence=evidence,
        fixes=(ways.make_nodes(),),
        severity=severity,
        confidence=Confidence.LIKELY,
    )


def _gone(nodes: DeviceNodes) -> tuple[str, ...]:
    """Name what is missing of the set that CUDA needs."""
    found = {
        "/dev/nvidiactl": nodes.nvidiactl.exists,
        "/dev/nvidia0": any(each.exists for each in nodes.gpus),
        "/dev/nvidia-uvm": nodes.uvm.exists,
    }
    return tuple(path for path, there in found.items() if not there)


@rule(severity=Severity.ERROR, group="GPUs", essential=True)
def device_nodes_no_permission(nodes: DeviceNodes, host: Host | None) -> Iterator[Finding]:
    """The NVIDIA device nodes are here, but this user may not open them.

    ## What it means
    CUDA opens /dev/nvidiactl, /dev/nvidia0 and so on, and /dev/nvidia-uvm for reading and writing; on Jetson
    /dev/nvmap, which belongs to the group video. Their owner, group or mode refuses that to this user.

    ## Why it matters
    CUDA finds no device, and nvidia-smi says "Insufficient Permissions", or Jetson's libraries "NvRmMemInitNvmap failed
    with Permission denied".

    ## How it is detected
    access(2) on each node that exists, for reading and for writing. Nothing is opened. With several GPUs it fires when
    none may be opened; a batch system may well close some.

    ## What to do
    Join the group that owns the nodes and log in again, or have the administrator set the mode (the nvidia module's
    NVreg_DeviceFileMode).

    ## Sources
    https://download.nvidia.com/XFree86/Linux-x86_64/535.183.01/README/faq.html
    """
    there = [each for each in (nodes.nvidiactl, nodes.uvm, *nodes.gpus, nodes.dxg, *_nvmap(nodes)) if each.exists]
    if not there:
        raise NotApplicable("no NVIDIA device nodes")
    refused = _refused(nodes)
    if not refused:
        return
    group = next((each.gid for each in refused if each.gid), None)
    yield Finding(
        "This user may not open the NVIDIA device nodes",
        evidence=tuple(see(nodes, _field(each), each.path, _rights(each)) for each in refused),
        fixes=(_join(group, host),),
    )


def _nvmap(nodes: DeviceNodes) -> tuple[DeviceNode, ...]:
    """Give Jetson's node for memory, which CUDA opens first; some of its neighbours are root's on purpose."""
    return tuple(each for each in nodes.tegra if each.path == "/dev/nvmap")


def _refused(nodes: DeviceNodes) -> tuple[DeviceNode, ...]:
    shared = tuple(each for each in (nodes.nvidiactl, nodes.uvm, nodes.dxg, *_nvmap(nodes)) if _closed(each))
    cards = tuple(each for each in nodes.gpus if _closed(each))
    all_closed = cards and not any(each.exists and not _closed(each) for each in nodes.gpus)
    return (*shared, *(cards if all_closed else ()))


def _closed(node: DeviceNode) -> bool:
    return node.exists and (node.readable is False or node.writable is False)


def _field(node: DeviceNode) -> str:
    named = {"/dev/nvidiactl": "nvidiactl", "/dev/nvidia-uvm": "uvm", "/dev/dxg": "dxg", "/dev/nvmap": "tegra"}
    return named.get(node.path, "gpus")


def _rights(node: DeviceNode) -> str:
    return f"mode {node.mode or 'unknown'}, owner {node.uid}, group {node.gid}"


def _join(gid: int | None, host: Host | None) -> Fix:
    if gid is not None and host and host.jetson and in_container(host):
        return start_anew(
            "Start the container with the group that owns the nodes", f"docker run --group-add {gid} IMAGE"
        )
    if gid is None or in_container(host):
        command = "sudo chmod 0666 /dev/nvidiactl /dev/nvidia-uvm /dev/nvidia[0-9]*"
        return Fix(
            "Open the nodes to every user, on the host, as the driver does by default",
            (Command(None, command),),
            Safety.ADMIN,
            "the mode of the device nodes until the next restart",
            needs_root=True,
        )
    command = f'sudo usermod -aG "$(getent group {gid} | cut -d: -f1)" "$USER"'
    title = "Join the group that owns the nodes, then log in again"
    return Fix(title, (Command(None, command),), Safety.ADMIN, "this user's groups", needs_root=True)


RULES = (no_nvidia_gpu, nvidia_driver_missing, device_nodes_missing, device_nodes_no_permission)
