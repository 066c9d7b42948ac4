"""Values of variables as settings: trimmed, on or off."""

from __future__ import annotations

from envdoctor.facts.host import Environment

OFF = frozenset({"", "0", "false", "off", "no"})


def value_of(environment: Environment | None, name: str) -> str | None:
    """Give a variable's value without blanks around it; None when it is not set."""
    found = environment.get(name) if environment else None
    return found.strip() if found is not None else None


def is_on(environment: Environment | None, name: str) -> bool:
    """Tell whether a variable switches something on: any value that is not one of the usual words for off."""
    return (value_of(environment, name) or "").lower() not in OFF
