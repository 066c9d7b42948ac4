"""Words about the driver: too old, mismatched, not loaded, not allowed, not started."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, KernelModule, NvidiaSmi
from envdoctor.facts.host import Host
from envdoctor.facts.packages import Packages
from envdoctor.facts.text import ErrorText
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Evidence, Finding, Severity, see
from envdoctor.knowledge.cuda import branch_to_install, cuda_minor, level_suffices
from envdoctor.knowledge.gpus import is_consumer
from envdoctor.remedy import driver as ways
from envdoctor.remedy.install import change_torch
from envdoctor.remedy.machine import machine_of, needs_open_modules
from envdoctor.remedy.variables import administer, look, unset
from envdoctor.rule import Witness, cross_examined, witness
from envdoctor.rules.cards import gpu_names
from envdoctor.rules.presence import in_container
from envdoctor.rules.said import built_with, hear, lead, mention, said

CONTAINER = r"\bcontainer|\bdocker\b|\bpodman\b|\bkubernetes\b|\bk8s\b"


@cross_examined
def driver_too_old_for_cuda_build(
    words: ErrorText,
    build: TorchBuild | None,
    smi: NvidiaSmi | None,
    driver: CudaDriver | None,
    module: KernelModule | None,
    packages: Packages | None,
    host: Host | None,
    cuda: TorchCuda | None,
) -> Iterator[Finding]:
    """Torch or CUDA says it, or an image asks for more than the driver has; not where CUDA was seen to work."""
    heard = hear(words, "driver-too-old-for-cuda-build")
    if heard is None:
        return
    asked = re.search(r"cuda>=(\d{1,2}\.\d)", heard.text)
    if cuda and cuda.available and not asked:
        return  # an image may still ask for more than the torch that works outside it
    wanted = cuda_minor(asked[1] if asked else None) or cuda_minor(build.cuda if build else None)
    fit = machine_of(packages, host, driver=driver, smi=smi, module=module)
    level = cuda_minor(fit.driver_cuda)
    have = build.version if build else None
    wheel = fit.cuda_wheel(have) if level else None
    branch = branch_to_install(wanted) if wanted else None
    yield lead(
        heard,
        f"The driver is too old for the container's image, which asks for CUDA {asked[1]}"
        if asked
        else "PyTorch cannot use the GPUs: the driver is too old for what runs here",
        *(change_torch(packages, wheel, installed=have) if packages and wheel and not asked else ()),
        ways.install_driver(host, branch, verb="Raise", open_modules=fit.open_modules),
        also=built_with(build),
        confirmed=not level_suffices(level, wanted) if level and wanted else None,
    )


@witness
def driver_feature_too_old(
    words: ErrorText, build: TorchBuild | None, smi: NvidiaSmi | None, host: Host | None
) -> Iterator[Finding]:
    """PTX of a newer CUDA than the driver compiles."""
    heard = hear(words, "driver-feature-too-old")
    if heard:
        driver = (see(smi, "driver_version", "driver"),) if smi and smi.driver_version else ()
        yield lead(
            heard,
            "The driver does not compile PTX of this CUDA: minor-version compatibility leaves that out",
            ways.install_driver(host, verb="Raise", open_modules=needs_open_modules(None, None, smi)),
            detail="Code that was compiled for this GPU (SASS) would run.",
            also=(*built_with(build), *driver),
        )


@witness
def driver_library_mismatch(words: ErrorText, module: KernelModule | None, cuda: TorchCuda | None) -> Iterator[Finding]:
    """NVML's and CUDA's own words: the module and the libraries are of different versions."""
    heard = hear(words, "driver-library-mismatch")
    if heard is None or (cuda and cuda.available and heard.message.id == "error-803"):
        return
    found = mention(words, r"NVML library version: ?\d{3}")
    library = re.search(r"NVML library version: ?(\d{3}(?:\.\d{1,3}){0,2})", found.text) if found else None
    line = Evidence("error_text.lines", library[1], found.source, "file", "NVML library") if found and library else None
    yield lead(
        heard,
        "The driver's kernel module and its libraries have different versions",
        ways.reboot("Restart, so that the loaded module is the one of the installed libraries"),
        ways.reload_modules(),
        look("In a container: find driver libraries that were installed there", _stray_libraries()),
        also=(*((see(module, "version", "driver"),) if module and module.version else ()), *((line,) if line else ())),
    )


def _stray_libraries() -> str:
    return "find / -xdev '(' -name 'libcuda.so.*' -o -name 'libnvidia-ml.so.*' ')' 2>/dev/null"


@witness
def forward_compat_unsupported(words: ErrorText, host: Host | None, smi: NvidiaSmi | None) -> Iterator[Finding]:
    """Error 804, in CUDA's or anybody's words."""
    heard = hear(words, "forward-compat-unsupported")
    if heard:
        consumer = [each for each in gpu_names(None, smi, None) if is_consumer(each)]
        yield lead(
            heard,
            "A cuda-compat library is used where forward compatibility does not work",
            unset("LD_LIBRARY_PATH", title="Take cuda-compat out of the loader's path in this shell"),
            ways.install_driver(host, verb="Raise", open_modules=needs_open_modules(None, None, smi)),
            detail="Right after a driver upgrade without a restart the same error appears: then restart.",
            also=(see(smi, "gpus", "GPU", consumer[0]),) if consumer and smi else (),
            confirmed=bool(consumer) or None,
        )


@witness
def fabric_manager_missing(
    words: ErrorText, host: Host | None, module: KernelModule | None, cuda: TorchCuda | None
) -> Iterator[Finding]:
    """Error 802, in CUDA's or anybody's words; or NVLink SHARP that cannot be set up."""
    heard = hear(words, "fabric-manager-missing")
    if heard is None or (cuda and cuda.available and heard.message.id == "error-802"):
        return
    starts = heard.message.id == "error-802"
    yield lead(
        heard,
        "CUDA waits for the fabric manager of this NVSwitch machine (error 802)"
        if starts
        else "NVLink SHARP cannot be set up: the fabric manager or IMEX is not there for it",
        *ways.start_fabric_manager(host, module.version if module else None),
        severity=None if starts else Severity.WARNING,
    )


@witness
def nvidia_driver_missing(
    words: ErrorText, host: Host | None, smi: NvidiaSmi | None, cuda: TorchCuda | None, build: TorchBuild | None
) -> Iterator[Finding]:
    """No driver is found: not under WSL or in a container, nor where one is known to run."""
    heard = hear(words, "nvidia-driver-missing")
    elsewhere = in_container(host) or bool(host and host.wsl) or bool(mention(words, CONTAINER))
    if heard is None or elsewhere or (cuda and cuda.available) or (build and build.is_cpu_only):
        return
    told = heard.message.id == "smi-no-driver"
    if smi and smi.driver_version and not told:
        return
    yield lead(
        heard,
        "No NVIDIA driver is loaded",
        ways.load_module(),
        ways.install_driver(host),
        severity=Severity.ERROR if told else None,
    )


@witness
def device_nodes_no_permission(words: ErrorText) -> Iterator[Finding]:
    """The kernel's or NVML's own words."""
    heard = hear(words, "device-nodes-no-permission")
    if heard:
        yield lead(
            heard,
            "This user may not open the GPU's device nodes",
            look("See who may", "ls -l /dev/nvidia*", "id"),
            administer("Add this user to the nodes' group", "the user's groups", 'sudo usermod -aG video "$USER"'),
        )


@witness
def cuda_unavailable(
    words: ErrorText, build: TorchBuild | None, smi: NvidiaSmi | None, cuda: TorchCuda | None
) -> Iterator[Finding]:
    """Somebody says that torch does not see the GPU; not where torch sees it here, or is built without CUDA."""
    heard = hear(words, "cuda-unavailable")
    known = bool(smi and (smi.gpus or smi.driver_version)) or bool(build and build.cuda)
    if heard is None or (cuda and cuda.available) or (build and (build.is_cpu_only or build.hip)):
        return
    yield lead(
        heard,
        "PyTorch cannot use CUDA",
        look("These answers decide why", "nvidia-smi", "python -m torch.utils.collect_env"),
        detail="Which build of torch it is, and which GPU and driver are there, would tell the cause.",
        severity=Severity.ERROR if known else Severity.WARNING,
        confirmed=True if cuda and cuda.available is False else None,
    )


@witness
def wsl_driver_missing(words: ErrorText, host: Host, cuda: TorchCuda | None) -> Iterator[Finding]:
    """Under WSL libcuda is not found, or nothing of the GPU is seen."""
    heard = hear(words, "wsl-driver-missing") or said(words, "no-nvidia-driver", "smi-no-driver", "words-unavailable")
    if heard and host.wsl and not (cuda and cuda.available):
        yield lead(
            heard,
            "Under WSL, the driver of Windows gives this distribution no libcuda",
            ways.windows_driver(ways.FALLBACK_BRANCH),
            look(
                "See whether Windows gave it one, and whether the loader looks there", "ls /usr/lib/wsl/lib", _cached()
            ),
            also=(see(host, "os_name", "system"),) if host.os_name else (),
            severity=Severity.WARNING if heard.own_words else None,
            confirmed=True,
        )


def _cached() -> str:
    return "ldconfig -p | grep libcuda"


@witness
def wsl_libcuda_shadowed(words: ErrorText, host: Host, cuda: TorchCuda | None) -> Iterator[Finding]:
    """Under WSL a libcuda is found, and it sees no device: most likely a Linux driver's."""
    heard = hear(words, "wsl-libcuda-shadowed")
    if heard and host.wsl and not (cuda and cuda.available):
        yield lead(
            heard,
            "Under WSL, the libcuda that is found sees no GPU: most likely a Linux driver's hides the one of Windows",
            administer("Remove a Linux driver from WSL", "system packages", _purge(), "sudo ldconfig"),
            look("See which libcuda comes first: it must be the one below /usr/lib/wsl", _cached()),
            also=(see(host, "os_name", "system"),) if host.os_name else (),
            severity=Severity.ERROR,
            confirmed=True,
        )


def _purge() -> str:
    return "sudo apt-get purge 'libnvidia-compute-*' 'nvidia-driver-*' 'cuda-drivers*'"


WITNESSES: tuple[Witness, ...] = (
    driver_too_old_for_cuda_build, driver_feature_too_old, driver_library_mismatch, forward_compat_unsupported,
    fabric_manager_missing, nvidia_driver_missing, device_nodes_no_permission, cuda_unavailable, wsl_driver_missing,
    wsl_libcuda_shadowed,
)  # fmt: skip
