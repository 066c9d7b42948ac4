"""Why can torch not use CUDA: one finding that the likeliest cause explains, or that says how to find the cause."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, CudaRuntime, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Environment, Host
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Evidence, Finding, Fix, Safety, Severity
from envdoctor.remedy import driver as ways
from envdoctor.rule import Missing, rule
from envdoctor.rules.answers import (
    COMPAT_NOT_SUPPORTED,
    INSUFFICIENT_DRIVER,
    NO_DEVICE,
    NOT_READY,
    STUB_LIBRARY,
    SYSTEM_DRIVER_MISMATCH,
    cu_init,
    cudart,
    torch_code,
    torch_says,
)
from envdoctor.rules.builds import need_cuda_build
from envdoctor.rules.presence import need_gpu, windows_driver

UNKNOWN_ERROR, DEVICES_UNAVAILABLE, OUT_OF_MEMORY, OS_CALL_FAILED = 999, 46, 2, 304

# The likeliest first, among causes of the same severity and confidence.
CAUSES = (
    "nvidia-driver-missing", "device-nodes-missing", "device-nodes-no-permission", "container-gpu-not-passed",
    "container-gpu-detached", "wsl-driver-missing", "wsl-libcuda-shadowed", "driver-library-mismatch",
    "libcuda-stub-or-stale-on-path", "forward-compat-unsupported", "driver-too-old-for-cuda-build",
    "ngc-image-needs-newer-driver",
    "fabric-manager-missing", "driver-needs-reboot", "uvm-broken-after-suspend", "cuda-visible-devices-wrong",
    "exclusive-compute-mode", "mig-limitation", "vgpu-limitation", "gpu-lost", "xid-errors", "gpu-hardware-fault",
    "torch-import-crashes", "torch-import-fails", "torch-install-damaged", "nvidia-wheel-lib-not-found",
    "ld-library-path-shadowing", "torch-cpu-only-on-gpu-machine",
)  # fmt: skip

# What a code speaks of: these go before every other cause that fired.
BY_CODE: dict[int, tuple[str, ...]] = {
    INSUFFICIENT_DRIVER: ("driver-too-old-for-cuda-build", "ngc-image-needs-newer-driver"),
    STUB_LIBRARY: ("libcuda-stub-or-stale-on-path",),
    NOT_READY: ("fabric-manager-missing",),
    SYSTEM_DRIVER_MISMATCH: ("driver-library-mismatch", "forward-compat-unsupported", "libcuda-stub-or-stale-on-path"),
    COMPAT_NOT_SUPPORTED: ("forward-compat-unsupported",),
    NO_DEVICE: (
        "cuda-visible-devices-wrong", "device-nodes-no-permission", "device-nodes-missing", "container-gpu-not-passed",
        "gpu-lost", "mig-limitation",
    ),
    UNKNOWN_ERROR: ("uvm-broken-after-suspend", "container-gpu-detached", "gpu-lost", "gpu-hardware-fault"),
    DEVICES_UNAVAILABLE: ("exclusive-compute-mode",),
    OUT_OF_MEMORY: ("gpu-memory-low", "gpu-in-use"),
}  # fmt: skip

DECIDE = "If no other finding names the cause, these answers decide"
HINTS = {
    NO_DEVICE: "Error 100 means that CUDA sees no device: hidden by a variable, a cgroup or a batch system.",
    UNKNOWN_ERROR: "Error 999 is mostly an nvidia-uvm module left broken by a suspend or a half upgrade.",
    DEVICES_UNAVAILABLE: "Error 46 means that every GPU is taken in exclusive mode, or not usable.",
    OUT_OF_MEMORY: "Error 2 while starting means that the GPU's memory is already full.",
    OS_CALL_FAILED: "Error 304 is a system call that failed: often a device node or a limit of the container.",
}


@rule(severity=Severity.ERROR, group="driver", essential=True, explained_by=CAUSES)
def cuda_unavailable(
    build: TorchBuild,
    cuda: TorchCuda | None,
    runtime: CudaRuntime | None,
    driver: CudaDriver | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    smi: NvidiaSmi | None,
    environment: Environment | None,
    host: Host | None,
) -> Iterator[Finding]:
    """PyTorch is built for CUDA and cannot use it, although a GPU is expected here.

    ## What it means
    torch.cuda.is_available() is False. Something between PyTorch and the GPU does not work: the driver, its device
    nodes, its libraries, a variable that hides the GPUs, or the GPU itself.

    ## Why it matters
    The program stops, or computes on the CPU, many times slower and often without a word.

    ## How it is detected
    torch's own verdict in a fresh process. At level quick torch is not imported: the libcudart that it would load is
    asked in its place, then libcuda. It does not apply to a CPU build, nor to a machine without an NVIDIA device.

    ## What to do
    Read the finding that is named as the cause. Where none is, run the commands listed here: each of them decides
    between causes that the facts at hand leave open.

    ## Sources
    https://docs.pytorch.org/docs/stable/generated/torch.cuda.is_available.html
    https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html
    """
    need_cuda_build(build)
    need_gpu(bus, nodes, module, smi, driver)
    said = _said(cuda, runtime, driver)
    if said is None:
        raise Missing(CudaRuntime if cuda is None else TorchCuda)
    if not said:
        return
    code = _code(cuda, runtime, driver)
    yield Finding(
        "PyTorch cannot use CUDA",
        HINTS.get(code or 0, ""),
        evidence=said,
        caused_by=BY_CODE.get(code or 0, ()),
        fixes=(
            *((ways.reload_uvm(),) if code == UNKNOWN_ERROR and not windows_driver(host) else ()),
            *_look_further(module, smi, nodes, environment, host),
        ),
    )


def _said(
    cuda: TorchCuda | None, runtime: CudaRuntime | None, driver: CudaDriver | None
) -> tuple[Evidence, ...] | None:
    """Give the answers that say no; an empty tuple when CUDA works, None when nobody was asked."""
    if cuda and cuda.available is not None:
        refused = not cuda.available
    elif runtime and runtime.code is not None:
        refused = runtime.code != 0
    elif driver and driver.init_code is not None:
        refused = driver.init_code != 0
    else:
        return None
    return _every_answer(cuda, runtime, driver) if refused else ()


def _every_answer(
    cuda: TorchCuda | None, runtime: CudaRuntime | None, driver: CudaDriver | None
) -> tuple[Evidence, ...]:
    told = [torch_says(cuda)] if cuda and cuda.available is not None else []
    told += [cudart(runtime)] if runtime and runtime.code is not None else []
    return (*told, *([cu_init(driver)] if driver and driver.init_code is not None else []))


def _code(cuda: TorchCuda | None, runtime: CudaRuntime | None, driver: CudaDriver | None) -> int | None:
    codes = (
        driver.init_code if driver else None,
        runtime.code if runtime else None,
        torch_code(cuda) if cuda else None,
    )
    return next((each for each in codes if each), None)


def _look_further(
    module: KernelModule | None,
    smi: NvidiaSmi | None,
    nodes: DeviceNodes | None,
    environment: Environment | None,
    host: Host | None,
) -> tuple[Fix, ...]:
    """List the commands whose answers are not among the facts; the kernel's log is never among them."""
    if host and host.system == "Windows":
        commands = ways.shell("nvidia-smi", "python -m torch.utils.collect_env")
        return (Fix(DECIDE, commands, Safety.SAFE, "nothing: they only read"),)
    wanted = [
        (module is None or module.version is None, "cat /proc/driver/nvidia/version"),
        (smi is None, "nvidia-smi"),
        (nodes is None, "ls -l /dev/nvidia*"),
        (environment is None, 'echo "${CUDA_VISIBLE_DEVICES-not set}"'),
        (True, "sudo dmesg | grep -i -E 'nvrm|nvidia|xid' | tail -n 30"),
    ]
    commands = ways.shell(*(command for missing, command in wanted if missing))
    return (Fix(DECIDE, commands, Safety.SAFE, "nothing: they only read"),)


RULES = (cuda_unavailable,)
