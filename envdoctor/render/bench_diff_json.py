"""plain(difference) -> JSON-ready data in the layout of ``envdoctor.bench-diff/1``: keys are added, never renamed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envdoctor import __version__
from envdoctor.bench.statistics import Change
from envdoctor.render.bench_json import measured_device, short

if TYPE_CHECKING:
    from envdoctor.bench.compare import Difference, Differing, Pair
    from envdoctor.bench.result import Result

SCHEMA = "envdoctor.bench-diff/1"


def plain(found: Difference) -> dict[str, Any]:
    """Give the comparison of two benchmarks as JSON-ready data."""
    return {
        "schema": SCHEMA,
        "tool": {"name": "envdoctor", "version": __version__},
        "before": _about(found.before),
        "after": _about(found.after),
        "counts": {each.value: found.count(each) for each in Change},
        "pairs": [_pair(each) for each in found.pairs],
        "facts": [_fact(each) for each in found.facts],
    }


def _about(result: Result) -> dict[str, Any]:
    snapshot = result.report.snapshot
    return {"created": snapshot.created, "target": snapshot.target.key, "device": measured_device(result.run)}


def _pair(each: Pair) -> dict[str, Any]:
    found = each.found
    return {
        "kind": each.kind, "name": each.name, "precision": each.precision, "config": each.config, "unit": each.unit,
        "before": short(each.before), "after": short(each.after), "change": found.change.value,
        "speedup": short(found.speedup), "speedup_lowest": short(found.lowest), "speedup_highest": short(found.highest),
        "reason": found.reason,
    }  # fmt: skip


def _fact(each: Differing) -> dict[str, Any]:
    worth = {"factor": short(each.worth.factor), "step": each.worth.step} if each.worth else None
    return {"key": each.key, "before": each.before, "after": each.after, "worth": worth}
