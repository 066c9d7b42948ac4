"""Words about code that a GPU lacks: in torch, in an extension, in NVRTC, in what Triton writes."""
# ruff: noqa: E501

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.driver import KernelModule, NvidiaSmi
from envdoctor.facts.host import Environment, Host
from envdoctor.facts.packages import Packages
from envdoctor.facts.text import ErrorText, Pasted
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.knowledge.cuda import cuda_minor, dotted, numbers
from envdoctor.knowledge.gpus import beyond_compiler, capability
from envdoctor.knowledge.torch import TorchWheelCode, every_cuda, wheel_code
from envdoctor.remedy import driver as ways
from envdoctor.remedy.install import install_plain
from envdoctor.remedy.repair import compiled_again
from envdoctor.remedy.variables import look, unset
from envdoctor.rule import Witness, witness
from envdoctor.rules.arch import other_wheel, runs_here
from envdoctor.rules.cards import Card, cards
from envdoctor.rules.driver_level import Driver
from envdoctor.rules.said import hear, hear_message, lead, sure

NO_IMAGE = (
    r"no kernel image is available|cudaErrorNoKernelImageForDevice|CUDA_ERROR_NO_BINARY_FOR_GPU|no kernel image\b"
)
NOT_THIS_GPU = r"CUDA capability sm_\d{2,3}[a-f]? is not compatible|which is of (?:compute|cuda) capability|(?:no longer supports this GPU|compute capability \d\.\d (?:is )?(?:not|no longer) supported)|cublas runtime error : the GPU program failed to execute"
# Who else brings kernels of its own: the name in a path or a word, and the distribution that it belongs to.
OWNERS = {
    "flash_attn": "flash-attn", "flash-attn": "flash-attn", "flashattention": "flash-attn", "flashinfer": "flashinfer-python", "xformers": "xformers",
    "vllm": "vllm", "punica": "vllm", "bitsandbytes": "bitsandbytes", "sgl_kernel": "sgl-kernel", "sgl-kernel": "sgl-kernel",
    "deepspeed": "deepspeed", "apex": "apex", "mmcv": "mmcv", "torchvision": "torchvision", "torchaudio": "torchaudio",
    "transformer_engine": "transformer-engine", "gptq": "auto-gptq", "awq": "autoawq", "spconv": "spconv", "mamba": "mamba-ssm",
    "causal_conv1d": "causal-conv1d", "natten": "natten", "torch_scatter": "torch-scatter", "torch_sparse": "torch-sparse",
    "pytorch3d": "pytorch3d", "detectron2": "detectron2", "exllama": "exllama", "tiny-cuda-nn": "tinycudann", "lora": "vllm",
}  # fmt: skip
# The least compute capability that a project names, and where it says so.
MINIMUM = {
    "flash-attn": ("8.0", "FlashAttention 2 supports Ampere and newer (Dao-AILab/flash-attention README)"),
    "flashinfer-python": ("7.5", "FlashInfer supports sm_75 and newer, its wheels sm_80 and newer (flashinfer-ai/flashinfer README)"),
    "sgl-kernel": ("7.5", "SGLang supports sm_75 and newer (sgl-project/sglang documentation)"),
    "vllm": ("7.0", "vLLM supports compute capability 7.0 and newer (vLLM installation guide)"),
}  # fmt: skip


def _owner(line: str) -> str | None:
    """Name the package that a line speaks of."""
    for word, name in OWNERS.items():
        if re.search(rf"(?<![A-Za-z]){re.escape(word)}", line, re.IGNORECASE):
            return name
    return None


