"""Companions that bring no CUDA of their own: the majors they are built for, against those that are here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from envdoctor.facts.driver import CudaDriver, CudaRuntime, KernelModule, NvidiaSmi
from envdoctor.facts.host import Environment, Host
from envdoctor.facts.libraries import Libraries, Toolkit
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.knowledge.cuda import cuda_minor, numbers
from envdoctor.remedy import repair
from envdoctor.remedy.install import install
from envdoctor.remedy.installer import installer_for
from envdoctor.remedy.pair import fit_torch
from envdoctor.remedy.variables import unset
from envdoctor.rule import NotApplicable, Rule, Unknown, rule
from envdoctor.rules.builds import need_cuda_build
from envdoctor.rules.driver_level import Driver, raise_driver, support_of
from envdoctor.rules.mixtures import SUFFIX
from envdoctor.rules.needs import installed, major_of, needs, shown
from envdoctor.rules.versions import parsed

BNB_BY_TORCH = Version("0.43")  # before, it looked for a libcudart on the path
BNB_TAKES_A_NEIGHBOUR = Version("0.50")  # from here on another minor of the same major is taken
CUDNN_9_SINCE, CUDNN_8_UNTIL = Version("1.19"), Version("1.18.1")  # onnxruntime; 1.18.1 itself came with both
# On PyPI, by CUDA major: what the extras of 1.26.0 ask for is of CUDA 12, of 1.27.0 of CUDA 13.
ONNXRUNTIME_FOR = {11: "onnxruntime-gpu<1.19", 12: "onnxruntime-gpu>=1.19,<1.27", 13: "onnxruntime-gpu>=1.27"}
WITH_ITS_OWN = {12: "onnxruntime-gpu[cuda,cudnn]>=1.21,<1.27", 13: "onnxruntime-gpu[cuda,cudnn]>=1.27"}
TORCH_WITH_CUDNN_9 = (2, 4)
DALI = re.compile(r"nvidia-dali-cuda(?P<major>1\d)0$")
TENSORRT = re.compile(r"tensorrt-cu(?P<major>1\d)$")
MAJORS_ON_OFFER = {12, 13}  # for which NVIDIA publishes DALI and TensorRT


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
    told = (environment.get("BNB_CUDA_VERSION") if environment else None) or ""
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
    to 1.18, 12 and 9 from 1.19 on, 13 and 9 from 1.27 on, where the package came from PyPI.

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
    wanted, told = _cuda_of_onnxruntime(packages, have)
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
            evidence=(installed(packages, have), told, *there.values()),
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
    return int(found[0].value.partition(".")[0]), shown(found[0], have)


def _cudnn_of_onnxruntime(version: Version, cuda: int) -> int | None:
    if cuda == 11 or version < CUDNN_8_UNTIL:
        return 8
    return 9 if version >= CUDNN_9_SINCE else None


def _cudnn_here(packages: Packages, toolkit: Toolkit | None, libraries: Libraries | None) -> dict[int, Evidence]:
    """Give the cuDNN majors that are here, and what shows each."""
    found: dict[int, Evidence] = {}
    for each in packages.distributions:
        if re.match(r"(nvidia-cudnn-cu1\d|cudnn)$", each.name) and (major := major_of(each.version)):
            found.setdefault(major, installed(packages, each))
    for row in libraries.rows if libraries else ():
        major = major_of(row.soname.rpartition(".")[2]) if row.name == "cudnn" else None
        if major and (row.first or row.bundled):
            found.setdefault(major, Evidence("libraries.rows", row.soname, "loader's search order", "", "cuDNN"))
    for copy in toolkit.cudnn_headers if toolkit else ():
        if major := major_of(copy.version):
            found.setdefault(major, Evidence("toolkit.cudnn_headers", copy.version, copy.path, "", "cuDNN"))
    return found


def _fitting_onnxruntime(
    packages: Packages, build: TorchBuild | None, wanted: int, majors: dict[int, Evidence], *, lacks_cuda: bool
) -> tuple[Fix, ...]:
    own = with_its_own_cuda(packages, build)
    if lacks_cuda:
        spec = ONNXRUNTIME_FOR.get(next(iter(majors))) if len(majors) == 1 else None
        title = f"Install the onnxruntime-gpu of this CUDA: {spec}"
        return (install(packages, (spec,), title=title),) if spec else (own,)
    newer = fit_torch(packages, SpecifierSet(">=2.4"), build) if wanted >= 12 else ()
    torch = numbers(build.version) if build else None
    shared = bool(torch and torch < TORCH_WITH_CUDNN_9 and packages.find(f"nvidia-cudnn-cu{wanted}"))
    return newer if newer and shared else (own, *newer)


def with_its_own_cuda(packages: Packages, build: TorchBuild | None) -> Fix:
    """Let it bring CUDA and cuDNN of torch's major: those of another would be written over torch's own cuDNN."""
    major = (cuda_minor(build.cuda) or (12,))[0] if build else 12
    spec = WITH_ITS_OWN.get(major, WITH_ITS_OWN[12])
    return install(packages, (spec,), title="Install onnxruntime-gpu with its own CUDA and cuDNN")


def cuda_here(packages: Packages, build: TorchBuild | None, toolkit: Toolkit | None) -> dict[int, Evidence]:
    """Give the majors of the CUDA libraries that a package could find: torch's, wheels', toolkits', conda's."""
    found: dict[int, Evidence] = {}
    if build and build.cuda and (major := major_of(build.cuda)):
        found[major] = see(build, "cuda", "torch was built with", f"CUDA {build.cuda}")
    for each in packages.distributions:
        match = SUFFIX.match(each.name)
        plain = each.name in {"nvidia-cuda-runtime", "cuda-toolkit", "cudatoolkit", "cuda-cudart"}
        major = int(match["major"]) if match else major_of(each.version) if plain else None
        if major:
            found.setdefault(major, installed(packages, each))
    for nvcc in toolkit.nvcc if toolkit else ():
        if major := major_of(nvcc.version):
            found.setdefault(major, Evidence("toolkit.nvcc", f"{nvcc.version} ({nvcc.path})", nvcc.path, "", "toolkit"))
    return found


@rule(severity=Severity.WARNING, group="packages")
def dali_cuda_mismatch(
    packages: Packages,
    build: TorchBuild | None,
    toolkit: Toolkit | None,
    driver: CudaDriver | None,
    runtime: CudaRuntime | None,
    cuda: TorchCuda | None,
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
    hand = Driver(driver, runtime, smi, module, cuda=cuda, host=host, build=build)
    yield from _by_name(packages, DALI, "nvidia-dali-cuda{}0", hand, cuda_here(packages, build, toolkit))


@rule(severity=Severity.WARNING, group="packages")
def tensorrt_cuda_mismatch(
    packages: Packages,
    build: TorchBuild | None,
    toolkit: Toolkit | None,
    driver: CudaDriver | None,
    runtime: CudaRuntime | None,
    cuda: TorchCuda | None,
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
    hand = Driver(driver, runtime, smi, module, cuda=cuda, host=host, build=build)
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
            evidence=(installed(packages, have), *(support.evidence if old else majors.values())),
            fixes=_in_its_place(packages, have, name.format(fitting)) if fitting
            else (raise_driver(hand, (major, 0)),) if old
            else repair.without(packages, (have.name,), ()),
            subject=have.name,
            confidence=support.confidence if old else Confidence.LIKELY,
            affects=(have.name,),
        )  # fmt: skip


def _in_its_place(packages: Packages, have: Distribution, name: str) -> tuple[Fix, ...]:
    then = install(packages, (name,), title=f"Install {name} in place of {have.name}")
    gone = () if installer_for(packages).elsewhere else (installer_for(packages).uninstall((have.name,)),)
    return (replace(then, commands=(*gone, *then.commands)),)


RULES: tuple[Rule, ...] = (
    bitsandbytes_cuda_binary_missing,
    onnxruntime_cuda_mismatch,
    dali_cuda_mismatch,
    tensorrt_cuda_mismatch,
)
