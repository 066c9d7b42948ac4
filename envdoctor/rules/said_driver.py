"""Words about the driver: too old, mismatched, not started, half updated."""
# ruff: noqa: E501

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, KernelModule, NvidiaSmi
from envdoctor.facts.host import Environment, Host
from envdoctor.facts.packages import Packages
from envdoctor.facts.text import ErrorText
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Confidence, Evidence, Finding, Severity, see
from envdoctor.knowledge.cuda import branch_to_install, cuda_minor
from envdoctor.knowledge.gpus import is_consumer
from envdoctor.remedy import driver as ways
from envdoctor.remedy.install import change_torch
from envdoctor.remedy.machine import machine_of
from envdoctor.remedy.variables import look, unset
from envdoctor.rule import Witness, witness
from envdoctor.rules.cards import gpu_names
from envdoctor.rules.said import hear, hear_message, lead, sure

SUSPENDED = r"\b(?:suspend|resum|hibernat|wake|sleep mode|sleep)"
RENEWED = r"\b(?:re-?install|upgrad|updat)\w{0,5}\b.{0,60}\bdriver|\bdriver\b.{0,60}\b(?:re-?install|upgrad|updat)|reboot|restart(?:ed|ing) the (?:machine|server|computer)"
UNKNOWN_ERROR = r"CUDA unknown error|UNKNOWN_ERROR ?\(?99|CUDA_ERROR_UNKNOWN|cudaErrorUnknown|Error 999: unknown error|cuda runtime error \(30\)"
DATA_CENTRE = re.compile(r"\b(?:A100|H100|H200|H800|A800|B200|GB200|GH200|V100|P100|A10|A30|A40|T4|L4|L40S?|DGX)\b")


@witness
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
    """Torch or CUDA says it itself; an image may ask for more than the driver has."""
    heard = hear_message(words, "driver-too-old", "cudart-insufficient-driver", "container-cuda-req") or hear(
        words, r"NVIDIA driver (?:on your system )?is too old", r"cudaErrorInsufficientDriver"
    )
    if heard is None or (cuda and cuda.available):
        return
    wanted = cuda_minor(build.cuda if build else None) or cuda_minor(_asked_for(heard.words))
    fit = machine_of(packages, host, driver=driver, smi=smi, module=module)
    wheel = fit.cuda_wheel(build.version if build else None) if fit.driver_cuda else None
    branch = branch_to_install(wanted) if wanted else None
    yield lead(
        heard,
        "PyTorch cannot use the GPUs: the driver is too old for what runs here",
        *(change_torch(packages, wheel) if packages and wheel else ()),
        ways.install_driver(host, branch, verb="Raise"),
        also=_build(build),
        confidence=Confidence.CERTAIN if build and build.cuda else sure(words, packages),
    )


def _asked_for(line: str) -> str | None:
    match = re.search(r"cuda>=(\d{1,2}\.\d)", line)
    return match.group(1) if match else None


def _build(build: TorchBuild | None) -> tuple[Evidence, ...]:
    return (see(build, "cuda", "torch was built with", f"CUDA {build.cuda}"),) if build and build.cuda else ()


@witness
def forward_compat_unsupported(words: ErrorText, host: Host | None, smi: NvidiaSmi | None) -> Iterator[Finding]:
    """Error 804, in CUDA's or anybody's words."""
    heard = hear_message(words, "error-804") or hear(words, r"\berror 804\b", r"forward compatibility was attempted")
    if heard is None:
        return
    names = gpu_names(None, smi, None)
    consumer = [each for each in names if is_consumer(each)]
    yield lead(
        heard,
        "A cuda-compat library is used where forward compatibility does not work",
        unset("LD_LIBRARY_PATH", title="Take cuda-compat out of the loader's path in this shell"),
        ways.install_driver(host, verb="Raise"),
        detail="Right after a driver upgrade without a restart the same error appears: then restart.",
        also=(see(smi, "gpus", "GPU", consumer[0]),) if consumer and smi else (),
        confidence=Confidence.CERTAIN if consumer else Confidence.LIKELY,
    )


