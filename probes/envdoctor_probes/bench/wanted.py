"""[payload] What is to be measured, as the doctor's options say it, and how much time is left for it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional

__all__ = ["Deadline", "Wanted"]

_OVERDRAFT = 3.0
BUDGETS = ("quick", "default", "full")


@dataclass(frozen=True)
class Wanted:
    """The options of a benchmark; ``envdoctor.plan.bench`` says what each is."""

    model: str = "vit_b16"
    device: str = ""
    batch: Optional[int] = None
    budget: str = "default"
    seconds: Dict[str, float] = field(default_factory=dict)
    images: str = ""
    memory_fraction: float = 0.8
    ranks: Optional[int] = None
    threads: Optional[int] = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Wanted:
        """Read ``Context.options``; raises ``ValueError`` naming the value that cannot be used."""
        given = {name: value for name, value in dict(options.get("bench") or {}).items() if value is not None}
        unknown = sorted(set(given) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(f"options['bench'] has no {', '.join(unknown)}")
        wanted = cls(**given)
        if wanted.budget not in BUDGETS:
            raise ValueError(f"budget is {wanted.budget!r}, expected one of {', '.join(BUDGETS)}")
        if wanted.batch is not None and wanted.batch < 1:
            raise ValueError(f"batch is {wanted.batch}, expected 1 or more")
        if not 0 < wanted.memory_fraction <= 1:
            raise ValueError(f"memory_fraction is {wanted.memory_fraction}, expected more than 0 and at most 1")
        return wanted

    def deadline(self, suite: str) -> Deadline:
        """Start the clock of a suite; one whose time nobody limited has a minute."""
        return Deadline(float(self.seconds.get(suite, 60.0)))


class Deadline:
    """When a suite should come to an end: nothing new is begun after that.

    A ``part`` of it is one measurement's share: it may be overdrawn for a few samples, the whole may not.
    """

    def __init__(self, seconds: float, whole: Optional[Deadline] = None) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds
        self._whole = whole

    @property
    def left(self) -> float:
        """The seconds that are left, never below zero."""
        return max(0.0, self._end - time.monotonic())

    @property
    def exhausted(self) -> bool:
        """Tell whether nothing more may be spent: the whole is over, or a part of it is overdrawn by far."""
        if self._whole is None:
            return self.left <= 0
        return self._whole.left <= 0 or time.monotonic() > self._end + (_OVERDRAFT - 1) * self.seconds

    def share(self, parts: float) -> float:
        """Give an equal share of what is left, when so many measurements are still to come."""
        return self.left / max(1.0, parts)

    def part(self, parts: float) -> Deadline:
        """Give the deadline of one measurement, when so many are still to come."""
        return Deadline(self.share(parts), self)
