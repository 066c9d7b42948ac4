"""[payload] What is to be asked, and of which process: the request as objects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Mapping, Sequence, Tuple

if TYPE_CHECKING:
    from envdoctor.probe import Roots


@dataclass(frozen=True)
class Job:
    """One probe to run. ``before``: probes to run first in the same process, whose own answers are not wanted.

    ``alone``: it measures, and nothing else of this run may compute meanwhile. ``beside``: it watches those.
    """

    name: str
    where: str
    fact: str
    child: str
    seconds: float
    gated: bool = False
    after_import: bool = False
    as_patient: bool = False
    alone: bool = False
    beside: bool = False
    before: Tuple[Job, ...] = ()

    def after(self, first: Sequence[Job]) -> Job:
        """Give the same question for a fresh process, which has to do ``first`` on its own."""
        return replace(self, before=tuple(first), seconds=self.seconds + sum(each.seconds for each in first))


@dataclass(frozen=True)
class Setting:
    """What all forks share: the machine's roots, this run's options, and when the whole run must be over."""

    roots: Roots
    options: Mapping[str, Any]
    deadline: float
