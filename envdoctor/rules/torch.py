"""Is there a torch, and is it one for these GPUs?"""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Host
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild, TorchCuda, TorchPath
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.remedy.install import another_python, change_torch, jetson_wheels, rocm_wheels, ways_to_cuda
from envdoctor.remedy.machine import Machine, machine_of
from envdoctor.rule import NotApplicable, known, rule
from envdoctor.rules.presence import has_gpu, has_nodes, in_container, own_gpus

# Of use only with a CUDA build of torch. nvidia-* wheels are not among them: other frameworks bring those too.
CUDA_ONLY = re.compile(
    r"(flash-attn(-3)?|flashinfer-python|xformers|apex|transformer-engine(-torch)?|transformer-engine-cu\d+|"
    r"torch-tensorrt|mamba-ssm|causal-conv1d|sageattention|pytorch-cuda)$"
)
AMD = "1002"


@rule(
    severity=Severity.ERROR,
    group="torch",
    essential=True,
    explained_by=("torch-install-damaged", "conda-channel-mix", "python-unsupported"),
)
def torch_missing(
    path: TorchPath,
    packages: Packages,
    host: Host | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    smi: NvidiaSmi | None,
    driver: CudaDriver | None,
) -> Iterator[Finding]:
    """No torch is installed where this Python looks for it.

    ## What it means
    No directory on this interpreter's module search path holds a package named torch. `import torch` ends with
    "No module named 'torch'", or finds an empty folder of that name.

    ## Why it matters
    Nothing that needs PyTorch can run. Often torch is there, but in another environment than the one that was started.

    ## How it is detected
    By looking at every directory on the module search path, without importing anything.

    ## What to do
    Start the Python of the environment that has torch, or install torch into this one. The command names the newest
    release that has a wheel for this Python, with the CUDA that this driver starts, or the CPU build where there is
    no NVIDIA GPU.

    ## Sources
    https://pytorch.org/get-started/locally/
    """
    if [each for each in path.found if each not in path.namespaces]:
        return
    fit = machine_of(packages, host, driver=driver, smi=smi, module=module)
    gpu = bool(has_gpu(bus, nodes, module, smi, driver))
    evidence = [see(path, "found", "torch on the module search path", "none")]
    evidence += [see(packages, "executable", "this Python")] if packages.executable else []
    evidence += [see(packages, "python_version", "its version")] if packages.python_version else []
    yield Finding(
        "PyTorch is not installed for this Python",
        fit.no_wheels and f"{fit.no_wheels[0].upper()}{fit.no_wheels[1:]}.",
        tuple(evidence),
        _new_torch(packages, host, fit, gpu=gpu),
    )


def _new_torch(packages: Packages, host: Host | None, fit: Machine, *, gpu: bool) -> tuple[Fix, ...]:
    found = ways_to_cuda(packages, host, fit) if gpu else change_torch(packages, fit.cpu_wheel())
    if found or fit.no_wheels or fit.python is None:
        return found
    return (another_python(packages),)


@rule(severity=Severity.ERROR, group="torch", essential=True, explained_by=("conda-channel-mix", "python-unsupported"))
def torch_cpu_only_on_gpu_machine(
    build: TorchBuild,
    packages: Packages | None,
    host: Host | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    smi: NvidiaSmi | None,
    driver: CudaDriver | None,
) -> Iterator[Finding]:
    """PyTorch is the CPU build, but there is an NVIDIA GPU.

    ## What it means
    The installed wheel or conda package was compiled without CUDA. It cannot use a GPU, whatever the driver is.

    ## Why it matters
    `torch.cuda.is_available()` is False, `.cuda()` raises "Torch not compiled with CUDA enabled", and training that
    falls back runs on the CPU, often without saying so.

    ## How it is detected
    torch/version.py names neither CUDA nor HIP. A GPU on the PCI bus, a loaded driver, a device node or an answer of
    nvidia-smi makes it certain, and so does a Jetson. A package that is of use with CUDA only (flash-attn, xformers,
    ...) beside the CPU build makes it likely. Without either the CPU build is a choice, and so it is in a container
    that was given no GPU, and on a machine whose GPUs no published wheel has code for.

    ## What to do
    Install the same release with CUDA. The version carries the variant (`+cu126`), because pip takes an installed
    CPU build of the same release for what was asked.

    ## Sources
    https://pytorch.org/get-started/locally/
    """
    if build.cuda or build.hip or not known(build, "is_cpu_only"):
        return
    fit = machine_of(packages, host, driver=driver, smi=smi, module=module)
    gpu = _seen_gpu(bus, nodes, module, smi, driver) or _on_jetson(host)
    companions = tuple(each for each in (packages.distributions if packages else ()) if CUDA_ONLY.match(each.name))
    if gpu and in_container(host) and nodes and not (has_nodes(nodes) or nodes.dxg.exists):
        raise NotApplicable("the GPUs of the host are not given to this container")
    if gpu and fit.no_gpu_has_code():
        raise NotApplicable(f"no published CUDA build has code for compute capability {', '.join(fit.capabilities)}")
    if not gpu and not companions:
        return
    yield Finding(
        "PyTorch is the CPU build on a machine with an NVIDIA GPU"
        if gpu
        else f"PyTorch is the CPU build, but {companions[0].name} is of use with CUDA only",
        evidence=(_cpu_build(build), *(gpu or _beside(packages, companions))),
        fixes=_with_cuda(packages, host, fit, build),
        severity=Severity.ERROR if gpu else Severity.WARNING,
        confidence=Confidence.CERTAIN if gpu else Confidence.LIKELY,
    )


