"""What companions of torch need beside it: a GPU that is new enough, a CUDA major, a driver, an operating system."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from envdoctor.facts.driver import CudaDriver, CudaRuntime, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Environment, Host
from envdoctor.facts.libraries import Extensions, Libraries, Toolkit
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.knowledge import cells, rows
from envdoctor.knowledge.cuda import branch_to_install, cuda_minor, numbers
from envdoctor.knowledge.gpus import capability
from envdoctor.remedy import repair
from envdoctor.remedy.driver import install_driver
from envdoctor.remedy.install import install
from envdoctor.remedy.installer import installer_for
from envdoctor.remedy.pair import fit_torch
from envdoctor.remedy.variables import administer, export, look, unset
from envdoctor.rule import Missing, NotApplicable, Unknown, rule
from envdoctor.rules.builds import need_cuda_build
from envdoctor.rules.cards import Card, cards
from envdoctor.rules.driver_level import Driver, support_of
from envdoctor.rules.mixtures import SUFFIX
from envdoctor.rules.presence import has_gpu, need_gpu
from envdoctor.rules.versions import cuda_of_distribution, parsed

TRITONS = ("triton", "pytorch-triton")
BLACKWELL = (10, 0)
TORCH_OF_CONDA = ("pytorch", "libtorch")
PAIRED_BY_CONDA = ("libtorch", "torchvision", "torchaudio", "torchtext", "pytorch-cuda")
CUDA_OF_CONDA = ("cudatoolkit", "pytorch-cuda", "cuda-toolkit")
BNB_BY_TORCH = Version("0.43")  # before, it looked for a libcudart on the path
BNB_TAKES_A_NEIGHBOUR = Version("0.50")  # from here on another minor of the same major is taken
CUDNN_9_SINCE, CUDNN_8_UNTIL = Version("1.19"), Version("1.18.1")  # onnxruntime; 1.18.1 itself came with both
ONNXRUNTIME_FOR = {11: "onnxruntime-gpu<1.19", 12: "onnxruntime-gpu>=1.19,<1.23"}  # on PyPI, by CUDA major
DALI = re.compile(r"nvidia-dali-cuda(?P<major>1\d)0$")
TENSORRT = re.compile(r"tensorrt-cu(?P<major>1\d)$")
MAJORS_ON_OFFER = {12, 13}  # for which NVIDIA publishes DALI and TensorRT


@dataclass(frozen=True, slots=True)
class Need:
    """One row of the table: what the releases of a package need, in the column's own words."""

    releases: SpecifierSet
    value: str
    note: str
    source: str

    def shown(self, have: Distribution, label: str = "") -> Evidence:
        """Make the row evidence about a distribution."""
        words = label or f"{have.name} {have.version} needs"
        return Evidence("knowledge.ecosystem", self.note or self.value, self.source, "", words)


def needs(have: Distribution, kind: str) -> tuple[Need, ...]:
    """Give the rows of one kind that speak about this release."""
    version = Version(parsed(have.version, have.name).base_version)
    return tuple(each for each in _rows(have.name, kind) if version in each.releases)


def _rows(name: str, kind: str) -> tuple[Need, ...]:
    return tuple(
        Need(SpecifierSet(row["version"]), row["other_requires"], row["note"], row["source"])
        for row in rows("ecosystem.csv")
        if row["package"] == name and row["kind"] == kind
    )


def _installed(packages: Packages, have: Distribution) -> Evidence:
    return see(packages, "distributions", have.name, have.version)


