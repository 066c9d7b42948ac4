"""``envdoctor snapshot``: the facts alone, as they are or redacted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envdoctor.cli import catalogue as catalogues
from envdoctor.cli import collecting, delivering, exits, settings, streams
from envdoctor.cli.options import OneOf, Seconds, debug
from envdoctor.plan import LEVELS

if TYPE_CHECKING:
    from envdoctor.redact import Removed
    from envdoctor.snapshot import Snapshot


@click.command("snapshot", short_help="Collect the facts alone.")
@click.option("-o", "--output", metavar="FILE", help="Write to this file instead of stdout.")
@click.option("--share", is_flag=True, help="Replace what names people and machines by labels; list what was replaced.")
@click.option("--level", type=OneOf("level", LEVELS), help="How deep to look. [default: standard]")
@click.option("--python", metavar="PATH", help="Diagnose another interpreter, in which envdoctor is not installed.")
@click.option("--pid", type=click.IntRange(min=1), metavar="N", help="Diagnose a job that runs: what it has loaded.")
@click.option(
    "--from", "from_", multiple=True, metavar="FILE", help="Take a saved or pasted report. - is stdin. Repeatable."
)
@click.option("--timeout", type=Seconds(), help="Limit of the whole run in seconds. [default: 120; quick 15]")
@click.option("--config", metavar="FILE", help="Read this configuration file instead of the nearest one.")
@click.option("--root", metavar="DIR", hidden=True, help="Read a recorded machine's /proc, /sys, /dev, … under DIR.")
@debug
def command(**given: Any) -> int:
    """Collect the facts and write them as JSON (envdoctor.snapshot/1), to keep, to compare, or to send to somebody."""
    collecting.check_source(given)
    delivering.check_file(given["output"], "--output")
    catalogue = catalogues.load()
    snapshot = collecting.obtain(given, settings.settle(given, catalogue), catalogue)
    _write(snapshot, given)
    return exits.INTERRUPTED if snapshot.interrupted else exits.OK


def _write(snapshot: Snapshot, given: dict[str, Any]) -> None:
    from envdoctor import redact
    from envdoctor.render.json import write
    from envdoctor.snapshot import to_plain

    shared, removed = redact.share(snapshot, redact.own_names()) if given["share"] else (snapshot, ())
    text = write(to_plain(shared) | redact.stated(removed, shared=given["share"]))
    if given["output"]:
        streams.save(Path(given["output"]), text)
    else:
        streams.print_out(text)
    _say(removed, given)


def _say(removed: tuple[Removed, ...], given: dict[str, Any]) -> None:
    """Tell on stderr what was taken out, or that nothing was."""
    if given["share"]:
        said = ", ".join(f"{each.label} ({each.kind}, {each.times}x)" for each in removed)
        streams.notice(f"envdoctor: replaced by labels: {said or 'nothing; nothing here names a person or a machine'}")
    elif given["output"]:
        streams.notice(f"envdoctor: {given['output']} may name this host, its users and paths; --share replaces them")
