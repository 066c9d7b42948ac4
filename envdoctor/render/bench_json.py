"""plain(result) -> JSON-ready data in the layout of ``envdoctor.bench/1``: keys are added, never renamed.

Rates are in the unit beside them, durations in the unit that their key names. ``facts`` holds every raw sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envdoctor.bench import clocks as sampled
from envdoctor.bench.rates import median
from envdoctor.render.json import plain as plain_report

if TYPE_CHECKING:
    from envdoctor.bench.ceilings import Ceilings
    from envdoctor.bench.clocks import Window
    from envdoctor.bench.judgement import Judgement
    from envdoctor.bench.ladder import Rung
    from envdoctor.bench.projection import Course, Projection
    from envdoctor.bench.result import Result
    from envdoctor.bench.run import Run
    from envdoctor.bench.stages import Stage

SCHEMA = "envdoctor.bench/1"
DIGITS = 6
MILLI = 1e-3
OF_THE_RUN = (
    "tool", "created", "target", "elapsed_seconds", "overhead_seconds", "verdict", "primary", "interrupted", "notes",
    "redacted",
)  # fmt: skip


def plain(result: Result) -> dict[str, Any]:
    """Give a benchmark as JSON-ready data."""
    report, run = plain_report(result.report), result.run
    return {
        "schema": SCHEMA,
        **{key: report[key] for key in OF_THE_RUN},
        "device": measured_device(run),
        "exclusive": run.device.exclusive if run else None,
        "clocks": _clocks(sampled.whole(run.machine.track)) if run else {},
        "model": _model(run),
        "measurements": [_measurement(each) for each in result.judgements],
        "ladder": [_rung(each) for each in run.rungs] if run else [],
        "largest_batches": _largest(run),
        "stages": [_stage(each) for each in result.stages],
        "limits": _limits(result.ceilings, result.gpus),
        "projection": _projection(result.projection),
        "findings": report["findings"],
        "checks": report["checks"],
        "probes": report["probes"],
        "facts": report["facts"],
    }


def short(value: float | None) -> float | None:
    """Keep as many digits as a measurement can have."""
    return None if value is None else float(f"{value:.{DIGITS}g}")


def measured_device(run: Run | None) -> dict[str, Any]:
    """Say which device was measured, and which row of the tables it was held against."""
    if run is None:
        return {"kind": "unknown", "name": None}
    device, spec = run.device, run.machine.spec
    name = device.name if device.kind == "cuda" else device.cpu_model
    return {
        "kind": device.kind or "unknown", "name": name, "index": device.index, "capability": device.capability,
        "sm_count": device.sm_count, "memory_mib": device.memory_mib, "memory_allowed_mib": device.memory_allowed_mib,
        "cpus": device.cpus, "threads": device.threads, "device_count": device.device_count,
        "torch": device.torch_version, "cuda": device.cuda_version, "mig": device.mig,
        "spec": {"gpu": spec.gpu, "basis": spec.basis, "source": spec.source} if spec else None,
        "no_spec_because": run.machine.why_no_spec,
    }  # fmt: skip


def _clocks(window: Window) -> dict[str, Any]:
    return {
        "looks": window.looks, "sm_mhz": window.sm_mhz, "sm_lowest_mhz": window.sm_lowest_mhz,
        "sm_highest_mhz": window.sm_highest_mhz, "sm_max_mhz": window.sm_max_mhz, "watts": short(window.watts),
        "limit_watts": window.limit_watts, "default_limit_watts": window.default_limit_watts,
        "celsius": window.celsius, "pcie_generation": window.pcie_generation, "pcie_width": window.pcie_width,
        "held_down_by": {sampled.REASONS[bit]: short(share) for bit, share in window.shares},
    }  # fmt: skip


def _model(run: Run | None) -> dict[str, Any] | None:
    if run is None or run.model is None:
        return None
    model = run.model
    return {
        "name": model.model, "origin": model.origin, "sample": model.sample, "batch": model.batch,
        "parameters": model.parameters, "flops_forward": model.flops_forward, "flops_train": model.flops_train,
        "flops_source": model.flops_source,
    }  # fmt: skip


def _measurement(each: Judgement) -> dict[str, Any]:
    measured, summary, limit = each.measured, each.rate.summary, each.limit
    plain: dict[str, Any] = {
        "name": each.name, "suite": measured.suite, "config": each.config, "precision": measured.precision,
        "unit": each.rate.unit, "value": short(each.value),
        "q1": short(summary.q1) if summary else None, "q3": short(summary.q3) if summary else None,
        "n": summary.n if summary else 0, "samples": [short(value) for value in each.rate.samples],
        "less_is_better": each.rate.less_is_better,
    }  # fmt: skip
    expected = each.expected
    plain |= {
        "peak": short(limit.peak), "percent_of_peak": short(limit.percent_of_peak(each.value)),
        "percent_of_clock_peak": short(limit.percent_of_clock_peak(each.value)),
        "reference": {"value": expected.value, "source": expected.source, "conditions": expected.conditions,
                      "floor": expected.floor} if expected else None,
        "verdict": each.verdict.value, "reason": each.judged.reason,
    }  # fmt: skip
    return plain | _beside(each)


def _beside(each: Judgement) -> dict[str, Any]:
    """Give what was measured beside the rate: state, correctness, the host's time, memory and clocks."""
    measured = each.measured
    dispatch, wall = median(measured.dispatch_seconds), median(measured.wall_seconds)
    return {
        "state": measured.state, "correct": measured.correct, "rms_error": measured.rms_error,
        "stopped_because": measured.stopped_because, "clock": measured.clock, "label": measured.label,
        "dispatch_ms": short(dispatch / MILLI) if dispatch else None,
        "wall_ms": short(wall / MILLI) if wall else None,
        "peak_memory_mib": short(measured.peak_memory_mib), "clocks": _clocks(each.window),
    }  # fmt: skip


