"""A benchmark's result: its JSON against the schema, its terminal form, its ceilings, and two results side by side."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from envdoctor import schemas
from envdoctor.bench.compare import compare
from envdoctor.bench.models import NAMES
from envdoctor.bench.projection import Plan
from envdoctor.bench.result import Result, result_of
from envdoctor.bench.run import Run
from envdoctor.bench.statistics import Change
from envdoctor.diagnose import examine
from envdoctor.facts import Fact
from envdoctor.facts.bench import BenchCollectives, BenchGemm, BenchHost, LargestBatch, Measured
from envdoctor.facts.driver import CudaDevice, CudaDriver
from envdoctor.facts.host import Environment, Variable
from envdoctor.facts.torch import TorchBuild, TorchSettings
from envdoctor.outcome import Crashed, TimedOut
from envdoctor.render import bench_diff_json
from envdoctor.render.bench_json import plain
from envdoctor.render.json import write
from envdoctor.render.terminal import bench, bench_diff
from envdoctor.snapshot import ProbeResult, load, of
from tests.bench_machines import cards
from tests.bench_machines.making import clocks
from tests.test_rules_measured import HEALTHY, outlier, slower, with_products

CU130 = TorchBuild(version="2.13.0+cu130", cuda="13.0", is_cpu_only=False)
IEEE = TorchSettings(matmul_fp32_precision="ieee", float32_matmul_precision="highest")
A100 = CudaDriver(init_code=0, device_count=1, devices=(CudaDevice(0, "NVIDIA A100-SXM4-80GB", "8.0", 81152),))


def result(run: Run, *more: Fact, plan: Plan | None = None, probes: tuple[ProbeResult, ...] = ()) -> Result:
    """Judge a benchmark."""
    return result_of(examine(of(*cards.facts_of(run), *more, probes=probes)), plan)  # type: ignore[arg-type]


@functools.cache
def of_name(name: str) -> Result:
    """Judge one of the constructed devices, once for all tests."""
    return result(outlier() if name == "outlier" else HEALTHY[name](), plan=Plan(gpus=8))


def document(of_: Result) -> dict[str, Any]:
    """Give the result as its reader gets it."""
    found: dict[str, Any] = json.loads(write(plain(of_)))
    return found


def errors(document: dict[str, Any]) -> list[str]:
    """Give what the document's schema has against it."""
    validator = Draft202012Validator(schemas.load(document["schema"]))
    return [f"{each.json_path}: {each.message[:200]}" for each in validator.iter_errors(document)]


@pytest.mark.parametrize("name", [*HEALTHY, "outlier"])
def test_every_result_follows_its_schema(name: str) -> None:
    """Results of GPUs and of a CPU, good and bad, with a plan and without, are valid envdoctor.bench/1."""
    found = of_name(name)
    assert [] == errors(document(replace(found, plan=None)))
    assert [] == errors(document(replace(found, plan=Plan(gpus=8, price_per_gpu_hour=2.5))))


def test_a_run_that_found_nothing_follows_its_schema() -> None:
    """Without torch there is no device: the document is valid, and says that nothing was measured."""
    found = result_of(examine(of()))
    assert (False, []) == (found.measured, errors(document(found)))
    assert "Nothing could be measured." in bench.render(found)


def test_what_was_not_measured_says_why() -> None:
    """Out of memory, refused and not-applicable are entries with a reason and without a value."""
    states = (("out-of-memory", "CUDA out of memory"), ("refused", "it needs 90,000 MiB"), ("not-applicable", "no fp8"))
    made = tuple(Measured("gemm", "gemm", {"shape": "1x1x1"}, "fp8", state, why) for state, why in states)
    found = document(result(replace(cards.a100(), gemm=BenchGemm(measured=made))))
    told = [each for each in found["measurements"] if each["suite"] == "gemm"]
    assert [(None, "unknown")] * 3 == [(each["value"], each["verdict"]) for each in told]
    assert ["out of memory: CUDA out of memory", "refused: it needs 90,000 MiB", "not applicable: no fp8"] == [
        each["reason"] for each in told
    ]
    assert [] == errors(found)