def _with_cuda(packages: Packages | None, host: Host | None, fit: Machine, build: TorchBuild) -> tuple[Fix, ...]:
    if host and host.jetson:
        return jetson_wheels()
    return ways_to_cuda(packages, host, fit, build.version) if packages else ()


def _on_jetson(host: Host | None) -> tuple[Evidence, ...]:
    return (see(host, "jetson", "the machine", "a Jetson, whose GPU is NVIDIA's"),) if host and host.jetson else ()


def _cpu_build(build: TorchBuild) -> Evidence:
    return see(build, "cuda", "torch was built with", f"no CUDA ({build.version})" if build.version else "no CUDA")


def _beside(packages: Packages | None, companions: tuple[Distribution, ...]) -> tuple[Evidence, ...]:
    words = ", ".join(f"{each.name} {each.version}" for each in companions)
    return (see(packages, "distributions", "beside it", words),) if packages else ()


def _seen_gpu(
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    smi: NvidiaSmi | None,
    driver: CudaDriver | None,
) -> tuple[Evidence, ...]:
    """Give what shows an NVIDIA GPU or its driver; empty when nothing does."""
    seen: list[Evidence] = []
    if driver and driver.device_count:
        seen.append(see(driver, "device_count", "GPUs that the driver shows"))
    if smi and (smi.gpus or smi.driver_version):
        names = ", ".join(dict.fromkeys(each.name for each in smi.gpus if each.name))
        seen.append(see(smi, "gpus" if smi.gpus else "driver_version", "nvidia-smi shows", names or smi.driver_version))
    if bus and own_gpus(bus):
        seen.append(see(bus, "gpus", "NVIDIA GPUs on the PCI bus", len(own_gpus(bus))))
    if module and module.loaded:
        seen.append(see(module, "version", "driver loaded", module.version or "yes"))
    if nodes and not seen and has_nodes(nodes):
        seen.append(see(nodes, "nvidiactl", "NVIDIA device nodes", "present"))
    return tuple(seen[:2])


@rule(severity=Severity.ERROR, group="torch", essential=True, explained_by=("conda-channel-mix",))
def rocm_build_on_nvidia(
    build: TorchBuild,
    packages: Packages | None,
    host: Host | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    smi: NvidiaSmi | None,
    driver: CudaDriver | None,
    cuda: TorchCuda | None,
) -> Iterator[Finding]:
    """PyTorch is the ROCm build, which is for AMD GPUs, but the GPU is NVIDIA's.

    ## What it means
    The installed wheel was compiled for AMD's ROCm. It does not use NVIDIA GPUs. Installers that look for an AMD
    device choose it when the processor carries AMD graphics.

    ## Why it matters
    `torch.cuda.is_available()` is False and everything runs on the CPU.

    ## How it is detected
    torch/version.py names a HIP version, and a PCI device, a driver, a device node or nvidia-smi shows an NVIDIA GPU.
    Where torch itself was seen to use a GPU, nothing is reported. With an AMD GPU beside it it is only likely. The
    reverse, a CUDA build where the one accelerator on the bus is AMD's, is info.

    ## What to do
    Install the same release with CUDA.

    ## Sources
    https://pytorch.org/get-started/locally/
    """
    if build.hip is None:
        if build.version is None:
            known(build, "hip")
        yield from _cuda_build_on_amd(build, bus, gpu=has_gpu(bus, nodes, module, smi, driver))
        return
    gpu = _seen_gpu(bus, nodes, module, smi, driver)
    if not gpu or (cuda and cuda.available):
        return
    amd = bus is not None and any(each.vendor_id == AMD for each in bus.other_gpus)
    fit = machine_of(packages, host, driver=driver, smi=smi, module=module)
    yield Finding(
        "PyTorch is the ROCm build, but the GPU is NVIDIA's",
        "An AMD GPU is on the bus too: if that is the one to use, this is a choice." if amd else "",
        (see(build, "hip", "torch was built for ROCm", build.hip), *gpu),
        ways_to_cuda(packages, host, fit, build.version) if packages else (),
        severity=Severity.WARNING if amd else Severity.ERROR,
        confidence=Confidence.LIKELY if amd else Confidence.CERTAIN,
    )


def _cuda_build_on_amd(build: TorchBuild, bus: PciBus | None, *, gpu: bool | None) -> Iterator[Finding]:
    """Give the reverse choice. Graphics of a processor (class 0300) are no reason to want ROCm."""
    cards = (
        tuple(each for each in bus.other_gpus if each.vendor_id == AMD and each.class_code[:4] == "0380") if bus else ()
    )
    if gpu is False and bus and cards and build.cuda:
        yield Finding(
            "PyTorch is the CUDA build, but the accelerator here is AMD's",
            evidence=(
                see(build, "cuda", "torch was built with CUDA"),
                see(bus, "other_gpus", "AMD accelerators on the PCI bus", len(cards)),
            ),
            fixes=(rocm_wheels(),),
            severity=Severity.INFO,
            confidence=Confidence.POSSIBLE,
        )


RULES = (torch_missing, torch_cpu_only_on_gpu_machine, rocm_build_on_nvidia)
