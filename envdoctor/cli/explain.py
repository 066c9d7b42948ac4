"""``envdoctor explain ID``: a rule's page, offline. Imports only the module that holds the rule."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import envdoctor
from envdoctor.cli import delivering, page, streams
from envdoctor.cli.options import debug

if TYPE_CHECKING:
    from envdoctor.rule import Rule


@click.command("explain", short_help="Show what a finding means and what to do.")
@click.argument("id_", metavar="ID")
@debug
def command(id_: str) -> None:
    """Show what a finding means, why it matters, how it is detected, what to do, and the sources. Offline."""
    rule = built_in(id_) or _anyones(id_)
    color, width = streams.color_on(sys.stdout), streams.width_of(sys.stdout)
    delivering.print_out(page.page(rule, width=width, color=color))


def built_in(id_: str) -> Rule | None:
    """Find the rule by looking for its function in the text of the rule modules; None when none has it.

    Importing all of them to read one page takes several times as long.
    """
    function = id_.replace("-", "_")
    if not function.isidentifier():
        return None
    for file in sorted((Path(envdoctor.__file__).parent / "rules").glob("*.py")):
        if f"\ndef {function}(" in file.read_text(encoding="utf-8"):
            found: Any = getattr(importlib.import_module(f"envdoctor.rules.{file.stem}"), function, None)
            return found if getattr(found, "id", None) == id_ else None
    return None


def _anyones(id_: str) -> Rule:
    """Find the rule of a plug-in, or say which id was probably meant."""
    from envdoctor.cli import catalogue

    known = catalogue.load()
    if id_ in known.retired:
        raise click.UsageError(f"{id_!r} is retired: no rule has this id any more")
    known.check_id(id_, "explain")
    return next(rule for rule in known.rules if rule.id == id_)
