"""Where the GPU lies beside the build in time: newer than its compiler at run time, or left behind by new releases."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, NvidiaSmi
from envdoctor.facts.host import Host
from envdoctor.facts.libraries import LedgerRow, Libraries
from envdoctor.facts.packages import Packages
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Command, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.knowledge.cuda import Version, cuda_minor, dotted
from envdoctor.knowledge.gpus import Capability, capability, compiler_range, last_driver_branch
from envdoctor.knowledge.torch import TorchWheelCode, cuda_of, wheel_code
from envdoctor.remedy.wheels import platform_of
from envdoctor.rule import Missing, Rule, Unknown, rule
from envdoctor.rules.arch import other_wheel
from envdoctor.rules.builds import need_cuda_build
from envdoctor.rules.cards import Card, cards
from envdoctor.rules.driver_level import Driver


@rule(severity=Severity.INFO, group="torch")
def gpu_newer_than_bundled_nvrtc(
    build: TorchBuild,
    libraries: Libraries | None,
    driver: CudaDriver | None,
    smi: NvidiaSmi | None,
    cuda: TorchCuda | None,
    packages: Packages | None,
    host: Host | None,
) -> Iterator[Finding]:
    """The GPU is newer than the run-time compiler that this PyTorch brings.

    ## What it means
    PyTorch compiles some kernels while it runs, with the NVRTC of its own CUDA. That NVRTC does not know this GPU.

    ## Why it matters
    Ready-made kernels may still run. Those made at run time (jiterator, TorchScript fusion) fail with "invalid value
    for --gpu-architecture".

    ## How it is detected
    The newest GPU that NVRTC's CUDA version makes code for, against the compute capability of the GPUs. It is info
    until a program is seen to fail by it.

    ## What to do
    Install a PyTorch that is built with a newer CUDA. Where it is Triton's ptxas that does not know the GPU, let Triton
    call that of a newer toolkit: TRITON_PTXAS_PATH, and TRITON_PTXAS_BLACKWELL_PATH for Blackwell.

    ## Sources
    https://github.com/pytorch/pytorch/issues/47658
    https://docs.nvidia.com/cuda/nvrtc/
    """
    wanted = need_cuda_build(build)
    found = _known_cards(driver, smi, cuda)
    version, shown = _nvrtc(build, libraries, wanted)
    span = compiler_range(version)
    if span is None:
        raise Unknown(f"which GPUs the NVRTC of CUDA {dotted(version)} knows is not in the table")
    for card, gpu in found:
        if gpu > span[1]:
            newest = Evidence("knowledge.cuda_arch", dotted(span[1]), "nvcc's list of GPUs", "", "newest GPU it knows")
            name = card.name or "GPU"
            yield Finding(
                f"The NVRTC of CUDA {dotted(version)} does not know the {name} (compute capability {card.capability})",
                evidence=(card.evidence, shown, newest),
                fixes=other_wheel(Driver(driver, smi=smi, cuda=cuda, host=host), packages, build),
                subject=name if len(found) > 1 else "",
            )


def _known_cards(
    driver: CudaDriver | None, smi: NvidiaSmi | None, cuda: TorchCuda | None
) -> list[tuple[Card, Capability]]:
    """Give the GPU models with their compute capability, or end the rule with the reason."""
    found = cards(driver, smi, cuda)
    if not found:
        raise Missing(CudaDriver)
    known = [(card, gpu) for card in found if (gpu := capability(card.capability))]
    if not known:
        raise Unknown(f"the compute capability of {found[0].name or 'the GPU'} is not known")
    return known


def _nvrtc(build: TorchBuild, libraries: Libraries | None, wanted: Version) -> tuple[Version, Evidence]:
    """Give NVRTC's CUDA version: of the copy that would be loaded, else the one torch was built with."""
    row: LedgerRow | None = libraries.row("nvrtc") if libraries else None
    told = row.first.version if row and row.first else None
    found = cuda_minor(told or (row.installed_version if row else None))
    if libraries and row and found:
        return found, Evidence("libraries.rows[nvrtc]", dotted(found), "loader's search order", "", "NVRTC of CUDA")
    return wanted, see(build, "cuda", "torch was built with", f"CUDA {dotted(wanted)}")


@rule(severity=Severity.INFO, group="torch")
def torch_cuda_no_longer_built(
    build: TorchBuild,
    driver: CudaDriver | None,
    smi: NvidiaSmi | None,
    cuda: TorchCuda | None,
    host: Host | None,
) -> Iterator[Finding]:
    """The newest PyTorch has no published build for this GPU any more.

    ## What it means
    NVIDIA's compilers and PyTorch's wheels leave old GPUs behind. Up to a certain release there is a build that has
    code for this one.

    ## Why it matters
    It works now. A later "pip install --upgrade torch" ends with "no kernel image is available".

    ## How it is detected
    The table of published wheels for this platform: the newest release has no variant with code for the GPU, an older
    one has. A GPU that no wheel ever served is another finding.

    ## What to do
    Pin torch to the last release that serves the GPU.

    ## Sources
    https://github.com/pytorch/pytorch/blob/main/RELEASE.md
    """
    need_cuda_build(build)
    found = _known_cards(driver, smi, cuda)
    platform = platform_of(host.machine if host else None, host.system if host else None)
    alike = {platform, "linux-x86_64"} if platform == "windows" else {platform}  # one matrix of variants for x86-64
    wheels = [each for each in wheel_code() if alike.intersection(each.platforms)]
    newest = max((each.torch for each in wheels), default=())
    for card, gpu in found:
        serving = [each for each in wheels if card.capability and each.runs_on(card.capability)]
        last = max((each.torch for each in serving), default=())
        if not last or last == newest or gpu > max(each for wheel in wheels for each in wheel.code.cubins):
            continue
        yield _last_build(card, build, [each for each in serving if each.torch == last], newest, alone=len(found) == 1)


def _last_build(
    card: Card, build: TorchBuild, last: list[TorchWheelCode], newest: tuple[int, ...], *, alone: bool
) -> Finding:
    best = max(last, key=lambda each: cuda_of(each.variant))
    words = f"torch {dotted(best.torch)} for CUDA {dotted(cuda_of(best.variant))}"
    branch = last_driver_branch(card.capability or "")
    shown = Evidence("knowledge.torch_arch", words, best.source, "", "last published build with code")
    ends = f" Driver branch {branch} is the last that serves it." if branch else ""
    return Finding(
        f"{words} is the last build for the {card.name or 'GPU'} (compute capability {card.capability})",
        f"torch {dotted(newest)} has no build with code for it.{ends}",
        evidence=(card.evidence, shown, *_installed(build)),
        fixes=(_pin(best.torch),),
        subject="" if alone else card.name,
    )


def _installed(build: TorchBuild) -> tuple[Evidence, ...]:
    return (see(build, "version", "installed torch"),) if build.version else ()


def _pin(last: tuple[int, ...]) -> Fix:
    command = Command(None, f"echo 'torch<{last[0]}.{last[1] + 1}' >> constraints.txt")
    title = "Keep torch below the next release: a constraint for pip install -c constraints.txt"
    return Fix(title, (command,), Safety.SAFE, "a file in the working directory")


RULES: tuple[Rule, ...] = (gpu_newer_than_bundled_nvrtc, torch_cuda_no_longer_built)