@witness
def gpu_arch_not_in_build(
    words: ErrorText | None,
    pasted: Pasted | None,
    build: TorchBuild | None,
    smi: NvidiaSmi | None,
    module: KernelModule | None,
    packages: Packages | None,
    host: Host | None,
) -> Iterator[Finding]:
    """Torch names the GPU itself; else a kernel was missing, and nothing says that torch has code for this GPU."""
    found = cards(None, smi, None)
    fixes = other_wheel(Driver(None, None, smi, module, host=host), packages, build) if build else ()
    told = hear(words, NOT_THIS_GPU)
    missing = hear(words, NO_IMAGE)
    if told:
        yield lead(
            told,
            "This PyTorch has no code for a GPU of this machine, as it says itself",
            *(fixes or (_list_of_code(),)),
            also=tuple(each.evidence for each in found[:4]),
            confidence=Confidence.CERTAIN
            if "compatible" in told.words or "no longer" in told.words
            else sure(words, packages),
        )
    elif missing and not _owner(missing.words) and not (build and runs_here(build, found, host)):
        yield lead(
            missing,
            "No code for this GPU: most likely PyTorch's own build lacks it",
            *(fixes or (_list_of_code(),)),
            also=tuple(each.evidence for each in found[:4]),
            confidence=Confidence.POSSIBLE if not found else Confidence.LIKELY,
        )
    elif pasted and found:
        yield from _by_release(build, found, fixes)


def _by_release(build: TorchBuild | None, found: tuple[Card, ...], fixes: tuple[Fix, ...]) -> Iterator[Finding]:
    """Judge a release whose CUDA nobody names: by every CUDA that it was published for; without one, by the newest."""
    if build and (build.cuda or build.hip or build.is_cpu_only):
        return
    version = numbers(build.version) if build else None
    published = every_cuda(version[:2]) if version and len(version) > 1 else ()
    for card in found:
        gpu = capability(card.capability)
        if gpu and published and all(beyond_compiler(gpu, each) for each in published):
            words = ", ".join(map(dotted, published))
            known = Evidence("knowledge.torch", words, "PyTorch's previous versions", "", "published for CUDA")
            title = f"No PyTorch {build.version if build else ''} has code for the {card.name} (compute capability {card.capability})"
            yield Finding(title, evidence=(card.evidence, known), fixes=fixes, confidence=Confidence.LIKELY)
            return
        if gpu and build is None and not any(row.runs_on(card.capability or "") for row in _newest()):
            title = f"No current PyTorch wheel has code for the {card.name} (compute capability {card.capability})"
            yield Finding(title, evidence=(card.evidence,), severity=Severity.INFO, confidence=Confidence.POSSIBLE)
            return


def _newest() -> list[TorchWheelCode]:
    newest = max(row.torch for row in wheel_code())
    return [row for row in wheel_code() if row.torch == newest]


def _list_of_code() -> Fix:
    return look(
        "Compare the GPU with the code that torch has",
        "python -c 'import torch; print(torch.cuda.get_device_capability(), torch.cuda.get_arch_list())'",
    )


@witness
def extension_arch_missing(
    words: ErrorText | None,
    pasted: Pasted | None,
    build: TorchBuild | None,
    smi: NvidiaSmi | None,
    packages: Packages | None,
    host: Host | None,
    environment: Environment | None,
) -> Iterator[Finding]:
    """A kernel was missing although torch has code for this GPU, or an extension's own name stands beside it."""
    missing = hear(words, NO_IMAGE, r"sm_\d{2,3}[a-f]? (?:is )?missing|compiled without sm_\d{2,3}")
    found = cards(None, smi, None)
    owner = _owner(missing.words) or _owner_above(words) if missing else None
    has_code = runs_here(build, found, host) if build else None
    if missing and (
        (owner and not _below(owner, found))
        or has_code
        or (not build and environment and environment.get("TORCH_CUDA_ARCH_LIST"))
    ):
        version = (packages.version(owner) if packages and owner else None) or ""
        arches = ";".join(dict.fromkeys(each.capability for each in found if each.capability))
        yield lead(
            missing,
            f"{owner or 'A compiled extension'} has no code for this GPU{', although torch has' if has_code else ''}",
            *(
                compiled_again(packages, owner, version, arches=arches)
                if packages and owner and version
                else (_list_of_code(),)
            ),
            also=tuple(each.evidence for each in found[:4]),
            confidence=Confidence.LIKELY if owner and has_code else Confidence.POSSIBLE,
        )
    elif pasted and environment and found:
        yield from _left_out(environment, found)


