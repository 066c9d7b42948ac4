"""Healthy machines of many makes: no error, no warning, and the verdict ok, at level quick and at level standard."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator

import pytest

from envdoctor.diagnose import examine
from envdoctor.finding import Severity, Status, Verdict
from envdoctor.snapshot import Snapshot
from tests.healthy_machines import boxes, desks, environments, servers
from tests.healthy_machines.making import at_quick


def _machines() -> Iterator[Callable[[], Snapshot]]:
    for module in (desks, servers, boxes, environments):
        for name, each in vars(module).items():
            own = isinstance(each, types.FunctionType) and each.__module__ == module.__name__
            if own and not name.startswith("_"):
                yield each


MACHINES = {each.__name__.replace("_", "-"): each for each in _machines()}


@pytest.mark.parametrize("level", ["quick", "standard"])
@pytest.mark.parametrize("name", MACHINES)
def test_no_false_alarm(name: str, level: str) -> None:
    """A machine that works yields info at most, and its verdict is ok."""
    machine = MACHINES[name]()
    report = examine(at_quick(machine) if level == "quick" else machine)
    alarms = [f"{each.severity.value} {each.key}: {each.title}" for each in report.active
              if each.severity is not Severity.INFO]  # type: ignore[union-attr]  # fmt: skip
    unsure = [f"{each.id}: {each.reason}" for each in report.checks if each.essential and each.status is Status.UNKNOWN]
    broken = [f"{each.id}: {each.reason}" for each in report.checks if "the rule itself failed" in each.reason]
    assert ([], [], [], Verdict.OK) == (alarms, unsure, broken, report.verdict)


def test_enough() -> None:
    """The table is as broad as it claims to be."""
    assert len(MACHINES) >= 40
