"""``envdoctor fix``: the plan as a script; ``--apply`` runs its safe steps, ``--undo`` takes them back."""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING, Any

import click

from envdoctor.cli import catalogue as catalogues
from envdoctor.cli import check, collecting, exits, fix_output, settings, streams
from envdoctor.cli.options import OneOf, complete_ids, debug
from envdoctor.nearest import unknown

if TYPE_CHECKING:
    from envdoctor.cli.applying import Applied
    from envdoctor.cli.catalogue import Catalogue
    from envdoctor.cli.settings import Settings
    from envdoctor.finding import Report

FORMATS = ("terminal", "json")
ELSEWHERE = {"from_": "--from", "root": "--root", "pid": "--pid", "via": "--via"}
OWN = ("apply", "yes", "dry_run", "undo", "format_")


@click.command("fix", short_help="Print the fixes as one script, or apply the safe ones.")
@click.argument("ids", nargs=-1, metavar="[ID]...", shell_complete=complete_ids)
@click.option("--apply", is_flag=True, help="Run the safe steps: asks before each, checks after each.")
@click.option("--yes", is_flag=True, help="With --apply or --undo: answer yes to every question.")
@click.option("--dry-run", is_flag=True, help="Show what would be asked and run, and change nothing.")
@click.option("--undo", metavar="FILE|last", help="Take back what a recorded --apply changed, by exact versions.")
@click.option("--format", "format_", type=OneOf("format", FORMATS), default="terminal", help="For stdout.")
@debug
def command(**given: Any) -> int:
    """Print the plan as one commented shell script: causes first, then the safe steps before the others.

    Nothing is run without --apply, which runs only steps that touch one virtual environment and can be undone.
    Without a terminal to ask on, the answer is no.

    Exit codes: 0 nothing at or above --fail-on is left; 1 something is; 2 usage; 3 undetermined; 130 Ctrl-C.
    """
    _check_options(given)
    catalogue = catalogues.load()
    if given["undo"]:
        from envdoctor.cli import undoing

        return undoing.undo(given, catalogue)
    _check_ids(given["ids"], catalogue)
    settled = settings.settle(given, catalogue)
    report = look(given, settled, catalogue)
    _tell_of_an_end_nobody_saw(report, given)
    applied = _apply(report, given, settled, catalogue) if given["apply"] or given["dry_run"] else None
    streams.print_out(fix_output.written(report, applied, given))
    return _code(applied.report if applied else report, given, settled)


# What says how to collect and what to judge is the same as for a check, whatever options that has.
command.params += [
    each for each in check.command.params if each.name not in {own.name for own in command.params} | {"also", "show"}
]


def look(given: dict[str, Any], settled: Settings, catalogue: Catalogue) -> Report:
    """Collect and judge, as a check does."""
    return check.judge(collecting.obtain(given, settled, catalogue), settled, catalogue)


def _check_options(given: dict[str, Any]) -> None:
    collecting.check_source(given)
    elsewhere = next((option for name, option in ELSEWHERE.items() if given.get(name)), "")
    if elsewhere and (given["apply"] or given["undo"]):
        raise click.UsageError(f"--{'apply' if given['apply'] else 'undo'} changes this machine, not {elsewhere}'s")
    if given["undo"] and (given["apply"] or given["ids"] or given["python"]):
        raise click.UsageError("--undo takes a whole record back, in the environment that it names: use it alone")
    if given["yes"] and not (given["apply"] or given["undo"]):
        raise click.UsageError("--yes answers the questions of --apply and --undo: name one of them")


def _check_ids(ids: tuple[str, ...], catalogue: Catalogue) -> None:
    for word in ids:
        if word.partition("@")[0] not in catalogue.ids:
            raise click.UsageError(unknown("finding", word, catalogue.ids, see="see 'envdoctor list findings'"))


def _apply(report: Report, given: dict[str, Any], settled: Settings, catalogue: Catalogue) -> Applied:
    from envdoctor.cli import applying, records
    from envdoctor.cli.asking import Asker
    from envdoctor.facts.packages import Packages

    prefix = (report.snapshot.get(Packages) or Packages()).prefix or ""
    idle = given["dry_run"] or not any(each.fixes for each in report.active)
    with contextlib.nullcontext(()) if idle else records.held(prefix) as held:
        means = applying.Means(
            look=lambda: look(given, settled, catalogue),
            ask=Asker(yes=given["yes"]),
            keep=records.Keeper(),
            dry=given["dry_run"],
            held=held,
        )
        return applying.apply(report, frozenset(given["ids"]), means)


def _tell_of_an_end_nobody_saw(report: Report, given: dict[str, Any]) -> None:
    """Say that an earlier run was ended in the middle of a step, and how to take back what that step did."""
    from envdoctor.cli import records
    from envdoctor.facts.packages import Packages
    from envdoctor.render.untrusted import one_line

    packages = report.snapshot.get(Packages)
    found = records.left_open(packages.prefix) if packages and packages.prefix else None
    if found is None or any(given.get(name) for name in ELSEWHERE):
        return
    path, record = found
    if records.is_held(record.prefix):
        return
    streams.notice(
        f"envdoctor: the run of {record.created} ended in the middle of a step ({one_line(record.under_way)}), so that "
        f"packages may be half installed.\n  Take it back with: envdoctor fix --undo {shlex.quote(str(path))}"
    )


def _code(report: Report, given: dict[str, Any], settled: Settings) -> int:
    """Give the exit code of what is left; where ids are named, only they count."""
    from dataclasses import replace

    wanted = set(given["ids"])
    if not wanted:
        return exits.code_for(report, settled.fail_on)
    ids = {each.partition("@")[0] for each in wanted}
    findings = tuple(each for each in report.findings if {each.key, each.id} & wanted)
    checks = tuple(each for each in report.checks if each.id in ids)
    return exits.code_for(replace(report, findings=findings, checks=checks), settled.fail_on)
