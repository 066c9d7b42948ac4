"""A benchmark that was really run, kept as a snapshot: two busy CPU cores, torch 2.13, 28 November 2026.

The machine was shared and its load average was ten: the samples scatter, and little may be said of them. That is why
it is kept. Host, user and paths were replaced by labels.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from envdoctor import schemas
from envdoctor.bench.compare import compare
from envdoctor.bench.result import Result, result_of
from envdoctor.bench.statistics import Change
from envdoctor.diagnose import examine
from envdoctor.facts.bench import BenchDevice
from envdoctor.render.bench_json import plain
from envdoctor.render.json import write
from envdoctor.render.terminal.bench import render
from envdoctor.snapshot import load

FILE = Path(__file__).parent / "machines" / "bench-cpu-torch-2.13.json"


@pytest.fixture(scope="module")
def recorded() -> Result:
    """Judge the recording."""
    return result_of(examine(load(FILE.read_bytes(), source=FILE.name)))


def test_it_says_what_it_is(recorded: Result) -> None:
    """The recording names its device, its torch and its day."""
    device = recorded.report.snapshot.get(BenchDevice)
    assert device is not None
    assert ("cpu", "2.13.0+cpu", 2, 1) == (device.kind, device.torch_version, device.cpus, device.threads)
    assert recorded.report.snapshot.created.startswith("2026-11-28")


def test_a_cpu_is_not_judged(recorded: Result) -> None:
    """Nothing is called good or bad, and the only finding is that the CPU was busy."""
    assert {"unknown"} == {each.verdict.value for each in recorded.judgements}
    measured = [each.id for each in recorded.report.findings if each.id in {c.id for c in _measured(recorded)}]
    assert ["not-exclusive"] == measured
    assert "There are no references for CPUs: it is not judged." in " ".join(render(recorded).split())


def _measured(result: Result) -> list:  # type: ignore[type-arg]
    return [check for check in result.report.checks if check.group == "measured"]


def test_few_samples_claim_nothing(recorded: Result) -> None:
    """With fewer than five steps a row, the ladder calls no row faster, however large the difference looks."""
    assert recorded.run is not None
    rungs = [each for each in recorded.run.rungs if each.images_per_second]
    assert len(rungs) >= 4
    assert {"start", "ambiguous"} == {each.verdict for each in rungs}
    assert "No change was measured to make it faster here." in " ".join(render(recorded).split())


def test_products_were_right_before_they_were_fast(recorded: Result) -> None:
    """Each product was compared with a higher precision, and none is exact but the integer one."""
    products = [each.measured for each in recorded.judgements if each.name == "gemm"]
    assert {True} == {each.correct for each in products if each.seconds}
    assert {"int8"} == {each.precision for each in products if each.rms_error == 0}


def test_counts_are_exact(recorded: Result) -> None:
    """Parameters and FLOPs of ViT-B/16 are those that the formula gives."""
    model = plain(recorded)["model"]
    assert (86_567_656, 35_127_656_448, 105_151_758_336) == (
        model["parameters"],
        model["flops_forward"],
        model["flops_train"],
    )


def test_the_document_follows_its_schema(recorded: Result) -> None:
    """What is written of a real run is valid."""
    document = json.loads(write(plain(recorded)))
    assert [] == list(Draft202012Validator(schemas.load("envdoctor.bench/1")).iter_errors(document))


def test_compared_with_itself_nothing_differs(recorded: Result) -> None:
    """However noisy, a run is never faster or slower than itself."""
    found = compare(recorded, recorded)
    assert (0, 0, ()) == (found.count(Change.FASTER), found.count(Change.SLOWER), found.facts)
