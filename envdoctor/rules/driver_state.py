"""The driver's age and state: branch, kernel, the unified-memory module, and features that need a newer one."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from envdoctor.facts.driver import CudaDriver, CudaRuntime, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Environment, Host
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.knowledge.cuda import Version, branches, dotted, numbers
from envdoctor.knowledge.gpus import capability, last_driver_branch
from envdoctor.remedy import driver as ways
from envdoctor.remedy.variables import administer, look, unset
from envdoctor.rule import NotApplicable, Rule, Unknown, known, rule
from envdoctor.rules.answers import cu_init, cudart, torch_code, torch_says
from envdoctor.rules.builds import need_cuda_build
from envdoctor.rules.cards import Card, capabilities, cards
from envdoctor.rules.driver_level import Driver, raise_driver, support_of, version_of
from envdoctor.rules.presence import in_container, need_gpu, need_native_driver, seen_working

UNKNOWN_ERROR = 999
LAUNCHERS_WANT = (5, 5)  # accelerate warns below Linux 5.5: processes may hang
WITH_NEWER_KERNEL = frozenset({"20.04", "22.04", "24.04"})  # of Ubuntu's releases, those whose HWE kernel is newer
ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
HOPPER = (9, 0)


class Feature(msgspec.Struct, frozen=True):
    """A feature that is in use or would be, the CUDA level of the driver that it needs, and what is lost without."""

    subject: str
    level: Version
    loses: str
    evidence: Evidence
    fixes: tuple[Fix, ...] = ()


@rule(severity=Severity.WARNING, group="driver", explained_by=("driver-too-old-for-cuda-build",))
def driver_feature_too_old(
    build: TorchBuild,
    driver: CudaDriver | None,
    runtime: CudaRuntime | None,
    smi: NvidiaSmi | None,
    module: KernelModule | None,
    cuda: TorchCuda | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    environment: Environment | None,
    host: Host | None,
) -> Iterator[Finding]:
    """The driver starts this PyTorch, but one feature that is wanted here needs a newer driver.

    ## What it means
    Minor-version compatibility lets an older driver run a newer build of the same CUDA major. A few features need the
    newer driver itself: the asynchronous allocator (CUDA 11.4) and NVLink SHARP of NCCL on NVSwitch (CUDA 12.1).

    ## Why it matters
    The feature is refused or left out in silence. Without NVLink SHARP a large all-reduce is slower by a fifth or more.

    ## How it is detected
    The driver's CUDA level as libcuda, libcudart or nvidia-smi names it, or as its version stands for, against the
    feature's. Only features that the environment asks for, or that NCCL would use on this machine, are looked at.

    ## What to do
    Raise the driver, or do without the feature.

    ## Sources
    https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
    https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html
    """
    wanted = need_cuda_build(build)
    need_gpu(bus, nodes, module, smi, driver)
    features = [*_asynchronous_allocator(environment, wanted), *_nvlink_sharp(bus, cards(driver, smi, cuda), wanted)]
    if not features:
        return
    hand = Driver(driver, runtime, smi, module, cuda=cuda, host=host)
    support = support_of(hand, wanted)
    if support.level is None:
        raise Unknown(support.reason or "the driver's CUDA level is not known")
    for each in features:
        if support.starts and support.level < each.level:
            yield Finding(
                f"{each.loses}: it needs a driver of CUDA {dotted(each.level)}, this one has {dotted(support.level)}",
                evidence=(each.evidence, *support.evidence),
                fixes=(raise_driver(hand, each.level), *each.fixes),
                subject=each.subject,
                confidence=Confidence.LIKELY,
            )


def _asynchronous_allocator(environment: Environment | None, wanted: Version) -> list[Feature]:
    for name in ALLOCATOR:
        value = environment.get(name) if environment else None
        if environment and value and "cudamallocasync" in value.lower().replace(" ", "") and wanted >= (11, 0):
            shown = see(environment, "variables", name, value)
            loses = "The allocator backend cudaMallocAsync is refused"
            return [Feature("cudaMallocAsync", (11, 4), loses, shown, (unset(name),))]
    return []


def _nvlink_sharp(bus: PciBus | None, found: tuple[Card, ...], wanted: Version) -> list[Feature]:
    several = sum(each.count for each in found) > 1
    hopper = any((capability(each.capability) or (0,)) >= HOPPER for each in found)
    if not (bus and bus.nvswitches and several and hopper and wanted >= (12, 0)):
        return []
    shown = see(bus, "nvswitches", "NVSwitches on the PCI bus", len(bus.nvswitches))
    return [Feature("NVLink SHARP", (12, 1), "NCCL goes without NVLink SHARP", shown)]


@rule(severity=Severity.INFO, group="driver")
def driver_branch_eol(
    module: KernelModule | None,
    smi: NvidiaSmi | None,
    driver: CudaDriver | None,
    cuda: TorchCuda | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    host: Host | None,
) -> Iterator[Finding]:
    """The driver's branch is past its end of life.

    ## What it means
    NVIDIA no longer publishes fixes for this branch.

    ## Why it matters
    It goes on to work. Security holes stay open, and newer CUDA majors will not start.

    ## How it is detected
    The first number of the driver's version against NVIDIA's dates for Linux, as shipped with envdoctor. A branch that
    the table does not hold is unknown.

    ## What to do
    Plan a change to a production or long-term branch. For GPUs that no later branch serves there is nothing to change.

    ## Sources
    https://docs.nvidia.com/datacenter/tesla/drivers/releases.html
    """
    need_native_driver(host)
    need_gpu(bus, nodes, module, smi, driver)
    version, shown = version_of(Driver(module=module, smi=smi))
    if version is None:
        raise Unknown("the driver's version is not known")
    branch = next((each for each in branches() if each.system == "linux" and each.number == version[0]), None)
    if branch is None or not branch.eol:
        raise Unknown(f"the shipped table does not say until when branch {version[0]} is supported")
    if branch.supported:
        return
    lasts = [each for each in map(last_driver_branch, capabilities(driver, smi, cuda)) if each]
    last = bool(lasts) and min(lasts) <= branch.number
    yield Finding(
        f"Driver branch {branch.number} reached its end of life on {branch.eol}",
        "No later branch serves this GPU." if last else "",
        evidence=(*shown, Evidence("knowledge.driver_branches", branch.eol, "NVIDIA's dates", "", "supported until")),
        fixes=() if last else (raise_driver(Driver(driver, smi=smi, module=module, host=host)),),
    )


@rule(severity=Severity.INFO, group="system")
def kernel_too_old(
    host: Host,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    smi: NvidiaSmi | None,
    driver: CudaDriver | None,
) -> Iterator[Finding]:
    """The Linux kernel is older than what training launchers ask for.

    ## What it means
    Hugging Face's accelerate warns below Linux 5.5.

    ## Why it matters
    On such kernels training processes were seen to hang. Distributions that keep an old number (4.18 of Red Hat 8)
    take fixes over from newer kernels, so that the number alone proves nothing.

    ## How it is detected
    The kernel's release, compared by number. Only on machines with an NVIDIA GPU.

    ## What to do
    If processes hang without a cause, boot a newer kernel before looking further.

    ## Sources
    https://github.com/huggingface/accelerate/blob/main/src/accelerate/utils/other.py
    """
    if host.system not in {None, "Linux"}:
        raise NotApplicable(f"{host.system} has no Linux kernel")
    need_gpu(bus, nodes, module, smi, driver)
    version = numbers(known(host, "kernel"))
    if version is None:
        raise Unknown(f"the kernel calls itself {host.kernel!r}")
    if version >= LAUNCHERS_WANT:
        return
    fix = look("See which kernels are installed", "uname -r; ls /boot/vmlinuz-*")
    ubuntu = re.match(r"\d\d\.04", host.os_version or "") if host.os_id == "ubuntu" else None
    if ubuntu and ubuntu[0] in WITH_NEWER_KERNEL and not in_container(host):
        package = f"linux-generic-hwe-{ubuntu[0]}"
        fix = administer("Install Ubuntu's newer kernel", "the next boot", f"sudo apt-get install {package}")
    shown = see(host, "kernel", "Linux kernel")
    yield Finding(f"Linux {dotted(version[:2])} is older than the launchers want", "", (shown,), (fix,))


@rule(
    severity=Severity.ERROR,
    group="driver",
    essential=True,
    explained_by=("container-gpu-detached", "gpu-lost", "gpu-hardware-fault", "xid-errors"),
)
def uvm_broken_after_suspend(
    module: KernelModule | None,
    nodes: DeviceNodes | None,
    driver: CudaDriver | None,
    runtime: CudaRuntime | None,
    cuda: TorchCuda | None,
    host: Host | None,
) -> Iterator[Finding]:
    """The driver's unified-memory module, nvidia-uvm, is unusable or not loaded.

    ## What it means
    CUDA needs the kernel module nvidia-uvm beside the driver itself. A suspend, or an upgrade that stopped half way,
    leaves it broken or unloaded.

    ## Why it matters
    CUDA does not start: error 999, "unknown error", while nvidia-smi works.

    ## How it is detected
    Error 999 of cuInit, libcudart or torch while /dev/nvidia-uvm is there. Or, where CUDA was not asked: the driver is
    loaded, its node is there, and nvidia-uvm is not loaded. Where CUDA was seen to start, nothing is reported. A node
    that is missing is another finding.

    ## What to do
    Unload and load nvidia-uvm once nothing uses the GPUs, or restart the machine. In a container that is the host's
    business.

    ## Sources
    https://github.com/pytorch/pytorch/issues/49081
    https://download.nvidia.com/XFree86/Linux-x86_64/535.183.01/README/powermanagement.html
    """
    need_native_driver(host)
    if module is not None and module.loaded is False:
        raise NotApplicable("no NVIDIA kernel module is loaded")
    if seen_working(cuda, runtime, driver):
        return
    if nodes is not None and not nodes.uvm.exists:
        raise NotApplicable("/dev/nvidia-uvm is not here")
    said = _unknown_error(driver, runtime, cuda)
    gone = _not_loaded(module)
    if not said and not (gone and not _asked(driver, runtime, cuda)):
        if module is None and not _asked(driver, runtime, cuda):
            raise Unknown("neither the loaded modules nor an answer of CUDA is known")
        return
    yield Finding(
        "CUDA cannot start: the kernel module nvidia-uvm is " + ("not loaded" if gone else "most likely broken"),
        "" if gone else "Error 999 has rarer causes too; the kernel log names them.",
        evidence=(*said, *gone),
        fixes=(ways.load_uvm() if gone else ways.reload_uvm(), ways.reboot("Or restart the machine")),
        confidence=Confidence.CERTAIN if said and gone else Confidence.LIKELY,
    )


def _unknown_error(
    driver: CudaDriver | None, runtime: CudaRuntime | None, cuda: TorchCuda | None
) -> tuple[Evidence, ...]:
    found = [cu_init(driver)] if driver and driver.init_code == UNKNOWN_ERROR else []
    found += [cudart(runtime)] if runtime and runtime.code == UNKNOWN_ERROR else []
    return (*found, *([torch_says(cuda)] if cuda and torch_code(cuda) == UNKNOWN_ERROR else []))


def _not_loaded(module: KernelModule | None) -> tuple[Evidence, ...]:
    if module is None or module.uvm_loaded is not False:
        return ()
    return (see(module, "uvm_loaded", "nvidia-uvm", "not loaded"),)


def _asked(driver: CudaDriver | None, runtime: CudaRuntime | None, cuda: TorchCuda | None) -> bool:
    codes = (driver.init_code if driver else None, runtime.code if runtime else None)
    return any(each is not None for each in codes) or (cuda is not None and cuda.available is not None)


RULES: tuple[Rule, ...] = (driver_feature_too_old, driver_branch_eol, kernel_too_old, uvm_broken_after_suspend)