def test_the_samples_are_kept_and_give_the_value() -> None:
    """Each value is the median of the samples beside it, in the same unit."""
    import statistics

    for each in document(of_name("a100"))["measurements"]:
        assert each["value"] == pytest.approx(statistics.median(each["samples"]), rel=1e-5)
        assert each["q1"] <= each["value"] <= each["q3"]
        assert each["n"] == len(each["samples"])


def test_ladder_and_stages_and_limits() -> None:
    """The ladder's rows carry speedups, stages go down from the peak, and ceilings are of the GPUs that were used."""
    found = document(of_name("a100"))
    rows = {each["step"]: each for each in found["ladder"]}
    assert ("start", None) == (rows["fp32"]["verdict"], rows["fp32"]["speedup_over_previous"])
    assert ("faster", 5.82) == (rows["tf32"]["verdict"], round(rows["tf32"]["speedup_over_previous"], 2))
    assert ("slower", True) == (rows["math attention"]["verdict"], rows["math attention"]["beside"])
    assert [312.0, 264.0, 135.0, 125.0, 118.0] == [round(each["tflops"]) for each in found["stages"]]
    assert ("loader", 8) == (found["limits"]["binds"], found["limits"]["gpus"])
    assert 86_567_656 == found["model"]["parameters"]


def test_a_result_is_read_back_with_every_sample() -> None:
    """``check --from`` and ``diff`` read the facts out of a result; the rules then find the same."""
    before = of_name("outlier")
    snapshot = load(write(plain(before)))
    assert [each.key for each in before.report.findings] == [each.key for each in examine(snapshot).findings]


def test_settings_say_what_they_cost_here() -> None:
    """TF32 off is a warning with the measured factor; chosen by a variable it stays info, and says it as well."""
    found = {each.id: each for each in result(cards.a100(), CU130, IEEE, A100).report.findings}
    assert (
        "fp32 matrix products do not use TF32: a training step takes 5.8 times as long here" == found["tf32-off"].title
    )
    assert "warning" == found["tf32-off"].severity.value  # type: ignore[union-attr]
    chosen = Environment(variables=(Variable("NVIDIA_TF32_OVERRIDE", "0"),))
    kept = {each.id: each for each in result(cards.a100(), CU130, IEEE, A100, chosen).report.findings}["tf32-off"]
    assert ("info", True) == (kept.severity.value, "5.8 times as long here" in kept.title)  # type: ignore[union-attr]
    products = {each.id: each for each in result(replace(cards.a100(), ladder=None), CU130, IEEE, A100).report.findings}
    assert "a large product takes 6.6 times as long here" in products["tf32-off"].title


def test_math_attention_says_what_it_costs_here() -> None:
    """Where every fused kernel is switched off, the measured factor stands in the title."""
    from tests.rule_facts import NODES, ONE_GPU, module

    off = TorchSettings(flash_sdp=False, mem_efficient_sdp=False, cudnn_sdp=False, math_sdp=True)
    machine = (CU130, off, ONE_GPU, NODES, module())
    run = replace(cards.a100(), ladder=None)
    found = {each.id: each for each in result(run, *machine).report.findings}["fused-attention-unavailable"]
    assert "attention takes 4.54 times as long here" in found.title


# The terminal


@pytest.mark.parametrize("name", [*HEALTHY, "outlier"])
@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("show", ["problems", "all"])
def test_the_terminal_form_keeps_within_its_width(name: str, width: int, show: str) -> None:
    """No line is wider than the terminal but those that hold a command, in ASCII as in Unicode, without colour."""
    found = of_name(name)
    for unicode in (True, False):
        text = bench.render(found, show=show, width=width, unicode=unicode)
        wide = [
            line for line in text.splitlines() if len(line) > width and "envdoctor" not in line and "nvidia" not in line
        ]
        assert ([], False) == (wide, "\n\n\n" in text)
        assert unicode or text.isascii()


