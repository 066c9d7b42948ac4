"""The catalogue: rule ids, pages and causes are those agreed on, and the plan is what the probes declare."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path

import pytest

import envdoctor
from envdoctor import plan
from envdoctor.facts import fleet, key_of
from envdoctor.facts.bench import FACTS as BENCH_FACTS
from envdoctor.facts.run import ProbeRun
from envdoctor.probe import Probe
from envdoctor.rules import RETIRED, RULES
from envdoctor.snapshot import BY_KEY, FACTS

HEADINGS = ("## What it means", "## Why it matters", "## How it is detected", "## What to do")
GROUPS = {
    "GPUs",
    "driver",
    "torch",
    "packages",
    "libraries",
    "environment",
    "precision",
    "fabric",
    "system",
    "doctor",
    "measured",
    "fleet",
}


def catalogue() -> dict[str, set[str]]:
    """Give the agreed ids with the severities that each may have."""
    with (Path(__file__).parent / "data" / "catalogue.csv").open(encoding="utf-8") as stream:
        return {row["id"]: set(row["severities"].split()) for row in csv.DictReader(stream)}


def test_every_rule_id_is_in_the_catalogue_once() -> None:
    """Rule ids are those agreed on, unique, and none of the retired ones."""
    ids = [rule.id for rule in RULES]
    assert sorted(set(ids)) == sorted(ids)
    assert (set(), set()) == (set(ids) - set(catalogue()), set(ids) & RETIRED)


def test_every_rule_has_its_catalogue_severity() -> None:
    """A rule declares a severity that the catalogue gives its id."""
    agreed = catalogue()
    wrong = {r.id: r.severity.value for r in RULES if agreed.get(r.id) and r.severity.value not in agreed[r.id]}
    assert {} == wrong


def test_every_rule_has_a_page_with_the_headings() -> None:
    """The docstring is the page: a first line, then the four headings in order, then where it is from."""
    wrong = []
    for rule in RULES:
        places = [rule.page.find(f"\n{heading}\n") for heading in HEADINGS]
        if -1 in places or places != sorted(places) or not rule.summary.endswith("."):
            wrong.append(rule.id)
    assert [] == wrong


def test_every_rule_is_in_a_known_group_and_its_causes_exist() -> None:
    """Groups are few and known; an id named as a cause is one of the catalogue's."""
    assert set() == {rule.group for rule in RULES} - GROUPS
    assert set() == {cause for rule in RULES for cause in rule.explained_by} - set(catalogue())


def test_every_rules_inputs_are_facts_of_a_snapshot() -> None:
    """A rule asks only for facts that a snapshot holds, or for the run itself."""
    known = (*FACTS, *BENCH_FACTS, *fleet.FACTS, ProbeRun)
    assert {} == {r.id: i.fact.__name__ for r in RULES for i in r.inputs if i.fact not in known}


@pytest.mark.parametrize("planned", plan.BUILT_IN, ids=lambda each: each.name)
def test_plan_agrees_with_the_probes_own_word(planned: plan.Planned) -> None:
    """What the doctor plans is what the probe declares: name, fact, level, process and seconds."""
    module, _, attribute = planned.where.partition(":")
    probe = getattr(importlib.import_module(module), attribute)
    assert isinstance(probe, Probe)
    fact = key_of(type(probe.fact, (), {}))
    assert (planned.name, planned.fact, planned.level, planned.child, planned.seconds) == (
        probe.name,
        fact,
        probe.level,
        probe.child,
        probe.seconds,
    )
    assert planned.fact in BY_KEY


def test_plan_and_the_tuple_of_probes_agree() -> None:
    """PROBES lists exactly what the doctor plans, each name and fact once."""
    from envdoctor_probes import PROBES

    planned = (*plan.BUILT_IN, *plan.bench(plan.SUITES))
    assert sorted(PROBES) == sorted(each.where for each in planned)
    assert len(planned) == len({p.name for p in planned}) == len({p.fact for p in planned})


@pytest.mark.parametrize("name", envdoctor.__all__)
def test_every_public_name_loads_twice(name: str) -> None:
    """A lazily loaded name gives the same object the first and the second time."""
    first = getattr(envdoctor, name)
    assert first is getattr(envdoctor, name)
    assert name in dir(envdoctor)


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    """The lazy package refuses what it does not have, as any module does."""
    with pytest.raises(AttributeError, match="has no attribute 'nothing_like_it'"):
        _ = envdoctor.nothing_like_it
