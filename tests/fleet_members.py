"""Members of fleets for the tests: documents as ranks send and people save them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from envdoctor import demo
from envdoctor.facts import Fact, key_of
from envdoctor.facts.fleet import Ranks
from envdoctor.facts.host import Environment, Host, Variable
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild, TorchSettings
from envdoctor.fleet.reporting import Fleet, FleetReport
from envdoctor.rules import RULES
from envdoctor.selection import Selection
from envdoctor.snapshot import BY_KEY, Snapshot, of, save

HEALTHY = "h100x8-healthy"


def document(*facts: Fact, hostname: str = "node1", **more: Any) -> bytes:
    """Give a snapshot of a small machine with these facts, as JSON."""
    found = {key_of(type(each)): each for each in (Host(hostname=hostname, system="Linux"), *facts)}
    return save(dataclasses.replace(of(*found.values()), **more))


def changed(name: str, changes: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Give a recorded machine with other values in some fields: ``{"torch_build": {"version": "2.8.0"}}``."""
    snapshot = demo.load(name)
    facts = {key: dataclasses.replace(fact, **changes.get(key, {})) for key, fact in snapshot.facts.items()}
    return save(dataclasses.replace(snapshot, facts=facts))


def torch(version: str = "2.9.0", nccl: str = "2.27.5") -> tuple[Fact, ...]:
    """Give the facts of a torch with its NCCL."""
    packages = Packages(
        distributions=(Distribution("torch", version), Distribution("nvidia-nccl-cu12", nccl)), python_version="3.11.7"
    )
    return TorchBuild(version=version, cuda="12.8", is_cpu_only=False), TorchSettings(nccl_version=nccl), packages


def variables(**values: str) -> Environment:
    """Give an environment."""
    return Environment(variables=tuple(Variable(name, value) for name, value in values.items()))


def fleet(noun: str = "rank", **more: Any) -> Fleet:
    """Give an empty fleet with every rule."""
    return Fleet(BY_KEY, RULES, Selection(), noun, **more)


def report_on(documents: Iterable[bytes], noun: str = "rank", nodes: int = 0) -> FleetReport:
    """Give the report on these documents, named 0, 1, 2 …; ``nodes``: so many ranks share a node, 0: as hosts say."""
    gathered = fleet(noun)
    for number, each in enumerate(documents):
        gathered.add(each, str(number), f"node{number // nodes}" if nodes else "")
    count = len(gathered.names)
    return gathered.report(Ranks(world_size=count, arrived=count, launcher="torchrun"))


def plain(snapshot: Snapshot) -> dict[str, Any]:
    """Give a snapshot's facts as JSON holds them."""
    found: dict[str, Any] = msgspec.json.decode(save(snapshot))
    return found
