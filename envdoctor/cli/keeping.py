"""The user's baselines and kept snapshots, as commands use them: what goes wrong there is said in words."""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import TYPE_CHECKING

import click

from envdoctor import baseline
from envdoctor.cli import streams
from envdoctor.cli.streams import OwnFailure
from envdoctor.when import WhenError, parse_when

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.cli.catalogue import Catalogue
    from envdoctor.snapshot import Snapshot

SAVE = "envdoctor baseline save"
ELSEWHERE = "set XDG_STATE_HOME to another place"


def shelf() -> baseline.Shelf:
    """Give the user's shelf."""
    try:
        return baseline.Shelf.of_user()
    except RuntimeError:  # a user that the system does not know, without HOME
        raise OwnFailure(f"there is no home directory to keep baselines in; {ELSEWHERE}") from None


@contextlib.contextmanager
def reading() -> Iterator[baseline.Shelf]:
    """Give the user's shelf, and say in words that it cannot be read: the home directory may be another user's."""
    found = shelf()
    try:
        yield found
    except OSError as error:
        raise OwnFailure(f"{found.top} cannot be read: {error.strerror or error}; {ELSEWHERE}") from None


def moment(words: str) -> dt.datetime:
    """Read ``--since`` before anything is collected; without anything kept there is nothing to compare with."""
    try:
        found = parse_when(words, dt.datetime.now().astimezone())
    except WhenError as error:
        raise click.UsageError(f"--since: {error}") from None
    with reading() as kept:
        any_kept, where = bool(kept.kept_names()), kept.top / "history"
    if not any_kept:
        raise click.UsageError(f"--since: nothing is kept in {where}: '{SAVE} --keep' keeps a dated snapshot")
    return found


def kept_at(moment: dt.datetime, now: Snapshot, catalogue: Catalogue) -> tuple[Snapshot, str]:
    """Give the snapshot of this environment that was kept at a moment, or before it; damaged ones are named."""
    from envdoctor.cli import saved

    name = baseline.name_of(now)
    with reading() as kept:
        history = kept.history(name)
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
    with reading() as kept:
        names, where = kept.names(), kept.top / "baselines"
    if not names:
        raise click.UsageError(f"no baseline is saved in {where}: '{SAVE}' saves one")


def current(now: Snapshot, catalogue: Catalogue) -> tuple[Snapshot, str]:
    """Give the baseline of whoever was examined, and its file."""
    from envdoctor.cli import saved

    with reading() as kept:
        file = kept.current(baseline.name_of(now))
        there = file.exists()
    if not there:
        raise click.UsageError(f"no baseline of this environment is saved ({file} is not there): '{SAVE}' saves one")
    try:
        return saved.read(str(file), catalogue, "baseline"), str(file)
    except click.UsageError as error:
        said = error.format_message().partition("; ")[0]
        raise click.UsageError(f"{said}; '{SAVE}' writes it anew") from None


def cannot_keep(error: OSError, where: object) -> OwnFailure:
    """Say that a file cannot be kept, and where else it could be."""
    why = error.strerror or error
    return OwnFailure(f"nothing can be kept in {where}: {why}; {ELSEWHERE}, or name one with -o")
