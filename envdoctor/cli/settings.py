"""What a check is to do: the configuration file, and over it what the command line says."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envdoctor import config as configuration
from envdoctor import requirements
from envdoctor.facts.required import Required
from envdoctor.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from envdoctor.cli.against import Against
    from envdoctor.cli.catalogue import Catalogue
    from envdoctor.config import Config
    from envdoctor.finding import Ignored

SECONDS = {"quick": 15.0, "standard": 120.0, "deep": 120.0}


@dataclass(frozen=True)
class Settings:
    """A check, settled: every name in it is valid."""

    level: str = "standard"
    fail_on: str = "error"
    timeout: float = 120.0
    selection: Selection = field(default_factory=Selection)
    require: Required = field(default_factory=Required)
    notes: tuple[str, ...] = ()
    against: Against | None = None


def configured(file: str | None) -> Config:
    """Read the configuration; what is wrong with it is a usage error."""
    try:
        return configuration.load(Path(file) if file else None)
    except configuration.ConfigError as error:
        raise click.UsageError(str(error)) from None


def settle(given: Mapping[str, Any], catalogue: Catalogue) -> Settings:
    """Put options over configuration over defaults. Raises ``click.UsageError`` for a name that is not known."""
    config = configured(given.get("config"))
    ignore, notes = _ignored(config, given.get("ignore", ()), catalogue)
    level = given.get("level") or config.level or "standard"
    selection = Selection(
        catalogue.names(given.get("only", ()), "--only"), catalogue.names(given.get("skip", ()), "--skip"), ignore
    )
    return Settings(
        level,
        given.get("fail_on") or config.fail_on or "error",
        given.get("timeout") or config.timeout or SECONDS[level],
        selection,
        required(config, given.get("require", ())),
        (*config.notes, *notes),
        _against(given, catalogue),
    )


def _against(given: Mapping[str, Any], catalogue: Catalogue) -> Against | None:
    if not (given.get("against") or given.get("strict")):
        return None
    from envdoctor.cli import against

    return against.read(given, catalogue)


def required(config: Config, words: Iterable[str]) -> Required:
    """Put what ``--require`` says over what the configuration says."""
    try:
        return requirements.merged(config.require, requirements.from_words(words, "--require"))
    except requirements.RequirementError as error:
        raise click.UsageError(str(error)) from None


def _ignored(config: Config, given: Iterable[str], catalogue: Catalogue) -> tuple[dict[str, Ignored], tuple[str, ...]]:
    """Give what is ignored, by whom and why, and what is to be said about ignores that no longer hold."""
    ignored: dict[str, Ignored] = {}
    notes: list[str] = []
    if not config.ignore and not given:
        return ignored, ()
    from envdoctor.finding import Ignored

    today = dt.datetime.now().astimezone().date()
    for name, each in config.ignore.items():
        catalogue.check_id(name, f"{config.path}: ignore")
        if each.expired(today):
            notes.append(f"{config.path}: ignore of {name} ended on {each.until}, so it counts again ({each.reason})")
        else:
            ignored[name] = Ignored(each.reason, config.path)
    for name, reason in map(_split, given):
        catalogue.check_id(name, "--ignore")
        ignored[name] = Ignored(reason, "--ignore")
    notes += [f"{name} is retired: no rule has this id any more" for name in sorted({*ignored} & catalogue.retired)]
    return ignored, tuple(notes)


def _split(word: str) -> tuple[str, str]:
    name, equals, reason = word.partition("=")
    missing = "id" if not name.strip() else "reason" if not equals or not reason.strip() else ""
    if missing:
        raise click.UsageError(
            f"--ignore: {word!r} has no {missing}, expected ID=reason, such as {name or 'ID'}='one worker'"
        )
    return name.strip(), reason.strip()
