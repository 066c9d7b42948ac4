"""``envdoctor run -- command``: check, and become the command if the check lets it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envdoctor.cli import catalogue as catalogues
from envdoctor.cli import check, collecting, exits, remembering, settings, streams
from envdoctor.cli.options import OneOf, Seconds, complete_ids, debug, python_option
from envdoctor.config import FAIL_ON
from envdoctor.plan import LEVELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envdoctor.finding import Report

REFUSED, CANNOT_RUN, NOT_FOUND = 125, 126, 127
_PYTHON = re.compile(r"python(\d(\.\d+)?)?$")
_LINE = 1024


@click.command("run", short_help="Check, then become a command.", context_settings={"allow_interspersed_args": False})
@click.option("--level", type=OneOf("level", LEVELS), default="quick", help="How deep to look. [default: quick]")
@python_option("Diagnose this interpreter. [default: the one that the command runs]")
@click.option("--require", multiple=True, metavar="NAME=VALUE", help="Require gpus=8, 'torch>=2.9', … Repeatable.")
@click.option("--only", multiple=True, metavar="ID|GROUP", shell_complete=complete_ids, help="Run these rules alone.")
@click.option("--skip", multiple=True, metavar="ID|GROUP", shell_complete=complete_ids, help="Leave these rules out.")
@click.option("--ignore", multiple=True, metavar="ID=REASON", help="Do not count a finding. Repeatable.")
@click.option("--fail-on", type=OneOf("severity", FAIL_ON), help="Refuse from this severity on. [default: error]")
@click.option("--timeout", type=Seconds(), help="Limit of the check in seconds. [default: 120; quick 15]")
@click.option("--config", metavar="FILE", help="Read this configuration file instead of the nearest one.")
@remembering.cache_options
@debug
@click.argument("command_", metavar="-- COMMAND...", nargs=-1, type=click.UNPROCESSED, required=True)
def command(command_: tuple[str, ...], **given: Any) -> int:
    """Check, and become the command or say why not."""
    if shutil.which(command_[0]) is None and not os.path.lexists(command_[0]):
        return _not_found(command_)
    catalogue = catalogues.load()
    settled = settings.settle(given, catalogue)
    remembering.check_cache(given)
    given["python"] = given["python"] or interpreter_of(command_)
    report = remembering.report_of(
        _without_cache_elsewhere(given), settled, catalogue,
        lambda: check.judge(collecting.obtain(given, settled, catalogue), settled, catalogue),
    )  # fmt: skip
    if report.interrupted:
        return exits.INTERRUPTED
    if refuses(report, settled.fail_on, command_):
        return REFUSED
    return _become(command_)


def _without_cache_elsewhere(given: dict[str, Any]) -> dict[str, Any]:
    """Keep no verdict of another interpreter, which the command turned out to run; say so."""
    if given["python"] and (given["cache"] or given["cache_dir"]):
        streams.notice(f"envdoctor: no kept verdict: the command runs {given['python']}")
        return {**given, "cache": False, "cache_dir": None}
    return given


def refuses(report: Report, fail_on: str, argv: Sequence[str]) -> bool:
    """Tell whether the run must not begin, and say on stderr what stops it or what is worth knowing."""
    from envdoctor.gate.refusal import objection
    from envdoctor.render.terminal.stopped import stopped
    from envdoctor.render.verdict_words import sentence

    for note in report.notes:
        streams.notice(f"envdoctor: {note}")
    found = objection(report, fail_on)
    if found:
        err = sys.stderr
        width, color, unicode = streams.width_of(err), streams.color_on(err), streams.unicode_on(err)
        streams.notice(stopped(report, found.keys, found.unjudged, width=width, color=color, unicode=unicode))
        streams.notice(f"\nenvdoctor: not started: {shlex.join(argv)}")
    elif report.verdict.value != "ok":
        streams.notice(f"envdoctor: {sentence(report)} (envdoctor check --level {report.snapshot.level} shows it)")
    return bool(found)


def interpreter_of(argv: Sequence[str]) -> str | None:
    """Name the Python that a command runs: itself, or the one on its script's first line. None: ours, or none."""
    found = shutil.which(argv[0])
    if found is None:
        return None
    if not _PYTHON.match(Path(found).name):
        found = _of_script(found)
    return None if found is None or _is_ours(found) else found


def _of_script(file: str) -> str | None:
    """Read ``#!/venv/bin/python`` or ``#!/usr/bin/env python3`` on a script's first line."""
    try:
        with Path(file).open("rb") as opened:
            line = os.fsdecode(opened.readline(_LINE))
    except OSError:
        return None
    words = line.removeprefix("#!").split() if line.startswith("#!") else []
    if words and Path(words[0]).name == "env":
        words = [each for each in words[1:] if not each.startswith("-") and "=" not in each]
    return shutil.which(words[0]) if words and _PYTHON.match(Path(words[0]).name) else None


def _is_ours(python: str) -> bool:
    """Tell whether this is the interpreter that runs the doctor, by whatever of its names."""
    here, there = Path(sys.executable), Path(os.path.abspath(python))  # noqa: PTH100 - links are resolved below
    return here.parent == there.parent and here.resolve() == there.resolve()


def _become(argv: Sequence[str]) -> int:
    """Become the command; give the exit code that a shell gives where that cannot be done."""
    from envdoctor.runner.becoming import become
    from envdoctor.runner.starting import Ready

    ready = click.get_current_context().find_object(Ready)
    if ready is not None:
        ready.dismiss()
    try:
        become(argv)
    except FileNotFoundError:
        return _not_found(argv)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error)
        streams.notice(f"envdoctor: {argv[0]}: cannot be run: {said}")
        return CANNOT_RUN


def _not_found(argv: Sequence[str]) -> int:
    streams.notice(f"envdoctor: {argv[0]}: no such command")
    return NOT_FOUND
