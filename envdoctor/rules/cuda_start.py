"""Can CUDA start with this driver: forward compatibility where it is refused, and a driver too old for the build."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, CudaRuntime, DriverFiles, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Host
from envdoctor.facts.packages import Packages
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Command, Confidence, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.knowledge.cuda import Version, branch_to_install, compat_status, dotted, level_of, numbers
from envdoctor.knowledge.gpus import is_consumer, last_driver_branch
from envdoctor.knowledge.torch import cuda_of
from envdoctor.remedy import driver as ways
from envdoctor.remedy.image import image_for_driver
from envdoctor.remedy.install import change_torch
from envdoctor.remedy.machine import machine_of
from envdoctor.rule import Missing, NotApplicable, Unknown, rule
from envdoctor.rules.answers import (
    COMPAT_NOT_SUPPORTED,
    INSUFFICIENT_DRIVER,
    SYSTEM_DRIVER_MISMATCH,
    answered,
    evidence_of,
)
from envdoctor.rules.builds import need_cuda_build
from envdoctor.rules.cards import capabilities, gpu_names
from envdoctor.rules.driver_level import Driver, Support, raise_driver, support_of, version_of
from envdoctor.rules.presence import need_gpu, seen_working


@rule(severity=Severity.ERROR, group="driver", essential=True)
def forward_compat_unsupported(
    driver: CudaDriver | None,
    runtime: CudaRuntime | None,
    cuda: TorchCuda | None,
    files: DriverFiles | None,
    module: KernelModule | None,
    smi: NvidiaSmi | None,
    host: Host | None,
) -> Iterator[Finding]:
    """A cuda-compat libcuda is used where forward compatibility is not supported.

    ## What it means
    The cuda-compat package brings a libcuda newer than the driver. NVIDIA supports that on data-centre GPUs only, and
    only on certain driver branches. Here its libcuda is found before the driver's own, and CUDA refuses it.

    ## Why it matters
    CUDA does not start: error 804, "forward compatibility was attempted on non supported HW", or 803.

    ## How it is detected
    Error 804 of cuInit, libcudart or torch; error 803 when a cuda-compat libcuda is the first one found. Where CUDA was
    not asked: a cuda-compat libcuda first, together with a GeForce or TITAN card or a driver branch that NVIDIA's table
    excludes. Where CUDA was seen to start, nothing is reported.

    ## What to do
    Take the compat directory out of LD_LIBRARY_PATH or remove the package. If the driver is then too old for the build,
    raise the driver or change the wheel.

    ## Sources
    https://docs.nvidia.com/deploy/cuda-compatibility/forward-compatibility.html
    """
    if seen_working(cuda, runtime, driver):
        return
    said = evidence_of(COMPAT_NOT_SUPPORTED, driver, runtime, cuda)
    compat = _compat(files)
    if compat and not said:
        said = evidence_of(SYSTEM_DRIVER_MISMATCH, driver, runtime, cuda)
    derived = () if said or answered(driver, runtime) else _refused_by_table(files, module, smi)
    if not said and not derived:
        if files is None and not answered(driver, runtime):
            raise Missing(CudaDriver)
        return
    yield Finding(
        "CUDA refuses the cuda-compat libraries: forward compatibility is not supported here",
        "" if compat else "No cuda-compat library was found first: this can also be a half-finished driver upgrade.",
        evidence=(*said, *compat, *derived),
        fixes=_without_compat(raise_driver(Driver(driver, smi=smi, module=module, host=host))),
        confidence=Confidence.CERTAIN if said else Confidence.LIKELY,
    )


def _compat(files: DriverFiles | None) -> tuple[Evidence, ...]:
    first = files.first_libcuda if files else None
    return (see(files, "first_libcuda", "first libcuda", first.path),) if files and first and first.compat else ()


def _refused_by_table(
    files: DriverFiles | None, module: KernelModule | None, smi: NvidiaSmi | None
) -> tuple[Evidence, ...]:
    first = files.first_libcuda if files else None
    theirs = numbers(first.version) if first and first.compat else None
    ours = numbers(module.version) if module else None
    if module is None or theirs is None or ours is None or theirs[0] == ours[0]:
        return ()
    shown = see(module, "version", "kernel module")
    if smi and any(is_consumer(each.name) for each in smi.gpus):
        return (shown, see(smi, "gpus", "GPU", ", ".join(dict.fromkeys(each.name for each in smi.gpus))))
    level = level_of(theirs)
    return (shown,) if level and compat_status(level, ours) == "not_compatible" else ()


def _without_compat(up: Fix) -> tuple[Fix, ...]:
    keep = "tr ':' '\\n' | grep -v '/compat' | paste -sd: -"
    leave = Fix(
        "Take the compat directory out of the loader's search path",
        (Command(None, f'export LD_LIBRARY_PATH="$(printf %s "$LD_LIBRARY_PATH" | {keep})"'),),
        Safety.SAFE,
        "this shell only",
    )
    remove = Fix(
        "Or remove the package",
        (Command(None, "sudo apt-get purge 'cuda-compat-*' && sudo ldconfig"),),
        Safety.ADMIN,
        "a system package",
        needs_root=True,
    )
    return (leave, remove, up)


@rule(
    severity=Severity.ERROR, group="driver", essential=True,
    explained_by=("nvidia-driver-missing", "ngc-image-needs-newer-driver"),
)  # fmt: skip
def driver_too_old_for_cuda_build(
    build: TorchBuild,
    driver: CudaDriver | None,
    runtime: CudaRuntime | None,
    smi: NvidiaSmi | None,
    module: KernelModule | None,
    files: DriverFiles | None,
    cuda: TorchCuda | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    packages: Packages | None,
    host: Host | None,
) -> Iterator[Finding]:
    """The NVIDIA driver is older than the CUDA that this PyTorch was built with needs.

    ## What it means
    Every CUDA build has a floor. From CUDA 11 on it is one per major: driver 450.80.02 for 11.x, 525.60.13 for 12.x,
    580 for 13.x (minor-version compatibility). Before, it is one per minor.

    ## Why it matters
    CUDA does not start. PyTorch says "The NVIDIA driver on your system is too old" and computes on the CPU or stops.

    ## How it is detected
    The driver's CUDA level as libcuda, libcudart or nvidia-smi names it, else the module's version against the table of
    floors, number by number. A driver 535 (CUDA 12.2) with a CUDA 12.8 build is healthy. Where CUDA was seen to start,
    which also covers forward compatibility, no arithmetic is done. A level named by a refused cuda-compat library does
    not count.

    ## What to do
    Install a build for an older CUDA, which needs no root. Or raise the driver. On data-centre GPUs cuda-compat is a
    third way. NVIDIA's image that this driver runs is named too.

    ## Sources
    https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
    https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/
    """
    wanted = need_cuda_build(build)
    if seen_working(cuda, runtime):
        return
    need_gpu(bus, nodes, module, smi, driver)
    hand = Driver(driver, runtime, smi, module, files, cuda, host)
    support = _judge(hand, wanted)
    if not support.starts:
        yield _too_old(hand, support, build, packages)


def _too_old(hand: Driver, support: Support, build: TorchBuild, packages: Packages | None) -> Finding:
    wanted = need_cuda_build(build)
    return Finding(
        "PyTorch cannot use the GPUs: the driver is too old for this build",
        _no_way_up(hand),
        evidence=(
            see(build, "cuda", "torch was built with", f"CUDA {dotted(wanted)}"),
            *support.evidence,
            *evidence_of(INSUFFICIENT_DRIVER, hand.asked, hand.runtime),
        ),
        fixes=(*_older_wheel(hand, packages, build), *_newer_driver(hand, wanted), *_image(hand, support)),
        confidence=support.confidence,
    )


def _image(hand: Driver, support: Support) -> tuple[Fix, ...]:
    gpus = capabilities(hand.asked, hand.smi, hand.cuda)
    return image_for_driver(hand.host, version_of(hand)[0], support.level, gpus)


def _judge(hand: Driver, wanted: Version) -> Support:
    """Judge, or end the rule with the reason why nothing can be said."""
    support = support_of(hand, wanted)
    if support.starts is not None:
        return support
    elsewhere = hand.host and (hand.host.wsl or hand.host.jetson)  # there no module of this name is ever loaded
    if hand.module and hand.module.loaded is False and not hand.smi and not elsewhere:
        raise NotApplicable("no NVIDIA driver is loaded")
    if not any((hand.asked, hand.runtime, hand.smi, hand.module)):
        raise Missing(CudaDriver)
    raise Unknown(support.reason)


def _no_way_up(hand: Driver) -> str:
    last = _last_branch(hand)
    return f"No driver after branch {last} supports this GPU." if last else ""


def _last_branch(hand: Driver) -> int | None:
    """Give the last driver branch of the oldest GPU, where there is one."""
    known = [last_driver_branch(each) for each in capabilities(hand.asked, hand.smi, hand.cuda)]
    return min((each for each in known if each), default=None)


def _older_wheel(hand: Driver, packages: Packages | None, build: TorchBuild) -> tuple[Fix, ...]:
    if packages is None:
        return ()
    machine = machine_of(packages, hand.host, driver=hand.asked, runtime=hand.runtime, smi=hand.smi, module=hand.module)
    wheel = machine.cuda_wheel(build.version) if machine.driver_cuda else None
    if wheel is None:
        return ()
    words = f"torch {wheel.torch} built for CUDA {dotted(cuda_of(wheel.variant))}"
    title = f"Change the wheel, keep the driver: {words}"
    return change_torch(packages, wheel, title=title, installed=build.version)


def _newer_driver(hand: Driver, wanted: Version) -> tuple[Fix, ...]:
    branch = branch_to_install(wanted, hand.system)
    last = _last_branch(hand)
    if last and branch and last < branch:
        return ()
    up = raise_driver(hand, wanted)
    ours = version_of(hand)[0]
    names = gpu_names(hand.asked, hand.smi, hand.cuda)
    if not ours or not names or any(is_consumer(each) for each in names):
        return (up,)
    return (up, ways.cuda_compat(dotted(wanted), hand.host)) if compat_status(wanted, ours) == "compatible" else (up,)


RULES = (forward_compat_unsupported, driver_too_old_for_cuda_build)
