"""Settings that cost speed: debugging left on, features switched off, and allocator options that do not hold."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Environment
from envdoctor.facts.libraries import Toolkit
from envdoctor.facts.torch import TorchBuild, TorchCuda, TorchSettings
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.knowledge.cuda import numbers
from envdoctor.knowledge.gpus import capability
from envdoctor.knowledge.torch import releases
from envdoctor.remedy.variables import export, look, unset
from envdoctor.rule import Missing, NotApplicable, Rule, Unknown, rule
from envdoctor.rules.allocator import UNHEARD_OF, problems
from envdoctor.rules.builds import need_cuda_build
from envdoctor.rules.cards import Card, cards
from envdoctor.rules.launch import nccl_setting
from envdoctor.rules.presence import need_gpu

AMPERE = (8, 0)
OFF = frozenset({"", "0", "false", "off", "no"})
DETERMINISTIC_WORKSPACES = frozenset({":4096:8", ":16:8"})
NEUTRAL_NAME_SINCE = (2, 10)
CUDA_NAME, NEUTRAL_NAME = "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"
# Each costs speed whenever it is on: name, what it does, and from which value on (None: any that is not off).
DEBUGGING: tuple[tuple[str, str, str | None], ...] = (
    ("TORCH_DISTRIBUTED_DEBUG", "each collective is compared between the ranks", r"DETAIL"),
    ("PYTORCH_NO_CUDA_MEMORY_CACHING", "each tensor asks the driver for its memory", None),
    ("TRITON_INTERPRET", "Triton's kernels run in the Python interpreter", None),
    ("DISABLE_PTXAS_OPT", "Triton's kernels are compiled without optimisation", None),
    ("TORCH_COMPILE_DEBUG", "each compilation writes its traces to disk", None),
    ("CUDA_FORCE_PTX_JIT", "every kernel is compiled again when it is loaded", None),
    ("CUBLAS_LOGINFO_DBG", "each call of cuBLAS is written out", None),
    ("CUDNN_LOGINFO_DBG", "each call of cuDNN is written out", None),
    ("CUDNN_LOGLEVEL_DBG", "each call of cuDNN is written out", r"3"),
    ("CUBLASLT_LOG_LEVEL", "each call of cuBLASLt is written out", r"[2-5]"),
)


def _value(environment: Environment | None, name: str) -> str | None:
    found = environment.get(name) if environment else None
    return found.strip() if found is not None else None


def _is_on(environment: Environment | None, name: str) -> bool:
    return (_value(environment, name) or "").lower() not in OFF


@rule(severity=Severity.WARNING, group="environment")
def cuda_launch_blocking_set(
    environment: Environment,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    smi: NvidiaSmi | None,
    driver: CudaDriver | None,
) -> Iterator[Finding]:
    """CUDA_LAUNCH_BLOCKING is set: each kernel is waited for before the next is launched.

    ## What it means
    The variable makes every launch synchronous, so that an error shows at the right line. It is for debugging.

    ## Why it matters
    CPU and GPU take turns instead of working side by side. Small kernels and data loading suffer most.

    ## How it is detected
    The environment: any value but 0.

    ## What to do
    Unset it when the error has been found.

    ## Sources
    https://docs.pytorch.org/docs/stable/cuda_environment_variables.html
    """
    need_gpu(bus, nodes, module, smi, driver)
    if not _is_on(environment, "CUDA_LAUNCH_BLOCKING"):
        return
    value = _value(environment, "CUDA_LAUNCH_BLOCKING")
    shown = see(environment, "variables", "CUDA_LAUNCH_BLOCKING", value)
    yield Finding(
        "CUDA_LAUNCH_BLOCKING is set: kernels run one at a time", "", (shown,), (unset("CUDA_LAUNCH_BLOCKING"),)
    )


@rule(severity=Severity.INFO, group="environment")
def nccl_debug_left_on(
    environment: Environment,
    toolkit: Toolkit | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
) -> Iterator[Finding]:
    """NCCL writes its debugging log.

    ## What it means
    NCCL_DEBUG is INFO or TRACE: every rank writes what it decides.

    ## Why it matters
    The log of a large job is flooded, and its start is slower. Training speed is nearly the same with INFO.

    ## How it is detected
    The environment, and NCCL's configuration files.

    ## What to do
    Set it to WARN, which still says what went wrong.

    ## Sources
    https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html#nccl-debug
    """
    need_gpu(bus, nodes, module)
    found = nccl_setting(environment, toolkit, "NCCL_DEBUG")
    if found and found[0].strip().upper() in {"INFO", "TRACE"}:
        fixes = (export("Let NCCL say warnings only", "NCCL_DEBUG=WARN"),)
        yield Finding(f"NCCL_DEBUG={found[0]}: every rank writes NCCL's debugging log", "", (found[1],), fixes)


@rule(severity=Severity.WARNING, group="environment")
def anomaly_or_debug_mode_on(
    settings: TorchSettings, environment: Environment | None, build: TorchBuild | None
) -> Iterator[Finding]:
    """A debugging mode of PyTorch or of a CUDA library is on.

    ## What it means
    Anomaly detection, a debug build, or a variable that makes each operation check or write something.

    ## Why it matters
    Training is slower by a factor, without a word.

    ## How it is detected
    torch.is_anomaly_enabled(), the build's own flag, and the variables that are known to cost speed.

    ## What to do
    Switch it off for real runs.

    ## Sources
    https://docs.pytorch.org/docs/stable/autograd.html#anomaly-detection
    https://docs.pytorch.org/docs/stable/distributed.html#torch-distributed-debug
    """
    if settings.anomaly_mode:
        fix = look("Find where it is switched on", "grep -rn 'set_detect_anomaly\\|detect_anomaly' --include='*.py' .")
        title = "Anomaly detection is on: each backward step is checked and traced"
        yield Finding(title, "", (see(settings, "anomaly_mode", "anomaly mode"),), (fix,), "anomaly")
    if build and build.debug:
        fix = look("See which build it is", "python3 -c 'import torch; print(torch.__config__.show())'")
        yield Finding("This torch is a debug build", "", (see(build, "debug", "debug build"),), (fix,), "debug-build")
    for name, does, pattern in DEBUGGING:
        value = _value(environment, name)
        if (
            environment
            and value
            and (re.fullmatch(pattern, value, re.IGNORECASE) if pattern else _is_on(environment, name))
        ):
            shown = see(environment, "variables", name, value)
            yield Finding(f"{name}={value}: {does}", "", (shown,), (unset(name),), name)


@rule(severity=Severity.WARNING, group="precision")
def cudnn_disabled(settings: TorchSettings, build: TorchBuild) -> Iterator[Finding]:
    """PyTorch does not use cuDNN.

    ## What it means
    torch.backends.cudnn.enabled is False, or this CUDA build has no cuDNN. Convolutions take PyTorch's own kernels.

    ## Why it matters
    Convolutional networks are slower, often by a factor, and need more memory.

    ## How it is detected
    torch's setting in a fresh process, or live in the training process. Where deterministic algorithms are asked for
    as well it is taken as a choice, and info.

    ## What to do
    Take the line out that switches it off. For reproducible results, cudnn.deterministic is enough.

    ## Sources
    https://docs.pytorch.org/docs/stable/backends.html#torch-backends-cudnn
    """
    need_cuda_build(build)
    without = "without cuDNN" in settings.unknown.get("cudnn_version", "")
    if settings.cudnn_enabled is None and not without:
        raise Unknown(settings.unknown.get("cudnn_enabled", "torch did not say whether cuDNN is enabled"))
    if settings.cudnn_enabled is not False and not without:
        return
    chosen = bool(settings.deterministic_algorithms) and not without
    find = look("Find where it is switched off", "grep -rn 'cudnn.enabled' --include='*.py' .")
    said = "this torch was built without it" if without else None
    yield Finding(
        "cuDNN is switched off" if not without else "This CUDA build of torch has no cuDNN",
        evidence=(see(settings, "cudnn_enabled", "torch.backends.cudnn.enabled", said),),
        fixes=(find,),
        severity=Severity.INFO if chosen else None,
    )


@rule(severity=Severity.INFO, group="precision")
def deterministic_mode_on(environment: Environment, settings: TorchSettings | None) -> Iterator[Finding]:
    """Deterministic algorithms are asked for.

    ## What it means
    PyTorch, cuDNN or cuBLAS choose among algorithms that give the same bits each time.

    ## Why it matters
    The fastest algorithms are often left out. Results can be reproduced: that is a choice, and no fault.

    ## How it is detected
    torch's settings, and CUBLAS_WORKSPACE_CONFIG with one of the two deterministic values.

    ## What to do
    Nothing, if it is meant. Else take it out; what it costs here is for "envdoctor bench" to measure.

    ## Sources
    https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    shown: list[Evidence] = []
    if settings and settings.deterministic_algorithms:
        shown.append(see(settings, "deterministic_algorithms", "torch.use_deterministic_algorithms"))
    if settings and settings.cudnn_deterministic:
        shown.append(see(settings, "cudnn_deterministic", "torch.backends.cudnn.deterministic"))
    workspace = _value(environment, "CUBLAS_WORKSPACE_CONFIG")
    if workspace in DETERMINISTIC_WORKSPACES:
        shown.append(see(environment, "variables", "CUBLAS_WORKSPACE_CONFIG", workspace))
    if shown:
        fixes = (unset("CUBLAS_WORKSPACE_CONFIG"),) if workspace else (_find_determinism(),)
        yield Finding(
            "Deterministic algorithms are asked for: the fastest ones may be left out", "", tuple(shown), fixes
        )