@witness
def fabric_manager_missing(words: ErrorText, host: Host | None, module: KernelModule | None) -> Iterator[Finding]:
    """Error 802, in CUDA's or anybody's words."""
    heard = hear_message(words, "error-802") or hear(
        words, r"system not yet initialized", r"\b(?:error|failure|code)?\s?\(?802\)?\b.{0,40}(?:system|error)"
    )
    if heard:
        fixes = ways.start_fabric_manager(host, module.version if module else None)
        yield lead(heard, "CUDA waits for the fabric manager of this NVSwitch machine (error 802)", *fixes)


@witness
def driver_library_mismatch(words: ErrorText, module: KernelModule | None) -> Iterator[Finding]:
    """NVML's and CUDA's own words: the module and the libraries are of different versions."""
    heard = hear_message(words, "nvml-mismatch", "error-803")
    if heard is None:
        return
    version = re.search(
        r"NVML library version: ?(\d{3}\.\d{1,3}(?:\.\d{1,2})?)", "\n".join(x.text for x in words.lines)
    )
    library = (
        (Evidence("error_text.lines", version.group(1), heard.evidence.source, "file", "NVML library"),)
        if version
        else ()
    )
    loaded = (see(module, "version", "loaded module"),) if module and module.version else ()
    yield lead(
        heard,
        "The driver's kernel module and its libraries have different versions",
        ways.reboot("the loaded module then belongs to the installed libraries"),
        ways.reload_modules(),
        look("In a container: find driver libraries that were installed there", "find / -xdev -name 'libcuda.so.*' -o -xdev -name 'libnvidia-ml.so.*' 2>/dev/null"),
        also=(*loaded, *library),
        confidence=Confidence.CERTAIN,
    )  # fmt: skip


@witness
def uvm_broken_after_suspend(words: ErrorText, smi: NvidiaSmi | None, host: Host | None) -> Iterator[Finding]:
    """An unknown error of CUDA; sure where the machine slept, a lead where it did not."""
    heard = hear(words, UNKNOWN_ERROR)
    if heard is None or (host and host.wsl):
        return
    slept = hear(words, SUSPENDED)
    reinstalled = hear(words, RENEWED)
    if slept is None and (reinstalled or _is_server(smi)):
        return  # the driver was renewed, or servers do not sleep: driver-needs-reboot
    yield lead(
        heard,
        "CUDA answers 'unknown error': nvidia-uvm is not usable",
        ways.reload_uvm(),
        detail="The message blames CUDA_VISIBLE_DEVICES, which is seldom it. It follows a suspend, or a missing module.",
        also=(slept.evidence,) if slept and slept.words != heard.words else (),
        confidence=Confidence.LIKELY if slept else Confidence.POSSIBLE,
    )


def _is_server(smi: NvidiaSmi | None) -> bool:
    names = gpu_names(None, smi, None)
    return bool(names) and all(DATA_CENTRE.search(each) for each in names)


@witness
def driver_needs_reboot(words: ErrorText, smi: NvidiaSmi | None, host: Host | None) -> Iterator[Finding]:
    """An unknown error of CUDA on a server, or after the driver was renewed."""
    heard = hear(words, UNKNOWN_ERROR)
    renewed = hear(words, RENEWED)
    if heard is None or hear(words, SUSPENDED) or not (renewed or _is_server(smi)) or (host and host.wsl):
        return
    yield lead(
        heard,
        "CUDA answers 'unknown error': the driver was probably renewed and the machine not restarted",
        ways.reboot("the kernel then loads the driver that is installed"),
        ways.reload_uvm(),
        also=(renewed.evidence,) if renewed and renewed.words != heard.words else (),
        confidence=Confidence.LIKELY if renewed else Confidence.POSSIBLE,
    )


