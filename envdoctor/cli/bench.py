"""``envdoctor bench``: measure, judge against limit and references, explain the gap."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from envdoctor.cli import bench_options, bench_output, bench_threads, exits, interrupts, patients, settings
from envdoctor.cli import catalogue as catalogues
from envdoctor.cli.options import OneOf, Seconds, debug, python_option, report_options
from envdoctor.config import FAIL_ON
from envdoctor.plan import SUITES, bench, for_level

if TYPE_CHECKING:
    from envdoctor.bench.projection import Plan
    from envdoctor.bench.result import Result
    from envdoctor.cli.catalogue import Catalogue
    from envdoctor.cli.settings import Settings
    from envdoctor.snapshot import Snapshot

LEVEL = "standard"
PROJECTED = ("images", "epochs", "gpus", "price_per_gpu_hour")
COUNT = click.IntRange(min=1)


@click.command("bench", short_help="Measure, and judge against limits and references.")
@click.option(
    "--model",
    type=bench_options.ModelName(),
    default="vit_b16",
    show_default=True,
    help="See 'envdoctor list models'; or module:callable.",
)
@click.option("--suite", type=bench_options.Suites(), help=f"Of {', '.join(SUITES)}; or all.")
@click.option("--quick", is_flag=True, help="At most a minute.")
@click.option("--full", is_flag=True, help="Up to 15 minutes: more shapes, a hot card.")
@click.option("--device", type=bench_options.DeviceName(), help="[default: the first GPU that torch can use]")
@click.option("--batch", type=COUNT, metavar="N", help="Samples in a training step. [default: by the device's memory]")
@click.option("--data", metavar="DIR", help="A folder of images for the loader. [default: JPEGs made on the spot]")
@click.option(
    "--memory-fraction",
    type=click.FloatRange(0.05, 1.0),
    metavar="F",
    help="How much of the device's free memory may be used. [default: 0.8]",
)
@click.option("--ranks", type=COUNT, metavar="N", help="Processes for the collectives. [default: one a GPU]")
@python_option("Measure in another interpreter, in which envdoctor is not installed.")
@click.option("-o", "--output", metavar="FILE", help="Also write the result as JSON (envdoctor.bench/1).")
@click.option("--compare", metavar="FILE", help="Compare with an earlier result of envdoctor bench.")
@click.option("--images", type=COUNT, metavar="N", help="Project: images in the data set. [default: 1281167]")
@click.option("--epochs", type=COUNT, metavar="N", help="Project: epochs. [default: 300]")
@click.option("--gpus", type=COUNT, metavar="N", help="Project: GPUs like this one on one host. [default: 1]")
@click.option("--price-per-gpu-hour", type=click.FloatRange(min=0.0), metavar="P", help="Project: what the gap costs.")
@click.option("--fail-on", type=OneOf("severity", FAIL_ON), help="Exit 1 from this severity on. [default: error]")
@click.option(
    "--timeout", type=Seconds(), help="Limit of the whole run in seconds. [default: 300; quick 110; full 920]"
)
@click.option("--config", metavar="FILE", help="Read this configuration file instead of the nearest one.")
@report_options
@debug
def command(**given: Any) -> int:  # fmt: skip
    """Measure products, memory, copies, attention and a training step; say how far each is from its limit, and why.

    Everything is measured in a child of the interpreter that trains. Ctrl-C keeps and judges what was measured.

    Exit codes: 0 measured; 1 findings at or above --fail-on; 2 usage; 3 nothing could be measured; 4 envdoctor failed.
    """
    bench_output.check_files(given)
    earlier = _earlier(given["compare"])
    limit, seconds = bench_options.times(given)
    catalogue = catalogues.load()
    settled = settings.settle({**given, "timeout": limit}, catalogue)
    result = judge(_measure(given, settled, catalogue, seconds), settled, catalogue, _plan(given))
    bench_output.deliver(result, given, _compared(earlier, result))
    code = exits.code_for(result.report, settled.fail_on)
    return code if code or result.measured else exits.UNDETERMINED


def judge(snapshot: Snapshot, settled: Settings, catalogue: Catalogue, plan: Plan | None) -> Result:
    """Examine a snapshot that holds a benchmark; nothing is projected unasked on a CPU, nor of what takes no images."""
    from envdoctor.bench.projection import Plan as Projected
    from envdoctor.bench.result import IMAGE, result_of
    from envdoctor.diagnose import examine

    report = examine(snapshot, catalogue.rules, settled.selection)
    report = replace(report, notes=(*report.notes, *settled.notes), interrupted=snapshot.interrupted)
    result = result_of(report, plan)
    on_gpu = result.run is not None and not result.run.machine.is_cpu
    return replace(result, plan=Projected()) if not plan and on_gpu and result.sample == IMAGE else result


def _measure(given: dict[str, Any], settled: Settings, catalogue: Catalogue, seconds: dict[str, float]) -> Snapshot:
    from envdoctor.cli.bench_progress import BenchProgress
    from envdoctor.redact import without_credentials
    from envdoctor.rewrite import rewrite
    from envdoctor.runner.collection import Collection
    from envdoctor.snapshot import with_bench
    from envdoctor.target import Patient

    patient = Patient(options=bench_options.measuring(given, seconds, bench_threads.threads_left()))
    if given["python"]:
        patient = replace(patient, python=patients.interpreter(given["python"]))
    suites = bench_options.suites_of(given)
    planned = (*for_level(LEVEL), *bench(suites, seconds))
    progress = BenchProgress(suites)
    with interrupts.noted() as pressed:
        run = Collection(
            patient, planned, timeout=settled.timeout, level=LEVEL, progress=progress, kinds=with_bench()
        )  # fmt: skip
    snapshot = run.finish(meanwhile=lambda: _prepare(catalogue, pressed))
    progress.clear()
    return rewrite(replace(snapshot, plugin_errors=catalogue.plugins.errors), without_credentials)


def _prepare(catalogue: Catalogue, pressed: list[int]) -> None:
    """Import, while the patient starts, what is needed afterwards."""
    with interrupts.held():
        from envdoctor.bench import result  # noqa: F401 - for later

        _ = catalogue.rules
    if pressed:
        raise KeyboardInterrupt


def _plan(given: dict[str, Any]) -> Plan | None:
    """Give the plan to project, where any part of it was asked for."""
    from envdoctor.bench.projection import Plan

    told = {name: given[name] for name in PROJECTED if given[name] is not None}
    return Plan(**told) if told else None


def _earlier(file: str | None) -> Result | None:
    """Read the result to compare with, before minutes are spent on measuring."""
    from envdoctor.cli.bench_files import read

    return read(file, "--compare") if file else None


def _compared(earlier: Result | None, now: Result) -> Any:
    if earlier is None:
        return None
    from envdoctor.bench.compare import compare

    return compare(earlier, now)