def _find_determinism() -> Fix:
    command = "grep -rn 'use_deterministic_algorithms\\|cudnn.deterministic' --include='*.py' ."
    return look("Find where it is asked for", command)


@rule(severity=Severity.WARNING, group="precision")
def fused_attention_unavailable(
    settings: TorchSettings,
    build: TorchBuild,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
) -> Iterator[Finding]:
    """Every fused attention is switched off: only the slow one is left.

    ## What it means
    scaled_dot_product_attention may use neither FlashAttention nor the memory-efficient kernel nor cuDNN's. The
    mathematical form writes the whole matrix of scores to memory.

    ## Why it matters
    Attention is slower by a factor and its memory grows with the square of the length.

    ## How it is detected
    torch's own switches for the three kernels, all off. One of them that is on is enough. Whether a shape or a data
    type rules a kernel out is for "envdoctor bench" to measure.

    ## What to do
    Take the lines out that switch them off.

    ## Sources
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
    """
    need_cuda_build(build)
    need_gpu(bus, nodes, module)
    switches = (("flash_sdp", "flash"), ("mem_efficient_sdp", "memory-efficient"), ("cudnn_sdp", "cuDNN"))
    known = [(field, label) for field, label in switches if getattr(settings, field) is not None]
    if not known:
        raise Unknown(settings.unknown.get("flash_sdp", "torch did not say which attention kernels it may use"))
    if any(getattr(settings, field) for field, _ in known):
        return
    on = "python3 -c 'import torch; torch.backends.cuda.enable_flash_sdp(True)'  # in the program, where it is off"
    yield Finding(
        "Only the mathematical form of attention may be used",
        evidence=tuple(see(settings, field, f"{label} attention", "off") for field, label in known),
        fixes=(
            look("Find where they are switched off", "grep -rn 'enable_.*_sdp\\|sdpa_kernel' --include='*.py' ."),
            look("Or switch them on again", on),
        ),
    )


