"""From a report to stdout and files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envdoctor.cli import streams
from envdoctor.render import load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envdoctor.finding import Report


def check_files(given: Mapping[str, Any]) -> None:
    """Refuse a file that cannot be written before anything is collected for it."""
    for _format, file in given["also"]:
        check_file(file, "--also")


def check_file(file: str | None, option: str) -> None:
    """Refuse one file that cannot be written, naming the option it was given to."""
    why = streams.why_unwritable(Path(file)) if file else None
    if why:
        raise click.UsageError(f"{option}: {file!r} cannot be written: {why}")


def deliver(report: Report, given: Mapping[str, Any]) -> None:
    """Write the report to stdout in the format asked for, and to each file of ``--also``."""
    for name, file in given["also"]:
        streams.save(Path(file), load(name)(report, show=given["show"], width=80))
    if given["format_"] != "terminal":
        for note in report.notes:
            streams.notice(f"envdoctor: {note}")
    streams.print_out(load(given["format_"])(report, show=given["show"], **view()))


def view() -> dict[str, Any]:
    """Say what stdout can show."""
    out = sys.stdout
    return {
        "width": streams.width_of(out), "color": streams.color_on(out), "unicode": streams.unicode_on(out),
    }  # fmt: skip