def _rung(rung: Rung) -> dict[str, Any]:
    row, found = rung.row, rung.comparison
    return {
        "step": row.step, "changes": row.changes, "previous": row.previous, "beside": row.beside,
        "precision": row.measured.precision, "images_per_second": short(rung.images_per_second),
        "step_ms": short(rung.step_seconds / MILLI) if rung.step_seconds else None,
        "speedup_over_previous": short(found.speedup) if found else None,
        "speedup_lowest": short(found.lowest) if found else None,
        "speedup_highest": short(found.highest) if found else None,
        "peak_memory_mib": short(row.measured.peak_memory_mib),
        "cold_start_seconds": short(row.cold_start_seconds), "verdict": rung.verdict, "reason": rung.reason,
    }  # fmt: skip


def _largest(run: Run | None) -> list[dict[str, Any]]:
    found = run.ladder.largest if run and run.ladder else ()
    return [
        {"step": each.step, "batch": each.batch, "failed_batch": each.failed_batch,
         "peak_memory_mib": short(each.peak_memory_mib), "state": each.state, "reason": each.reason}
        for each in found
    ]  # fmt: skip


def _stage(stage: Stage) -> dict[str, Any]:
    share = None if stage.share is None else 100 * stage.share
    return {"name": stage.name, "tflops": short(stage.tflops), "percent_of_previous": short(share), "of": stage.of}


def _limits(found: Ceilings, gpus: int) -> dict[str, Any]:
    return {
        "compute": short(found.compute), "loader": short(found.loader), "copy": short(found.copy),
        "communication": short(found.communication), "binds": found.binds, "gpus": gpus,
    }  # fmt: skip


def _projection(found: Projection | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "dataset_images": found.plan.images, "gpus": found.plan.gpus, "epochs": found.plan.epochs,
        "price_per_gpu_hour": found.plan.price_per_gpu_hour, **_course(found.best),
        "untuned": _course(found.untuned) if found.untuned else None,
        "gap_hours": short(found.gap_hours), "gap_cost": short(found.gap_cost),
        "assumptions": list(found.assumptions),
    }  # fmt: skip


def _course(course: Course) -> dict[str, Any]:
    return {
        "images_per_second": short(course.images_per_second), "binds": course.binds,
        "epoch_minutes": short(course.epoch_minutes), "hours": short(course.hours), "cost": short(course.cost),
    }  # fmt: skip
