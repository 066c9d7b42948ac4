"""``fix --undo``: bring back, by exact versions, what a recorded ``--apply`` changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from envdoctor.cli import collecting, exits, fix_output, records, settings, streams
from envdoctor.cli.applying import Ran, run_all, why_failed
from envdoctor.cli.asking import Asker
from envdoctor.facts.packages import Packages
from envdoctor.plan import LEVELS
from envdoctor.remedy import apply as remedy
from envdoctor.render.untrusted import escape, one_line

if TYPE_CHECKING:
    from pathlib import Path

    from envdoctor.cli.catalogue import Catalogue
    from envdoctor.remedy.apply import Record, Undo


def undo(given: dict[str, Any], catalogue: Catalogue) -> int:
    """Show what would come back, ask, run it, and look again whether it has."""
    path, record = records.read(given["undo"])
    given = given | {"python": record.python, "level": LEVELS[0], "only": (), "skip": ()}
    now = _packages(given, catalogue)
    if now.prefix != record.prefix:
        raise click.UsageError(f"--undo: {path} is of the environment {record.prefix!r}, and that is not there now")
    planned = remedy.undo(record, now)
    _show(path, record, planned)
    if not planned.commands:
        if record.under_way and not planned.impossible:
            records.close(path, record)
        return _end(given, path, planned, (), remedy.Effect.NOT_RUN if planned.impossible else remedy.Effect.GONE)
    ask = Asker(yes=given["yes"])
    if given["dry_run"] or not ask("Run it?"):
        return _end(given, path, planned, (), remedy.Effect.NOT_RUN if given["dry_run"] else remedy.Effect.DECLINED)
    with records.held(record.prefix) as held:
        ran = tuple(run_all(planned.commands, held))
    if any(each.ended.interrupted for each in ran):
        return _end(given, path, planned, ran, remedy.Effect.INTERRUPTED)
    left = remedy.undo(record, _packages(given, catalogue))
    effect = remedy.Effect.NOT_FIXED if left.commands or why_failed(ran) else remedy.Effect.FIXED
    if effect is remedy.Effect.FIXED and not left.impossible:
        records.close(path, record)
    return _end(given, path, planned, ran, effect)


def _packages(given: dict[str, Any], catalogue: Catalogue) -> Packages:
    snapshot = collecting.obtain(given, settings.settle(given, catalogue), catalogue)
    packages = snapshot.get(Packages)
    if packages is None:
        result = snapshot.probe_for("packages")
        said = result.outcome.reason if result else "they were not collected"
        raise click.UsageError(f"--undo: the packages of {given['python']} cannot be read: {said}")
    return packages


def _show(path: Path, record: Record, planned: Undo) -> None:
    lines = [f"Undo of {path}, recorded {record.created}", f"  in       {one_line(record.prefix)}"]
    lines += [f"  took     {escape(each.shell)} (exit code {each.exit_code})" for each in record.done]
    lines += [f"  runs     {escape(each.shell)}" for each in planned.commands] or ["  nothing is left to bring back"]
    lines += [f"  cannot   {one_line(each)}" for each in planned.impossible]
    streams.notice("\n".join(lines))


def _end(
    given: dict[str, Any], path: Path, planned: Undo, ran: tuple[Ran, ...], effect: remedy.Effect
) -> int:  # fmt: skip
    streams.print_out(fix_output.undone(path, planned, ran, effect, given))
    if effect is remedy.Effect.INTERRUPTED:
        return exits.INTERRUPTED
    done = effect in {remedy.Effect.FIXED, remedy.Effect.GONE} and not planned.impossible
    return exits.OK if done else exits.FINDINGS
