"""render(fleet) -> the metrics of a report over all members, and those of a fleet: who reported, and what differs.

No member has a label of its own: what differs is counted by fact, so that a thousand ranks are no thousand series.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envdoctor.render import prometheus
from envdoctor.render.fleet_json import plain_fleet
from envdoctor.render.prometheus import gauge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.fleet.reporting import FleetReport


def render(fleet: FleetReport, **view: Any) -> str:
    """Give the report on a fleet as metrics."""
    return prometheus.render(fleet.report, **view) + "".join(_metrics(plain_fleet(fleet)))


def _metrics(document: dict[str, Any]) -> Iterator[str]:
    ranks = document["ranks"]
    silent = sum(each["count"] for each in ranks["silent"])
    states = {"reported": document["members"], "silent": silent, "left-out": len(document["skipped"])}
    members = [({"state": name}, float(number)) for name, number in states.items()]
    yield gauge("envdoctor_fleet_members", "Members by whether they reported.", members)
    if ranks["world_size"] is not None:
        yield gauge("envdoctor_fleet_world_size", "Members that were expected.", [({}, float(ranks["world_size"]))])
    found = document["differences"]
    values = [({"fact": each["key"]}, float(len(each["shares"]))) for each in found]
    yield gauge("envdoctor_fleet_values", "How many values a fact has that is not the same everywhere.", values)
    odd = [({"fact": e["key"]}, float(sum(s["count"] for s in e["shares"] if not s["majority"]))) for e in found]
    yield gauge("envdoctor_fleet_odd_members", "Members that do not have the value that most have.", odd)
    failed = [({"requirement": each["name"]}, float(each["failed"])) for each in document["requirements"]]
    yield gauge("envdoctor_fleet_requirement_failures", "Members that do not meet a requirement.", failed)