@rule(severity=Severity.WARNING, group="precision")
def tf32_overridden_by_environment(
    environment: Environment,
    settings: TorchSettings,
    build: TorchBuild,
    driver: CudaDriver | None,
    smi: NvidiaSmi | None,
    cuda: TorchCuda | None,
) -> Iterator[Finding]:
    """A variable decides about TF32, whatever the program asks for.

    ## What it means
    NVIDIA_TF32_OVERRIDE=0 stops NVIDIA's libraries from using TF32, convolutions of cuDNN included.
    TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1 makes TF32 the default of matrix products; NVIDIA's images set it on purpose.

    ## Why it matters
    With the first, fp32 training on Ampere or newer leaves the Tensor Cores idle, although torch says that TF32 is
    allowed. With the second, results differ in the last digits from a machine without it.

    ## How it is detected
    The two variables, on a GPU of compute capability 8.0 or more. The second is info: it costs nothing.

    ## What to do
    Unset the variable unless it is meant.

    ## Sources
    https://docs.nvidia.com/cuda/cublas/
    https://github.com/pytorch/pytorch/pull/77114
    """
    need_cuda_build(build)
    gpu = _ampere(driver, smi, cuda)
    if _value(environment, "NVIDIA_TF32_OVERRIDE") == "0":
        shown = see(environment, "variables", "NVIDIA_TF32_OVERRIDE", "0")
        asked = () if settings.allow_tf32_cudnn is None else (_conv_says(settings),)
        title = "NVIDIA_TF32_OVERRIDE=0 keeps TF32 off, whatever the program asks for"
        yield Finding(
            title, "", (shown, *asked, gpu.evidence), (unset("NVIDIA_TF32_OVERRIDE"),), "NVIDIA_TF32_OVERRIDE"
        )
    elif _value(environment, "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE") == "1":
        name = "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"
        shown = see(environment, "variables", name, "1")
        title = f"{name}=1 makes TF32 the default of fp32 matrix products"
        yield Finding(title, "", (shown, gpu.evidence), (unset(name),), name, Severity.INFO)


