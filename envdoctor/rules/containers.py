"""Containers: GPUs that were not passed in, or were lost again."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, CudaRuntime, DriverFiles, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Host
from envdoctor.facts.nvml import GpuState
from envdoctor.facts.surroundings import Container
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.remedy import container as container_ways
from envdoctor.remedy.variables import administer, start_anew
from envdoctor.rule import NotApplicable, Rule, Unknown, rule
from envdoctor.rules.presence import NO_DEVICE, has_gpu, in_container, seen_working

NVML_UNKNOWN = 999
LOST_WORDS = re.compile(r"Failed to initialize NVML: Unknown Error", re.IGNORECASE)
COMPUTE = frozenset({"compute", "all"})


@rule(
    severity=Severity.ERROR,
    group="GPUs",
    essential=True,
    explained_by=("nvidia-driver-missing",),
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


RULES: tuple[Rule, ...] = (container_gpu_not_passed, container_gpu_detached)
