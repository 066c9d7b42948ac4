"""Snapshots: what is saved is loaded again, and foreign or damaged files are named."""

from __future__ import annotations

import dataclasses
import json

import pytest

from envdoctor.facts import Fact, fact_fields, key_of, source_of
from envdoctor.facts.gpu import PciBus, PciDevice
from envdoctor.facts.torch import Pin, TorchBuild
from envdoctor.outcome import Absent, Crashed, Failed, Got, Outcome, TimedOut
from envdoctor.snapshot import FACTS, ProbeResult, SnapshotError, load, of, save

OUTCOMES: list[Outcome] = [
    Got("live"),
    Absent("no torch"),
    Failed("OSError: x", "trace"),
    Crashed("SIGSEGV in import torch", "SIGSEGV", -11, "stack"),
    TimedOut("no answer", 2.0, hung=True, unkillable=True, detail="stack", evidence={"state": "D"}),
]


@pytest.mark.parametrize("kind", FACTS, ids=key_of)
def test_every_fact_round_trips_through_json(kind: type[Fact]) -> None:
    """A fact of each kind, sources and unknowns included, comes back equal."""
    name = dataclasses.fields(kind)[-1].name
    fact = kind(sources={name: "/somewhere"}, unknown={name: "no idea"})
    assert fact == load(save(of(fact))).get(kind)


@pytest.mark.parametrize("kind", FACTS, ids=key_of)
def test_every_field_of_a_fact_says_where_it_is_read(kind: type[Fact]) -> None:
    """Each field has a declared source, so that evidence can always name one."""
    assert [] == [name for name in fact_fields(kind) if not source_of(kind(), name)]


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda o: o.name)
def test_every_outcome_round_trips(outcome: Outcome) -> None:
    """All five outcomes keep their reasons and details."""
    snapshot = of(probes=(ProbeResult("cuda-driver", "cuda_driver", outcome, 0.25),))
    assert snapshot.probes == load(save(snapshot)).probes


def test_nested_facts_round_trip() -> None:
    """Tuples of nested dataclasses come back as such."""
    facts = (TorchBuild(pins=(Pin("triton", "==3.1.0"),)), PciBus(gpus=(PciDevice("0000:01:00.0", "10de"),)))
    assert of(*facts).facts == load(save(of(*facts))).facts


def test_fresher_writers_keys_are_ignored_and_missing_ones_default() -> None:
    """A snapshot of a newer version loads: unknown keys are dropped, missing ones take their defaults."""
    plain = json.loads(save(of(TorchBuild(version="2.9.0"))))
    plain["facts"]["torch_build"] = {"version": "2.9.0", "written_in_2031": 1}
    plain["facts"]["of_the_future"] = {}
    assert {"torch_build": TorchBuild(version="2.9.0")} == load(json.dumps(plain)).facts


def test_wrong_type_names_file_fact_and_field() -> None:
    """A value of the wrong type is an error that names file, fact and field."""
    plain = json.loads(save(of(TorchBuild())))
    plain["facts"]["torch_build"]["version"] = 29
    with pytest.raises(SnapshotError, match=r"node7\.json: fact torch_build: .*\$\.version"):
        load(json.dumps(plain), source="node7.json")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "other/1"}', "null"])
def test_foreign_text_is_refused_by_name(text: str) -> None:
    """What is no snapshot is refused with the file's name."""
    with pytest.raises(SnapshotError, match="some file: not"):
        load(text, source="some file")


def test_snapshot_inside_a_report_is_found() -> None:
    """A report file serves as a snapshot: its facts are one."""
    snapshot = of(TorchBuild(version="2.9.0"))
    report = json.dumps({"schema": "envdoctor.report/1", "facts": json.loads(save(snapshot))})
    assert snapshot.facts == load(report).facts
