"""``envdoctor fleet``: many ranks or saved snapshots side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envdoctor.cli import catalogue as catalogues
from envdoctor.cli import delivering, exits, settings, streams
from envdoctor.cli.options import OneOf, Seconds, complete_ids, debug, report_options
from envdoctor.config import FAIL_ON
from envdoctor.plan import LEVELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from envdoctor.cli.catalogue import Catalogue
    from envdoctor.cli.settings import Settings
    from envdoctor.fleet.reporting import Fleet, FleetReport

COLLECTING = ("level", "timeout")
TOLD_EVERY = 500  # files


@click.command("fleet", short_help="Compare many ranks or saved snapshots.")
@click.argument("paths", nargs=-1, metavar="[DIR|FILE]...")
@click.option("--level", type=OneOf("level", LEVELS), help="How deep to look. [default: standard]")
@click.option(
    "--only", multiple=True, metavar="ID|GROUP", shell_complete=complete_ids, help="Run these rules alone. Repeatable."
)
@click.option(
    "--skip", multiple=True, metavar="ID|GROUP", shell_complete=complete_ids, help="Leave these rules out. Repeatable."
)
@click.option("--ignore", multiple=True, metavar="ID=REASON", help="Show a finding, but do not count it. Repeatable.")
@click.option("--fail-on", type=OneOf("severity", FAIL_ON), help="Exit 1 from this severity on. [default: error]")
@click.option("--timeout", type=Seconds(), help="Limit of each rank's own look in seconds. [default: 120; quick 15]")
@click.option("--config", metavar="FILE", help="Read this configuration file instead of the nearest one.")
@report_options
@debug
def command(paths: tuple[str, ...], **given: Any) -> int:
    """Compare many ranks, or saved snapshots: what differs, who is slow, who does not answer.

    Exit codes as for check; with ranks the worst rank's, on every rank.
    """
    delivering.check_files(given)
    catalogue = catalogues.load()
    settled = settings.settle(given, catalogue)
    if paths:
        return _saved(paths, given, settled, catalogue)
    raise click.UsageError(NOBODY)


NOBODY = """no launcher started this, and no snapshots are named. Start it as the ranks are started:
  torchrun --nproc-per-node 8 --no-python envdoctor fleet
  srun envdoctor fleet
or name saved snapshots: envdoctor fleet DIR"""


def _saved(paths: Sequence[str], given: Mapping[str, Any], settled: Settings, catalogue: Catalogue) -> int:
    """Compare what is in files."""
    from envdoctor.facts.fleet import Ranks
    from envdoctor.fleet import saved

    for option in COLLECTING:
        if given[option]:
            raise click.UsageError(f"--{option} says how to collect, and saved snapshots were collected: use one")
    files = _files(paths)
    fleet = gathering(settled, catalogue, "snapshot")
    told = Told(len(files))
    saved.read(fleet, files, told)
    told.clear()
    report = fleet.report(Ranks(world_size=len(fleet.names), arrived=len(fleet.names), launcher="files"))
    if not report.members:
        raise click.UsageError(_none_is(report))
    return deliver(report, given, settled)


def gathering(settled: Settings, catalogue: Catalogue, noun: str) -> Fleet:
    """Make what takes members, with the rules and requirements that were asked for."""
    from envdoctor.facts import key_of
    from envdoctor.fleet.reporting import Fleet

    more = {key_of(type(settled.require)): settled.require} if settled.require.needs else {}
    return Fleet(catalogue.facts, catalogue.rules, settled.selection, noun, dict(more))


def deliver(report: FleetReport, given: Mapping[str, Any], settled: Settings) -> int:
    """Write the report, and give the exit code that it means."""
    delivering.deliver_fleet(report, given, settled.notes)
    return exits.code_for(report.report, settled.fail_on)


def _files(paths: Sequence[str]) -> list[Path]:
    from envdoctor.fleet import saved

    for each in paths:
        if not Path(each).exists():
            raise click.UsageError(f"{each!r} is not there, expected a snapshot or a directory of snapshots")
    files = list(saved.files_of(map(Path, paths)))
    if not files:
        raise click.UsageError(f"there is no {saved.SUFFIX} file in {', '.join(map(repr, paths))}")
    return files


def _none_is(report: FleetReport) -> str:
    first = report.skipped[0]
    return f"none of the {len(report.skipped)} files is a snapshot; {first.name}: {first.why}"


class Told:
    """Says on a terminal how many files were read, while there are many."""

    def __init__(self, total: int) -> None:
        from envdoctor.cli.progress import Progress

        self._total, self._progress = total, Progress()

    def __call__(self, number: int) -> None:
        """Hear that another file was read."""
        if self._progress.watched and number % TOLD_EVERY == 0:
            self._progress.drawn = True
            streams.draw(f"\r\x1b[K{number} of {self._total} files")

    def clear(self) -> None:
        """Take the line away."""
        self._progress.clear()