@rule(severity=Severity.WARNING, group="packages", explained_by=("gpu-arch-not-in-build",))
def gpu_too_old_for_package(
    packages: Packages,
    driver: CudaDriver | None,
    smi: NvidiaSmi | None,
    cuda: TorchCuda | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
) -> Iterator[Finding]:
    """A GPU is older than the oldest that an installed package serves.

    ## What it means
    The project behind the package states a lowest compute capability, and a GPU here is below it. torch itself may
    serve the GPU well.

    ## Why it matters
    "FlashAttention only supports Ampere GPUs or newer", or "no kernel image is available for execution on the device",
    as soon as the package's kernels are called. It is info where only one feature of the package needs more.

    ## How it is detected
    The minimum that the project's own documentation states for this release, against the compute capability that
    libcuda, nvidia-smi or torch names, else NVIDIA's list by full model name. A package without a stated minimum is
    not judged: see `extension-arch-missing` for what its files hold.

    ## What to do
    Use torch's own scaled_dot_product_attention in place of flash-attn, a release that serves the GPU, or a newer GPU.

    ## Sources
    https://github.com/Dao-AILab/flash-attention#installation-and-features
    https://docs.vllm.ai/en/v0.14.0/getting_started/installation/gpu/
    https://huggingface.co/docs/bitsandbytes/v0.50.0/installation
    """
    kinds = ("gpu_min", "gpu_min_feature")
    known = [(have, kind, row) for have in packages.distributions for kind in kinds for row in _of(have, kind)]
    if not known:
        raise NotApplicable("no package with a stated minimum is installed")
    need_gpu(bus, nodes, module, smi, driver)
    found = cards(driver, smi, cuda)
    if not any(each.capability for each in found):
        raise Missing(CudaDriver)
    accused: set[str] = set()
    for have, kind, row in known:
        old = [card for card in found if _below(card, row)]
        if old and have.name not in accused:
            accused.add(have.name)
            yield _too_old(packages, have, row, old, some=len(old) < len(found), feature=kind != "gpu_min")


def _of(have: Distribution, kind: str) -> tuple[Need, ...]:
    """Look a distribution up only where the table knows its name: other versions may be no versions at all."""
    return needs(have, kind) if _rows(have.name, kind) else ()


def _below(card: Card, row: Need) -> bool:
    gpu, least = capability(card.capability), capability(row.value)
    return gpu is not None and least is not None and gpu < least


def _too_old(
    packages: Packages, have: Distribution, row: Need, old: list[Card], *, some: bool, feature: bool
) -> Finding:
    what = f"{row.note} of {have.name} {have.version}" if feature else f"{have.name} {have.version}"
    name = old[0].name or "GPU"
    shown = replace(row.shown(have), value=f"compute capability {row.value} or higher ({row.note})")
    return Finding(
        f"The {name} (compute capability {old[0].capability}) is older than {what} serves, {row.value}",
        "The rest of the package works." if feature else "",
        evidence=(*(card.evidence for card in old), _installed(packages, have), shown),
        fixes=_around_old(packages, have, old, some=some, feature=feature),
        subject=have.name,
        severity=Severity.INFO if feature else None,
        affects=(have.name,),
    )


def _around_old(
    packages: Packages, have: Distribution, old: list[Card], *, some: bool, feature: bool
) -> tuple[Fix, ...]:
    indices = (look("See the indices, then show only the newer GPUs (CUDA_VISIBLE_DEVICES)", "nvidia-smi -L"),)
    if feature:
        return indices if some else (look("See what this bitsandbytes can do here", "python -m bitsandbytes"),)
    later = next((each for each in _rows(have.name, "gpu_min") if not any(_below(card, each) for card in old)), None)
    if later and all(each.operator == ">=" for each in later.releases):
        return (install(packages, (f"{have.name}{later.releases}",), title=f"Install {have.name}{later.releases}"),)
    return (*(indices if some else ()), *repair.without(packages, (have.name,), ()))


