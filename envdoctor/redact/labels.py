"""Labels of one report: a private value has the same one wherever it stands (``host-1``, ``user-1``, ``gpu-2``)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Removed:
    """One private value that was replaced: by which label, what it was, and how often. Never the value itself."""

    label: str
    kind: str
    times: int


KINDS = {
    "host": "host name",
    "user": "user name",
    "gpu": "GPU UUID",
    "mig": "MIG instance UUID",
    "uuid": "UUID",
    "serial": "serial number",
    "dir": "part of a path",
    "mail": "mail address",
    "mac": "hardware address",
    "command": "command line",
    "secret": "password, key or token",
    "value": "value of an environment variable",
}


class Labels:
    """Gives labels and counts what was replaced."""

    def __init__(self) -> None:
        self.given: dict[tuple[str, str], str] = {}
        self.times: Counter[str] = Counter()

    def of(self, kind: str, value: str) -> str:
        """Give the label of a value; the same value of the same kind always has the same."""
        label = self.given.get((kind, value))
        if label is None:
            number = 1 + sum(known == kind for known, _ in self.given)
            label = self.given[kind, value] = f"{kind}-{number}"
        self.times[label] += 1
        return label

    @property
    def removed(self) -> tuple[Removed, ...]:
        """List what was replaced, in the order in which it was met."""
        return tuple(
            Removed(label, KINDS.get(kind, kind), self.times[label])
            for (kind, _), label in self.given.items()
            if self.times[label]
        )
