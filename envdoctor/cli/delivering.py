"""From a report to stdout and files."""

from __future__ import annotations

import functools
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envdoctor.cli import streams
from envdoctor.cli.progress import TOLD
from envdoctor.render import OF_FLEETS, SHARED, load, load_fleet, missing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envdoctor.finding import Report
    from envdoctor.fleet.reporting import FleetReport


def check_files(given: Mapping[str, Any]) -> None:
    """Refuse a file or a format that cannot be written before anything is collected for it."""
    for format_, file in given["also"]:
        check_format(format_, "--also")
        check_file(file, "--also")
    check_format(given["format_"], "--format")


def check_format(name: str, option: str) -> None:
    """Refuse a format whose extra is not installed, with the command that installs it."""
    if why := missing(name):
        raise click.UsageError(f"{option}: {why}")


def check_file(file: str | None, option: str) -> None:
    """Refuse one file that cannot be written, naming the option it was given to."""
    why = streams.why_unwritable(Path(file)) if file else None
    if why:
        raise click.UsageError(f"{option}: {file!r} cannot be written: {why}")


def deliver(report: Report, given: Mapping[str, Any]) -> None:
    """Write the report to stdout in the format asked for, and to each file of ``--also``."""
    for name, file in given["also"]:
        streams.save(Path(file), written(report, name, show=given["show"], width=80))
    if given["format_"] != "terminal":
        for note in report.notes:
            streams.notice(f"envdoctor: {note}")
    if given["format_"] == "github":
        _add_step_summary(report)
    told = click.get_current_context().meta.get(TOLD)
    already = frozenset(told) if told is not None else None
    streams.print_out(written(report, given["format_"], show=given["show"], told=already, **view()))


def deliver_fleet(fleet: FleetReport, given: Mapping[str, Any], notes: tuple[str, ...]) -> None:
    """Do the same with a report on many members."""
    fleet = replace(fleet, report=replace(fleet.report, notes=(*fleet.report.notes, *notes)))
    for name, file in given["also"]:
        streams.save(Path(file), written_fleet(fleet, name, show=given["show"], width=80))
    if given["format_"] != "terminal":
        for note in fleet.report.notes:
            streams.notice(f"envdoctor: {note}")
    streams.print_out(written_fleet(fleet, given["format_"], show=given["show"], **view()))


def written_fleet(fleet: FleetReport, format_: str, **look: Any) -> str:
    """Give the report in a format; one that has no form for fleets shows what is said over all members."""
    return load_fleet(format_)(fleet, **look) if format_ in OF_FLEETS else written(fleet.report, format_, **look)


def written(report: Report, format_: str, **look: Any) -> str:
    """Give the report in a format; one that is made for strangers says nothing of people and machines."""
    if format_ in SHARED:
        from envdoctor import redact

        report, _removed = redact.share_report(report, redact.own_names())
    return load(format_)(report, explain=_page, **look)


def _page(id_: str) -> str:
    """Give a rule's page; nothing for the finding of a rule that is not here any more."""
    return _pages().get(id_, "")


@functools.cache
def _pages() -> dict[str, str]:
    from envdoctor.cli import catalogue

    return catalogue.load().pages


def _add_step_summary(report: Report) -> None:
    """Add the report to the step's summary, where GitHub Actions names a file for it."""
    file = os.environ.get("GITHUB_STEP_SUMMARY")
    if not file:
        return
    try:
        with Path(file).open("a", encoding="utf-8", errors="backslashreplace") as summary:
            summary.write(written(report, "markdown"))
    except OSError as error:
        streams.notice(f"envdoctor: the step summary cannot be written: {file}: {error.strerror or error}")


def view() -> dict[str, Any]:
    """Say what stdout can show."""
    out = sys.stdout
    return {
        "width": streams.width_of(out), "color": streams.color_on(out), "unicode": streams.unicode_on(out),
    }  # fmt: skip
