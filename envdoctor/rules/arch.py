"""Does the installed torch have code for the GPUs of this machine."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from packaging.version import InvalidVersion
from packaging.version import Version as Release

from envdoctor.facts.driver import CudaDriver, CudaRuntime, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Host
from envdoctor.facts.packages import Packages
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.knowledge.cuda import Version, cuda_minor, dotted, level_suffices, numbers
from envdoctor.knowledge.gpus import (
    Capability,
    Code,
    beyond_compiler,
    capability,
    code_of,
    compiler_range,
    has_cubin,
    has_ptx,
)
from envdoctor.knowledge.torch import TorchWheelCode, cuda_of, early_minor, every_cuda, wheel_code
from envdoctor.remedy.image import image_for_driver
from envdoctor.remedy.install import change_torch
from envdoctor.remedy.machine import machine_of
from envdoctor.remedy.variables import export, look
from envdoctor.remedy.wheels import platform_of
from envdoctor.rule import Missing, Unknown, rule
from envdoctor.rules.builds import need_cuda_build
from envdoctor.rules.cards import Card, cards
from envdoctor.rules.driver_level import Driver, support_of, version_of
from envdoctor.rules.presence import need_gpu
from envdoctor.rules.versions import is_source_build

TURING, CUDA_WITH_TURING_LIBRARIES = (7, 5), (10, 0)  # pytorch/pytorch#21819 and others: cuBLAS 9 fails on Turing

MIXED = 2


class Built(msgspec.Struct, frozen=True):
    """The device code of the installed build, and what shows it. ``from_table``: not read in this build itself.

    ``candidates``: where the release is not known, the code of every published wheel of this CUDA variant.
    """

    code: Code
    evidence: tuple[Evidence, ...]
    cuda: Version
    from_table: bool = False
    candidates: tuple[Code, ...] = ()


@rule(severity=Severity.ERROR, group="torch", essential=True)
def gpu_arch_not_in_build(
    build: TorchBuild,
    driver: CudaDriver | None,
    smi: NvidiaSmi | None,
    cuda: TorchCuda | None,
    runtime: CudaRuntime | None,
    module: KernelModule | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    packages: Packages | None,
    host: Host | None,
) -> Iterator[Finding]:
    """This PyTorch has no code for a GPU of this machine.

    ## What it means
    A build carries machine code (SASS) for certain compute capabilities. Code for X.y runs on X.z where z is not
    smaller (but 5.3, 6.2, 7.2, and 8.7 before CUDA 13.2, stand alone). PTX runs on newer GPUs once it is compiled.

    ## Why it matters
    Without code the first kernel fails: "no kernel image is available for execution on the device". With PTX alone the
    first start pauses for minutes while the driver compiles (info), unless the driver is older than the build's CUDA.

    ## How it is detected
    The architecture list in torch's own library, else torch.cuda.get_arch_list(), else the table of published wheels
    for this version, CUDA and platform. Against it the compute capability that libcuda, nvidia-smi or torch names, else
    NVIDIA's list by full model name. Where no list is known, the range of that CUDA's compiler decides; where the CUDA
    of the build is not known either, that of every CUDA which this release was published for; and for early releases
    the lowest capability that they state themselves. Each GPU model is judged by itself.

    ## What to do
    Install a build that has the code: CUDA 12.8 or newer for Blackwell, the CUDA 12.6 builds of torch up to 2.14 for
    Maxwell, Pascal and Volta. For GPUs that no wheel serves, build from source or use a newer GPU.

    ## Sources
    https://docs.nvidia.com/cuda/cuda-compiler-driver-nvcc/index.html#gpu-compilation
    https://docs.nvidia.com/cuda/blackwell-compatibility-guide/
    """
    need_gpu(bus, nodes, module, smi, driver)
    found = cards(driver, smi, cuda)
    if left_out := left_out_by_all(build, found):
        card, shown = left_out
        yield _by_release(card, shown, other_wheel(Driver(driver, runtime, smi, module, host=host), packages, build))
        return
    wanted = need_cuda_build(build)
    if not found:
        raise Missing(CudaDriver)
    hand = Driver(driver, runtime, smi, module, cuda=cuda, host=host)
    built, level = _built(build, cuda, wanted, host), support_of(hand, wanted).level
    verdicts = {card: _verdict(card, built, level) for card in found}
    if all(each is None for each in verdicts.values()):
        raise Unknown(_why_unjudged(found[0], built))
    for card, verdict in verdicts.items():
        if verdict not in {None, "runs"}:
            fixes = other_wheel(hand, packages, build)
            if verdict == "none":
                fixes = (*fixes, *_image(hand, card, level))
            yield _finding(card, built, str(verdict), fixes, alone=len(found) == 1)


def left_out_by_all(build: TorchBuild, found: tuple[Card, ...]) -> tuple[Card, Evidence] | None:
    """Give a GPU that no published build of this release has code for, whichever of them this is."""
    version = numbers(build.version)
    if version is None or build.hip or build.is_cpu_only or build.arch_list or _is_own_build(build):
        return None
    early, cudas = early_minor(version), () if cuda_minor(build.cuda) else every_cuda(version)
    for card in found:
        gpu = capability(card.capability)
        if gpu and early and early.leaves_out(gpu):
            but = f", without {', '.join(map(dotted, early.without))}" if early.without else ""
            words = f"compute capability {dotted(early.least)} and above{but}"
            return card, Evidence("knowledge.torch_early", words, early.source, "", f"torch {build.version} serves")
        if gpu and cudas and all(beyond_compiler(gpu, each) for each in cudas):
            words = ", ".join(map(dotted, cudas))
            return card, Evidence("knowledge.torch_early", words, "PyTorch's releases", "", "published for CUDA")
    return None


def _is_own_build(build: TorchBuild) -> bool:
    try:
        return is_source_build(Release(build.version or ""))
    except InvalidVersion:
        return True


def _by_release(card: Card, shown: Evidence, fixes: tuple[Fix, ...]) -> Finding:
    return Finding(
        f"No published build of this PyTorch has code for the {card.name} (compute capability {card.capability})",
        evidence=(card.evidence, shown),
        fixes=fixes,
        confidence=Confidence.LIKELY,
    )


def runs_here(build: TorchBuild, found: tuple[Card, ...], host: Host | None) -> bool | None:
    """Tell whether this build has code for every one of these GPUs; None where that is not known of one."""
    wanted = cuda_minor(build.cuda)
    if wanted is None or not found:
        return None
    built = _built(build, None, wanted, host)
    verdicts = {_verdict(card, built, None) for card in found}
    return None if None in verdicts else verdicts <= {"runs", "ptx"}


def other_wheel(hand: Driver, packages: Packages | None, build: TorchBuild) -> tuple[Fix, ...]:
    """Give another published wheel that this driver starts and these GPUs have code in; none where there is none."""
    machine = machine_of(packages, hand.host, driver=hand.asked, runtime=hand.runtime, smi=hand.smi, module=hand.module)
    wheel = machine.cuda_wheel(build.version)
    if packages is None or wheel is None or wheel.tagged == build.version:
        return ()
    return change_torch(packages, wheel, installed=build.version)


def _image(hand: Driver, card: Card, level: Version | None) -> tuple[Fix, ...]:
    return image_for_driver(hand.host, version_of(hand)[0], level, (card.capability,) if card.capability else ())


def _verdict(card: Card, built: Built, level: Version | None) -> str | None:
    """Say runs, none, math (no math libraries), ptx (compiled at the first start) or ptx-refused; None: not known."""
    gpu = capability(card.capability)
    if gpu is None:
        return None
    if gpu == TURING and built.cuda < CUDA_WITH_TURING_LIBRARIES:
        return "math"
    if built.code.empty:
        return _verdict_of_all(gpu, built)
    if has_cubin(built.code, gpu, built.cuda):
        return "runs"
    if not has_ptx(built.code, gpu):
        return "none"
    return "ptx-refused" if level and level < built.cuda and level_suffices(level, built.cuda) else "ptx"


def _verdict_of_all(gpu: Capability, built: Built) -> str | None:
    """Judge a build whose code is not known: by its compiler's range, else by what all wheels of its CUDA agree on."""
    if beyond_compiler(gpu, built.cuda):
        return "none"
    verdicts = {has_cubin(each, gpu, built.cuda) or has_ptx(each, gpu) for each in built.candidates}
    return ("runs" if verdicts.pop() else "none") if len(verdicts) == 1 else None


