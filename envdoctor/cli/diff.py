"""``envdoctor diff``: two snapshots, reports or benchmarks: what differs, and what that explains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envdoctor.cli import catalogue as catalogues
from envdoctor.cli import collecting, delivering, exits, saved, settings, streams
from envdoctor.cli.options import SHOW, OneOf, Seconds, debug, python_option
from envdoctor.config import FAIL_ON
from envdoctor.plan import LEVELS

if TYPE_CHECKING:
    from envdoctor.cli.catalogue import Catalogue
    from envdoctor.cli.settings import Settings
    from envdoctor.compare.pair import Difference
    from envdoctor.finding import Report
    from envdoctor.snapshot import Snapshot

    Sides = tuple[tuple[Snapshot, str], tuple[Snapshot, str]]

NOW = "this machine now"
NOT_COLLECTED = {"via": (), "from_": (), "root": None, "pid": None}


@click.command("diff", short_help="Compare two snapshots, reports or benchmarks.")
@click.argument("before", metavar="[BEFORE]", required=False)
@click.argument("after", metavar="[AFTER]", required=False)
@click.option("--since", metavar="WHEN", help="Compare this machine now with what 'baseline save --keep' kept then.")
@click.option("--level", type=OneOf("level", LEVELS), help="How deep to look now. [default: that of BEFORE]")
@python_option("Look now at another interpreter.")
@click.option(
    "--fail-on", type=OneOf("severity", FAIL_ON), help="Exit 1 for new findings from here on. [default: error]"
)
@click.option("--timeout", type=Seconds(), help="Limit of the look now in seconds. [default: 120; quick 15]")
@click.option("--config", metavar="FILE", help="Read this configuration file instead of the nearest one.")
@click.option("--format", "format_", type=OneOf("format", ("terminal", "json")), default="terminal", help="For stdout.")
@click.option("-o", "--output", metavar="FILE", help="Also write the difference as JSON.")
@click.option("--show", type=OneOf("view", SHOW), default="problems", help="all: also what changes by itself.")
@debug
def command(before: str | None, after: str | None, **given: Any) -> int:
    """Compare two files, or one with this machine as it is now; with --since, now with an earlier day.

    What changes by itself (free memory, temperatures, times) is set apart. Of two benchmarks the measurements are
    compared: a difference counts only when the samples part, and facts are ranked by what they were measured to cost.

    Exit codes: 0 nothing new at or above --fail-on; 1 a finding that was not there before; 2 usage; 4 envdoctor failed.
    """
    _check(before, after, given)
    delivering.check_file(given["output"], "--output")
    catalogue = catalogues.load()
    if before and after:
        sides: Sides = (saved.read(before, catalogue, "BEFORE"), before), (saved.read(after, catalogue, "AFTER"), after)
        if _both_measured(sides):
            return _benchmarks(before, after, given)
    else:
        sides = _with_now(before, given, catalogue)
    settled = settings.settle(given, catalogue)
    found = compare(sides, settled, catalogue)
    _deliver(found, [each for _, each in sides], given)
    return _code(found, settled.fail_on)


def _check(before: str | None, after: str | None, given: dict[str, Any]) -> None:
    if given["since"] and before:
        raise click.UsageError("--since names what to compare this machine with, and so does a file: use one")
    if not (given["since"] or before):
        raise click.UsageError(
            "name two files, one to compare this machine with, or --since, such as --since yesterday"
        )
    for option in ("level", "python", "timeout"):
        if after and given[option]:
            raise click.UsageError(f"--{option} says how to look at this machine, and two files need no look: use one")


def _with_now(before: str | None, given: dict[str, Any], catalogue: Catalogue) -> Sides:
    """Give an earlier snapshot and one of now, taken as deep as the earlier one."""
    earlier = saved.read(before, catalogue, "BEFORE") if before else None
    if not earlier:
        from envdoctor.cli import keeping

        moment = keeping.moment(given["since"])
    how = {**given, **NOT_COLLECTED, "level": given["level"] or (earlier.level if earlier else None)}
    now = collecting.obtain(how, settings.settle(how, catalogue), catalogue)
    if earlier:
        return (earlier, str(before)), (now, NOW)
    return (*keeping.kept_at(moment, now, catalogue),), (now, NOW)


def compare(sides: Sides, settled: Settings, catalogue: Catalogue) -> Difference:
    """Judge both by today's rules and say what differs."""
    from envdoctor.compare import pair
    from envdoctor.diagnose import examine

    def judged(snapshot: Snapshot) -> Report:
        return examine(snapshot, catalogue.rules, settled.selection)

    return pair.compare(*(judged(snapshot) for snapshot, _ in sides))


def _deliver(found: Difference, sources: list[str], given: dict[str, Any]) -> None:
    from envdoctor.render import diff, json

    if given["output"]:
        streams.save(Path(given["output"]), json.write(diff.plain(found, sources)))
    if given["format_"] == "json":
        streams.print_out(json.write(diff.plain(found, sources)))
    else:
        streams.print_out(diff.terminal(found, sources, show=given["show"], **delivering.view()))


def _code(found: Difference, fail_on: str) -> int:
    counted = exits.COUNTED[fail_on]
    new = {each.finding.severity.value for each in found.new if each.finding.severity}
    return exits.FINDINGS if new & set(counted) else exits.OK


def _both_measured(sides: Sides) -> bool:
    return all(any(key.startswith("bench_") for key in snapshot.facts) for snapshot, _ in sides)


def _benchmarks(before: str, after: str, given: dict[str, Any]) -> int:
    """Compare measurements, and facts by what they were measured to be worth (envdoctor.bench-diff/1)."""
    from envdoctor.bench.compare import compare as compare_speeds
    from envdoctor.cli import bench_files

    found = compare_speeds(bench_files.read(before, "BEFORE"), bench_files.read(after, "AFTER"))
    if given["output"]:
        streams.save(Path(given["output"]), _speeds(found, "json"))
    streams.print_out(_speeds(found, given["format_"], show=given["show"], **delivering.view()))
    return exits.OK


def _speeds(found: Any, format_: str, **look: Any) -> str:
    if format_ == "json":
        from envdoctor.render.bench_diff_json import plain
        from envdoctor.render.json import write

        return write(plain(found))
    from envdoctor.render.terminal.bench_diff import render

    return render(found, **look)
