"""Where the speed goes: from the data sheet's peak down to the whole step, each stage a measured rate in TFLOPS.

The differences between neighbours are the diagnosis: products below the peak are clocks and the card, the block below
the products is precision, attention and launches, the step below the model is the optimizer, copies and the loader.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from envdoctor.bench import judging, training
from envdoctor.bench.judging import is_measured

if TYPE_CHECKING:
    from envdoctor.bench.judgement import Judgement
    from envdoctor.bench.machine import Machine
    from envdoctor.facts.bench import BenchGemm, BenchModel, Measured


@dataclass(frozen=True)
class Stage:
    """One stage: its rate in TFLOPS, of which measurement, and its share of the stage before (0 to 1)."""

    name: str
    tflops: float
    share: float | None = None
    of: str = ""


def stages(machine: Machine, gemm: BenchGemm | None, model: BenchModel | None) -> tuple[Stage, ...]:
    """Give the stages in the precision of the fastest training step that was measured; empty without a step."""
    if model is None:
        return ()
    steps = training.main_steps(model)
    if not steps:
        return ()
    step = max(steps, key=lambda each: _rate(model, each) or 0.0)
    precision = training.multiplies_in(step.precision)
    found = [*_products(machine, gemm, precision), *_parts(model, step)]
    return tuple(
        Stage(each.name, each.tflops, each.tflops / before.tflops if before else None, each.of)
        for before, each in zip((None, *found), found, strict=False)
    )


def _products(machine: Machine, gemm: BenchGemm | None, precision: str) -> list[Stage]:
    peak = machine.spec.peaks.get(precision) if machine.spec else None
    found = [Stage(f"data sheet's {precision} peak", peak)] if peak else []
    best = judging.best_products(machine, gemm) if gemm else ()
    found += [
        Stage(f"best {precision} product", each.value, of=_shape(each))
        for each in best
        if each.measured.precision == precision and each.value
    ]
    return found


def _shape(each: Judgement) -> str:
    return each.config.get("shape", each.name)


def _parts(model: BenchModel, step: Measured) -> list[Stage]:
    """Give block, model and step, forward and backward, in the step's own precision."""
    alike = [each for each in model.measured if each.precision == step.precision and is_measured(each)]
    backward = [each for each in alike if "backward" in each.name or "train" in each.name]
    block = next((each for each in backward if "block" in each.name), None)
    whole = next((each for each in backward if "block" not in each.name and not training.is_step(each)), None)
    copied = next((each for each in alike if each.name == training.STEP_WITH_COPIES), None)
    named = (
        ("block, forward and backward", block),
        ("model, forward and backward", whole),
        ("training step", step),
        ("training step with copies from the host", copied),
    )
    return [
        Stage(name, rate, of=each.name) for name, each in named if each is not None and (rate := _rate(model, each))
    ]


def _rate(model: BenchModel, measured: Measured) -> float | None:
    from envdoctor.bench.rates import rate_of

    return training.tflops(measured, training.flops_of(model, measured), rate_of(measured).value)