@rule(severity=Severity.WARNING, group="packages", explained_by=("driver-too-old-for-cuda-build",))
def triton_ptxas_driver_mismatch(
    packages: Packages,
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
    Nothing is said where TRITON_PTXAS_PATH names another ptxas.

    ## What to do
    Raise the driver, or let Triton use a ptxas of the driver's CUDA major.

    ## Sources
    https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
    https://github.com/triton-lang/triton/issues/2971
    """
    have = next((found for name in TRITONS if (found := packages.find(name))), None)
    if have is None:
        raise NotApplicable("Triton is not installed")
    need_gpu(bus, nodes, module, smi, driver)
    blackwell = any((capability(each.capability) or ()) >= BLACKWELL for each in cards(driver, smi, cuda))
    row = _ptxas(have, blackwell=blackwell)
    _need_own_ptxas(environment, blackwell=blackwell)
    wanted = cuda_minor(row.value) or ()
    support = support_of(Driver(driver, runtime, smi, module, cuda=cuda, host=host), wanted)
    if support.starts is None:
        raise Unknown(support.reason)
    if not support.starts:
        level = f", whose CUDA level is {support.level[0]}.{support.level[1]}" if support.level else ""
        yield Finding(
            f"The kernels of {have.name} {have.version} are made by CUDA {wanted[0]}, too new for this driver{level}",
            evidence=(_installed(packages, have), replace(row.shown(have, "its ptxas is of CUDA"), value=row.value),
                      *support.evidence),
            fixes=(install_driver(host, branch_to_install(wanted), verb="Raise"),
                   *_other_ptxas(toolkit, support.level, blackwell=blackwell)),
            confidence=support.confidence,
            affects=("triton", "torch.compile"),
        )  # fmt: skip


def _ptxas(have: Distribution, *, blackwell: bool) -> Need:
    named = replace(have, name="triton")
    found = (needs(named, "ptxas_blackwell") if blackwell else ()) or needs(named, "ptxas")
    if not found:
        raise Unknown(f"which ptxas {have.name} {have.version} brings is not known")
    return found[0]


def _variable(environment: Environment | None, name: str) -> str:
    return next((each.value for each in environment.variables if each.name == name), "") if environment else ""


def _need_own_ptxas(environment: Environment | None, *, blackwell: bool) -> None:
    names = ("TRITON_PTXAS_BLACKWELL_PATH", "TRITON_PTXAS_PATH") if blackwell else ("TRITON_PTXAS_PATH",)
    for name in names:
        if _variable(environment, name):
            raise Unknown(f"{name} names another ptxas, whose version is not known")


def _other_ptxas(toolkit: Toolkit | None, level: tuple[int, ...] | None, *, blackwell: bool) -> tuple[Fix, ...]:
    """Point Triton at the ptxas beside an nvcc that this driver loads the code of."""
    if toolkit is None or level is None:
        return ()
    name = "TRITON_PTXAS_BLACKWELL_PATH" if blackwell else "TRITON_PTXAS_PATH"
    fit = [each.path for each in toolkit.nvcc if (cuda_minor(each.version) or (99,))[0] <= level[0]]
    there = [path.removesuffix("nvcc") + "ptxas" for path in fit if path.endswith("/nvcc")]
    return (export("Or let Triton use the ptxas of an older toolkit", f"{name}={there[0]}"),) if there else ()


@rule(severity=Severity.WARNING, group="packages")
def conda_channel_mix(
    packages: Packages,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    smi: NvidiaSmi | None,
    driver: CudaDriver | None,
) -> Iterator[Finding]:
    """Conda took torch and what belongs to it from different channels.

    ## What it means
    Each channel builds torch its own way. A torchvision of one channel is linked against that channel's torch. And a
    CUDA toolkit of one channel does not make the CPU build of another one use a GPU.

    ## Why it matters
    "undefined symbol" at import, or a CPU build where CUDA was asked for. Without a GPU the second is info.

    ## How it is detected
    The channel in conda's records (conda-meta) of torch and of the packages that are built against it, and torch's own
    build string beside CUDA packages of another channel. A package whose channel is not recorded is not judged.

    ## What to do
    Take all of them from one channel, by name: `conda-forge::pytorch`.

    ## Sources
    https://docs.conda.io/projects/conda/en/latest/user-guide/tasks/manage-channels.html
    """
    owned = {each.name: each for each in packages.distributions if each.source == "conda"}
    torch = next((owned[name] for name in TORCH_OF_CONDA if name in owned), None)
    if torch is None:
        raise NotApplicable("conda did not bring torch")
    if not torch.channel:
        raise Unknown("the channel that torch came from is not recorded")
    foreign = [each for each in owned.values() if each.channel and _channel(each) != _channel(torch)]
    built = [each for each in foreign if each.name in PAIRED_BY_CONDA and each.name not in CUDA_OF_CONDA]
    asked = [each for each in foreign if each.name in CUDA_OF_CONDA and cuda_of_distribution(torch) == "cpu"]
    if built or asked:
        idle = not built and not has_gpu(bus, nodes, module, smi, driver)
        yield _mixed(packages, torch, (*built, *asked), idle=idle)


def _channel(each: Distribution) -> str:
    """Name a channel as a person does: the parts of ``defaults`` are one channel."""
    name = each.channel.rpartition("::")[0] or each.channel
    name = re.sub(r"/(linux-\w+|noarch|win-64|osx-\w+)$", "", name)
    return "defaults" if name.startswith(("pkgs/", "anaconda", "defaults")) else name.rpartition("/")[2] or name


def _mixed(packages: Packages, torch: Distribution, others: tuple[Distribution, ...], *, idle: bool) -> Finding:
    names = ", ".join(f"{each.name} ({_channel(each)})" for each in others[:3])
    return Finding(
        f"conda took {torch.name} {torch.version} from {_channel(torch)}, and {names} from elsewhere",
        evidence=tuple(
            see(packages, "distributions", each.name, f"{each.version} {each.build} from {each.channel}")
            for each in (torch, *others[:3])
        ),
        fixes=repair.fresh_environment(packages),
        severity=Severity.INFO if idle else None,
        confidence=Confidence.LIKELY,
        affects=tuple(each.name for each in others),
    )


@rule(severity=Severity.ERROR, group="packages", explained_by=("torch-cpu-only-on-gpu-machine",))
def bitsandbytes_cuda_binary_missing(
    packages: Packages, build: TorchBuild, environment: Environment | None
) -> Iterator[Finding]:
    """This bitsandbytes has no library for the CUDA that torch was built with.

    ## What it means
    bitsandbytes carries one library for each CUDA version, libbitsandbytes_cuda124.so and so on, and loads the one of
    torch's CUDA, or the one that BNB_CUDA_VERSION names. From 0.50 on another minor of the same major will do.

    ## Why it matters
    "Could not find the bitsandbytes CUDA binary" or "Required library version not found": nothing of it runs on a GPU.

    ## How it is detected
    The names of the libraries in the package against torch/version.py, or against BNB_CUDA_VERSION where it is set.

    ## What to do
    Install a newer bitsandbytes, or unset BNB_CUDA_VERSION.

    ## Sources
    https://huggingface.co/docs/bitsandbytes/main/en/installation
    bitsandbytes/cextension.py, get_cuda_bnb_library_path() of 0.43.3 and 0.50.0
    """
    have = packages.find("bitsandbytes")
    if have is None:
        raise NotApplicable("bitsandbytes is not installed")
    ours = need_cuda_build(build)
    carried = {found for each in re.findall(r"CUDA (\d+\.\d+)", have.built_for) if (found := cuda_minor(each))}
    if not carried:
        raise Unknown("which CUDA libraries this bitsandbytes carries is not known")
    version = parsed(have.version, have.name)
    told = _variable(environment, "BNB_CUDA_VERSION")
    wanted = (int(told[:-1]), int(told[-1])) if re.fullmatch(r"\d{2,3}", told) else ours
    near = not told and version >= BNB_TAKES_A_NEIGHBOUR and any(each[0] == wanted[0] for each in carried)
    if wanted in carried or near:
        return
    yield Finding(
        f"bitsandbytes {have.version} has no library for CUDA {wanted[0]}.{wanted[1]}",
        evidence=(see(packages, "distributions", "bitsandbytes has libraries for", have.built_for),
                  _named(environment, told) if told and environment else see(build, "cuda", "torch was built with")),
        fixes=(unset("BNB_CUDA_VERSION"),) if told else (_newer_bitsandbytes(packages),),
        confidence=Confidence.CERTAIN if version >= BNB_BY_TORCH else Confidence.LIKELY,
        affects=("bitsandbytes",),
    )  # fmt: skip


def _named(environment: Environment, told: str) -> Evidence:
    return see(environment, "variables", "BNB_CUDA_VERSION", told)


def _newer_bitsandbytes(packages: Packages) -> Fix:
    spec = f"bitsandbytes>={BNB_TAKES_A_NEIGHBOUR}"
    return install(packages, (spec,), title="Install a bitsandbytes that takes any minor of torch's CUDA")


@rule(severity=Severity.ERROR, group="packages", explained_by=("onnxruntime-cpu-shadows-gpu",))
def onnxruntime_cuda_mismatch(
    packages: Packages, build: TorchBuild | None, toolkit: Toolkit | None, libraries: Libraries | None
) -> Iterator[Finding]:
    """This onnxruntime-gpu needs another CUDA or cuDNN major than there is here.

    ## What it means
    onnxruntime-gpu is built for one CUDA major and one cuDNN major and loads both from what is installed: 11 and 8 up
    to 1.18, 12 and 9 from 1.19 on, where the package came from PyPI.

    ## Why it matters
    "libcudnn.so.9: cannot open shared object file" or "Failed to create CUDAExecutionProvider. Require cuDNN 9.* and
    CUDA 12.*", and everything runs on the CPU.

    ## How it is detected
    The CUDA in its own build record, else what the project states for the release, against torch's CUDA, the nvidia-*
    wheels and the toolkits here. The cuDNN it needs follows from release and CUDA. It is looked up among the wheels,
    the libraries that torch would load, and the headers outside.

    ## What to do
    Install the onnxruntime-gpu of this CUDA major, or let it bring its own CUDA and cuDNN.

    ## Sources
    https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html#requirements
    """
    have = packages.find("onnxruntime-gpu")
    if have is None:
        raise NotApplicable("onnxruntime-gpu is not installed")
    wanted, shown = _cuda_of_onnxruntime(packages, have)
    majors = cuda_here(packages, build, toolkit)
    cudnn = _cudnn_here(packages, toolkit, libraries)
    if not majors and not cudnn:
        raise Unknown("no CUDA library is known that it could use")
    needs_cudnn = _cudnn_of_onnxruntime(parsed(have.version, have.name), wanted)
    lacks_cuda = bool(majors) and wanted not in majors
    lacks_cudnn = bool(cudnn) and needs_cudnn is not None and needs_cudnn not in cudnn
    if lacks_cuda or lacks_cudnn:
        there = majors if lacks_cuda else cudnn
        what = f"CUDA {wanted}" if lacks_cuda else f"cuDNN {needs_cudnn}"
        seen = f"{'CUDA' if lacks_cuda else 'cuDNN'} {' and '.join(str(each) for each in sorted(there))}"
        yield Finding(
            f"onnxruntime-gpu {have.version} needs {what}, here is {seen}",
            evidence=(_installed(packages, have), shown, *there.values()),
            fixes=_fitting_onnxruntime(packages, build, wanted, majors, lacks_cuda=lacks_cuda),
            confidence=Confidence.LIKELY,
            affects=("onnxruntime-gpu",),
        )


def _cuda_of_onnxruntime(packages: Packages, have: Distribution) -> tuple[int, Evidence]:
    said = re.search(r"CUDA (\d+)", have.built_for)
    if said:
        return int(said[1]), see(packages, "distributions", "onnxruntime-gpu is built for", have.built_for)
    found = needs(have, "cuda_default")
    if not found:
        raise Unknown(f"which CUDA onnxruntime-gpu {have.version} is built for is not known")
    return int(found[0].value.partition(".")[0]), found[0].shown(have)


def _cudnn_of_onnxruntime(version: Version, cuda: int) -> int | None:
    if cuda == 11 or version < CUDNN_8_UNTIL:
        return 8
    return 9 if version >= CUDNN_9_SINCE else None


def _cudnn_here(packages: Packages, toolkit: Toolkit | None, libraries: Libraries | None) -> dict[int, Evidence]:
    """Give the cuDNN majors that are here, and what shows each."""
    found: dict[int, Evidence] = {}
    for each in packages.distributions:
        if re.match(r"(nvidia-cudnn-cu1\d|cudnn)$", each.name) and (major := _major(each.version)):
            found.setdefault(major, _installed(packages, each))
    for row in libraries.rows if libraries else ():
        major = _major(row.soname.rpartition(".")[2]) if row.name == "cudnn" else None
        if major and (row.first or row.bundled):
            found.setdefault(major, Evidence("libraries.rows", row.soname, "loader's search order", "", "cuDNN"))
    for copy in toolkit.cudnn_headers if toolkit else ():
        if major := _major(copy.version):
            found.setdefault(major, Evidence("toolkit.cudnn_headers", copy.version, copy.path, "", "cuDNN"))
    return found


def _fitting_onnxruntime(
    packages: Packages, build: TorchBuild | None, wanted: int, majors: dict[int, Evidence], *, lacks_cuda: bool
) -> tuple[Fix, ...]:
    own = install(
        packages, ("onnxruntime-gpu[cuda,cudnn]>=1.21",), title="Install onnxruntime-gpu with its own CUDA and cuDNN"
    )
    if lacks_cuda:
        spec = ONNXRUNTIME_FOR.get(next(iter(majors))) if len(majors) == 1 else None
        title = f"Install the onnxruntime-gpu of this CUDA: {spec}"
        return (install(packages, (spec,), title=title),) if spec else (own,)
    return (own, *fit_torch(packages, SpecifierSet(">=2.4"), build)) if wanted >= 12 else (own,)


def _major(text: str | None) -> int | None:
    found = numbers(text)
    return found[0] if found else None


def cuda_here(packages: Packages, build: TorchBuild | None, toolkit: Toolkit | None) -> dict[int, Evidence]:
    """Give the majors of the CUDA libraries that a package could find: torch's, wheels', toolkits', conda's."""
    found: dict[int, Evidence] = {}
    if build and build.cuda and (major := _major(build.cuda)):
        found[major] = see(build, "cuda", "torch was built with", f"CUDA {build.cuda}")
    for each in packages.distributions:
        match = SUFFIX.match(each.name)
        plain = each.name in {"nvidia-cuda-runtime", "cuda-toolkit", "cudatoolkit", "cuda-cudart"}
        major = int(match["major"]) if match else _major(each.version) if plain else None
        if major:
            found.setdefault(major, _installed(packages, each))
    for nvcc in toolkit.nvcc if toolkit else ():
        if major := _major(nvcc.version):
            found.setdefault(major, Evidence("toolkit.nvcc", f"{nvcc.version} ({nvcc.path})", nvcc.path, "", "toolkit"))
    return found


@rule(severity=Severity.WARNING, group="packages")
def dali_cuda_mismatch(
    packages: Packages,
    build: TorchBuild | None,
    toolkit: Toolkit | None,
    driver: CudaDriver | None,
    smi: NvidiaSmi | None,
    module: KernelModule | None,
    host: Host | None,
) -> Iterator[Finding]:
    """This DALI is for another CUDA major than the driver or the libraries here.

    ## What it means
    DALI is published for each CUDA major under a name of its own, nvidia-dali-cuda120 and nvidia-dali-cuda130. It loads
    CUDA's libraries of that major from what is installed, and needs a driver that starts it.

    ## Why it matters
    "CUDA driver version is insufficient", or a library such as libnvjpeg.so.12 that cannot be opened.

    ## How it is detected
    The major in the distribution's name against the CUDA level of the driver, and against the CUDA of torch, of the
    nvidia-* wheels and of the toolkits here.

    ## What to do
    Install the DALI of torch's CUDA major.

    ## Sources
    https://docs.nvidia.com/deeplearning/dali/user-guide/docs/installation.html
    """
    hand = Driver(driver, None, smi, module, host=host)
    yield from _by_name(packages, DALI, "nvidia-dali-cuda{}0", hand, cuda_here(packages, build, toolkit))


@rule(severity=Severity.WARNING, group="packages")
def tensorrt_cuda_mismatch(
    packages: Packages,
    build: TorchBuild | None,
    toolkit: Toolkit | None,
    driver: CudaDriver | None,
    smi: NvidiaSmi | None,
    module: KernelModule | None,
    host: Host | None,
) -> Iterator[Finding]:
    """This TensorRT is for another CUDA major than the driver or the libraries here.

    ## What it means
    TensorRT is published for each CUDA major: tensorrt-cu12, tensorrt-cu13. `tensorrt` alone takes the newest major,
    whatever CUDA torch has.

    ## Why it matters
    "CUDA initialization failure with error: 35", or a library of CUDA that cannot be opened.

    ## How it is detected
    The major in the distribution's name against the CUDA level of the driver, and against the CUDA of torch, of the
    nvidia-* wheels and of the toolkits here. The wheel of its own runtime that TensorRT declares counts among them.

    ## What to do
    Install the TensorRT of torch's CUDA major.

    ## Sources
    https://docs.nvidia.com/deeplearning/tensorrt/latest/installing-tensorrt/installing.html
    """
    hand = Driver(driver, None, smi, module, host=host)
    yield from _by_name(packages, TENSORRT, "tensorrt-cu{}", hand, cuda_here(packages, build, toolkit))


def _by_name(
    packages: Packages, pattern: re.Pattern[str], name: str, hand: Driver, majors: dict[int, Evidence]
) -> Iterator[Finding]:
    """Judge each distribution that carries its CUDA major in its name."""
    found = [(each, int(match["major"])) for each in packages.distributions if (match := pattern.match(each.name))]
    if not found:
        raise NotApplicable(f"{name.partition('-cu')[0]} is not installed under a name that tells its CUDA")
    for have, major in found:
        support = support_of(hand, (major, 0))
        if support.starts is not False and (not majors or major in majors):
            continue
        old = support.starts is False
        fitting = next((each for each in majors if each in MAJORS_ON_OFFER and each != major), None)
        yield Finding(
            f"{have.name} {have.version} needs CUDA {major}, "
            + ("newer than this driver" if old else f"here is CUDA {' and '.join(str(each) for each in majors)}"),
            evidence=(_installed(packages, have), *(support.evidence if old else majors.values())),
            fixes=_in_its_place(packages, have, name.format(fitting)) if fitting
            else (install_driver(hand.host, branch_to_install((major, 0)), verb="Raise"),) if old
            else repair.without(packages, (have.name,), ()),
            subject=have.name,
            confidence=support.confidence if old else Confidence.LIKELY,
            affects=(have.name,),
        )  # fmt: skip


def _in_its_place(packages: Packages, have: Distribution, name: str) -> tuple[Fix, ...]:
    then = install(packages, (name,), title=f"Install {name} in place of {have.name}")
    gone = () if installer_for(packages).elsewhere else (installer_for(packages).uninstall((have.name,)),)
    return (replace(then, commands=(*gone, *then.commands)),)


@rule(severity=Severity.INFO, group="packages", explained_by=("cuda-toolkit-torch-mismatch", "cuda-home-wrong"))
def deepspeed_ops_unbuildable(
    packages: Packages, build: TorchBuild, toolkit: Toolkit, extensions: Extensions | None, host: Host | None
) -> Iterator[Finding]:
    """DeepSpeed could not compile its operators here.

    ## What it means
    DeepSpeed compiles its CUDA operators when they are first used (FusedAdam, CPUAdam, the inference kernels), with
    the nvcc of this machine. There is none, or one of another CUDA major than torch's.

    ## Why it matters
    "CUDA_HOME does not exist, unable to compile CUDA op(s)", or "Installed CUDA version does not match the version
    torch was compiled with". What needs no such operator works: ZeRO with torch's own optimizers does.

    ## How it is detected
    The nvcc that torch would take against torch/version.py. A DeepSpeed that carries compiled operators is not judged.

    ## What to do
    Install the CUDA toolkit of torch's CUDA, or point CUDA_HOME at it.

    ## Sources
    https://www.deepspeed.ai/tutorials/advanced-install/
    """
    have = packages.find("deepspeed")
    if have is None:
        raise NotApplicable("DeepSpeed is not installed")
    wanted = need_cuda_build(build)
    if extensions and any(each.distribution == "deepspeed" for each in extensions.extensions):
        return
    if "nvcc" in toolkit.unknown:
        raise Unknown(toolkit.unknown["nvcc"])
    nvcc = toolkit.nvcc[0] if toolkit.nvcc else None
    if nvcc and _major(nvcc.version) in {None, wanted[0]}:
        return
    words = f"nvcc is of CUDA {nvcc.version}" if nvcc else "there is no nvcc"
    said = see(toolkit, "nvcc", "nvcc", f"{nvcc.version} ({nvcc.path})" if nvcc else "none found")
    yield Finding(
        f"DeepSpeed {have.version} could not compile its operators: {words}, torch is for CUDA {wanted[0]}.{wanted[1]}",
        evidence=(_installed(packages, have), said, see(build, "cuda", "torch was built with", f"CUDA {build.cuda}")),
        fixes=(_toolkit(packages, host, wanted),),
        affects=("deepspeed",),
    )


def _toolkit(packages: Packages, host: Host | None, wanted: tuple[int, ...]) -> Fix:
    minor = f"{wanted[0]}.{wanted[1]}"
    if packages.environment_kind == "conda":
        command = f"conda install --channel conda-forge 'cuda-nvcc={minor}' 'cuda-libraries-dev={minor}'"
        return look(f"Install the compiler of CUDA {minor} into this environment", command)
    tool = "dnf" if host and host.os_id in {"rhel", "rocky", "almalinux", "centos", "fedora"} else "apt-get"
    command = f"sudo {tool} install cuda-toolkit-{wanted[0]}-{wanted[1]}  # from NVIDIA's repository"
    return administer(f"Install the toolkit of CUDA {minor}", "system packages", command)


@rule(severity=Severity.ERROR, group="packages")
def package_unsupported_on_this_os(packages: Packages, host: Host) -> Iterator[Finding]:
    """An installed package does not work on this operating system.

    ## What it means
    Its project states that it runs on other systems only. WSL counts as Linux.

    ## Why it matters
    The import fails, or a library for another system is looked for: "libcuda.so not found" on Windows.

    ## How it is detected
    What the project's documentation states for the installed release, against the name of this system. A release with
    a local tag is somebody's own build for this system, and not judged.

    ## What to do
    On Windows install it inside WSL. Else take a release that supports this system, where there is one, or remove it.

    ## Sources
    https://docs.vllm.ai/en/v0.14.0/getting_started/installation/gpu/
    https://docs.flashinfer.ai/installation.html
    https://huggingface.co/docs/bitsandbytes/v0.43.0/installation
    """
    if host.system is None:
        raise Unknown("which operating system this is is not known")
    if host.system == "Linux":
        raise NotApplicable("this is Linux, which they all support")
    for have in packages.distributions:
        row = next((each for each in _of(have, "os_not") if host.system in cells(each.value)), None)
        if row is None or parsed(have.version, have.name).local:
            continue
        name = {"Darwin": "macOS"}.get(host.system, host.system)
        yield Finding(
            f"{have.name} {have.version} does not support {name}",
            evidence=(_installed(packages, have), see(host, "system", "this system"), row.shown(have)),
            fixes=_on_this_system(packages, have, host.system),
            subject=have.name,
            affects=(have.name,),
        )


def _on_this_system(packages: Packages, have: Distribution, system: str) -> tuple[Fix, ...]:
    refused = [row for row in _rows(have.name, "os_not") if system in cells(row.value)]
    last = next((each.version for row in refused for each in row.releases if each.operator == "<"), None)
    if len(refused) == 1 and last:
        return (install(packages, (f"{have.name}>={last}",), title=f"Install {have.name} {last} or newer"),)
    gone = repair.without(packages, (have.name,), ())
    if system != "Windows":
        return gone
    return (administer("Work inside WSL, which is Linux", "Windows gets a Linux subsystem", "wsl --install"), *gone)


RULES = (
    gpu_too_old_for_package, triton_ptxas_driver_mismatch, conda_channel_mix, bitsandbytes_cuda_binary_missing,
    onnxruntime_cuda_mismatch, dali_cuda_mismatch, tensorrt_cuda_mismatch, deepspeed_ops_unbuildable,
    package_unsupported_on_this_os,
)  # fmt: skip
