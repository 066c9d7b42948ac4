"""A verdict that was kept, and how it becomes a report again: its facts are read only when somebody asks for them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from envdoctor.finding import (
    Check,
    Command,
    Confidence,
    Evidence,
    Finding,
    Fix,
    Ignored,
    Safety,
    Severity,
    Status,
    Verdict,
)
from envdoctor.gate.cleared import Cleared

if TYPE_CHECKING:
    from envdoctor.finding import Report
    from envdoctor.rule import Rule
    from envdoctor.snapshot import Snapshot

# Facts that are new at each look. A rule that cannot judge without one of them is not asked again from memory.
MOMENTARY = frozenset({"gpu_state", "gpu_fabric", "kernel_log", "storage", "job"})
MOMENTARY_RULES = frozenset({"container-gpu-detached", "infiniband-port-down"})
FINDING = ("id", "subject", "title", "detail")
FIX = ("title", "changes", "needs_root", "needs_reboot", "verify")


class Recalled(Cleared):
    """A report whose facts are JSON text until they are asked for."""

    @property
    def snapshot(self) -> Snapshot:
        """Give the facts that the verdict was made of."""
        told: Snapshot | str = self.__dict__["snapshot"]
        if isinstance(told, str):
            from envdoctor.snapshot import load

            told = self.__dict__["snapshot"] = load(told, source="the kept verdict")
        return told


def worth_keeping(report: Report) -> bool:
    """Tell whether a report may speak for later ones: no error, nothing open, and every probe ended well."""
    sound = report.verdict in {Verdict.OK, Verdict.WARNINGS} and not report.interrupted
    return sound and all(each.outcome.name in {"got", "absent"} for each in report.snapshot.probes)


def as_kept(report: Report, rules: tuple[Rule, ...]) -> tuple[dict[str, Any], str]:
    """Give the verdict as JSON-ready data without what cannot be kept, and the facts as JSON text on one line."""
    import msgspec

    from envdoctor.facts import key_of
    from envdoctor.render.json import plain
    from envdoctor.snapshot import to_plain

    needed = {rule.id: {key_of(each.fact) for each in rule.inputs if not each.optional} for rule in rules}
    momentary = {name for name, facts in needed.items() if facts & MOMENTARY} | (MOMENTARY_RULES & needed.keys())
    whole = plain(report)
    left_out = {
        each["id"] for each in whole["checks"] if each["id"] in momentary and each["status"] != "not-applicable"
    }
    told = {
        "level": whole["level"],
        "created": whole["created"],
        "primary": whole["primary"],
        "notes": whole["notes"],
        "not_asked": sorted(left_out),
        "findings": [each for each in whole["findings"] if each["id"] not in left_out],
        "checks": [_unasked(each) if each["id"] in left_out else each for each in whole["checks"]],
    }
    return told, msgspec.json.encode(to_plain(report.snapshot), enc_hook=str).decode()


def _unasked(check: dict[str, Any]) -> dict[str, Any]:
    return {
        **check,
        "status": "skipped",
        "reason": "not asked: this changes from moment to moment, and the verdict is kept",
    }


def recalled(kept: dict[str, Any], facts: str, *, notes: tuple[str, ...] = ()) -> Recalled:
    """Make a report of what was kept. Raises ``KeyError``, ``TypeError`` or ``ValueError`` for what holds no report."""
    told = kept["report"]
    findings = tuple(_finding(each) for each in told["findings"])
    checks = tuple(Check(**{**each, "status": Status(each["status"])}) for each in told["checks"])
    said = f"verdict of {_when(kept['kept'])}: nothing that it rests on has changed since"
    unasked = f"not asked, because it cannot be kept: {', '.join(told['not_asked'])}" if told["not_asked"] else ""
    severities = {each.severity for each in findings if each.ignored is None}
    verdict = Verdict.WARNINGS if Severity.WARNING in severities else Verdict.OK
    primary = next((each.key for each in findings if each.key == told["primary"]), None)
    every = tuple(filter(None, (*notes, *told["notes"], said, unasked)))
    calm = frozenset((said, unasked))
    return Recalled(facts, findings, checks, primary, verdict, notes=every, calm=calm, cached=True)  # type: ignore[arg-type]


def _when(kept: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(kept))


def _finding(told: dict[str, Any]) -> Finding:
    ignored = told["ignored"]
    return Finding(
        **{each: told[each] for each in FINDING},
        evidence=tuple(Evidence(**{**each, "freshness": "file"}) for each in told["evidence"]),
        fixes=tuple(_fix(each) for each in told["fixes"]),
        severity=Severity(told["severity"]),
        confidence=Confidence(told["confidence"]),
        affects=tuple(told["affects"]),
        links=tuple(told["links"]),
        caused_by=tuple(told["caused_by"]),
        ignored=Ignored(**ignored) if ignored else None,
    )


def _fix(told: dict[str, Any]) -> Fix:
    commands = tuple(
        Command(None if each["argv"] is None else tuple(each["argv"]), each["shell"]) for each in told["commands"]
    )
    return Fix(**{each: told[each] for each in FIX}, commands=commands, safety=Safety(told["safety"]))
