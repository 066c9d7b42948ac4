"""Where a snapshot comes from: the machine, a recorded tree, or a file."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envdoctor.cli import interrupts, streams
from envdoctor.facts import key_of
from envdoctor.plan import for_level

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envdoctor.cli.catalogue import Catalogue
    from envdoctor.cli.settings import Settings
    from envdoctor.plan import Planned
    from envdoctor.snapshot import Snapshot
    from envdoctor.target import Patient


def obtain(given: Mapping[str, Any], settings: Settings, catalogue: Catalogue) -> Snapshot:
    """Collect the facts, or read them from the file that ``--from`` names; URLs lose their credentials."""
    sources = given.get("from_")
    if sources:
        from envdoctor.cli.pasted import read

        snapshot = read(sources, catalogue, lambda: _collect(given, settings, catalogue))
    else:
        snapshot = _collect(given, settings, catalogue)
    from envdoctor.redact import without_credentials
    from envdoctor.rewrite import rewrite

    return rewrite(snapshot, without_credentials)


def _collect(given: Mapping[str, Any], settings: Settings, catalogue: Catalogue) -> Snapshot:
    from envdoctor.cli import progress as listeners

    planned = wanted(for_level(settings.level, catalogue.planned), settings, catalogue)
    patient, planned = _patient(given, planned)
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


def _patient(given: Mapping[str, Any], planned: tuple[Planned, ...]) -> tuple[Patient, tuple[Planned, ...]]:
    """Say who is examined, and what may be asked there: this interpreter or another, this machine or a recorded one.

    A plug-in's probe is asked elsewhere only if it declares that it may travel.
    """
    from envdoctor.probe import Roots
    from envdoctor.target import Patient

    options: dict[str, Any] = {}
    if given.get("python"):
        options["python"] = interpreter(given["python"])
    if given.get("pid"):
        options |= of_process(given)
    if given.get("root"):
        options["roots"] = Roots.under(os.path.abspath(given["root"]))  # noqa: PTH100 - links are part of a recording
    patient = Patient(**options)
    if patient.is_ours:  # a plug-in is found here as any module is, and with it what it imports
        return patient, planned
    travelling = tuple(each for each in planned if each.travels)
    payload = {re.split("[.:]", each.where)[0]: each.location for each in travelling if each.location}
    return replace(patient, payload=payload), travelling


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


def of_process(given: Mapping[str, Any]) -> dict[str, Any]:
    """Say who is examined for ``--pid``: the Python that the process runs, as it was started, where that may be."""
    from envdoctor.running import NoProcess, look

    pid, named = given["pid"], interpreter(given["python"]) if given.get("python") else None
    if given.get("root"):  # what runs there cannot be started here
        return {"key": f"process {pid}", "options": {"pid": pid}}
    try:
        found = look(pid)
    except NoProcess as error:
        raise click.UsageError(f"--pid: {error}") from None
    if found.why:
        streams.notice(
            f"envdoctor: process {pid}: {found.why}; torch and packages are those of {named or 'this Python'}"
        )
    same = found.python is not None and named in {None, found.python}
    asked = {"python": named or found.python, "environ": found.environ, "cwd": found.cwd}
    options = {"pid": pid, "job_python": same, "job_python_why": found.why}
    return {"key": f"process {pid}", "options": options, **{k: v for k, v in asked.items() if v is not None}}


def interpreter(path: str) -> str:
    """Give the absolute path of the Python that ``--python`` names; one that cannot be run is a usage error."""
    import shutil

    found = shutil.which(path)
    if found is None:
        why = "is not executable" if Path(path).exists() else "is not there"
        raise click.UsageError(f"--python: {path!r} {why}, expected the path of a Python interpreter")
    return os.path.abspath(found)  # noqa: PTH100 - a virtual environment's link to its Python must not be resolved


def check_source(given: Mapping[str, Any]) -> None:
    """Refuse options that contradict each other: facts from a file cannot be collected otherwise."""
    for option in ("python", "pid", "root", "level", "timeout"):
        if given["from_"] and given[option]:
            raise click.UsageError(f"--{option} says how to collect, and --from reads what was collected: use one")
    if given["root"] and not Path(given["root"]).is_dir():
        raise click.UsageError(f"--root: {given['root']!r} is no directory, expected a recorded machine's tree")