def test_the_terminal_answers_first() -> None:
    """The first lines say what was measured, how fast it trains untuned and tuned, and which change brings most."""
    text = bench.render(result(cards.a100(), plan=Plan(gpus=8, price_per_gpu_hour=2.0)))
    assert "Measured: cuda:0 NVIDIA A100-SXM4-80GB, ours alone; held against A100-SXM4-80GB" in text
    assert (
        "vit_b16 trains at 110 images/s untuned (fp32) and at 1,300 at its best\n(compile): 11.82 times as fast."
        in text
    )
    assert "Worth most: tf32, 5.82 times." in text
    assert "  bf16       264    0.2%      85%       85%        265  ✓ ok" in text
    assert "The gap costs 1,751" in text
    assert "✓ Nothing that was measured is slower than this device is known to be." in text


def test_the_terminal_says_that_it_is_a_cpu() -> None:
    """A CPU is named, measured and not judged; its spread is shown."""
    text = bench.render(replace(of_name("cpu"), plan=None))
    assert "Measured: the CPU, a CPU (2 CPUs, 2 threads). There are no references for CPUs:\nit is not judged." in text
    assert "✓ Measured. A CPU is not judged: compare it with itself, by envdoctor diff." in text
    assert "reference  verdict" not in text


def test_the_terminal_leads_with_the_finding() -> None:
    """A slow card's finding stands before the tables, with its evidence and the command that measures again."""
    text = bench.render(of_name("outlier"))
    assert text.index("bf16 matrix products reach 39%") < text.index("Matrix products, TFLOPS")
    assert "Prove it   envdoctor bench --suite gemm" in text
    assert "! 1 finding about speed. Start with gemm-below-reference." in text


def test_what_ended_without_an_answer_is_said() -> None:
    """A suite that crashed or was too slow is named with its reason, and so is Ctrl-C."""
    ended = (
        ProbeResult("bench-model", "bench_model", TimedOut("no answer within 90 s")),
        ProbeResult("bench-ladder", "bench_ladder", Crashed("the GPU is lost", signal="SIGABRT")),
    )
    found = result(replace(cards.a100(), model=None, ladder=None), probes=ended)
    text = bench.render(found)
    assert "! model timed-out: no answer within 90 s" in text
    assert "! ladder crashed: the GPU is lost" in text
    pressed = replace(found, report=replace(found.report, interrupted=True))
    assert "! Interrupted: this is what was measured by then." in bench.render(pressed)


def test_what_is_wrong_besides_is_named() -> None:
    """Findings that are not about speed are one line, not the report."""
    from envdoctor.facts.host import Host, Resources

    small = Resources(shm_total_mib=64, cpus_online=8)
    text = bench.render(result(cards.a100(), small, Host(system="Linux", container="docker")))
    assert "Apart from speed: " in text
    assert "shm-too-small" in text


# Two results


def test_yesterday_against_today() -> None:
    """At half the power limit products are slower; the rest is the same, and nothing else is blamed."""
    capped = with_products(replace(cards.a100(), clocks=clocks(mhz=1410)), lambda each: slower(each, 1.5))
    found = compare(of_name("a100"), result(capped))
    assert {"gemm"} == {each.name for each in found.slower}
    assert 0 == found.count(Change.FASTER)
    assert found.count(Change.SAME) > 20
    text = bench_diff.render(found)
    assert "Most: gemm" in text
    assert "slower" in text


def test_what_the_clock_explains_is_ambiguous() -> None:
    """The same cycles at a lower clock are no change of the software."""
    low = with_products(replace(cards.a100(), clocks=clocks(mhz=940)), lambda each: slower(each, 1.5))
    found = compare(of_name("a100"), result(low))
    told = {each.found.reason for each in found.pairs if each.name == "gemm"}
    assert {"the clock explains the difference: 1410 MHz against 940 MHz"} == told


