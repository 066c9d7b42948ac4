"""NVIDIA's images: whether this driver runs them, and whether what is in them is still their own."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, CudaRuntime, DriverFiles, KernelModule, NvidiaSmi
from envdoctor.facts.host import Host
from envdoctor.facts.libraries import Libraries
from envdoctor.facts.surroundings import Container
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.knowledge.cuda import compat_status, cuda_minor, dotted, numbers
from envdoctor.knowledge.gpus import is_consumer
from envdoctor.knowledge.ngc import Image, image, newest_for
from envdoctor.remedy.variables import look, start_anew
from envdoctor.rule import NotApplicable, Rule, Unknown, rule
from envdoctor.rules.answers import answered
from envdoctor.rules.cards import gpu_names
from envdoctor.rules.driver_level import Driver, raise_driver, support_of, version_of
from envdoctor.rules.presence import seen_working


@rule(
    severity=Severity.ERROR,
    group="driver",
    explained_by=("nvidia-driver-missing", "container-gpu-not-passed", "device-nodes-missing"),
)
def ngc_image_needs_newer_driver(
    container: Container,
    driver: CudaDriver | None,
    runtime: CudaRuntime | None,
    smi: NvidiaSmi | None,
    module: KernelModule | None,
    files: DriverFiles | None,
    cuda: TorchCuda | None,
    host: Host | None,
) -> Iterator[Finding]:
    """NVIDIA's image is newer than the host's driver can run.

    ## What it means
    Each image is built with one CUDA version, and the driver comes from the host. This driver does not start that CUDA.

    ## Why it matters
    CUDA does not start in this container, whatever is installed in it.

    ## How it is detected
    The image's tag and the CUDA version that belongs to it (by the image's own variable, else by the table of images),
    against the CUDA level of the driver. Where CUDA was seen to start, as it does on data-centre GPUs by the
    compatibility libraries of the image, nothing is reported. Where it was not asked, NVIDIA's table tells for which
    driver branches these libraries work, and the GPU's name whether they serve it.

    ## What to do
    Use the newest image that this driver runs, or raise the driver on the host.

    ## Sources
    https://docs.nvidia.com/deeplearning/frameworks/support-matrix/
    """
    known, shown = _image_cuda(container)
    if seen_working(cuda, runtime, driver):
        return
    hand = Driver(driver, runtime, smi, module, files, cuda, host)
    support = support_of(hand, known)
    if support.starts is None:
        raise Unknown(support.reason)
    if support.starts or _by_its_own_libraries(hand, known):
        return
    other = newest_for(version_of(hand)[0], support.level)
    name = container.nvidia_image_tag or container.nvidia_image
    yield Finding(
        f"The image {name} needs a newer driver: it is built for CUDA {dotted(known)}",
        evidence=(*shown, *support.evidence),
        fixes=(*(_use_image(other) if other else ()), raise_driver(hand)),
        confidence=Confidence.LIKELY,
    )


def _by_its_own_libraries(hand: Driver, cuda: tuple[int, ...]) -> bool:
    """Tell whether the image's compatibility libraries start its CUDA: NVIDIA supports that on data-centre GPUs.

    Where CUDA was asked it has refused, whatever the table says. Without the GPU's name nothing can be said.
    """
    version = version_of(hand)[0]
    if answered(hand.asked, hand.runtime) or version is None or compat_status(cuda, version) != "compatible":
        return False
    names = gpu_names(hand.asked, hand.smi, hand.cuda)
    if not names:
        raise Unknown("the image's compatibility libraries serve data-centre GPUs, and which GPU is here is not known")
    return not any(is_consumer(each) for each in names)


def _image_cuda(container: Container) -> tuple[tuple[int, ...], tuple[Evidence, ...]]:
    """Give the CUDA version of NVIDIA's image and what shows it, or end the rule."""
    if not container.nvidia_image and not container.nvidia_image_tag:
        raise NotApplicable("no image of NVIDIA's")
    tag = see(container, "nvidia_image_tag", "image", f"{container.nvidia_image} {container.nvidia_image_tag or ''}")
    told = dict(container.image_versions).get("CUDA_VERSION")
    found = cuda_minor(told)
    if found:
        return found, (tag, see(container, "image_versions", "CUDA of the image", told))
    row = image(container.nvidia_image_tag) if "pytorch" in (container.nvidia_image or "").lower() else None
    if row is None or row.cuda is None:
        raise Unknown("which CUDA this image is built with is not known")
    return row.cuda, (tag, Evidence("knowledge.ngc_pytorch", dotted(row.cuda), row.source, "", "CUDA of the image"))


