"""[payload] How far a machine is from what was kept of it, or from what a team agreed on."""

from __future__ import annotations

from typing import Optional, Tuple

from envdoctor.facts import Fact, read_from
from envdoctor.facts.dataclass import dataclass


@dataclass(frozen=True)
class Drifted:
    """One fact that is not as it was kept. None: it is not there. ``tolerance``: exact, same-minor, at-least.

    ``about`` says in words what the key is of; ``also`` names keys that tell the same story.
    """

    key: str = ""
    about: str = ""
    expected: Optional[str] = None
    found: Optional[str] = None
    tolerance: str = "exact"
    also: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Slowed:
    """One measurement that became slower. ``speedup`` is of now against then, with the interval of the samples.

    ``why``: what explains it, where that was measured beside it.
    """

    name: str = ""
    conditions: str = ""  # precision and configuration in words
    unit: str = ""
    before: Optional[float] = None
    after: Optional[float] = None
    speedup: Optional[float] = None
    lowest: Optional[float] = None
    highest: Optional[float] = None
    why: str = ""


@dataclass(frozen=True)
class Drift(Fact):
    """This machine against its baseline or against a lock file. No probe collects it: it is what a check compared.

    ``kind``: baseline or lock. ``compared`` counts the keys that both hold, ``measured`` the measurements that both
    hold, of which ``ambiguous`` allow no judgement.
    """

    source: str = read_from("--against", "")
    kind: str = read_from("--against", "baseline")
    saved: str = read_from("--against", "")  # when, ISO 8601
    strict: bool = read_from("--strict", False)
    compared: int = read_from("--against", 0)
    rows: Tuple[Drifted, ...] = read_from("--against", ())
    not_compared: Tuple[str, ...] = read_from("--against", ())  # facts that only one of the two holds
    measured: int = read_from("--against", 0)
    ambiguous: int = read_from("--against", 0)
    slower: Tuple[Slowed, ...] = read_from("--against", ())
