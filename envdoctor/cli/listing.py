"""``envdoctor list``: every finding, every probe, every model, and the knowledge tables with their dates."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from envdoctor.cli import streams
from envdoctor.cli.options import OneOf, debug

if TYPE_CHECKING:
    from envdoctor.cli.catalogue import Catalogue

Row = dict[str, Any]
SCHEMA = "envdoctor.list/1"
LEGEND = "* essential: the verdict is never ok\n  while it cannot be judged\n"
WHAT = ("findings", "probes", "models")


@click.command("list", short_help="List every finding, probe, model or knowledge table.")
@click.argument("what", type=OneOf("list", WHAT), required=False)
@click.option("--knowledge", is_flag=True, help="List the tables that rules look up: rows, dates, sources.")
@click.option("--format", "format_", type=OneOf("format", ("terminal", "json")), default="terminal", help="For stdout.")
@debug
def command(what: str | None, *, knowledge: bool, format_: str) -> None:
    """List what envdoctor knows: findings (the default), probes, models for bench, or --knowledge."""
    if knowledge and what:
        raise click.UsageError(f"--knowledge lists tables, and {what!r} something else: use one")
    name = "knowledge" if knowledge else what or "findings"
    rows = _tables() if knowledge else _known(name)
    if format_ == "json":
        from envdoctor.render.json import write

        streams.print_out(write({"schema": SCHEMA, name: rows}))
    else:
        legend = LEGEND if name == "findings" else ""
        streams.print_out(table(rows, streams.width_of(sys.stdout)) + legend)


def _known(what: str) -> list[Row]:
    from envdoctor.cli import catalogue

    if what == "models":
        return _models()
    known = catalogue.load()
    for error in known.plugins.errors:
        streams.notice(f"envdoctor: a plug-in is broken: {error}")
    return _findings(known) if what == "findings" else _probes(known)


def _findings(known: Catalogue) -> list[Row]:
    from envdoctor.cli import page

    return [
        {"id": r.id, "severity": r.severity.value, "level": page.of(r, known.planned).level, "group": r.group,
         "essential": r.essential, "home": r.home, "summary": r.summary}
        for r in known.rules
    ]  # fmt: skip


def _probes(known: Catalogue) -> list[Row]:
    return [
        {"name": p.name, "level": p.level, "fact": p.fact, "process": p.child, "seconds": p.seconds,
         "needs": "device nodes" if p.gated else "import torch" if p.after_import else ""}
        for p in known.planned
    ]  # fmt: skip


def _models() -> list[Row]:
    from envdoctor.bench.models import MODELS

    return [{"model": m.name, "counted_in": f"{m.sample}s", "from": m.origin, "what": m.what} for m in MODELS]


def _tables() -> list[Row]:
    from envdoctor import knowledge

    return [
        {"table": each.name, "rows": each.count, "date": each.date, "row": each.row, "source": each.source}
        for each in knowledge.TABLES
    ]


def table(rows: list[Row], width: int) -> str:
    """Put rows in aligned columns; where not all fit, the last column of each goes on a line of its own."""
    shown = [_words(row) for row in rows]
    names = list(shown[0]) if shown else []
    wide = {name: max(len(name), *(len(row[name]) for row in shown)) for name in names}
    fits = sum(wide.values()) + 2 * len(wide) <= width
    lines = [_line(row, wide, width, fits=fits) for row in (dict(zip(names, names, strict=True)), *shown)]
    return "\n".join(lines) + "\n"


def _words(row: Row) -> dict[str, str]:
    """Leave out what only programs ask for; the essential ones are marked."""
    shown = {key: f"{value:g}" if isinstance(value, float) else str(value) for key, value in row.items()}
    if shown.pop("essential", "") == "True":
        shown["severity"] += " *"
    shown.pop("home", None)
    return shown


def _line(row: dict[str, str], wide: dict[str, int], width: int, *, fits: bool) -> str:
    """Lay one row out; on a terminal too narrow even for the first columns they go below the first one."""
    import textwrap

    first, *middle, last = row
    columns = [row[name].ljust(wide[name]) for name in (first, *middle)]
    start = "  ".join(columns).rstrip()
    if fits:
        return f"{'  '.join(columns)}  {row[last]}".rstrip()
    if sum(wide.values()) - wide[last] + 2 * len(middle) > width:
        start = "\n".join([row[first], f"  {'  '.join(row[name] for name in middle)}"])
    below = textwrap.wrap(row[last], max(width - 4, 20), initial_indent="    ", subsequent_indent="    ")
    return "\n".join([start, *below])
