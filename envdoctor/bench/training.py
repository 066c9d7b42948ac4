"""The model's own measurements: block, model and training step, in images a second and in FLOPs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envdoctor.bench.judgement import Judgement, judged
from envdoctor.bench.limits import TERA, Limit
from envdoctor.bench.machine import MULTIPLIES_IN
from envdoctor.bench.verdict import Expected
from envdoctor.knowledge import references

if TYPE_CHECKING:
    from envdoctor.bench.machine import Machine
    from envdoctor.facts.bench import BenchModel, Measured

SAMPLES = ("image", "sequence", "sample")
STEP, STEP_WITH_COPIES = "train-step", "train-step-h2d"
# How published runs name the models of ours that they measured.
NAMED = {
    "vit_b16": r"vit_base_patch16_224|ViT-B/16",
    "vit_l16": r"vit_large_patch16_224|ViT-L/16",
    "resnet50": r"resnet-?50",
}
LOADED = r"DALI"  # such a run includes loading
ENOUGH_BATCH = 0.5  # of the reference's batch: below it a smaller batch explains a lower speed
BATCH = re.compile(r"\b(?:bs|batch)\s*(\d+)", re.IGNORECASE)


def is_step(measured: Measured) -> bool:
    """Tell whether it is the whole training step, its inputs on the device or copied there."""
    return measured.name in {STEP, STEP_WITH_COPIES}


def main_steps(model: BenchModel) -> list[Measured]:
    """Give the training steps that were measured at the model's batch, their inputs on the device.

    A step of batch 1 is measured beside them, to show what launching it takes.
    """
    alike = [each for each in model.measured if each.name == STEP and each.seconds]
    return [each for each in alike if each.config.get("batch") in {None, str(model.batch)}]


def flops_of(model: BenchModel, measured: Measured) -> float | None:
    """Give the FLOPs of one sample in this measurement: of the block or the model, forward or with the backward."""
    backward = is_step(measured) or "backward" in measured.name or "train" in measured.name
    if "block" in measured.name:
        return model.block_flops_train if backward else model.block_flops_forward
    return model.flops_train if backward else model.flops_forward


def measurements(machine: Machine, model: BenchModel) -> tuple[Judgement, ...]:
    """Judge each: bounds by the FLOPs of a sample, a reference for the training step where one was published."""
    return tuple(_judged(machine, model, each) for each in model.measured)


def _judged(machine: Machine, model: BenchModel, measured: Measured) -> Judgement:
    limit = sample_limit(machine, measured, flops_of(model, measured))
    if not is_step(measured):
        return judged(machine, measured, limit=limit, without="no reference for a part of a model")
    expected, why = published(machine, model.model or "", measured)
    return judged(machine, measured, limit=limit, expected=expected, without=why)


def sample_limit(machine: Machine, measured: Measured, flops: float | None) -> Limit:
    """Give the bounds in samples a second (or in TFLOPS where FLOPs were counted as work)."""
    bound = machine.product_limit(measured)
    if measured.work_unit not in SAMPLES:
        return bound if measured.work_unit == "flop" else Limit()
    if not flops:
        return Limit()
    peak, clock_peak, most = (each * TERA / flops if each else None for each in _three(bound))
    return Limit(peak, clock_peak, most)


def _three(bound: Limit) -> tuple[float | None, float | None, float | None]:
    return bound.peak, bound.clock_peak, bound.most


def published(machine: Machine, model: str, measured: Measured) -> tuple[Expected | None, str]:
    """Find a published training throughput of this model on this GPU; else say why there is none."""
    if machine.spec is None:
        return None, machine.why_no_spec
    precision = measured.precision.replace("-", "_")
    words = NAMED.get(model)
    found = references.typical(machine.spec.gpu, "train_throughput", precision, words=words) if words else None
    if found is None or re.search(LOADED, found.conditions):
        return None, f"nobody published a training throughput of {model} in {measured.precision} on this GPU"
    theirs, ours = BATCH.search(found.conditions), measured.work
    if theirs and ours < ENOUGH_BATCH * int(theirs[1]):
        return None, f"the reference is of batch {theirs[1]}, too far from batch {ours:.0f}"
    return Expected(found.value, found.source, found.conditions, unit=found.unit), ""


def tflops(measured: Measured, flops: float | None, value: float | None) -> float | None:
    """Give a rate in TFLOPS by the exact FLOPs of a sample."""
    if value is None:
        return None
    if measured.work_unit == "flop":
        return value
    return value * flops / TERA if flops and measured.work_unit in SAMPLES else None


def multiplies_in(precision: str) -> str:
    """Name the precision that the products of a step are computed in: bf16 under ``amp-bf16``."""
    return MULTIPLIES_IN.get(precision, precision)
