"""``envdoctor baseline``: this machine's own normal, and what a team agrees on: save it, and compare with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envdoctor.cli import against, check, collecting, delivering, exits, keeping, settings, streams
from envdoctor.cli import catalogue as catalogues
from envdoctor.cli.options import OneOf, Seconds, debug, python_option, via_option
from envdoctor.plan import LEVELS

if TYPE_CHECKING:
    from envdoctor.snapshot import Snapshot

NOT_OF_CHECK = {"against"}


@click.group("baseline", short_help="Save this machine's normal; say how far today is from it.")
def command() -> None:
    """Keep what is normal here, and say later what changed.

    A baseline is a snapshot, or a result of 'envdoctor bench -o FILE'. It is kept for you alone below XDG_STATE_HOME
    (~/.local/state), one for each machine and environment, or in the file that -o names. A lock file holds what the
    machines of a team have in common, to be committed.
    """


@command.command("save", short_help="Save what is now as the normal.")
@click.option("-o", "--output", metavar="FILE", help="Save to this file instead of the user's state directory.")
@click.option("--lock", is_flag=True, help="Write envdoctor.lock (or -o): what a team agrees on, as TOML.")
@click.option(
    "--key", "keys", multiple=True, metavar="PATTERN", help="With --lock: what to lock: 'package.*'. Repeatable."
)
@click.option("--keep", is_flag=True, help="Also keep it under today's date, for 'envdoctor diff --since'.")
@click.option("--level", type=OneOf("level", LEVELS), help="How deep to look. [default: standard]")
@python_option("Save another interpreter's, in which envdoctor is not installed.")
@via_option
@click.option("--from", "from_", multiple=True, metavar="FILE", help="Take a saved snapshot or a result of bench.")
@click.option("--timeout", type=Seconds(), help="Limit of the whole run in seconds. [default: 120; quick 15]")
@click.option("--config", metavar="FILE", help="Read this configuration file instead of the nearest one.")
@debug
def save(**given: Any) -> int:
    """Collect the facts, or take those of --from, and save them as the normal to compare with.

    Exit codes: 0 saved; 2 usage; 4 it cannot be written there; 130 Ctrl-C, and nothing is saved.
    """
    given |= {"pid": None, "root": None}
    collecting.check_source(given)
    if given["keys"] and not given["lock"]:
        raise click.UsageError("--key says what goes into a lock file: use it with --lock")
    target = given["output"] or (_lock_file() if given["lock"] else None)
    delivering.check_file(target, "--output")
    catalogue = catalogues.load()
    snapshot = collecting.obtain(given, settings.settle(given, catalogue), catalogue)
    if snapshot.interrupted:
        streams.notice("envdoctor: interrupted: nothing is saved")
        return exits.INTERRUPTED
    if not snapshot.facts:
        reasons = dict.fromkeys(each.outcome.reason for each in snapshot.probes)
        raise streams.OwnFailure(f"nothing is saved, because nothing is known: {'; '.join(list(reasons)[:3])}")
    if given["lock"]:
        _save_lock(snapshot, str(target), given["keys"])
    else:
        _save(snapshot, target)
    if given["keep"]:
        _keep(snapshot)
    return exits.OK


def _lock_file() -> str:
    from envdoctor import lock

    return lock.FILE


def _document(snapshot: Snapshot) -> str:
    from envdoctor.render.json import write
    from envdoctor.snapshot import to_plain

    return write(to_plain(snapshot))


def _save(snapshot: Snapshot, output: str | None) -> None:
    from envdoctor.baseline import name_of

    if output:
        streams.save(Path(output), _document(snapshot))
        streams.notice(f"envdoctor: saved {output}; it may name this host, its users and paths")
        return
    shelf = keeping.shelf()
    try:
        path = shelf.save(name_of(snapshot), _document(snapshot))
    except OSError as error:
        raise keeping.cannot_keep(error, shelf.top) from None
    streams.notice(f"envdoctor: saved {path}; 'envdoctor baseline check' compares with it")


def _keep(snapshot: Snapshot) -> None:
    from envdoctor.baseline import name_of

    shelf = keeping.shelf()
    try:
        kept = shelf.keep(name_of(snapshot), _document(snapshot))
    except OSError as error:
        raise keeping.cannot_keep(error, shelf.top) from None
    streams.notice(f"envdoctor: kept {kept.path}; 'envdoctor diff --since' compares with it")


def _save_lock(snapshot: Snapshot, output: str, keys: tuple[str, ...]) -> None:
    """Write a lock file. What somebody wrote about tolerances into the old one is taken over."""
    from dataclasses import replace

    from envdoctor import lock
    from envdoctor.compare import flatten

    made = lock.of_flat(flatten(snapshot), keys)
    if not made.values:
        raise click.UsageError(f"--key: nothing here is called {' or '.join(keys)}; 'envdoctor diff' shows keys")
    old = Path(output)
    if old.is_file():
        try:
            before = lock.parse(old.read_bytes(), output)
        except (lock.LockError, OSError) as error:
            raise click.UsageError(f"--output: {error}; move it away to write it anew") from None
        made = replace(made, tolerance=before.tolerance)
    streams.save(old, lock.render(made))
    streams.notice(f"envdoctor: {len(made.values)} values locked in {output}; 'envdoctor check --against {output}'")


@command.command("check", short_help="Say how far today is from the normal.")
@click.argument("file", metavar="[FILE]", required=False)
@click.pass_context
def checked(context: click.Context, /, file: str | None, **given: Any) -> int:
    """Check as 'envdoctor check' does, and compare with FILE, or with the baseline of this machine and environment.

    Exit codes: as of 'envdoctor check'.
    """
    code: int = context.invoke(check.command, **{**given, "against": file or against.OWN})
    return code


# A check of the normal is a check: it takes the same options.
checked.params += [each for each in check.command.params if each.name not in NOT_OF_CHECK]


@command.command("list", short_help="List what is saved and kept.")
@debug
def listed() -> int:
    """List the saved baselines and the dated snapshots of each machine and environment."""
    with keeping.reading() as shelf:
        names = sorted({*shelf.names(), *shelf.kept_names()})
        lines = [line for name in names for line in _lines(shelf, name)]
    nothing = f"Nothing is saved in {shelf.top}: '{keeping.SAVE}' saves this machine's normal."
    streams.print_out("\n".join(lines or [nothing]) + "\n")
    return exits.OK


def _lines(shelf: Any, name: str) -> list[str]:
    import datetime as dt

    file, history = shelf.current(name), shelf.history(name)
    saved = "no baseline"
    if file.exists():
        when = dt.datetime.fromtimestamp(file.stat().st_mtime).astimezone()
        saved = f"baseline of {when:%Y-%m-%d %H:%M}  {file}"
    kept = [f"  kept {each.when.astimezone():%Y-%m-%d %H:%M}  {each.path}" for each in history]
    return [f"{name}  {saved}", *kept]
