"""What preflight() was asked, checked: every value is valid before anything is looked at."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from envdoctor import config, requirements
from envdoctor.config import FAIL_ON
from envdoctor.facts.required import Required
from envdoctor.gate.memory import is_place, place
from envdoctor.nearest import unknown
from envdoctor.plan import LEVELS

if TYPE_CHECKING:
    from envdoctor.config import Config

CALL = "preflight(require=...)"


@dataclass(frozen=True)
class Asked:
    """One call of preflight(). ``ignore`` maps ids to reason and source. ``cache`` is a directory, True or False."""

    require: Required = field(default_factory=Required)
    level: str = "quick"
    budget_seconds: float = 2.0
    fail_on: str = "error"
    ignore: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    cache: bool | str = False
    sync_timeout_seconds: float = 60.0
    notes: tuple[str, ...] = ()


def checked(
    require: Any,
    *,
    level: Any = "quick",
    budget_seconds: Any = 2.0,
    fail_on: Any = "error",
    ignore: Any = (),
    cache: Any = False,
    sync_timeout_seconds: Any = 60.0,
) -> Asked:
    """Check the arguments of preflight(), and put them over what the configuration file says.

    Raises ``ValueError`` naming the argument, its value, what was expected and the nearest valid one, and
    ``ConfigError`` for a configuration file that cannot be used.
    """
    if not isinstance(require, Mapping) and require is not None:
        raise ValueError(f"require is {require!r}, expected a mapping such as {{'torch': '>=2.9', 'gpus': 8}}")
    asked = Asked(
        requirements.parse(require or {}, CALL),
        _word("level", level, LEVELS),
        _seconds("budget_seconds", budget_seconds),
        _word("fail_on", fail_on, FAIL_ON),
        {name: (reason, "preflight(ignore=...)") for name, reason in _ignored(ignore).items()},
        _cache(cache),
        _seconds("sync_timeout_seconds", sync_timeout_seconds),
    )
    return _over(config.load(), asked)


def _over(found: Config, asked: Asked) -> Asked:
    today = dt.datetime.now().astimezone().date()
    ignore = {name: (each.reason, found.path) for name, each in found.ignore.items() if not each.expired(today)}
    expired = (name for name, each in found.ignore.items() if each.expired(today))
    notes = (f"{found.path}: ignore of {name} is over, so it counts again" for name in expired)
    require = requirements.merged(found.require, asked.require)
    return replace(asked, require=require, ignore={**ignore, **asked.ignore}, notes=(*found.notes, *notes))


def _word(name: str, value: Any, known: tuple[str, ...]) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(known)}")  # noqa: TRY004 - one kind of error
    if value not in known:
        raise ValueError(f"{name}: {unknown('value', value, known)}")
    return value


def _seconds(name: str, value: Any) -> float:
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} is {value!r}, expected a number of seconds above 0")
    return float(number)


def _ignored(value: Any) -> dict[str, str]:
    """Accept an id, several ids, or a mapping from ids to reasons."""
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, Iterable):
        raise ValueError(f"ignore is {value!r}, expected ids, or a mapping from ids to reasons")  # noqa: TRY004
    pairs = value.items() if isinstance(value, Mapping) else ((each, "ignored by the caller") for each in value)
    ignored = {}
    for name, reason in pairs:
        if not (isinstance(name, str) and isinstance(reason, str) and reason.strip()):
            raise ValueError(f"ignore: {name!r}: {reason!r}, expected an id and a reason in words")
        ignored[name] = reason.strip()
    return ignored


def _cache(value: Any) -> bool | str:
    if value is False:
        return False
    if not is_place(value):
        raise ValueError(f"cache is {value!r}, expected True, False or a directory")
    return place(value)
