"""Containers: GPUs that were not passed in or were lost again, and NVIDIA's own images."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, CudaRuntime, DriverFiles, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Host
from envdoctor.facts.libraries import Libraries
from envdoctor.facts.nvml import GpuState
from envdoctor.facts.surroundings import Container
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.knowledge.cuda import cuda_minor, dotted, numbers
from envdoctor.knowledge.ngc import Image, image, newest_for
from envdoctor.remedy import container as container_ways
from envdoctor.remedy import driver as ways
from envdoctor.remedy.variables import administer, look, start_anew
from envdoctor.rule import NotApplicable, Rule, Unknown, rule
from envdoctor.rules.driver_level import Driver, support_of, version_of
from envdoctor.rules.presence import NO_DEVICE, has_gpu, in_container, seen_working

NVML_UNKNOWN = 999
LOST_WORDS = re.compile(r"Failed to initialize NVML: Unknown Error", re.IGNORECASE)
COMPUTE = frozenset({"compute", "all"})


@rule(
    severity=Severity.ERROR,
    group="GPUs",
    essential=True,
    explained_by=("nvidia-driver-missing", "device-nodes-missing"),
)
def container_gpu_not_passed(
    host: Host,
    nodes: DeviceNodes,
    container: Container | None,
    bus: PciBus | None,
    module: KernelModule | None,
    files: DriverFiles | None,
    build: TorchBuild | None,
    driver: CudaDriver | None,
    runtime: CudaRuntime | None,
    cuda: TorchCuda | None,
) -> Iterator[Finding]:
    """The container was started without the GPUs, or without the driver's libraries for CUDA.

    ## What it means
    The machine has an NVIDIA GPU with a driver, but nothing of it was given to this container: no device nodes, or no
    libcuda.

    ## Why it matters
    nvidia-smi is not found, and PyTorch computes on the CPU or stops with "Found no NVIDIA driver".

    ## How it is detected
    In a container, with a GPU on the bus or the driver loaded: no /dev/nvidia* node, or nodes without any libcuda.
    What was asked of NVIDIA's runtime is shown beside it; NVIDIA_VISIBLE_DEVICES=void alone is normal, the Container
    Device Interface sets it itself. With a CPU build of PyTorch it is info: then the container is as it should be.

    ## What to do
    Start the container with the GPUs passed in, and with the capability "compute".

    ## Sources
    https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/docker-specialized.html
    """
    if not in_container(host):
        raise NotApplicable("not in a container")
    if has_gpu(bus, nodes, module) is not True:
        raise NotApplicable(NO_DEVICE)
    if module and module.loaded is False and not nodes.nvidiactl.exists:
        raise NotApplicable("no NVIDIA driver is loaded on the host")
    if seen_working(cuda, runtime, driver):
        return
    missing = _missing_in(nodes, files)
    if missing is None:
        return
    title, shown = missing
    yield Finding(
        title,
        evidence=(
            see(host, "container", "container"), *_host_side(bus, module), shown, *_asked_for(container)
        ),
        fixes=_pass_in(host, container),
        severity=Severity.INFO if build and build.is_cpu_only else None,
    )  # fmt: skip


def _missing_in(nodes: DeviceNodes, files: DriverFiles | None) -> tuple[str, Evidence] | None:
    """Say what the container lacks: the nodes, else the library; None when both are there or not known."""
    cards = any(each.exists for each in (*nodes.gpus, *nodes.tegra)) or nodes.dxg.exists
    if not cards:
        return "The container was started without the GPUs", see(nodes, "gpus", "GPU device nodes", "none")
    if files is None or files.libcuda or files.first_libcuda:
        return None
    title = "The container has the GPUs' device nodes, but not the driver's libraries"
    return title, see(files, "libcuda", "libcuda.so.1", "not found")


def _host_side(bus: PciBus | None, module: KernelModule | None) -> tuple[Evidence, ...]:
    found = [see(bus, "gpus", "NVIDIA GPUs on the machine's bus", len(bus.gpus))] if bus and bus.gpus else []
    if module and module.loaded:
        found.append(see(module, "loaded", "the host's NVIDIA driver", module.version or "loaded"))
    return tuple(found)


def _asked_for(container: Container | None) -> tuple[Evidence, ...]:
    if container is None:
        return ()
    fields = (("visible_devices", "NVIDIA_VISIBLE_DEVICES"), ("driver_capabilities", "NVIDIA_DRIVER_CAPABILITIES"))
    return tuple(see(container, field, label, getattr(container, field) or "not set") for field, label in fields)


def _pass_in(host: Host, container: Container | None) -> tuple[Fix, ...]:
    asked = container.driver_capabilities if container else None
    found = [container_ways.pass_gpus(host)]
    if asked and not COMPUTE & {each.strip() for each in asked.split(",")}:
        command = "docker run --rm --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility IMAGE nvidia-smi"
        found.insert(0, start_anew("Ask for the driver's compute libraries too", command))
    return tuple(found)


@rule(severity=Severity.ERROR, group="GPUs")
def container_gpu_detached(
    host: Host,
    nodes: DeviceNodes,
    state: GpuState | None,
    smi: NvidiaSmi | None,
    driver: CudaDriver | None,
    runtime: CudaRuntime | None,
    cuda: TorchCuda | None,
) -> Iterator[Finding]:
    """The container had its GPUs and has lost them while it was running.

    ## What it means
    On the host something reloaded the control groups, mostly "systemctl daemon-reload" during an update. The list of
    devices that this container may open was written anew, without the GPUs.

    ## Why it matters
    Programs that already hold a GPU go on; each new one fails. The container needs to be started again.

    ## How it is detected
    In a container whose device nodes are there, NVML or nvidia-smi says "Unknown Error" when it starts. Where CUDA was
    seen to start, nothing is reported.

    ## What to do
    Start the container again. On the host, use the Container Device Interface, or give the nodes links in /dev/char,
    so that it does not happen again.

    ## Sources
    https://github.com/NVIDIA/nvidia-container-toolkit/issues/48
    https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/troubleshooting.html
    """
    if not in_container(host):
        raise NotApplicable("not in a container")
    if not nodes.nvidiactl.exists:
        raise NotApplicable("no NVIDIA device nodes in this container")
    if seen_working(cuda, runtime, driver):
        return
    said = _lost(state, smi)
    if not said:
        if state is None and smi is None:
            raise Unknown("neither NVML nor nvidia-smi was asked")
        return
    yield Finding(
        "This running container has lost its GPUs",
        evidence=(see(host, "container", "container"), see(nodes, "nvidiactl", "/dev/nvidiactl", "is there"), *said),
        fixes=(
            start_anew("Start the container again, on the host", 'docker restart "$CONTAINER"'),
            administer(
                "On the host, so that it does not happen again",
                "links in /dev/char",
                "sudo nvidia-ctk system create-dev-char-symlinks --create-all",
            ),
        ),
        confidence=Confidence.LIKELY,
    )


def _lost(state: GpuState | None, smi: NvidiaSmi | None) -> tuple[Evidence, ...]:
    found = []
    if state and state.init_code == NVML_UNKNOWN:
        found.append(see(state, "init_words", "NVML says", f"{state.init_code} {state.init_words or ''}".strip()))
    match = LOST_WORDS.search(smi.words) if smi else None
    return (*found, *((see(smi, "words", "nvidia-smi says", match[0]),) if smi and match else ()))


@rule(severity=Severity.ERROR, group="driver", explained_by=("nvidia-driver-missing", "device-nodes-missing"))
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
    compatibility libraries of the image, nothing is reported.

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
    if support.starts:
        return
    other = newest_for(version_of(hand)[0], support.level)
    name = container.nvidia_image_tag or container.nvidia_image
    yield Finding(
        f"The image {name} needs a newer driver: it is built for CUDA {dotted(known)}",
        evidence=(*shown, *support.evidence),
        fixes=(*(_use_image(other) if other else ()), ways.install_driver(host, verb="Raise")),
        confidence=Confidence.LIKELY,
    )


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
    words = f"CUDA {dotted(other.cuda or ())}"
    command = f"docker run --rm --gpus all nvcr.io/nvidia/pytorch:{other.tag} nvidia-smi"
    return (start_anew(f"Use the newest image that this driver runs: {other.tag} ({words})", command),)


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


RULES: tuple[Rule, ...] = (
    container_gpu_not_passed, container_gpu_detached, ngc_image_needs_newer_driver, ngc_torch_replaced,
)  # fmt: skip
