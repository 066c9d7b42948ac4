"""[payload] What an installed distribution demands of others, followed through extras (``cuda-toolkit[cublas]``)."""

from __future__ import annotations

from typing import Dict, Iterator, List, Mapping, NamedTuple, Set, Tuple

from envdoctor.facts.torch import Pin
from envdoctor_probes.markers import MarkerError, Requirement, environment, holds, parse_requirement
from envdoctor_probes.metadata import Installed, headers

NOT_UNDERSTOOD = "marker not understood"


class Pins(NamedTuple):
    """The pins that hold in this environment, and what kept others from being known."""

    pins: Tuple[Pin, ...]
    problems: Tuple[str, ...]


def read_pins(info: str, by_name: Mapping[str, Installed]) -> Pins:
    """Give the requirements in this dist-info that apply here, and what their extras demand in turn."""
    values = environment()
    pins: List[Pin] = []
    problems: List[str] = []
    waiting: List[Requirement] = []
    for requirement, via in applying(_requires(info), "", values):
        pins.append(Pin(requirement.name, requirement.specifier, via))
        waiting.append(requirement)
    seen: Set[Tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop(0)
        for extra in requirement.extras:
            if (requirement.name, extra) in seen:
                continue
            seen.add((requirement.name, extra))
            found = by_name.get(requirement.name)
            if found is None:
                problems.append(f"{requirement.name} is not installed: what [{extra}] demands is not known")
                continue
            label = f"{requirement.name}[{extra}]"
            for following, via in applying(_requires(found.info), extra, values):
                pins.append(Pin(following.name, following.specifier, via or label))
                waiting.append(following)
    return Pins(tuple(pins), tuple(problems))


def applying(lines: List[str], extra: str, values: Dict[str, str]) -> Iterator[Tuple[Requirement, str]]:
    """Give the requirements whose marker holds; with an extra only those that name it. The text says what is odd.

    A marker that is not understood keeps its requirement: a pin too many is shown as such, one too few is not.
    """
    for line in lines:
        requirement = parse_requirement(line)
        if requirement is None or (extra and "extra" not in requirement.marker):
            continue
        try:
            if holds(requirement.marker, dict(values, extra=extra)):
                yield requirement, ""
        except MarkerError:
            yield requirement, NOT_UNDERSTOOD


def _requires(info: str) -> List[str]:
    return headers(info).get("requires-dist", [])
