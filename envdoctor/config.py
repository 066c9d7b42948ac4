"""The configuration file: ``envdoctor.toml``, or ``[tool.envdoctor]`` in ``pyproject.toml``. The nearest upwards wins.

Everything in it is checked: an unknown key, a value of the wrong kind or an unreadable file is a ``ConfigError`` that
names the file, the value, what was expected and the nearest valid word.
"""

from __future__ import annotations

import datetime as dt
import math
import sys
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envdoctor import requirements
from envdoctor.facts.dataclass import dataclass
from envdoctor.facts.required import Required
from envdoctor.nearest import unknown
from envdoctor.plan import LEVELS

if TYPE_CHECKING:
    from collections.abc import Mapping

OWN_FILE = "envdoctor.toml"
SHARED_FILE = "pyproject.toml"
FAIL_ON = ("error", "warning", "never")


class ConfigError(Exception):
    """The configuration cannot be used; the words name the file, the value and what was expected."""


@dataclass(frozen=True)
class Ignore:
    """One finding that is not counted: why, and up to which day. None: for ever."""

    reason: str
    until: dt.date | None = None

    def expired(self, today: dt.date) -> bool:
        """Tell whether the last day is over."""
        return self.until is not None and today > self.until


@dataclass(frozen=True)
class Config:
    """What the configuration says; None where it says nothing. ``path`` is empty when there is no file."""

    path: str = ""
    fail_on: str | None = None
    level: str | None = None
    timeout: float | None = None
    ignore: Mapping[str, Ignore] = field(default_factory=dict)
    require: Required = field(default_factory=Required)
    notes: tuple[str, ...] = ()


def load(path: Path | None = None, *, start: Path | None = None) -> Config:
    """Read the file at ``path``, or the nearest one from ``start`` (the working directory) upwards.

    Raises ``ConfigError``. Without any file this is an empty ``Config``. Ids are checked by who knows the rules.
    """
    if path is not None:
        return parse(_table(path), str(path))
    notes: list[str] = []
    for file in _upwards(start):
        table = _found(file, notes)
        if table is not None:
            return parse(table, str(file), tuple(notes))
    return Config(notes=tuple(notes))


def _upwards(start: Path | None) -> tuple[Path, ...]:
    """Name where a file may be; nowhere where the working directory has been removed."""
    try:
        here = (start or Path.cwd()).absolute()
    except FileNotFoundError:
        return ()
    return tuple(folder / name for folder in (here, *here.parents) for name in (OWN_FILE, SHARED_FILE))


def _found(file: Path, notes: list[str]) -> dict[str, Any] | None:
    """Give our table if ``file`` has one. Somebody else's broken pyproject.toml is a note; our own file is an error."""
    try:
        if not file.is_file() and not (file.name == OWN_FILE and file.is_symlink()):
            return None
        return _table(file, needed=False)
    except PermissionError:
        return None
    except ConfigError as error:
        if file.name == OWN_FILE or _speaks_of_us(file):
            raise
        notes.append(f"not read for a configuration: {error}")
        return None


def _speaks_of_us(file: Path) -> bool:
    try:
        return b"tool.envdoctor" in file.read_bytes()
    except OSError:
        return False


def _table(file: Path, *, needed: bool = True) -> dict[str, Any] | None:
    """Give the table with our keys: the whole of our own file, ``[tool.envdoctor]`` of a pyproject.toml."""
    whole = _toml(file)
    if file.name != SHARED_FILE:
        return whole
    tools = whole.get("tool", {})
    if isinstance(tools, dict) and "envdoctor" in tools:
        return dict(_expect(tools["envdoctor"], dict, "tool.envdoctor", "a table", str(file)))
    if needed:
        raise ConfigError(f"{file}: there is no [tool.envdoctor] table")
    return None


def _toml(file: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{file}: is not valid TOML: {error}") from None


def parse(table: Mapping[str, Any] | None, path: str, notes: tuple[str, ...] = ()) -> Config:
    """Check each key of the table; ``path`` is named in errors."""
    values: dict[str, Any] = {}
    for key, value in (table or {}).items():
        if key not in READERS:
            raise ConfigError(f"{path}: {unknown('key', key, READERS)}")
        values[key.replace("-", "_")] = READERS[key](value, path)
    return Config(path, **values, notes=notes)


def _expect(value: Any, kind: type | tuple[type, ...], key: str, expected: str, path: str) -> Any:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ConfigError(f"{path}: {key} is {_shown(value)}, expected {expected}")
    return value


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fail_on(value: Any, path: str) -> str:
    word = str(_expect(value, str, "fail-on", f"one of {', '.join(FAIL_ON)}", path))
    if word not in FAIL_ON:
        raise ConfigError(f"{path}: fail-on: {unknown('value', word, FAIL_ON)}")
    return word


def _level(value: Any, path: str) -> str:
    word = str(_expect(value, str, "level", f"one of {', '.join(LEVELS)}", path))
    if word not in LEVELS:
        raise ConfigError(f"{path}: level: {unknown('value', word, LEVELS)}")
    return word


def _timeout(value: Any, path: str) -> float:
    seconds = float(_expect(value, (int, float), "timeout", "a number of seconds above 0", path))
    if not (math.isfinite(seconds) and seconds > 0):
        raise ConfigError(f"{path}: timeout is {value!r}, expected a number of seconds above 0")
    return seconds


def _ignores(value: Any, path: str) -> dict[str, Ignore]:
    table = _expect(value, dict, "ignore", 'a table such as {shm-too-small = "one worker only"}', path)
    return {str(name): _ignore(str(name), each, path) for name, each in table.items()}


def _ignore(name: str, value: Any, path: str) -> Ignore:
    key = f"ignore.{name}"
    if isinstance(value, dict):
        for each in value:
            if each not in {"reason", "until"}:
                raise ConfigError(f"{path}: {key}: {unknown('key', each, ('reason', 'until'))}")
        return Ignore(_reason(value.get("reason"), key, path), _until(value.get("until"), key, path))
    return Ignore(_reason(value, key, path))


def _reason(value: Any, key: str, path: str) -> str:
    expected = 'a reason in words, or {reason = "...", until = 2027-01-31}'
    if value is None:
        raise ConfigError(f"{path}: {key} has no reason, expected {expected}")
    text = str(_expect(value, str, key, expected, path)).strip()
    if not text:
        raise ConfigError(f"{path}: {key}: the reason is empty")
    return text


def _until(value: Any, key: str, path: str) -> dt.date | None:
    if value is None:
        return None
    try:
        day = dt.date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        day = None
    if isinstance(day, dt.datetime):
        return day.date()
    if not isinstance(day, dt.date):
        raise ConfigError(f"{path}: {key}.until is {_shown(value)}, expected a date such as 2027-01-31")
    return day


def _requirements(value: Any, path: str) -> Required:
    table = _expect(value, dict, "require", 'a table such as {torch = ">=2.9", gpus = 8}', path)
    try:
        return requirements.parse(table, path)
    except requirements.RequirementError as error:
        raise ConfigError(str(error)) from None


READERS = {"fail-on": _fail_on, "ignore": _ignores, "level": _level, "require": _requirements, "timeout": _timeout}
