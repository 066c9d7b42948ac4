"""render(fleet) -> JSON, schema ``envdoctor.fleet/1``: keys are added, never renamed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from envdoctor.render.json import plain, write

if TYPE_CHECKING:
    from envdoctor.facts.fleet import Difference
    from envdoctor.finding import Finding
    from envdoctor.fleet.reporting import FleetReport, On

SCHEMA = "envdoctor.fleet/1"
ABOUT_ALL = frozenset({"ranks", "rank_differences", "fleet_stages"})  # they have keys of their own
REQUIREMENT = "requirement-not-met"
FROM_REPORT = (
    "tool", "created", "level", "elapsed_seconds", "verdict", "primary", "interrupted", "notes", "redacted", "checks",
)  # fmt: skip


def render(fleet: FleetReport, **_view: Any) -> str:
    """Give the report on a fleet as indented JSON."""
    return write(plain_fleet(fleet))


def plain_fleet(fleet: FleetReport) -> dict[str, Any]:
    """Give the report on a fleet as JSON-ready data in the layout of ``envdoctor.fleet/1``."""
    whole = plain(fleet.report)
    ranks = msgspec.to_builtins(fleet.ranks)
    return {
        "schema": SCHEMA,
        **{key: whole[key] for key in FROM_REPORT},
        "noun": fleet.noun,
        "members": fleet.members,
        "ranks": {key: value for key, value in ranks.items() if key not in {"sources", "unknown"}},
        "usual": _on(fleet.usual),
        "differences": [_difference(each) for each in fleet.differences.differences],
        "findings": [each | {"on": _on(fleet.on.get(each["key"]))} for each in whole["findings"]],
        "requirements": [_requirement(each, fleet) for each in fleet.report.findings if each.id == REQUIREMENT],
        "stages": msgspec.to_builtins(fleet.stages.stages) if fleet.stages else [],
        "skipped": [{"name": each.name, "why": each.why} for each in fleet.skipped],
        "facts": whole["facts"] | {"facts": {k: v for k, v in whole["facts"]["facts"].items() if k not in ABOUT_ALL}},
    }


def _on(on: On | None) -> dict[str, Any] | None:
    return {"ranks": on.ranks, "count": on.count, "nodes": on.nodes} if on else None


def _difference(difference: Difference) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(difference)
    for share in found["shares"]:
        share["also"] = dict(share["also"])
    return found


def _requirement(finding: Finding, fleet: FleetReport) -> dict[str, Any]:
    on = fleet.on.get(finding.key)
    return {
        "name": finding.subject,
        "title": finding.title,
        "failed": on.count if on else 0,
        "ranks": on.ranks if on else "",
    }
