"""The user's baselines and kept snapshots, as commands use them: what goes wrong there is said in words."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import click

from envdoctor import baseline
from envdoctor.cli import streams
from envdoctor.cli.streams import OwnFailure
from envdoctor.when import WhenError, parse_when

if TYPE_CHECKING:
    from envdoctor.cli.catalogue import Catalogue
    from envdoctor.snapshot import Snapshot

SAVE = "envdoctor baseline save"


def shelf() -> baseline.Shelf:
    """Give the user's shelf."""
    return baseline.Shelf.of_user()


def moment(words: str) -> dt.datetime:
    """Read ``--since`` before anything is collected; without anything kept there is nothing to compare with."""
    try:
        found = parse_when(words, dt.datetime.now().astimezone())
    except WhenError as error:
        raise click.UsageError(f"--since: {error}") from None
    if not shelf().kept_names():
        where = shelf().top / "history"
        raise click.UsageError(f"--since: nothing is kept in {where}: '{SAVE} --keep' keeps a dated snapshot")
    return found


def kept_at(moment: dt.datetime, now: Snapshot, catalogue: Catalogue) -> tuple[Snapshot, str]:
    """Give the snapshot of this environment that was kept at a moment, or before it; damaged ones are named."""
    from envdoctor.cli import saved

    name = baseline.name_of(now)
    history = shelf().history(name)
    if not history:
        raise click.UsageError(f"--since: nothing is kept of this environment ({name}): '{SAVE} --keep' keeps it")
    for each in baseline.at(history, moment):
        try:
            found = saved.read(str(each.path), catalogue, "--since")
        except click.UsageError as error:
            streams.notice(f"envdoctor: {error.format_message().partition('; ')[0]}: left out")
            continue
        if each.when > moment:
            streams.notice(f"envdoctor: nothing is kept from before {moment:%Y-%m-%d %H:%M}: this is the oldest")
        return found, f"kept {each.when.astimezone():%Y-%m-%d %H:%M}"
    raise click.UsageError(f"--since: none of the {len(history)} files kept of this environment ({name}) can be read")


def check_any() -> None:
    """Refuse to compare with a baseline where none was ever saved."""
    if not shelf().names():
        raise click.UsageError(f"no baseline is saved in {shelf().top / 'baselines'}: '{SAVE}' saves one")


def current(now: Snapshot, catalogue: Catalogue) -> tuple[Snapshot, str]:
    """Give the baseline of whoever was examined, and its file."""
    from envdoctor.cli import saved

    file = shelf().current(baseline.name_of(now))
    if not file.exists():
        raise click.UsageError(f"no baseline of this environment is saved ({file} is not there): '{SAVE}' saves one")
    try:
        return saved.read(str(file), catalogue, "baseline"), str(file)
    except click.UsageError as error:
        said = error.format_message().partition("; ")[0]
        raise click.UsageError(f"{said}; '{SAVE}' writes it anew") from None


def cannot_keep(error: OSError, where: object) -> OwnFailure:
    """Say that a file cannot be kept, and where else it could be."""
    why = error.strerror or error
    return OwnFailure(
        f"nothing can be kept in {where}: {why}; set XDG_STATE_HOME to another place, or name one with -o"
    )
