"""[payload] What an installed distribution demands of others, followed through extras (``cuda-toolkit[cublas]``)."""

from __future__ import annotations

from typing import Dict, Iterator, List, Mapping, NamedTuple, Set, Tuple

from envdoctor.facts.torch import Pin
from envdoctor_probes.markers import MarkerError, Requirement, environment, holds, parse_requirement
from envdoctor_probes.metadata import Installed, headers, normalise

NOT_UNDERSTOOD = "marker not understood"


class Pins(NamedTuple):
    """The pins that hold in this environment, and what kept others from being known."""

    pins: Tuple[Pin, ...]
    problems: Tuple[str, ...]


def read_pins(info: str, by_name: Mapping[str, Installed]) -> Pins:
    """Give the requirements in this dist-info that apply here, and what their extras demand in turn."""
    values = environment()
    demands = _Demands(by_name)
    pins: List[Pin] = []
    waiting = [(each, "", odd) for each, odd in applying(_requires(info), "", values)]
    while waiting:
        requirement, label, odd = waiting.pop(0)
        pins.append(Pin(requirement.name, requirement.specifier, odd or label))
        for extra in requirement.extras:
            label = f"{requirement.name}[{extra}]"
            following = demands.of(requirement.name, extra)
            waiting += [(each, label, odd) for each, odd in applying(following, extra, values)]
    return Pins(tuple(pins), tuple(demands.problems))


class _Demands:
    """What installed distributions demand: each one's metadata is read once, and each extra is followed once."""

    def __init__(self, by_name: Mapping[str, Installed]) -> None:
        self._by_name = by_name
        self._read: Dict[str, List[Requirement]] = {}
        self._followed: Set[Tuple[str, str]] = set()
        self.problems: List[str] = []

    def of(self, name: str, extra: str) -> List[Requirement]:
        """Give the requirements of this distribution, none when its extra was followed before."""
        if (name, extra) in self._followed:
            return []
        self._followed.add((name, extra))
        found = self._by_name.get(name)
        if found is None:
            self.problems.append(f"{name} is not installed: what [{extra}] demands is not known")
            return []
        if name not in self._read:
            self._read[name] = _requires(found.info)
        return self._read[name]


def applying(requirements: List[Requirement], extra: str, values: Dict[str, str]) -> Iterator[Tuple[Requirement, str]]:
    """Give the requirements whose marker holds; with an extra only those that name it. The text says what is odd.

    A marker that is not understood keeps its requirement: a pin too many is shown as such, one too few is not.
    """
    for each in requirements:
        if extra and extra not in normalise(each.marker):
            continue
        try:
            if holds(each.marker, dict(values, extra=extra)):
                yield each, ""
        except MarkerError:
            yield each, NOT_UNDERSTOOD


def _requires(info: str) -> List[Requirement]:
    lines = headers(info).get("requires-dist", [])
    return [each for each in map(parse_requirement, lines) if each is not None]
