"""Noticing whether a rule has read a value of the moment: if it has not, its answer holds for all with the same rest.

A rule is a pure function of its facts. Run on a fact whose momentary fields are watched, it has, up to the first such
read, seen only what all members with the same settled content have in common.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

from envdoctor.facts.host import Environment
from envdoctor.fleet.settled import ENVIRONMENT, MOMENTARY, is_ranks_own

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.facts import Fact

F = TypeVar("F", bound="Fact")
_watched: dict[tuple[type, frozenset[str]], type] = {}


class Watch:
    """Tells whether something of the moment was read since it was last reset."""

    def __init__(self) -> None:
        self.read = False

    def over(self, key: str, fact: F) -> F:
        """Give a copy of the fact that notes every read of what its settled content leaves out."""
        if key == ENVIRONMENT and isinstance(fact, Environment):
            return _environment(self, fact)  # type: ignore[return-value]
        names = MOMENTARY.get(key)
        if not names:
            return fact
        copy: F = _copy(fact, names, self)
        return copy


def _copy(value: Any, names: frozenset[str], watch: Watch) -> Any:
    """Copy a fact with the dataclasses in it; those with a momentary field become watched ones."""
    if isinstance(value, tuple):
        return tuple(_copy(each, names, watch) for each in value)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    kind = type(value)
    made: Any = object.__new__(_class(kind, names))
    made.__dict__.update({name: _copy(each, names, watch) for name, each in _fields(value)})
    made.__dict__["_watch"] = watch
    return made


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    # By attribute: msgspec leaves a default where it is, on the class.
    return ((each.name, getattr(value, each.name)) for each in dataclasses.fields(value))


def _class(kind: type, names: frozenset[str]) -> type:
    """Give a class that looks like ``kind`` and notes reads of ``names``."""
    known = _watched.get((kind, names))
    if known is None:

        def read(self: Any, name: str) -> Any:
            if name in names:
                object.__getattribute__(self, "__dict__")["_watch"].read = True
            return object.__getattribute__(self, name)

        known = _watched[kind, names] = type(kind.__name__, (kind,), {"__getattribute__": read})
    return known


def _environment(watch: Watch, fact: Environment) -> Environment:
    """Watch the variables that a launcher sets for each rank: asking for one that is set, or going through all."""
    own = {each.name for each in fact.variables if is_ranks_own(each.name)}

    def get(_self: Environment, name: str) -> str | None:
        watch.read |= name in own
        return Environment.get(fact, name)

    def read(self: Environment, name: str) -> Any:
        watch.read |= name == "names_not_collected" or (bool(own) and name == "variables")
        return object.__getattribute__(self, name)

    kind = type(Environment.__name__, (Environment,), {"get": get, "__getattribute__": read})
    made: Environment = object.__new__(kind)
    made.__dict__.update(dict(_fields(fact)))
    return made