TITLES = {
    "none": "This PyTorch has no code for the {name} (compute capability {cc})",
    "math": "This PyTorch's CUDA {cuda} has no math libraries for the {name} (compute capability {cc})",
    "ptx": "The {name} (compute capability {cc}) runs by compilation at the first start, a pause of minutes",
    "ptx-refused": "This PyTorch has only PTX for the {name} (compute capability {cc}), newer than the driver compiles",
}


def _finding(card: Card, built: Built, verdict: str, fixes: tuple[Fix, ...], *, alone: bool) -> Finding:
    name, cc = card.name or "GPU", card.capability
    return Finding(
        TITLES[verdict].format(name=name, cc=cc, cuda=dotted(built.cuda)),
        evidence=(card.evidence, *built.evidence),
        fixes=fixes,
        subject="" if alone else name,
        severity=Severity.INFO if verdict == "ptx" else None,
        confidence=Confidence.LIKELY if built.from_table or built.code.empty else Confidence.CERTAIN,
    )


def _why_unjudged(card: Card, built: Built) -> str:
    if card.capability is None:
        return f"the compute capability of {card.name or 'the GPU'} is not known"
    return (
        f"which GPUs this torch has code for is not known (CUDA {dotted(built.cuda)}, not among the published wheels)"
    )


