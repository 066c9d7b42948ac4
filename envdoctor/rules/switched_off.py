"""Features that make training fast and are switched off: cuDNN, fused attention, TF32, free choice of algorithms."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.bench import BenchAttention, BenchClocks, BenchDevice, BenchLadder
from envdoctor.facts.driver import CudaDriver, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Environment
from envdoctor.facts.torch import TorchBuild, TorchCuda, TorchSettings
from envdoctor.finding import Evidence, Finding, Fix, Severity, see
from envdoctor.knowledge.gpus import capability
from envdoctor.remedy.variables import in_program, look, unset
from envdoctor.rule import Missing, NotApplicable, Rule, Unknown, rule
from envdoctor.rules.builds import need_cuda_build
from envdoctor.rules.cards import Card, cards
from envdoctor.rules.costs import of_a_step, of_math_attention
from envdoctor.rules.presence import need_gpu
from envdoctor.rules.setting_values import value_of

AMPERE = (8, 0)
DETERMINISTIC_WORKSPACES = frozenset({":4096:8", ":16:8"})


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
def deterministic_mode_on(
    environment: Environment,
    settings: TorchSettings | None,
    device: BenchDevice | None,
    ladder: BenchLadder | None,
    clocks: BenchClocks | None,
) -> Iterator[Finding]:
    """Deterministic algorithms are asked for.

    ## What it means
    PyTorch, cuDNN or cuBLAS choose among algorithms that give the same bits each time.

    ## Why it matters
    The fastest algorithms are often left out. Results can be reproduced: that is a choice, and no fault.

    ## How it is detected
    torch's settings, and CUBLAS_WORKSPACE_CONFIG with one of the two deterministic values.

    ## What to do
    Nothing, if it is meant. Else take it out; "envdoctor bench" measures what it costs here.

    ## Sources
    https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    shown: list[Evidence] = []
    if settings and settings.deterministic_algorithms:
        shown.append(see(settings, "deterministic_algorithms", "torch.use_deterministic_algorithms"))
    if settings and settings.cudnn_deterministic:
        shown.append(see(settings, "cudnn_deterministic", "torch.backends.cudnn.deterministic"))
    workspace = value_of(environment, "CUBLAS_WORKSPACE_CONFIG")
    if workspace in DETERMINISTIC_WORKSPACES:
        shown.append(see(environment, "variables", "CUBLAS_WORKSPACE_CONFIG", workspace))
    if shown:
        fixes = (unset("CUBLAS_WORKSPACE_CONFIG"),) if workspace else (_find_determinism(),)
        cost = of_a_step(device, ladder, clocks, "deterministic")
        told = f"{cost.what} takes {cost.factor:.2f} times as long here" if cost else "the fastest ones may be left out"
        evidence = (*shown, *(cost.evidence if cost else ()))
        yield Finding(f"Deterministic algorithms are asked for: {told}", "", evidence, fixes)


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
    device: BenchDevice | None,
    attention: BenchAttention | None,
    ladder: BenchLadder | None,
    clocks: BenchClocks | None,
) -> Iterator[Finding]:
    """Every fused attention is switched off: only the slow one is left.

    ## What it means
    scaled_dot_product_attention may use neither FlashAttention nor the memory-efficient kernel nor cuDNN's. The
    mathematical form writes the whole matrix of scores to memory.

    ## Why it matters
    Attention is slower by a factor and its memory grows with the square of the length.

    ## How it is detected
    torch's own switches for the three kernels, all off. One of them that is on is enough. Whether a shape or a data
    type rules a kernel out, and what it costs here, "envdoctor bench" measures.

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
    cost = of_a_step(device, ladder, clocks, "math-attention") or of_math_attention(attention)
    told = f": {cost.what} takes {cost.factor:.2f} times as long here" if cost else ""
    off = tuple(see(settings, field, f"{label} attention", "off") for field, label in known)
    yield Finding(
        f"Only the mathematical form of attention may be used{told}",
        evidence=(*off, *(cost.evidence if cost else ())),
        fixes=(
            look("Find where they are switched off", "grep -rn 'enable_.*_sdp\\|sdpa_kernel' --include='*.py' ."),
            in_program("Or switch them on again", "torch.backends.cuda.enable_flash_sdp(True)"),
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
    if value_of(environment, "NVIDIA_TF32_OVERRIDE") == "0":
        shown = see(environment, "variables", "NVIDIA_TF32_OVERRIDE", "0")
        asked = () if settings.allow_tf32_cudnn is None else (_conv_says(settings),)
        title = "NVIDIA_TF32_OVERRIDE=0 keeps TF32 off, whatever the program asks for"
        yield Finding(
            title, "", (shown, *asked, gpu.evidence), (unset("NVIDIA_TF32_OVERRIDE"),), "NVIDIA_TF32_OVERRIDE"
        )
    elif value_of(environment, "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE") == "1":
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


RULES: tuple[Rule, ...] = (
    cudnn_disabled,
    deterministic_mode_on,
    fused_attention_unavailable,
    tf32_overridden_by_environment,
)
