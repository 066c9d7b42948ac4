"""The card itself, measured: products, Tensor Cores, memory, and how it stands among its peers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from envdoctor.facts.bench import BenchClocks, BenchDevice, BenchGemm, BenchMemory
from envdoctor.facts.fleet import FleetStages
from envdoctor.finding import Command, Confidence, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.remedy.variables import administer, look
from envdoctor.rule import Missing, NotApplicable, Unknown, rule
from envdoctor.rules.measuring import (
    again,
    amount,
    at_clock,
    measured_gpu,
    need_judged,
    shown,
)

if TYPE_CHECKING:
    from envdoctor.bench.judgement import Judgement
    from envdoctor.bench.machine import Machine

HELD_BACK = (
    "not-exclusive", "gpu-in-use", "power-limit-lowered", "clocks-locked-low", "gpu-throttled-thermal",
    "gpu-throttled-power", "ecc-uncorrectable", "row-remap-pending", "row-remap-failed", "xid-errors",
)  # fmt: skip
IDLE_BECAUSE = ("tf32-overridden-by-environment", "ld-library-path-shadowing", "cublas-mismatch")
TENSOR = ("fp16", "bf16", "tf32")
WORTH_HAVING = 1.8  # a tensor peak below this many times the FP32 peak cannot be told apart from it
LITTLE_FASTER = 1.15
AMONG_PEERS = 0.95  # healthy cards of one machine differ by up to 5 %
AMONG_RANKS = 0.90  # those of several machines, all at work, by more: power and heat are not the same everywhere


@rule(severity=Severity.WARNING, group="measured", explained_by=HELD_BACK)
def gemm_below_reference(device: BenchDevice, gemm: BenchGemm, clocks: BenchClocks | None) -> Iterator[Finding]:
    """Matrix products run slower than this GPU is known to run them.

    ## What it means
    The best of several shapes, measured here, stays below what others measured on the same GPU model.

    ## Why it matters
    Nearly all of a transformer's time is matrix products. Nothing in the software above can make up for them.

    ## How it is detected
    The best product of each precision against the median of published runs on this model. Below 85 %, or below the
    vendor's floor, this fires. Between 85 and 95 % it fires only when a cause was measured beside it: heat, a lowered
    power limit, a clock held down. A noisy run and a GPU that others use are not judged.

    ## What to do
    Remove what holds the clock down. If the clock was normal, compare with the other GPUs of the machine, and look for
    memory errors: a card that is slow at full clock is sick, or is not the model it says it is.

    ## Sources
    https://github.com/stas00/ml-engineering/tree/master/compute/accelerator
    """
    from envdoctor.bench import judging

    machine = measured_gpu(device, clocks)
    best = judging.best_products(machine, gemm)
    need_judged(best)
    slow = _slow(best)
    if not slow:
        return
    worst = min(slow, key=lambda each: each.share_of_reference or 1.0)
    title = f"{worst.measured.precision} matrix products reach {worst.share_of_reference:.0%} of what this GPU gives"
    yield Finding(
        f"{title} elsewhere",
        _why(worst),
        (*(shown(gemm, each, f"best {each.measured.precision} product") for each in slow), *at_clock(clocks, worst)),
        _ways_out(worst, device, "gemm"),
        confidence=Confidence.CERTAIN,
    )


def _slow(found: Iterable[Judgement]) -> list[Judgement]:
    """Give those that are bad, and those that are low with a cause that was measured beside them."""
    from envdoctor.bench import causes
    from envdoctor.bench.verdict import Verdict

    known = {"heat", "hardware", "power-limit", "locked-clock"}  # a clock below the maximum is how GPUs run products
    held = [
        each for each in found if each.verdict is Verdict.LOW and (cause := causes.of(each)) and cause.kind in known
    ]
    return [*held, *(each for each in found if each.verdict is Verdict.BAD)]


def _why(found: Judgement) -> str:
    from envdoctor.bench import causes

    return causes.in_words(found)


def _ways_out(found: Judgement, device: BenchDevice, suite: str) -> tuple[Fix, ...]:
    """Give the fix for what holds the card back; the command that measures again proves it."""
    from dataclasses import replace

    from envdoctor.bench import causes

    cause = causes.of(found)
    which = device.pci_address or str(device.index or 0)
    default = found.window.default_limit_watts
    kind = cause.kind if cause else ""
    if kind == "power-limit" and default:
        fix = administer(
            "Give the card its default power back", "the card", f"sudo nvidia-smi -i {which} -pl {default:.0f}"
        )
    elif kind == "locked-clock":
        commands = (f"sudo nvidia-smi -i {which} -rgc", f"sudo nvidia-smi -i {which} -rac")
        fix = administer("Let the clocks go", "the card", *commands)
    elif kind in {"heat", "hardware"}:
        fix = look("Watch heat, power and clocks", f"nvidia-smi -q -i {which} -d TEMPERATURE,POWER,CLOCK,PERFORMANCE")
    else:
        fix = look("Look for errors of the card", f"nvidia-smi -q -i {which} -d ECC,ROW_REMAPPER,PERFORMANCE,CLOCK")
    return (replace(fix, verify=again(suite, device=device)),)


@rule(severity=Severity.WARNING, group="measured", explained_by=IDLE_BECAUSE)
def tensor_cores_idle(device: BenchDevice, gemm: BenchGemm, clocks: BenchClocks | None) -> Iterator[Finding]:
    """Products that should run on the Tensor Cores are as slow as plain FP32.

    ## What it means
    fp16, bf16 or TF32 products were asked for, this GPU has Tensor Cores for them, and they ran no faster than IEEE
    fp32 products, which use none.

    ## Why it matters
    Mixed precision then costs accuracy and brings nothing: on an A100 up to 16 times the speed is left unused.

    ## How it is detected
    The best product of each precision against the best IEEE fp32 product, both measured here, where the data sheet
    promises at least 1.8 times as much. For TF32 the rounding error of a product tells as well what computed it.

    ## What to do
    Look at NVIDIA_TF32_OVERRIDE for TF32. For fp16 and bf16, look at cuBLAS: another copy may be loaded than the one
    this torch brings.

    ## Sources
    https://docs.nvidia.com/deeplearning/performance/dl-performance-matrix-multiplication/index.html
    """
    from envdoctor.bench import judging

    machine = measured_gpu(device, clocks)
    if machine.spec is None:
        raise Unknown(machine.why_no_spec)
    best = {each.measured.precision: each for each in judging.best_products(machine, gemm)}
    expected = [name for name in TENSOR if _worth_having(machine, name)]
    if not expected:
        raise NotApplicable(
            "by its data sheet this GPU gains nothing from Tensor Cores in any precision that was measured"
        )
    plain = best.get("fp32")
    if plain is None or not any(name in best for name in expected):
        raise Unknown("fp32 and a Tensor Core precision were not both measured")
    for name in expected:
        found = best.get(name)
        if found and found.value and plain.value and found.value < LITTLE_FASTER * plain.value:
            yield _idle(device, gemm, found, plain)


def _worth_having(machine: Machine, precision: str) -> bool:
    peaks = machine.spec.peaks if machine.spec else {}
    return bool(peaks.get("fp32")) and peaks.get(precision, 0.0) >= WORTH_HAVING * peaks["fp32"]


def _idle(device: BenchDevice, gemm: BenchGemm, found: Judgement, plain: Judgement) -> Finding:
    name, gain = found.measured.precision, (found.value or 0.0) / (plain.value or 1.0)
    rounding = tuple(
        see(gemm, "fingerprints", f"rounding with {each.setting} asked for", f"{each.says} (rms {each.rms_error:.1e})")
        for each in gemm.fingerprints
        if name == "tf32" and each.setting == "tf32" and each.rms_error is not None
    )
    promised = _promised(found, plain)
    fix = Fix(
        "See which cuBLAS is loaded and which variables change its arithmetic",
        (Command(None, "envdoctor check --only libraries,environment --show all"),),
        Safety.SAFE,
        "nothing: it only looks",
        verify=again("gemm", device=device),
    )
    evidence = (shown(gemm, found, f"best {name} product"), shown(gemm, plain, "best fp32 product"), *rounding)
    title = f"{name} products are {gain:.2f} times as fast as fp32{promised}: the Tensor Cores are idle"
    return Finding(title, "", evidence, (fix,), name)


def _promised(found: Judgement, plain: Judgement) -> str:
    fast, slow = found.limit.peak, plain.limit.peak
    return f" (the data sheet promises {fast / slow:.1f})" if fast and slow else ""


@rule(severity=Severity.WARNING, group="measured", explained_by=HELD_BACK)
def memory_bandwidth_below_reference(
    device: BenchDevice, memory: BenchMemory, clocks: BenchClocks | None
) -> Iterator[Finding]:
    """The GPU's own memory is slower than that of others of its model.

    ## What it means
    Copying within the card, over buffers far larger than its cache, stays below what is known of this model.

    ## Why it matters
    Normalisation, activation functions, the optimizer and attention's softmax are bound by memory.

    ## How it is detected
    Copy (two bytes for each) and triad (three) against published runs and NVIDIA's own floor. Below 85 % or below the
    floor this fires.

    ## What to do
    Look at the memory clock and at remapped rows. A card whose memory clock is normal and whose bandwidth is low
    should be compared with its neighbours and then with another card.

    ## Sources
    https://github.com/NVIDIA/DCGM
    """
    from envdoctor.bench import judging

    machine = measured_gpu(device, clocks)
    found = judging.memory(machine, memory)
    need_judged(found)
    for worst in sorted(_slow(found), key=lambda each: each.share_of_reference or 1.0)[:1]:
        title = f"{worst.name} in the GPU's memory reaches {worst.share_of_reference:.0%} of what this model gives"
        evidence = (*(shown(memory, each) for each in found if each.expected), *at_clock(clocks, worst))
        yield Finding(title, _why(worst), evidence, _ways_out(worst, device, "memory"))


@rule(severity=Severity.WARNING, group="measured", explained_by=HELD_BACK)
def gpu_slower_than_peers(
    device: BenchDevice | None, gemm: BenchGemm | None, clocks: BenchClocks | None, stages: FleetStages | None
) -> Iterator[Finding]:
    """One GPU is slower than the others of its model in this machine or job.

    ## What it means
    The same product was measured on each GPU: one after the other by "envdoctor bench", on all ranks at once by
    "envdoctor fleet --deep". One of them stays behind its peers.

    ## Why it matters
    In data-parallel training all wait for the slowest at each step.

    ## How it is detected
    Each GPU's median against the median of the others of the same name. Healthy cards of one machine differ by up to
    5 %, those of several machines that compute at once by up to 10 %: more than that fires, when even the slow card's
    fastest sample stays behind.

    ## What to do
    Compare clocks, power and temperature of the two. Change their places, to tell the card from its slot.

    ## Sources
    https://github.com/NVIDIA/nvidia-resiliency-ext
    """
    import statistics

    if stages is not None:
        yield from _behind_over_ranks(stages)
        return
    if device is None or gemm is None:
        raise Missing(BenchDevice if device is None else BenchGemm)
    measured_gpu(device, clocks)
    cards = _by_card(gemm)
    if len(cards) < 2:
        raise NotApplicable("one GPU was measured: there are no peers to compare it with")
    for name, rates in cards.items():
        middle = statistics.median(statistics.median(rate) for other, rate in cards.items() if other != name)
        if statistics.median(rates) < AMONG_PEERS * middle and max(rates) < middle:
            yield _behind(gemm, name, statistics.median(rates), middle, cards)


def _by_card(gemm: BenchGemm) -> dict[str, list[float]]:
    """Give the rates of the product that was measured on each card; of several models, those of the commonest one."""
    from envdoctor.bench.rates import rate_of

    found = [each for each in gemm.measured if "device" in each.config and each.seconds]
    models = [each.config.get("gpu", "") for each in found]
    most = max(models, key=models.count, default="")
    return {e.config["device"]: list(rate_of(e).samples) for e in found if e.config.get("gpu", "") == most}


def _behind(gemm: BenchGemm, name: str, own: float, middle: float, cards: dict[str, list[float]]) -> Finding:
    import statistics

    evidence: tuple[Evidence, ...] = tuple(
        see(gemm, "measured", f"product on {each}", amount(statistics.median(rates), "TFLOPS"))
        for each, rates in cards.items()
    )
    command = "nvidia-smi --query-gpu=index,clocks.sm,power.draw,enforced.power.limit,temperature.gpu --format=csv"
    fix = look("Compare clocks, power and heat of all cards", command)
    return Finding(f"{name} is {1 - own / middle:.0%} slower than its peers", "", evidence, (fix,), name)


def _behind_over_ranks(stages: FleetStages) -> Iterator[Finding]:
    """Judge the products of ranks that have a GPU each, against those on the same model."""
    import statistics

    compute = stages.stage("compute")
    models: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for each in compute.results if compute else ():
        if each.value and each.seconds and each.on not in {"", "CPU"}:
            middle = statistics.median(each.seconds)
            models[each.on][each.ranks] = [each.value * middle / second for second in each.seconds]
    if compute is None or all(len(ranks) < 2 for ranks in models.values()):
        raise NotApplicable("no two ranks have computed on GPUs of one model")
    for model, ranks in models.items():
        for rank, rates in ranks.items():
            others = [statistics.median(found) for other, found in ranks.items() if other != rank]
            middle = statistics.median(others) if others else 0.0
            if statistics.median(rates) < AMONG_RANKS * middle and max(rates) < middle:
                yield _rank_behind(rank, model, statistics.median(rates), middle, compute.unit)


def _rank_behind(rank: str, model: str, own: float, middle: float, unit: str) -> Finding:
    gives = (
        Evidence("fleet_stages.stages", amount(own, unit), "stage compute", "live", f"product on rank {rank}"),
        Evidence("fleet_stages.stages", amount(middle, unit), "stage compute", "live", f"median of the other {model}"),
    )
    command = "nvidia-smi --query-gpu=index,clocks.sm,power.draw,enforced.power.limit,temperature.gpu --format=csv"
    fix = look("Compare clocks, power and heat there and on another node", command)
    return Finding(
        f"The GPU of rank {rank} is {1 - own / middle:.0%} slower than its peers", model, gives, (fix,), rank
    )


RULES = (gemm_below_reference, tensor_cores_idle, memory_bandwidth_below_reference, gpu_slower_than_peers)
