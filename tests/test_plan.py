"""The doctor's table of probes and what the probes say of themselves agree."""

from __future__ import annotations

import importlib

import pytest
from envdoctor_probes import PROBES

from envdoctor.facts import key_of
from envdoctor.plan import BUILT_IN, SUITES, Planned, bench
from envdoctor.probe import Probe


def load(where: str) -> Probe:
    """Load a probe by its place."""
    module, _, name = where.partition(":")
    found = getattr(importlib.import_module(module), name)
    assert isinstance(found, Probe)
    return found


@pytest.mark.parametrize("planned", BUILT_IN, ids=lambda planned: planned.name)
def test_probe_agrees_with_its_row(planned: Planned) -> None:
    """Name, level, process, deadline and fact are the same on both sides of the bed."""
    probe = load(planned.where)
    expected = (planned.name, planned.level, planned.child, planned.seconds)
    assert expected == (probe.name, probe.level, probe.child, probe.seconds)
    assert planned.fact == key_of(type(probe.fact, (), {}))


@pytest.mark.parametrize("planned", bench(SUITES), ids=lambda planned: planned.name)
def test_probe_of_the_benchmark_agrees_with_its_row(planned: Planned) -> None:
    """Name, level, process and fact are the same on both sides; the deadline is what the run has time for."""
    probe = load(planned.where)
    expected = (planned.name, planned.level, planned.child)
    assert expected == (probe.name, probe.level, probe.child)
    assert planned.fact == key_of(type(probe.fact, (), {}))


def test_every_probe_has_a_row() -> None:
    """What the patient's side lists is what the doctor plans, in whatever order."""
    assert {planned.where for planned in (*BUILT_IN, *bench(SUITES))} == set(PROBES)


def test_only_probes_with_a_process_of_their_own_ask_the_driver() -> None:
    """A probe behind the harm gate shares its process with no static one: it may die without taking facts along."""
    gated = {planned.child for planned in BUILT_IN if planned.gated}
    assert set() == gated & {planned.child for planned in BUILT_IN if not planned.gated}