def _built(build: TorchBuild, cuda: TorchCuda | None, wanted: Version, host: Host | None) -> Built:
    if build.arch_list:
        return Built(code_of(build.arch_list), (_listed(see(build, "arch_list", "torch has code for")),), wanted)
    if cuda and cuda.arch_list:
        return Built(code_of(cuda.arch_list), (_listed(see(cuda, "arch_list", "torch has code for")),), wanted)
    return _published(build, wanted, host) or _by_compiler(build, wanted, host)


def _listed(evidence: Evidence) -> Evidence:
    return Evidence(evidence.fact, ", ".join(evidence.value), evidence.source, evidence.freshness, evidence.label)


def _published(build: TorchBuild, wanted: Version, host: Host | None) -> Built | None:
    """Look the build up among the published wheels by version, CUDA variant and platform."""
    version = numbers(build.version)
    for row in _wheels(wanted, host):
        if version and row.torch == version[:2]:
            shown = Evidence("knowledge.torch_arch", row.text, row.source, "", "published wheel has code for")
            return Built(row.code, (shown,), wanted, from_table=True)
    return None


def _wheels(wanted: Version, host: Host | None) -> list[TorchWheelCode]:
    """Give the wheels that were published for this CUDA and platform."""
    platform = platform_of(host.machine if host else None, host.system if host else None)
    return [each for each in wheel_code() if cuda_of(each.variant) == wanted and platform in each.platforms]


def _by_compiler(build: TorchBuild, wanted: Version, host: Host | None) -> Built:
    shown = [see(build, "cuda", "torch was built with", f"CUDA {dotted(wanted)}")]
    span = compiler_range(wanted)
    if span:
        words = f"{dotted(span[0])} to {dotted(span[1])}"
        shown.append(Evidence("knowledge.cuda_arch", words, "nvcc's list of GPUs", "", "its compiler makes code for"))
    # A build of a known release that the table lacks is not a published wheel: nothing follows from those.
    candidates = () if build.version else tuple(each.code for each in _wheels(wanted, host))
    return Built(Code(), tuple(shown), wanted, from_table=True, candidates=candidates)


@rule(severity=Severity.WARNING, group="GPUs", explained_by=("gpu-arch-not-in-build",))
def mixed_gpu_models(
    build: TorchBuild,
    driver: CudaDriver | None,
    smi: NvidiaSmi | None,
    cuda: TorchCuda | None,
    runtime: CudaRuntime | None,
    module: KernelModule | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    host: Host | None,
) -> Iterator[Finding]:
    """This machine mixes GPU models, and only some of them can run this PyTorch.

    ## What it means
    The build has code for one of the models and none for another.

    ## Why it matters
    Which program fails depends on the GPU it is given. CUDA orders GPUs by speed unless CUDA_DEVICE_ORDER is
    PCI_BUS_ID, so that index 0 is often the model which does not run.

    ## How it is detected
    Each model is judged as gpu-arch-not-in-build does. Models that all run, or that all fail, are no finding here.

    ## What to do
    Show PyTorch only the GPUs that can run it, or install a build that has code for all of them.

    ## Sources
    https://docs.nvidia.com/cuda/cuda-programming-guide/05-appendices/environment-variables.html
    """
    wanted = need_cuda_build(build)
    need_gpu(bus, nodes, module, smi, driver)
    found = cards(driver, smi, cuda)
    if len(found) < MIXED:
        if not found:
            raise Missing(CudaDriver)
        return
    hand = Driver(driver, runtime, smi, module, cuda=cuda, host=host)
    built, level = _built(build, cuda, wanted, host), support_of(hand, wanted).level
    verdicts = {card: _verdict(card, built, level) for card in found}
    run = [card for card, verdict in verdicts.items() if verdict in {"runs", "ptx"}]
    fail = [card for card, verdict in verdicts.items() if verdict in {"none", "math", "ptx-refused"}]
    if run and fail:
        yield Finding(
            f"Only some of the GPUs run this PyTorch: the {_names(run)}, not the {_names(fail)}",
            evidence=(*(card.evidence for card in (*run, *fail)), *built.evidence),
            fixes=(look("See the indices, then show only GPUs that run", "nvidia-smi -L"), _by_bus()),
            confidence=Confidence.LIKELY if built.from_table or built.code.empty else Confidence.CERTAIN,
        )


def _names(found: list[Card]) -> str:
    return ", ".join(card.name or f"GPU of {card.capability}" for card in found)


def _by_bus() -> Fix:
    """Make CUDA number the GPUs as nvidia-smi does."""
    return export("Number the GPUs as nvidia-smi does, then choose", "CUDA_DEVICE_ORDER=PCI_BUS_ID")


RULES = (gpu_arch_not_in_build, mixed_gpu_models)