def _conv_says(settings: TorchSettings) -> Evidence:
    return see(settings, "allow_tf32_cudnn", "torch allows TF32 in convolutions")


def _ampere(driver: CudaDriver | None, smi: NvidiaSmi | None, cuda: TorchCuda | None) -> Card:
    """Give a GPU that has TF32, or end the rule."""
    found = cards(driver, smi, cuda)
    if not found:
        raise Missing(CudaDriver)
    for card in found:
        if (capability(card.capability) or (0, 0)) >= AMPERE:
            return card
    if any(card.capability is None for card in found):
        raise Unknown("the GPUs' compute capability is not known")
    raise NotApplicable("no GPU of compute capability 8.0 or more")


@rule(severity=Severity.ERROR, group="environment")
def allocator_setting_invalid(environment: Environment, build: TorchBuild) -> Iterator[Finding]:
    """The allocator's options hold something that PyTorch rejects or ignores.

    ## What it means
    PYTORCH_CUDA_ALLOC_CONF (PYTORCH_ALLOC_CONF since torch 2.10) is a list of option:value. PyTorch reads it when the
    first tensor is put on the GPU.

    ## Why it matters
    An unknown option or a bad value raises there. The new name with an older torch has no effect on GPU memory, so
    that the job runs out of it.

    ## How it is detected
    The value is read as PyTorch reads it, against all options of torch 1.12 to 2.15. What is rejected is an error, a
    name that this torch does not read is a warning.

    ## What to do
    Correct the option, or take the variable back.

    ## Sources
    https://docs.pytorch.org/docs/stable/notes/cuda.html#optimizing-memory-usage-with-pytorch-cuda-alloc-conf
    """
    need_cuda_build(build)
    for name in (CUDA_NAME, NEUTRAL_NAME):
        value = _value(environment, name)
        if not value:
            continue
        found = problems(value)
        if any(each.startswith(UNHEARD_OF) for each in found) and _beyond_the_table(build):
            raise Unknown(f"torch {build.version} is newer than the list of options that ships here")
        if found:
            title, shown = f"{name}: {'; '.join(found[:3])}", see(environment, "variables", name, value)
            yield Finding(title, "", (shown,), (unset(name),), name, confidence=Confidence.LIKELY)
    yield from _unread_name(environment, build)


def _beyond_the_table(build: TorchBuild) -> bool:
    version = numbers(build.version)
    return version is None or version[:2] > releases()[0].version.release[:2]


def _unread_name(environment: Environment, build: TorchBuild) -> Iterator[Finding]:
    """Report the neutral name where this torch reads the other one only."""
    value, version = _value(environment, NEUTRAL_NAME), numbers(build.version)
    if not value or _value(environment, CUDA_NAME) or version is None or version[:2] >= NEUTRAL_NAME_SINCE:
        return
    yield Finding(
        f"{NEUTRAL_NAME} has no effect on GPU memory with torch {build.version}",
        evidence=(see(environment, "variables", NEUTRAL_NAME, value), see(build, "version", "torch")),
        fixes=(export("Use the name that this torch reads", f"{CUDA_NAME}='{value}'"),),
        subject="unread-name",
        severity=Severity.WARNING,
    )


RULES: tuple[Rule, ...] = (
    cuda_launch_blocking_set, nccl_debug_left_on, anomaly_or_debug_mode_on, cudnn_disabled, deterministic_mode_on,
    fused_attention_unavailable, tf32_overridden_by_environment, allocator_setting_invalid,
)  # fmt: skip