def _use_image(other: Image) -> tuple[Fix, ...]:
    command = f"docker run --rm --gpus all nvcr.io/nvidia/pytorch:{other.tag} nvidia-smi"
    return (start_anew(f"Use the newest image that this driver runs: {other.tag} ({other.words})", command),)


@rule(severity=Severity.WARNING, group="torch")
def ngc_torch_replaced(container: Container, build: TorchBuild, libraries: Libraries | None) -> Iterator[Finding]:
    """This is NVIDIA's PyTorch image, but its own PyTorch or a library of it was replaced.

    ## What it means
    NVIDIA builds the PyTorch of the image against the libraries in it. A "pip install" has put another one before it.

    ## Why it matters
    What NVIDIA tuned and tested is no longer what runs; extensions of the image (Transformer Engine, apex) may not load
    any more.

    ## How it is detected
    The image's own version variables against the versions of the torch that is found, and of the cuDNN and NCCL that
    would be loaded from wheels.

    ## What to do
    Install the project's requirements without torch, under the image's constraint file, or start from a plain CUDA
    image when another PyTorch is wanted.

    ## Sources
    https://docs.nvidia.com/deeplearning/frameworks/pytorch-release-notes/
    """
    if "pytorch" not in (container.nvidia_image or "").lower():
        raise NotApplicable("no PyTorch image of NVIDIA's")
    told = dict(container.image_versions)
    row = image(container.nvidia_image_tag)
    wanted = told.get("PYTORCH_BUILD_VERSION") or told.get("PYTORCH_VERSION") or (row.torch if row else "")
    if not wanted or not build.version:
        raise Unknown("which torch this image was built with is not known")
    tag = see(container, "nvidia_image_tag", "image", f"PyTorch {container.nvidia_image_tag or ''}".strip())
    if not _is_the_images(build.version, wanted):
        yield Finding(
            f"The image's own torch {wanted} is not used, but torch {build.version}",
            evidence=(
                tag,
                see(container, "image_versions", "torch of the image", wanted),
                see(build, "version", "torch"),
            ),
            fixes=(_constrained(),),
            subject="torch",
        )
    for name, variable in (("cudnn", "CUDNN_VERSION"), ("nccl", "NCCL_VERSION")):
        yield from _library(container, libraries, name, told.get(variable, ""), tag)


def _is_the_images(version: str, wanted: str) -> bool:
    """Tell whether ``2.6.0a0+ecf3bae40a.nv25.1`` is the build that the image calls ``2.6.0a0+ecf3bae``."""
    public, _, commit = wanted.partition("+")
    have, _, local = version.partition("+")
    return have == public and (not commit or local.startswith(commit[:7]))


def _library(
    container: Container, libraries: Libraries | None, name: str, wanted: str, tag: Evidence
) -> Iterator[Finding]:
    """Report a library that would be loaded from a wheel in another version than the image's."""
    row = libraries.row(name) if libraries else None
    first = row.first if row else None
    ours, theirs = numbers(first.version if first else None), numbers(wanted)
    if not (first and first.owner and ours and theirs) or ours[:3] == theirs[:3]:
        return
    yield Finding(
        f"The image's own {name} {wanted} is not used, but {first.version} of {first.owner}",
        evidence=(
            tag,
            see(container, "image_versions", f"{name} of the image", wanted),
            Evidence(f"libraries.rows[{name}]", first.path, "loader's search order", "", "would be loaded"),
        ),
        fixes=(_constrained(),),
        subject=name,
    )


def _constrained() -> Fix:
    return look(
        "See what the image fixes, then install with it: pip install -c /etc/pip/constraint.txt …",
        "cat /etc/pip/constraint.txt",
    )


RULES: tuple[Rule, ...] = (ngc_image_needs_newer_driver, ngc_torch_replaced)
