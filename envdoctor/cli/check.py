"""``envdoctor check``: collect, examine, report."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from envdoctor.cli import catalogue as catalogues
from envdoctor.cli import collecting, delivering, exits, remembering, settings
from envdoctor.cli.options import OneOf, Seconds, complete_ids, debug, python_option, report_options, via_option
from envdoctor.config import FAIL_ON
from envdoctor.plan import LEVELS

if TYPE_CHECKING:
    from envdoctor.cli.catalogue import Catalogue
    from envdoctor.cli.settings import Settings
    from envdoctor.finding import Report
    from envdoctor.snapshot import Snapshot

EMPTY = "the selection is empty: --only and --skip leave no rule to run"


@click.command("check", short_help="Collect, examine, report.")
@click.option("--level", type=OneOf("level", LEVELS), help="How deep to look. [default: standard]")
@python_option("Diagnose another interpreter, in which envdoctor is not installed.")
@via_option
@click.option("--pid", type=click.IntRange(min=1), metavar="N", help="Diagnose a job that runs: what it has loaded.")
@click.option(
    "--from", "from_", multiple=True, metavar="FILE", help="Judge a saved or pasted report. - is stdin. Repeatable."
)
@click.option(
    "--only", multiple=True, metavar="ID|GROUP", shell_complete=complete_ids, help="Run these rules alone. Repeatable."
)
@click.option(
    "--skip", multiple=True, metavar="ID|GROUP", shell_complete=complete_ids, help="Leave these rules out. Repeatable."
)
@click.option("--ignore", multiple=True, metavar="ID=REASON", help="Show a finding, but do not count it. Repeatable.")
@click.option(
    "--require", multiple=True, metavar="NAME=VALUE", help="Require gpus=8, 'torch>=2.9', bf16=native, … Repeatable."
)
@click.option("--against", metavar="FILE", help="Compare with a baseline, a snapshot, or envdoctor.lock.")
@click.option("--strict", is_flag=True, help="With --against: exactly the same, and every difference is an error.")
@click.option("--fail-on", type=OneOf("severity", FAIL_ON), help="Exit 1 from this severity on. [default: error]")
@click.option("--timeout", type=Seconds(), help="Limit of the whole run in seconds. [default: 120; quick 15]")
@click.option("--config", metavar="FILE", help="Read this configuration file instead of the nearest one.")
@click.option("--root", metavar="DIR", hidden=True, help="Read a recorded machine's /proc, /sys, /dev, … under DIR.")
@remembering.cache_options
@report_options
@debug
def command(**given: Any) -> int:
    """Collect the facts, examine them, and report: one cause first, its evidence, and the fix to paste.

    Exit codes: 0 healthy; 1 findings at or above --fail-on; 2 usage; 3 undetermined; 4 envdoctor failed.
    """
    collecting.check_source(given)
    remembering.check_cache(given)
    delivering.check_files(given)
    catalogue = catalogues.load()
    settled = settings.settle(given, catalogue)
    if len(given["via"]) > 1:
        return _several(given, settled, catalogue)
    report = remembering.report_of(
        given, settled, catalogue, lambda: judge(collecting.obtain(given, settled, catalogue), settled, catalogue)
    )
    delivering.deliver(report, given)
    return exits.code_for(report, settled.fail_on)


def _several(given: dict[str, Any], settled: Settings, catalogue: Catalogue) -> int:
    """Examine everybody that --via names, and say what differs between them."""
    from envdoctor.cli import together

    together.check_formats(given)
    snapshots = collecting.obtain_each(given, settled, catalogue)
    reports = tuple(judge(each, settled, catalogue) for each in snapshots)
    together.deliver(reports, given)
    return exits.worst(exits.code_for(each, settled.fail_on) for each in reports)


def judge(snapshot: Snapshot, settled: Settings, catalogue: Catalogue) -> Report:
    """Examine a snapshot, and say beside the findings what the reader must know of the run itself."""
    from envdoctor.diagnose import examine
    from envdoctor.facts.text import Pasted, Wanted
    from envdoctor.snapshot import with_fact

    if settled.require.needs:
        snapshot = with_fact(snapshot, settled.require)
    if settled.against:
        snapshot = with_fact(snapshot, settled.against.drift(snapshot))
    wanted = snapshot.get(Wanted)
    if wanted:
        from envdoctor import whatif

        snapshot = whatif.project(snapshot)
    report = examine(snapshot, catalogue.rules, settled.selection)
    report = whatif.reworded(report) if wanted else report
    nothing = all(settled.selection.reason_to_skip(rule) for rule in catalogue.rules)
    pasted = snapshot.get(Pasted)
    notes = (*report.notes, *(pasted.remarks if pasted else ()), *settled.notes, *([EMPTY] if nothing else []))
    return replace(report, notes=notes, interrupted=snapshot.interrupted)
