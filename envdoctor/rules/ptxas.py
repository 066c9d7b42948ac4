"""The assembler that Triton brings, against the driver that is to load what it makes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from packaging.version import Version

from envdoctor.facts.driver import CudaDriver, CudaRuntime, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Environment, Host
from envdoctor.facts.libraries import Toolkit
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity
from envdoctor.knowledge.cuda import cuda_minor, numbers
from envdoctor.knowledge.ecosystem import Statement
from envdoctor.knowledge.gpus import capability
from envdoctor.knowledge.torch import releases, variant_of
from envdoctor.remedy.variables import export
from envdoctor.rule import Missing, NotApplicable, Rule, Unknown, rule
from envdoctor.rules.cards import cards
from envdoctor.rules.driver_level import Driver, raise_driver, support_of
from envdoctor.rules.needs import installed, needs, shown
from envdoctor.rules.presence import need_gpu

TRITONS = ("triton", "pytorch-triton")
BLACKWELL = (10, 0)


@rule(severity=Severity.WARNING, group="packages", explained_by=("driver-too-old-for-cuda-build",))
def triton_ptxas_driver_mismatch(
    packages: Packages | None,
    driver: CudaDriver | None,
    smi: NvidiaSmi | None,
    cuda: TorchCuda | None,
    runtime: CudaRuntime | None,
    module: KernelModule | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    environment: Environment | None,
    toolkit: Toolkit | None,
    host: Host | None,
    build: TorchBuild | None,
) -> Iterator[Finding]:
    """Triton assembles its kernels with a newer CUDA major than the driver can load.

    ## What it means
    Triton brings its own ptxas, whatever CUDA torch was built with: of CUDA 12 since 2.0, and from 3.7 on a second
    one of CUDA 13 for GPUs of compute capability 10.0 and above. What ptxas makes is machine code (a cubin).

    ## Why it matters
    torch works, and the first kernel of Triton or torch.compile fails: "Triton Error [CUDA]: device kernel image is
    invalid".

    ## How it is detected
    The CUDA of the ptxas in Triton's wheel against the CUDA level of the driver. A driver loads cubins of any minor of
    its own major, so another minor is no finding. It compiles no PTX of a newer minor, but Triton hands it none.
    Nothing is said where TRITON_PTXAS_PATH names another ptxas, nor where a CUDA of that major was seen to start.
    Where no list of packages is known, the Triton that this torch was published with is taken, and it is info.

    ## What to do
    Raise the driver, or let Triton use a ptxas of the driver's CUDA major.

    ## Sources
    https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
    https://github.com/triton-lang/triton/issues/2971
    """
    listed = [found for name in TRITONS if packages and (found := packages.find(name))]
    have = listed[0] if listed else _brought(build, packages, host)
    need_gpu(bus, nodes, module, smi, driver)
    blackwell = any((capability(each.capability) or ()) >= BLACKWELL for each in cards(driver, smi, cuda))
    row = _ptxas(have, blackwell=blackwell)
    _need_own_ptxas(environment, blackwell=blackwell)
    wanted = cuda_minor(row.value) or ()
    hand = Driver(driver, runtime, smi, module, cuda=cuda, host=host, build=build)
    support = support_of(hand, wanted)
    if support.starts is None:
        raise Unknown(support.reason)
    if not support.starts:
        level = f", whose CUDA level is {support.level[0]}.{support.level[1]}" if support.level else ""
        yield Finding(
            f"The kernels of {have.name} {have.version} are made by CUDA {wanted[0]}, too new for this driver{level}",
            evidence=(*_listed(have, packages if listed else None),
                      replace(shown(row, have, "its ptxas is of CUDA"), value=row.value),
                      *support.evidence),
            fixes=(raise_driver(hand, wanted),
                   *_other_ptxas(toolkit, support.level, blackwell=blackwell)),
            severity=None if listed else Severity.INFO,
            confidence=support.confidence if listed else Confidence.POSSIBLE,
            affects=("triton", "torch.compile"),
        )  # fmt: skip


def _brought(build: TorchBuild | None, packages: Packages | None, host: Host | None) -> Distribution:
    """Give the oldest Triton that a torch of this release, or of this CUDA, was published with; else end the rule."""
    if packages and packages.distributions:
        raise NotApplicable("Triton is not installed")
    if build is None or not (build.version or build.cuda) or (host and host.system not in {None, "Linux"}):
        raise Missing(Packages)
    version, variant = numbers(build.version), variant_of(build.cuda or "")
    fit = [
        each.triton
        for each in releases()
        if (each.version.release == version if version else variant in (*each.variants, *each.extra_variants))
    ]
    if not fit or not all(fit):
        raise Missing(Packages)
    return Distribution("triton", min((each.lstrip("=~") for each in fit), key=Version))


def _listed(have: Distribution, packages: Packages | None) -> tuple[Evidence, ...]:
    if packages:
        return (installed(packages, have),)
    return (Evidence("knowledge.torch_releases", have.version, "torch's own pin", "", "torch brings Triton"),)


def _ptxas(have: Distribution, *, blackwell: bool) -> Statement:
    named = replace(have, name="triton")
    found = (needs(named, "ptxas_blackwell") if blackwell else ()) or needs(named, "ptxas")
    if not found:
        raise Unknown(f"which ptxas {have.name} {have.version} brings is not known")
    return found[0]


def _need_own_ptxas(environment: Environment | None, *, blackwell: bool) -> None:
    names = ("TRITON_PTXAS_BLACKWELL_PATH", "TRITON_PTXAS_PATH") if blackwell else ("TRITON_PTXAS_PATH",)
    for name in names:
        if environment and environment.get(name):
            raise Unknown(f"{name} names another ptxas, whose version is not known")


def _other_ptxas(toolkit: Toolkit | None, level: tuple[int, ...] | None, *, blackwell: bool) -> tuple[Fix, ...]:
    """Point Triton at the ptxas beside an nvcc that this driver loads the code of."""
    if toolkit is None or level is None:
        return ()
    name = "TRITON_PTXAS_BLACKWELL_PATH" if blackwell else "TRITON_PTXAS_PATH"
    fit = [each.path for each in toolkit.nvcc if (cuda_minor(each.version) or (99,))[0] <= level[0]]
    there = [path.removesuffix("nvcc") + "ptxas" for path in fit if path.endswith("/nvcc")]
    return (export("Or let Triton use the ptxas of an older toolkit", f"{name}={there[0]}"),) if there else ()


RULES: tuple[Rule, ...] = (triton_ptxas_driver_mismatch,)
