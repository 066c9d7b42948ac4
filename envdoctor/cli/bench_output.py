"""From a benchmark's result to stdout and files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from envdoctor.cli import delivering, streams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envdoctor.bench.compare import Difference
    from envdoctor.bench.result import Result

OWN = ("terminal", "json")


def check_files(given: Mapping[str, Any]) -> None:
    """Refuse files that cannot be written before minutes are spent on what would go into them."""
    delivering.check_files(given)
    delivering.check_file(given["output"], "--output")


def deliver(result: Result, given: Mapping[str, Any], difference: Difference | None = None) -> None:
    """Write the result to the file of ``-o`` as JSON, to those of ``--also``, and to stdout as ``--format`` says."""
    if given["output"]:
        streams.save(Path(given["output"]), written(result, "json", difference))
    for name, file in given["also"]:
        streams.save(Path(file), written(result, name, difference, show=given["show"], width=80))
    if given["format_"] != "terminal":
        for note in result.report.notes:
            streams.notice(f"envdoctor: {note}")
    streams.print_out(written(result, given["format_"], difference, show=given["show"], **delivering.view()))


def written(result: Result, format_: str, difference: Difference | None = None, **look: Any) -> str:
    """Give the result in a format. Formats that know no measurements get the report: its findings carry them."""
    if format_ == "json":
        from envdoctor.render.bench_diff_json import plain as plain_difference
        from envdoctor.render.bench_json import plain
        from envdoctor.render.json import write

        compared = {"compare": plain_difference(difference)} if difference else {}
        return write(plain(result) | compared)
    if format_ == "terminal":
        from envdoctor.render.terminal import bench, bench_diff

        beside = "\n" + bench_diff.render(difference, **look) if difference else ""
        return bench.render(result, **look) + beside
    if format_ == "html":
        from envdoctor.render.bench_json import plain
        from envdoctor.render.html import bench as page

        return page.render(result, plain(result))
    return delivering.written(result.report, format_, **look)
