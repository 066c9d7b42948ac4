"""``envdoctor diff``: two results side by side: what differs, and what that explains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envdoctor.cli import bench_files, delivering, exits, streams
from envdoctor.cli.options import SHOW, OneOf, debug

if TYPE_CHECKING:
    from envdoctor.bench.compare import Difference


@click.command("diff", short_help="Compare two benchmarks.")
@click.argument("before", metavar="BEFORE")
@click.argument("after", metavar="AFTER")
@click.option("--format", "format_", type=OneOf("format", ("terminal", "json")), default="terminal", help="For stdout.")
@click.option("-o", "--output", metavar="FILE", help="Also write the comparison as JSON (envdoctor.bench-diff/1).")
@click.option("--show", type=OneOf("view", SHOW), default="problems", help="all: every measurement and fact.")
@debug
def command(before: str, after: str, **given: Any) -> int:
    """Compare two results of 'envdoctor bench -o FILE': host against container, yesterday against today.

    A difference counts only when the samples part; what the clock explains is no difference of the software. Facts
    that differ are ranked by what the ladder measured them to be worth.
    """
    delivering.check_file(given["output"], "--output")
    from envdoctor.bench.compare import compare

    found = compare(bench_files.read(before, "BEFORE"), bench_files.read(after, "AFTER"))
    if given["output"]:
        streams.save(Path(given["output"]), _written(found, "json"))
    streams.print_out(_written(found, given["format_"], show=given["show"], **delivering.view()))
    return exits.OK


def _written(found: Difference, format_: str, **look: Any) -> str:
    if format_ == "json":
        from envdoctor.render.bench_diff_json import plain
        from envdoctor.render.json import write

        return write(plain(found))
    from envdoctor.render.terminal.bench_diff import render

    return render(found, **look)