def _left_out(environment: Environment, found: tuple[Card, ...]) -> Iterator[Finding]:
    """Compare TORCH_CUDA_ARCH_LIST with the GPU: what is compiled under it lacks code that the list leaves out."""
    value = environment.get("TORCH_CUDA_ARCH_LIST")
    listed = [capability(each) for each in re.findall(r"\d{1,2}\.\d", value or "")]
    for card in found:
        gpu = capability(card.capability)
        runs = any(each and gpu and each[0] == gpu[0] and each <= gpu for each in listed)
        if gpu and listed and not runs:
            ptx = "+PTX" in (value or "")
            yield Finding(
                f"TORCH_CUDA_ARCH_LIST leaves out the {card.name}: what is compiled under it has no code for it",
                evidence=(see(environment, "variables", "TORCH_CUDA_ARCH_LIST", value), card.evidence),
                fixes=(unset("TORCH_CUDA_ARCH_LIST"),),
                severity=Severity.INFO if ptx else Severity.WARNING,
                confidence=Confidence.LIKELY,
            )
            return


def _owner_above(words: ErrorText | None) -> str | None:
    """Name the package of the traceback's last frames."""
    lines = (
        [each.text for each in words.lines if "site-packages" in each.text or "dist-packages" in each.text]
        if words
        else []
    )
    return next((owner for line in reversed(lines[-6:]) if (owner := _owner(line))), None)


def _below(owner: str | None, found: tuple[Card, ...]) -> bool:
    """Tell whether a GPU is below what the package's project asks for."""
    least = capability(MINIMUM[owner][0]) if owner in MINIMUM else None
    return bool(least and any((gpu := capability(each.capability)) and gpu < least for each in found))


TOO_OLD = (
    r"FlashAttention only supports Ampere|flash.?attn.{0,60}(?:requires|only supports).{0,30}(?:Ampere|sm_?80|compute capability)",
    r"type fp8e4nv not supported in this architecture|requires device with capability [<>]=? ?\(\d{1,2}, ?\d\) but your GPU has capability",
    r"(?:at least|minimum|requires?|need) (?:a )?(?:gpu with )?(?:cuda )?compute capability (?:of |>= ?)?\d\.\d",
    r"Bfloat16 is only supported on GPUs with compute capability of at least 8\.0",
)


@witness
def gpu_too_old_for_package(
    words: ErrorText | None,
    pasted: Pasted | None,
    smi: NvidiaSmi | None,
    packages: Packages | None,
) -> Iterator[Finding]:
    """A package refuses the GPU, or misses a kernel on one that is below what its project supports."""
    found = cards(None, smi, None)
    refused = hear(words, *TOO_OLD)
    missing = hear(words, NO_IMAGE)
    owner = (_owner(missing.words) or _owner_above(words) or _kernels_of(packages)) if missing else None
    gpus = tuple(each.evidence for each in found[:4])
    if refused:
        fix = look("See the GPU's compute capability", "nvidia-smi --query-gpu=name,compute_cap --format=csv")
        yield lead(
            refused,
            "A package says that this GPU is older than it supports",
            fix,
            also=gpus,
            confidence=sure(words, packages),
        )
    elif missing and _old_for(owner, found):
        floor, source = MINIMUM.get(
            owner or "", ("8.0", "many kernels beside torch's own are written for Ampere and newer")
        )
        yield lead(
            missing,
            f"{owner or 'A package beside torch'} has no kernels for GPUs below compute capability {floor}",
            *((install_plain(packages, owner),) if packages and owner and owner not in MINIMUM else (_list_of_code(),)),
            also=(*gpus, Evidence("knowledge.minimum", floor, source, "", "asks for")),
            confidence=Confidence.LIKELY if owner and _below(owner, found) else Confidence.POSSIBLE,
        )
    elif pasted and found:
        yield from _installed_and_too_old(packages, found)


def _kernels_of(packages: Packages | None) -> str | None:
    """Name an installed package whose kernels run beside torch's."""
    return next(
        (
            each
            for each in ("vllm", "flashinfer-python", "flash-attn", "sgl-kernel")
            if packages and packages.find(each)
        ),
        None,
    )


def _old_for(owner: str | None, found: tuple[Card, ...]) -> bool:
    """Tell whether the GPU is one that kernels written for Ampere leave out, where torch's own wheels have code."""
    gpus = [gpu for each in found if (gpu := capability(each.capability))]
    return _below(owner, found) or any((6, 0) <= gpu < (8, 0) for gpu in gpus)