@witness
def cuda_visible_devices_wrong(
    words: ErrorText, environment: Environment | None, smi: NvidiaSmi | None
) -> Iterator[Finding]:
    """No GPU is found while CUDA_VISIBLE_DEVICES is set, or torch counted them before it was."""
    value = environment.get("CUDA_VISIBLE_DEVICES") if environment else None
    late = hear(words, r"device >= 0 && device < num_gpus", r"CUDA_VISIBLE_DEVICES.{0,60}(?:too late|after)")
    none = hear_message(words, "no-cuda-gpus", "invalid-ordinal") or (
        hear(words, r"is_available\(\).{0,12}False") if value else None
    )
    if late:
        yield lead(
            late,
            "CUDA_VISIBLE_DEVICES was changed after CUDA had counted the GPUs",
            look("Set it before Python starts", "CUDA_VISIBLE_DEVICES=0 python train.py"),
            confidence=Confidence.POSSIBLE,
        )
    elif none and value is not None and environment and not re.fullmatch(r"0(?:,\d{1,2})*", value):
        known = len(smi.gpus) if smi and smi.gpus else None
        if known and value.isdigit() and int(value) < known:
            return  # it names a GPU that is there
        yield lead(
            none,
            f"CUDA_VISIBLE_DEVICES={value} leaves no GPU to this process",
            unset("CUDA_VISIBLE_DEVICES"),
            look("List the GPUs with their numbers", "nvidia-smi -L"),
            also=(see(environment, "variables", "CUDA_VISIBLE_DEVICES", value),),
            confidence=Confidence.CERTAIN if known else Confidence.LIKELY,
        )


@witness
def mig_limitation(words: ErrorText) -> Iterator[Finding]:
    """A failure that names a MIG slice, or one that MIG makes of a count of GPUs."""
    heard = hear(
        words,
        r"\bMIG-(?:GPU-)?[0-9a-f.]",
        r"invalid literal for int\(\).{0,40}MIG",
        r"device >= 0 && device < num_gpus",
    )
    if heard:
        named = "MIG" in heard.words
        yield lead(
            heard,
            "The failure comes from a MIG slice: one process sees one slice, by its own name",
            look("List the slices, then name one of them", "nvidia-smi -L", "export CUDA_VISIBLE_DEVICES=MIG-UUID"),
            confidence=Confidence.LIKELY if named else Confidence.POSSIBLE,
            severity=Severity.ERROR if named else Severity.INFO,
        )


@witness
def exclusive_compute_mode(words: ErrorText, smi: NvidiaSmi | None) -> Iterator[Finding]:
    """CUDA finds every device busy, and no other cause is named."""
    heard = hear(
        words,
        r"all CUDA-capable devices are busy or unavailable",
        r"CUDA-capable device\(s\) is/are busy or unavailable",
        r"cudaErrorDevices?Unavailable",
    )
    if heard and not _is_virtual(smi, words):
        yield lead(
            heard,
            "Every GPU is taken: in exclusive mode one process holds a card alone",
            look("See the mode and who holds the cards", "nvidia-smi --query-gpu=index,compute_mode --format=csv", "nvidia-smi pmon -c 1"),
            severity=Severity.ERROR,
            confidence=Confidence.POSSIBLE,
        )  # fmt: skip


@witness
def vgpu_limitation(words: ErrorText, smi: NvidiaSmi | None) -> Iterator[Finding]:
    """A virtual GPU that answers as if it were taken: mostly its licence."""
    heard = hear(
        words,
        r"CUDA-capable device\(s\) is/are busy or unavailable",
        r"devices are busy or unavailable",
        r"\bvGPU\b.{0,60}licen[cs]e|unlicensed",
        r"operation not supported.{0,40}vGPU",
    )
    if heard and _is_virtual(smi, words):
        yield lead(
            heard,
            "A virtual GPU refuses CUDA: its profile or its licence does not allow it",
            look("See the licence and the profile", "nvidia-smi -q | grep -i -A3 -E 'licen|virtualization'"),
            severity=Severity.ERROR,
        )


def _is_virtual(smi: NvidiaSmi | None, words: ErrorText | None) -> bool:
    names = " ".join(gpu_names(None, smi, None))
    return bool(re.search(r"vGPU|GRID |\b[A-Z]{1,3}\d{1,4}[A-Z]?-\d{1,3}[QCBA]\b|Standard_NV", names)) or bool(
        hear(words, r"\bvGPU\b")
    )


WITNESSES: tuple[Witness, ...] = (
    driver_too_old_for_cuda_build, forward_compat_unsupported, fabric_manager_missing, driver_library_mismatch,
    uvm_broken_after_suspend, driver_needs_reboot, cuda_visible_devices_wrong, mig_limitation, exclusive_compute_mode,
    vgpu_limitation,
)  # fmt: skip
