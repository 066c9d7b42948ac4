"""The rules: one module a subject, many short rules each. ``RULES`` is the catalogue in the order it is listed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.rules import devices

if TYPE_CHECKING:
    from envdoctor.rule import Rule

RULES: tuple[Rule, ...] = (*devices.RULES,)
RETIRED: frozenset[str] = frozenset()
