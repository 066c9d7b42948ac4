"""What a setting costs here, once it was measured: the ladder's row for it, and products beside it."""

from __future__ import annotations

import msgspec

from envdoctor.facts.bench import BenchAttention, BenchClocks, BenchDevice, BenchGemm, BenchLadder
from envdoctor.finding import Evidence, see

NOTICEABLE = 1.05
FUSED = frozenset({"flash", "efficient", "cudnn"})


class Cost(msgspec.Struct, frozen=True):
    """A measured difference: how many times as long something takes, what that is, and where it was measured."""

    factor: float
    what: str
    evidence: tuple[Evidence, ...]


def of_a_step(
    device: BenchDevice | None, ladder: BenchLadder | None, clocks: BenchClocks | None, *words: str
) -> Cost | None:
    """Give what the ladder's row of this name was measured to change in a training step; None when nothing was."""
    if device is None or ladder is None:
        return None
    from envdoctor.bench.ladder import named, rungs
    from envdoctor.bench.machine import machine_of

    rung = named(rungs(machine_of(device, clocks), ladder), *words)
    if rung is None or rung.comparison is None or not rung.comparison.differs or not rung.speedup:
        return None
    factor = rung.speedup if rung.speedup >= 1 else 1 / rung.speedup
    if factor < NOTICEABLE:
        return None
    word = "fast" if rung.speedup >= 1 else "slow"
    said = f"{factor:.2f} times as {word} as {rung.row.previous or 'before'}"
    return Cost(factor, "a training step", (see(ladder, "rows", f"a step of {ladder.model}, {rung.step}", said),))


def of_products(device: BenchDevice | None, gemm: BenchGemm | None, clocks: BenchClocks | None) -> Cost | None:
    """Give how much faster TF32 products were measured to be than fp32 ones; None when they were not."""
    if device is None or gemm is None:
        return None
    from envdoctor.bench.judging import best_products
    from envdoctor.bench.machine import machine_of

    best = {each.measured.precision: each for each in best_products(machine_of(device, clocks), gemm)}
    plain, tf32 = best.get("fp32"), best.get("tf32")
    if plain is None or tf32 is None or not plain.value or not tf32.value:
        return None
    factor = tf32.value / plain.value
    if factor < NOTICEABLE:
        return None
    said = f"{tf32.value:.1f} against {plain.value:.1f} TFLOPS in fp32"
    return Cost(factor, "a large product", (see(gemm, "measured", "best TF32 product here", said),))


def of_math_attention(attention: BenchAttention | None) -> Cost | None:
    """Give how much longer the mathematical form was measured to take than the best fused kernel; None when not so."""
    from envdoctor.bench.statistics import compare, summarize

    found = [e for e in attention.measured if e.seconds and "backward" not in e.name] if attention else []
    if attention is None or not found:
        return None
    inputs = [(each.config.get("shape", ""), each.precision) for each in found]
    first = [each for each, of in zip(found, inputs, strict=True) if of == inputs[0]]
    math = next((each for each in first if each.config.get("backend") == "math"), None)
    fused = [each for each in first if each.config.get("backend") in FUSED]
    if math is None or not fused:
        return None
    best = min(fused, key=lambda each: getattr(summarize(each.seconds), "median", 0.0))
    said = compare(math.seconds, best.seconds)
    if not said.differs or not said.speedup or said.speedup < NOTICEABLE:
        return None
    words = f"{said.speedup:.1f} times as long as {best.config['backend']}, {inputs[0][1]} {inputs[0][0]}"
    return Cost(said.speedup, "attention", (see(attention, "measured", "math attention takes", words),))
