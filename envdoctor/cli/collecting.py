"""Where a snapshot comes from: the machine, a recorded tree, or a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envdoctor.cli import interrupts, patients
from envdoctor.facts import key_of
from envdoctor.plan import for_level

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envdoctor.cli.catalogue import Catalogue
    from envdoctor.cli.settings import Settings
    from envdoctor.plan import Planned
    from envdoctor.snapshot import Snapshot


def obtain(given: Mapping[str, Any], settings: Settings, catalogue: Catalogue) -> Snapshot:
    """Collect the facts, or read them from the file that ``--from`` names; URLs lose their credentials."""
    sources = given.get("from_")
    if sources:
        from envdoctor.cli.pasted import read

        return _clean(read(sources, catalogue, lambda: _collect(given, settings, catalogue)))
    return _clean(_collect(given, settings, catalogue))


def obtain_each(given: Mapping[str, Any], settings: Settings, catalogue: Catalogue) -> tuple[Snapshot, ...]:
    """Collect the facts of everybody that ``--via`` names, all at once."""
    from envdoctor.cli import several

    planned = wanted(for_level(settings.level, catalogue.planned), settings, catalogue)
    found = several.collect(patients.each(given, planned), settings, catalogue)
    return tuple(
        _clean(replace(each, plugin_errors=(*each.plugin_errors, *catalogue.plugins.errors))) for each in found
    )


def _clean(snapshot: Snapshot) -> Snapshot:
    from envdoctor.redact import without_credentials
    from envdoctor.rewrite import rewrite

    return rewrite(snapshot, without_credentials)


def _collect(given: Mapping[str, Any], settings: Settings, catalogue: Catalogue) -> Snapshot:
    from envdoctor.cli import progress as listeners

    planned = wanted(for_level(settings.level, catalogue.planned), settings, catalogue)
    patient, planned = patients.one(given, planned)
    progress = listeners.of(given.get("format_"), patient, settings.level)
    kinds = catalogue.facts if catalogue.plugins.facts else None  # None: the built-in ones, imported after the start
    with interrupts.noted() as pressed:
        from envdoctor.runner.collection import Collection
        from envdoctor.runner.starting import Ready

        ready = click.get_current_context().find_object(Ready)
        run = Collection(
            patient,
            planned,
            timeout=settings.timeout,
            level=settings.level,
            progress=progress,
            kinds=kinds,
            ready=ready,
        )
    snapshot = run.finish(meanwhile=lambda: _prepare(given, catalogue, pressed))
    progress.clear()
    return replace(snapshot, plugin_errors=(*snapshot.plugin_errors, *catalogue.plugins.errors))


def _prepare(given: Mapping[str, Any], catalogue: Catalogue, pressed: list[int]) -> None:
    """Import, while the patient works, what is needed afterwards: the rules and the renderer.

    ``pressed``: Ctrl-C came before there was anything to end.
    """
    with interrupts.held():
        from envdoctor import diagnose, redact, render, rewrite  # noqa: F401 - for later

        _ = catalogue.rules
        if "format_" in given:
            render.load(given["format_"])
    if pressed:
        raise KeyboardInterrupt


def wanted(planned: tuple[Planned, ...], settings: Settings, catalogue: Catalogue) -> tuple[Planned, ...]:
    """Leave out the processes whose facts no selected rule asks for; ``--only`` then takes no longer than it must.

    The static facts stay: they are read by one process, and say what machine this is. A rule that judges the run
    itself (did a probe crash?) needs all of it.
    """
    if not (settings.selection.only or settings.selection.skip):
        return planned
    rules = [rule for rule in catalogue.rules if settings.selection.reason_to_skip(rule) is None]
    facts = {key_of(each.fact) for rule in rules for each in rule.inputs}
    if facts - {each.fact for each in catalogue.planned}:
        return planned
    children = {"static", *(each.child for each in planned if each.fact in facts)}
    return tuple(p for p in planned if p.child in children and (not p.after_import or p.fact in facts))


def check_source(given: Mapping[str, Any]) -> None:
    """Refuse options that contradict each other: facts from a file cannot be collected otherwise."""
    for option in ("python", "via", "pid", "root", "level", "timeout"):
        if given["from_"] and given.get(option):
            raise click.UsageError(f"--{option} says how to collect, and --from reads what was collected: use one")
    if given["root"] and not Path(given["root"]).is_dir():
        raise click.UsageError(f"--root: {given['root']!r} is no directory, expected a recorded machine's tree")
