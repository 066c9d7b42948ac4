"""``envdoctor explain ID``: a rule's page, offline."""

from __future__ import annotations

import sys
from pathlib import Path

import click

import envdoctor
from envdoctor.cli import page, paper, streams
from envdoctor.cli.options import complete_ids, debug


@click.command("explain", short_help="Show what a finding means and what to do.")
@click.argument("id_", metavar="ID", shell_complete=complete_ids)
@debug
def command(id_: str) -> None:
    """Show what a finding means, why it matters, how it is detected, what to do, and the sources. Offline."""
    found = page.from_source(id_, Path(envdoctor.__file__).parent / "rules") or _anyones(id_)
    streams.print_out(paper.layout(found, width=streams.width_of(sys.stdout), color=streams.color_on(sys.stdout)))


def _anyones(id_: str) -> page.Page:
    """Find the rule among all, those of plug-ins too, or say which id was probably meant."""
    from envdoctor.cli import catalogue

    known = catalogue.load()
    if id_ in known.retired:
        raise click.UsageError(f"{id_!r} is retired: no rule has this id any more")
    known.check_id(id_, "explain")
    return page.of(next(rule for rule in known.rules if rule.id == id_), known.planned)