def _installed_and_too_old(packages: Packages | None, found: tuple[Card, ...]) -> Iterator[Finding]:
    """Say which installed packages ask for more; where a report lists no such packages, what FlashAttention asks for."""
    for name, (floor, source) in MINIMUM.items():
        if packages and packages.find(name) and _below(name, found):
            yield _note(name, floor, source, found, Severity.WARNING)
    if not packages or not any(packages.find(each) for each in MINIMUM):
        name = "flash-attn"
        if _below(name, found) and all((gpu := capability(each.capability)) and gpu >= (7, 0) for each in found):
            yield _note(name, *MINIMUM[name], found, Severity.INFO)


def _note(name: str, floor: str, source: str, found: tuple[Card, ...], severity: Severity) -> Finding:
    installed = severity is Severity.WARNING
    title = f"{name} asks for compute capability {floor} or newer, which this GPU has not"
    return Finding(
        title if installed else f"{title}: whether it is used here the text does not say",
        evidence=(*(each.evidence for each in found[:4]), Evidence("knowledge.minimum", floor, source, "", "asks for")),
        subject=name,
        severity=severity,
        confidence=Confidence.LIKELY if installed else Confidence.POSSIBLE,
    )


@witness
def gpu_newer_than_bundled_nvrtc(
    words: ErrorText, build: TorchBuild | None, smi: NvidiaSmi | None
) -> Iterator[Finding]:
    """NVRTC or ptxas refuses the GPU's architecture."""
    heard = hear(
        words,
        r"nvrtc: error: invalid value for --gpu-architecture",
        r"ptxas fatal\s?:.{0,20}(?:Value|Unsupported).{0,40}(?:sm_|gpu-name)",
        r"NVRTC_ERROR_INVALID_OPTION",
    )
    if heard:
        yield lead(
            heard,
            "The CUDA compiler that PyTorch brings does not know this GPU",
            look("See which CUDA it brings, and which GPU is asked for", "python -c 'import torch; print(torch.version.cuda, torch.cuda.get_device_capability())'"),
            also=(*((see(build, "cuda", "torch was built with"),) if build and build.cuda else ()), *(each.evidence for each in cards(None, smi, None)[:4])),
            severity=Severity.ERROR,
        )  # fmt: skip


@witness
def triton_ptxas_driver_mismatch(
    words: ErrorText | None,
    pasted: Pasted | None,
    build: TorchBuild | None,
    smi: NvidiaSmi | None,
    packages: Packages | None,
    host: Host | None,
) -> Iterator[Finding]:
    """Triton's code does not load; or the driver is older than the CUDA 12 that Triton compiles with since 2.1."""
    heard = hear(
        words, r"Triton Error \[CUDA\]: (?:device kernel image is invalid|the provided PTX was compiled)"
    ) or hear_message(words, "ptx-toolchain")
    driver = numbers(smi.driver_version if smi else None)
    also = (see(smi, "driver_version", "driver"),) if smi and smi.driver_version else ()
    if heard:
        yield lead(
            heard,
            "What Triton compiled is newer than this driver loads",
            ways.install_driver(host, 525, verb="Raise"),
            also=also,
        )
    elif (
        pasted
        and driver
        and driver < (525, 60, 13)
        and not (host and (host.wsl or host.system == "Windows"))
        and _may_compile(packages, build)
    ):
        yield Finding(
            "Triton since 2.1 compiles with CUDA 12, and this driver is older: torch.compile may fail",
            evidence=also,
            fixes=(ways.install_driver(host, 525, verb="Raise"),),
            severity=Severity.INFO,
            confidence=Confidence.POSSIBLE,
        )


def _may_compile(packages: Packages | None, build: TorchBuild | None) -> bool:
    """Tell whether Triton 2.1 or newer is here, or may be: CUDA 11.7 and 11.8 were the last before CUDA 12."""
    triton = packages.version("triton") if packages else None
    if triton:
        return (numbers(triton) or (0,)) >= (2, 1)
    torch, cuda = numbers(build.version if build else None), cuda_minor(build.cuda if build else None)
    return cuda is not None and cuda >= (11, 8) and (torch is None or torch >= (2, 1))


WITNESSES: tuple[Witness, ...] = (
    gpu_arch_not_in_build, extension_arch_missing, gpu_too_old_for_package, gpu_newer_than_bundled_nvrtc,
    triton_ptxas_driver_mismatch,
)  # fmt: skip
