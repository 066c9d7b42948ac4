"""``--cache``: an earlier verdict of this unchanged machine instead of a look, for ``check`` and for ``run``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from envdoctor.cli.catalogue import Catalogue
    from envdoctor.cli.settings import Settings
    from envdoctor.finding import Report

OTHERS = ("python", "via", "pid", "from_", "root", "against")  # somebody or something else than this interpreter alone


def cache_options(command: Any) -> Any:
    """Add the options that ask for a kept verdict."""
    for option in (
        click.option("--cache-dir", metavar="DIR", help="Keep verdicts in this directory; means --cache."),
        click.option("--cache", is_flag=True, help="Take an earlier verdict, if nothing that it rests on has changed."),
    ):
        command = option(command)
    return command


def check_cache(given: Mapping[str, Any]) -> None:
    """Refuse a kept verdict of somebody else: what it rests on cannot be seen from here."""
    asked = next((name for name in OTHERS if given.get(name)), None)
    if (given["cache"] or given["cache_dir"]) and asked:
        raise click.UsageError(f"--cache keeps the verdict of this interpreter, and --{asked.rstrip('_')} asks another")


def report_of(given: Mapping[str, Any], settled: Settings, catalogue: Catalogue, make: Callable[[], Report]) -> Report:
    """Give the kept verdict where one is asked for and lets a run begin, else ``make`` a report and keep that."""
    if not (given["cache"] or given["cache_dir"]):
        return make()
    from envdoctor.gate.memory import Memory, place
    from envdoctor.gate.refusal import objection

    selection = settled.selection
    ignored = {name: [each.reason, each.by] for name, each in selection.ignore.items()}
    needs = [[each.name, each.wanted] for each in settled.require.needs]
    memory = Memory(
        place(given["cache_dir"] or True), command=True, level=settled.level, only=sorted(selection.only),
        skip=sorted(selection.skip), ignore=ignored, require=needs,
    )  # fmt: skip
    kept = memory.recall()
    if kept is not None and not objection(kept, settled.fail_on):
        return kept
    report = make()
    memory.remember(report, catalogue.rules)
    return replace(report, notes=(*report.notes, *memory.notes))
