"""render(report) -> JSON, schema ``envdoctor.report/1``: keys are added, never renamed.

Strict JSON: no NaN, no lone surrogates. URLs lose their credentials here as everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from envdoctor.finding import SCHEMA, Status
from envdoctor.redact import without_credentials
from envdoctor.rewrite import rewrite
from envdoctor.snapshot import to_plain

if TYPE_CHECKING:
    from envdoctor.finding import Check, Command, Evidence, Finding, Fix, Report


def render(report: Report, **_view: Any) -> str:
    """Give the whole report as indented JSON; it does not depend on the terminal."""
    return write(plain(report))


def write(value: Any) -> str:
    """Give plain data as strict, indented JSON, ending with a newline."""
    return msgspec.json.format(msgspec.json.encode(clean(value), enc_hook=str), indent=2).decode() + "\n"


def clean(value: Any) -> Any:
    """Make plain data fit for strict JSON, and take credentials out of its URLs."""
    return rewrite(value, _text)


def _text(text: str) -> str:
    if not text.isascii():  # a file name that is not UTF-8 comes as lone surrogates, which JSON cannot carry
        text = text.encode("utf-8", "backslashreplace").decode()
    return without_credentials(text)


def plain(report: Report) -> dict[str, Any]:
    """Give the report as JSON-ready data in the layout of ``envdoctor.report/1``."""
    facts = to_plain(report.snapshot)
    same = ("tool", "created", "target", "level", "elapsed_seconds", "overhead_seconds")
    return {
        "schema": SCHEMA,
        **{key: facts[key] for key in same},
        "verdict": report.verdict.value,
        "primary": report.primary,
        "interrupted": report.interrupted,
        "notes": list(report.notes),
        "redacted": False,  # people and machines are named: see `snapshot --share`
        "findings": [_finding(each) for each in report.findings],
        "checks": [_check(each) for each in report.checks],
        "probes": [{key: each[key] for key in ("name", "outcome", "seconds", "reason")} for each in facts["probes"]],
        "facts": facts,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    ignored = finding.ignored
    return {
        "key": finding.key,
        "id": finding.id,
        "subject": finding.subject,
        "severity": finding.severity.value if finding.severity else "info",
        "title": finding.title,
        "detail": finding.detail,
        "confidence": finding.confidence.value,
        "evidence": [_evidence(each) for each in finding.evidence],
        "affects": list(finding.affects),
        "caused_by": list(finding.caused_by),
        "links": list(finding.links),
        "fixes": [_fix(each) for each in finding.fixes],
        "ignored": {"reason": ignored.reason, "by": ignored.by} if ignored else None,
    }


def _check(check: Check) -> dict[str, Any]:
    judged = check.status in {Status.PASSED, Status.FIRED}
    return {
        "id": check.id,
        "group": check.group,
        "essential": check.essential,
        "status": check.status.value,
        "reason": check.reason or ("" if judged else "no reason was given"),
    }


def _evidence(seen: Evidence) -> dict[str, Any]:
    value = msgspec.to_builtins(seen.value, enc_hook=str)
    return {
        "fact": seen.fact, "value": value, "source": seen.source, "freshness": seen.freshness, "label": seen.label,
    }  # fmt: skip


def _fix(fix: Fix) -> dict[str, Any]:
    return {
        "title": fix.title,
        "commands": [_command(each) for each in fix.commands],
        "safety": fix.safety.value,
        "changes": fix.changes,
        "needs_root": fix.needs_root,
        "needs_reboot": fix.needs_reboot,
        "verify": fix.verify,
    }


def _command(command: Command) -> dict[str, Any]:
    return {"argv": list(command.argv) if command.argv is not None else None, "shell": command.shell}
