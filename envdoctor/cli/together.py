"""From several reports to stdout and files: one document with what differs between them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envdoctor.cli import streams
from envdoctor.cli.delivering import view

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from envdoctor.compare.groups import SideBySide
    from envdoctor.finding import Report

FORMATS = ("terminal", "json")


def check_formats(given: Mapping[str, Any]) -> None:
    """Refuse a format that holds one report only."""
    for option, name in (("--format", given["format_"]), *(("--also", name) for name, _file in given["also"])):
        if name not in FORMATS:
            expected = f"with several --via expected {' or '.join(FORMATS)}"
            other = (
                f"For {name} save them with envdoctor snapshot --via ... -o DIR, and compare: "
                f"envdoctor fleet DIR --format {name}"
            )
            raise click.UsageError(f"{option}: {name!r} holds one report; {expected}. {other}")


def deliver(reports: Sequence[Report], given: Mapping[str, Any]) -> None:
    """Write the reports to stdout in the format asked for, and to each file of ``--also``."""
    from envdoctor.compare.groups import side_by_side

    compared = side_by_side(reports)
    for name, file in given["also"]:
        streams.save(Path(file), _written(reports, compared, name, show=given["show"], width=80))
    streams.print_out(_written(reports, compared, given["format_"], show=given["show"], **view()))


def _written(reports: Sequence[Report], compared: SideBySide, format_: str, **look: Any) -> str:
    from envdoctor.render import json, several

    if format_ == "json":
        return json.write(several.plain(reports, compared))
    return several.terminal(reports, compared, **look)
