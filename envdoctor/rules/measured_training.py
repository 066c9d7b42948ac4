"""Training, measured: attention, the model's step, and launches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from envdoctor.facts.bench import (
    BenchAttention,
    BenchClocks,
    BenchDevice,
    BenchLadder,
    BenchModel,
    Measured,
)
from envdoctor.finding import Command, Confidence, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.remedy.variables import in_program
from envdoctor.rule import Unknown, rule
from envdoctor.rules.measuring import again, at_clock, measured_gpu, need_judged, shown

if TYPE_CHECKING:
    from envdoctor.bench.ladder import Rung

NOTICEABLE = 1.15
HOST_BOUND = 0.9  # the host's time over the device's
# Its gradient scaler asks the GPU in the middle of each step whether a gradient has overflowed, and waits for it.
HOST_WAITS = frozenset(("amp-fp16",))
FULL_QUEUE = (
    "No smaller batch was measured: if a step launches more than about a thousand kernels, the host may have waited "
    "for room in the GPU's queue, and the GPU be the limit."
)
DEFAULT = "default"  # no backend asked for
MILLI = 1e-3


@rule(severity=Severity.WARNING, group="measured", explained_by=("fused-attention-unavailable",))
def attention_below_reference(
    device: BenchDevice, attention: BenchAttention, clocks: BenchClocks | None
) -> Iterator[Finding]:
    """The attention backend that torch picks here is slower than another one that was measured beside it.

    ## What it means
    scaled_dot_product_attention chooses among several kernels. For the shape of the model it takes one that is slower
    on this GPU than another one that is usable.

    ## Why it matters
    In a ViT-B/16 attention is 4 % of the FLOPs and, with the plain implementation, a quarter of the time.

    ## How it is detected
    Each backend is measured alone on the same input, and torch is asked which one it picks. It fires when the one
    picked takes at least 15 % longer and the samples of the two do not overlap.

    ## What to do
    Ask for the faster one with torch.nn.attention.sdpa_kernel, and see why torch refuses it by default.

    ## Sources
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
    """
    machine = measured_gpu(device, clocks)
    compared = 0
    for choice in attention.choices:
        alike = [e for e in attention.measured if e.precision == choice.precision and _same_input(e, choice.config)]
        slower = _slower(alike, choice.picked)
        compared += _default(_by_backend(alike), choice.picked) is not None
        if slower:
            picked, best, ratio = slower
            named = f"torch picks {choice.picked or 'an'} attention"
            title = f"{named}, which takes {ratio:.1f} times as long as {_backend(best)}"
            evidence = tuple(_timed(attention, each) for each in (picked, best))
            yield Finding(
                f"{title} here",
                "\n\n".join(f"{name}: {words}" for name, words in choice.refused.items() if name == _backend(best)),
                (*evidence, see(attention, "choices", "torch picks", choice.picked)),
                (_ask_for(_backend(best), device),),
                f"{choice.precision} {_where(best)}",
                confidence=Confidence.CERTAIN if machine.spec else Confidence.LIKELY,
            )
    if not compared:
        raise Unknown("which backend torch picks was not measured beside the others")


def _same_input(measured: Measured, config: dict[str, str]) -> bool:
    shared = [key for key in config if key in measured.config and key != "backend"]
    return all(measured.config[key] == config[key] for key in shared)


def _backend(measured: Measured) -> str:
    named = next((each for each in ("flash", "efficient", "cudnn", "math") if each in measured.name), measured.name)
    return measured.config.get("backend", named)


def _where(measured: Measured) -> str:
    shape = measured.config.get("shape", "")
    return " ".join(filter(None, (shape, "backward" if "backward" in measured.name else "forward")))


def _by_backend(found: list[Measured]) -> dict[str, Measured]:
    forward = [each for each in found if "backward" not in each.name and each.seconds]
    return {_backend(each): each for each in forward}


def _default(by_backend: dict[str, Measured], picked: str | None) -> Measured | None:
    """Give what a program gets that asks for nothing: measured as such, else the backend that torch says it picks."""
    return by_backend.get(DEFAULT) or by_backend.get(picked or "")


def _slower(found: list[Measured], picked: str | None) -> tuple[Measured, Measured, float] | None:
    """Give the picked backend, the fastest one, and how many times as long the picked one takes; None if it is fine."""
    from envdoctor.bench.rates import median
    from envdoctor.bench.statistics import Change, compare

    by_backend = _by_backend(found)
    mine = _default(by_backend, picked)
    named = [each for name, each in by_backend.items() if name != DEFAULT]
    if mine is None or not named:
        return None
    best = min(named, key=lambda each: median(each.seconds) or 0.0)
    said = compare(mine.seconds, best.seconds)
    faster = said.change is Change.FASTER and (said.speedup or 0.0) >= NOTICEABLE
    return (mine, best, said.speedup or 0.0) if faster else None


def _timed(attention: BenchAttention, measured: Measured) -> Evidence:
    from envdoctor.bench.statistics import summarize

    found = summarize(measured.seconds)
    said = f"{found.median * 1e6:.0f} us ({found.q1 * 1e6:.0f} to {found.q3 * 1e6:.0f}, n {found.n})" if found else ""
    return see(attention, "measured", f"{_backend(measured)}, {measured.precision}", said)


def _ask_for(backend: str, device: BenchDevice) -> Fix:
    names = {"flash": "FLASH_ATTENTION", "efficient": "EFFICIENT_ATTENTION", "cudnn": "CUDNN_ATTENTION", "math": "MATH"}
    line = f"torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.{names.get(backend, backend.upper())})"
    verify = again("attention", device=device)
    return replace(in_program("Run the model with this one alone", f"with {line}: ..."), verify=verify)


@rule(
    severity=Severity.WARNING,
    group="measured",
    explained_by=("gemm-below-reference", "memory-bandwidth-below-reference", "attention-below-reference",
                  "fused-attention-unavailable", "launch-bound", "tensor-cores-idle", "not-exclusive"),
)  # fmt: skip
def vit_below_reference(device: BenchDevice, model: BenchModel, clocks: BenchClocks | None) -> Iterator[Finding]:
    """The training step of the model is slower than others measured it on this GPU.

    ## What it means
    Images a second of a whole training step, on data that is already on the GPU, stay below a published run of the
    same model in the same precision on the same GPU model.

    ## Why it matters
    This is the speed that training has when nothing else is in its way.

    ## How it is detected
    The median of the measured steps against the published throughput. Below 85 % this fires. For most GPUs nobody
    published one: the answer is then unknown, never a guess.

    ## What to do
    Read the findings that explain it: products, memory, attention, launches. What none of them explains lies between
    the block and the step: the optimizer, a slow host, or torch itself.

    ## Sources
    https://github.com/huggingface/pytorch-image-models/tree/main/results
    """
    from envdoctor.bench import training
    from envdoctor.bench.verdict import Verdict

    machine = measured_gpu(device, clocks)
    steps = [each for each in training.measurements(machine, model) if training.is_step(each.measured)]
    need_judged(steps)
    slow = [each for each in steps if each.verdict is Verdict.BAD]
    for worst in sorted(slow, key=lambda each: each.share_of_reference or 1.0)[:1]:
        title = f"{model.model} trains at {worst.share_of_reference:.0%} of a published run on this GPU"
        source = worst.expected.source if worst.expected else ""
        fix = Fix(
            "See where the speed goes, stage by stage",
            (Command(None, f"envdoctor bench --model {model.model} --suite gemm,attention,model,ladder"),),
            Safety.SAFE,
            "nothing: it only measures",
            verify=again("model", device=device),
        )
        yield Finding(title, f"Published: {source}", (shown(model, worst), *at_clock(clocks, worst)), (fix,))


@rule(
    severity=Severity.WARNING,
    group="measured",
    explained_by=("cuda-launch-blocking-set", "anomaly-or-debug-mode-on", "cgroup-cpu-limit-below-workers"),
)
def launch_bound(
    device: BenchDevice, model: BenchModel, ladder: BenchLadder | None, clocks: BenchClocks | None
) -> Iterator[Finding]:
    """The host launches kernels more slowly than the GPU works them off.

    ## What it means
    The Python side of a training step takes as long as the GPU's side: the GPU waits for its next kernel.

    ## Why it matters
    A faster GPU, a lower precision or a better kernel then changes nothing.

    ## How it is detected
    The host's time until all of a step is launched against the GPU's time for it, both measured. 90 % or more fires.
    A queue of about a thousand launches that is full holds the host up until the GPU has worked off some of it, so that
    a slow GPU may look like a slow host. A step of a small batch has as many launches and leaves the GPU little to do:
    where one was measured, the host's time is the lesser of the two, and else this is no more than possible. Where a
    CUDA graph of the same step was measured, its gain is what the launches cost. Under fp16 the gradient scaler waits
    for the GPU in each step, so that the host's own time is not known.

    ## What to do
    Take a larger batch, compile the model, or capture the step in a CUDA graph. Look at the CPU quota and governor.

    ## Sources
    https://docs.pytorch.org/docs/stable/generated/torch.compile.html
    """
    from envdoctor.bench import training
    from envdoctor.bench.ladder import named, rungs

    machine = measured_gpu(device, clocks)
    steps = [each for each in training.main_steps(model) if each.dispatch_seconds]
    if not steps:
        raise Unknown("the host's time of a training step was not measured")
    steps = [each for each in steps if each.precision not in HOST_WAITS]
    if not steps:
        raise Unknown("in each step the gradient scaler of fp16 waits for the GPU: the host's own time is not known")
    step = min(steps, key=lambda each: sum(each.seconds) / len(each.seconds))
    smaller = _smaller(model, step)
    host, gpu = min(_middle(each.dispatch_seconds) for each in (step, *smaller)), _middle(step.seconds)
    if host < HOST_BOUND * gpu:
        return
    found = rungs(machine, ladder) if ladder else ()
    graph = named(found, "graph")
    proof = _gain(ladder, graph) if ladder and graph else ()
    unsure = "" if proof or smaller else FULL_QUEUE
    evidence = (
        see(model, "measured", "the host launches a step in", f"{host / MILLI:.1f} ms"),
        see(model, "measured", "the GPU takes", f"{gpu / MILLI:.1f} ms"),
        *proof,
    )
    waits = "may wait" if unsure else "waits"
    yield Finding(
        f"A training step {waits} for the host: {host / MILLI:.1f} ms to launch, {gpu / MILLI:.1f} ms on the GPU",
        " ".join(filter(None, (f"Batch {step.config.get('batch', model.batch)}, {step.precision}.", unsure))),
        evidence,
        (_fewer_launches(device),),
        confidence=Confidence.CERTAIN if proof else Confidence.LIKELY if smaller else Confidence.POSSIBLE,
    )


def _smaller(model: BenchModel, step: Measured) -> list[Measured]:
    """Give steps of a smaller batch: as many launches, and a GPU that does not hold the host up."""
    from envdoctor.bench import training

    alike = [each for each in model.measured if each.name == training.STEP and each.dispatch_seconds]
    return [each for each in alike if each.precision == step.precision and each.work < step.work]


def _middle(seconds: tuple[float, ...]) -> float:
    from envdoctor.bench.rates import median

    return median(seconds) or 0.0


def _gain(ladder: BenchLadder, graph: Rung) -> tuple[Evidence, ...]:
    if graph.verdict != "faster" or (graph.speedup or 0.0) < NOTICEABLE:
        return ()
    return (see(ladder, "rows", "as a CUDA graph", f"{graph.speedup:.2f} times as fast"),)


def _fewer_launches(device: BenchDevice) -> Fix:
    line = 'model = torch.compile(model, mode="reduce-overhead")'
    verify = again("model", "ladder", device=device)
    return replace(in_program("Launch less: compile the model, or raise the batch", line), verify=verify)


RULES = (attention_below_reference, vit_below_reference, launch_bound)