def test_facts_are_ranked_by_what_was_measured() -> None:
    """Host against container: TF32 is worth 5.8 times by the ladder, torch's version is a lead only."""
    there = TorchSettings(matmul_fp32_precision="tf32", float32_matmul_precision="high")
    newer = replace(CU130, version="2.14.0+cu130")
    found = compare(result(cards.a100(), CU130, IEEE), result(cards.a100(), newer, there))
    facts = [(each.key, round(each.worth.factor, 2) if each.worth else None) for each in found.facts]
    assert [
        ("torch_settings.float32_matmul_precision", 5.82),
        ("torch_settings.matmul_fp32_precision", 5.82),
        ("torch_build.version", None),
    ] == facts
    text = bench_diff.render(found)
    assert "5.82 times (tf32)" in " ".join(text.split())
    assert "not measured" in text


def test_the_comparison_follows_its_schema() -> None:
    """Two results compared are valid envdoctor.bench-diff/1, alone and inside a result."""
    found = compare(of_name("a100"), of_name("outlier"))
    compared = json.loads(write(bench_diff_json.plain(found)))
    assert [] == errors(compared)
    inside = document(of_name("outlier")) | {"compare": compared}
    assert [] == errors(inside)
    assert [] != errors(inside | {"compare": {"schema": "envdoctor.bench-diff/1"}})


def test_nothing_in_common() -> None:
    """Two results without a common measurement are compared by their facts alone."""
    found = compare(result(replace(cards.cpu(), ladder=None, memory=None)), result(cards.a100()))
    assert "no measurement in common" in bench_diff.render(found)


@pytest.mark.parametrize("width", [40, 80])
def test_the_comparison_keeps_within_its_width(width: int) -> None:
    """No line is wider than the terminal."""
    found = compare(of_name("rtx3080"), of_name("outlier"))
    for show in ("problems", "all"):
        text = bench_diff.render(found, show=show, width=width, unicode=False)
        assert [] == [line for line in text.splitlines() if len(line) > width]
        assert text.isascii()


def test_collectives_without_ranks() -> None:
    """A collective whose facts say little is listed without a bandwidth."""
    run = replace(cards.a100(), collectives=BenchCollectives(measured=(Measured("all-reduce", "collectives"),)))
    assert [] == errors(document(result(run)))


def test_every_model_that_is_listed_can_be_asked_for() -> None:
    """The doctor's list of models is the one that the probes know."""
    from envdoctor_probes.bench import recipes

    assert set(NAMES) == set(recipes.NAMES)


def test_what_the_allocator_keeps_is_said() -> None:
    """After steps of changing batch: what it holds, what lies idle inside; nothing where nothing was counted."""
    host = BenchHost(
        allocated_mib=120.0, reserved_mib=2048.0, peak_allocated_mib=1500.0, inactive_split_mib=310.4, segments=41,
        allocation_retries=2, allocator_settings="PYTORCH_ALLOC_CONF=expandable_segments:False",
    )  # fmt: skip
    shown = " ".join(bench.render(result(replace(cards.a100(), host=host)), width=300).split())
    assert (
        "The allocator after steps of changing batch holds 2,048 MiB for a peak of 1,500 MiB in use; 310 MiB are free "
        "inside 41 segments and cannot be given back; it ran out and began anew 2 times "
        "(PYTORCH_ALLOC_CONF=expandable_segments:False)."
    ) in shown
    assert "The allocator" not in bench.render(result(replace(cards.a100(), host=BenchHost())))


def test_why_there_is_no_largest_batch_is_said() -> None:
    """What ran out of time is shown to everybody, what a CPU cannot have to those who read all."""
    ladder = cards.a100().ladder
    assert ladder is not None
    found = (
        LargestBatch("amp-bf16", 96),
        LargestBatch("checkpointing", state="skipped", reason="no time"),
        LargestBatch("default", state="not-applicable", reason="it is a CPU"),
    )
    made = result(replace(cards.a100(), ladder=replace(ladder, largest=found)))
    shown, everything = bench.render(made), bench.render(made, show="all")
    assert "Largest batch that fits: 96 with amp-bf16" in shown
    assert "largest batch with checkpointing: skipped: no time" in shown
    assert "it is a CPU" not in shown
    assert "largest batch with default: not applicable: it is a CPU" in everything
