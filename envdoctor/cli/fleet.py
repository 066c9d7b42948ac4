"""``envdoctor fleet``: many ranks or saved snapshots side by side."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envdoctor.cli import catalogue as catalogues
from envdoctor.cli import delivering, exits, settings, streams
from envdoctor.cli.options import OneOf, Seconds, complete_ids, debug, report_options
from envdoctor.config import FAIL_ON
from envdoctor.plan import LEVELS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from envdoctor.cli.catalogue import Catalogue
    from envdoctor.cli.fleet_board import Meet
    from envdoctor.cli.fleet_rank import Rank
    from envdoctor.cli.fleet_stages import Staged
    from envdoctor.cli.settings import Settings
    from envdoctor.facts import Fact
    from envdoctor.fleet.launch import Launch
    from envdoctor.fleet.reporting import Fleet, FleetReport
    from envdoctor.snapshot import Snapshot

COLLECTING = (
    "level",
    "timeout",
    "sync_timeout",
    "deep",
    "stage_timeout",
    "nnodes",
    "node_rank",
    "master_addr",
    "master_port",
)
SYNC_SECONDS = 60.0
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
@click.option("--sync-timeout", type=Seconds(), help="Limit of waiting for the other ranks in seconds. [default: 60]")
@click.option("--deep", is_flag=True, help="Also test the ranks and the ways between them: each alone, in pairs, all.")
@click.option(
    "--stage-timeout", type=Seconds(), help="Limit of each step of these tests in seconds. [default: 15 to 30]"
)
@click.option("--nnodes", type=click.IntRange(min=1), help="Without a launcher: how many nodes, one rank on each.")
@click.option("--node-rank", type=int, help="Without a launcher: which of them this one is.")
@click.option("--master-addr", metavar="HOST", help="Without a launcher: the host of node 0.")
@click.option("--master-port", type=click.IntRange(1, 65535), help="Without a launcher: its port. [default: 29500]")
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
    if given["stage_timeout"] and not given["deep"]:
        raise click.UsageError("--stage-timeout is for the tests of --deep: use both")
    return _ranks(_launch(given), given, settled, catalogue)


def _launch(given: Mapping[str, Any]) -> Launch:
    """Give this rank's place; started by nobody it is a usage error that says how to start."""
    from envdoctor.fleet import launch

    try:
        if given["nnodes"]:
            return launch.by_hand(given["nnodes"], given["node_rank"], given["master_addr"], given["master_port"])
        found = launch.read(os.environ)
    except launch.LaunchError as error:
        raise click.UsageError(str(error)) from None
    if found is None:
        raise click.UsageError(_nobody(os.environ))
    return found


def _nobody(environ: Mapping[str, str]) -> str:
    """Say that nobody has given this process a rank; accelerate may have started it all the same."""
    return ONE_BY_ACCELERATE if "ACCELERATE_MIXED_PRECISION" in environ else NOBODY


def _ranks(launch: Launch, given: dict[str, Any], settled: Settings, catalogue: Catalogue) -> int:
    from envdoctor.cli import fleet_rank

    rank = fleet_rank.Rank(
        launch, settled, given["sync_timeout"] or SYNC_SECONDS, look,
        new_fleet=lambda: gathering(settled, catalogue, "rank"), deliver=lambda report: deliver(report, given, settled),
        catalogue=catalogue, staged=_staged(launch, given) if given["deep"] else None,
    )  # fmt: skip
    return fleet_rank.run(rank)


def _staged(launch: Launch, given: Mapping[str, Any]) -> Staged:
    from envdoctor.cli.fleet_stages import Staged

    return Staged(launch, given["stage_timeout"])


def look(rank: Rank, met: Meet, progress: Callable[[dict[str, Any]], None]) -> Snapshot:
    """Examine this rank's machine and its way to the meeting point; the rules are imported meanwhile."""
    from envdoctor.cli import collecting
    from envdoctor.plan import RENDEZVOUS, for_level, for_rank
    from envdoctor.runner.collection import Collection
    from envdoctor.target import Patient

    launch, settled, catalogue = rank.launch, rank.settled, rank.catalogue
    planned = collecting.wanted(for_level(settled.level, catalogue.planned), settled, catalogue)
    told = {
        "rank": launch.rank, "several_nodes": launch.several_nodes, "address": launch.address, "port": launch.port,
        "hosted_here": launch.hosts, "cannot_listen": met.cannot_listen, "path": met.path, "run": launch.run,
        "patience": min(10.0, rank.sync_seconds / 2),
    }  # fmt: skip
    run = Collection(
        Patient(options={"rendezvous": told}), (*for_rank(planned, leads=launch.leads), RENDEZVOUS),
        timeout=settled.timeout, level=settled.level, progress=progress, kinds=_kinds(catalogue),
    )  # fmt: skip
    with rank.ended.raising():
        snapshot = run.finish(meanwhile=lambda: _prepare(catalogue, rank.ended))
    return replace(snapshot, plugin_errors=(*snapshot.plugin_errors, *catalogue.plugins.errors))


def _prepare(catalogue: Catalogue, ended: Callable[[], bool]) -> None:
    """Import what is needed afterwards, and end at once where a signal came before there was anything to end."""
    from envdoctor import diagnose, redact, rewrite  # noqa: F401 - for later
    from envdoctor.fleet import reporting  # noqa: F401 - for later

    _ = catalogue.rules
    if ended():
        raise KeyboardInterrupt


def _kinds(catalogue: Catalogue) -> dict[str, type[Fact]]:
    from envdoctor.facts import key_of
    from envdoctor.facts.fleet import FACTS

    return catalogue.facts | {key_of(each): each for each in FACTS}


NOBODY = """no launcher started this, and no snapshots are named. Start it as the ranks are started:
  torchrun --nproc-per-node 8 --no-python envdoctor fleet
  srun envdoctor fleet
  accelerate launch --module envdoctor fleet
or name saved snapshots: envdoctor fleet DIR"""
# With --cpu alone it starts one process, whatever --num_processes is (its simple launcher, accelerate 1.15).
ONE_BY_ACCELERATE = """accelerate has started this as one process without a rank, as it does with --cpu and with one
process. Its launcher for many ranks needs no GPU:
  accelerate launch --multi_gpu --num_processes 2 --module envdoctor fleet"""


def _saved(paths: Sequence[str], given: Mapping[str, Any], settled: Settings, catalogue: Catalogue) -> int:
    """Compare what is in files."""
    from envdoctor.facts.fleet import Ranks
    from envdoctor.fleet import saved

    for option in COLLECTING:
        if given[option]:
            name = option.replace("_", "-")
            raise click.UsageError(f"--{name} says how to collect, and saved snapshots were collected: use one")
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
    return Fleet(_kinds(catalogue), catalogue.rules, settled.selection, noun, dict(more))


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
