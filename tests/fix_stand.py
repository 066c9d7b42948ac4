"""Findings, reports and packages that the tests of fixes start from."""

from __future__ import annotations

import sys
from typing import Any

from envdoctor import snapshot
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.finding import Check, Command, Finding, Fix, Report, Safety, Severity, Status, Verdict

PYTHON = "/venv/bin/python"


def command(*argv: str) -> Command:
    """Make a command that a program may run."""
    return Command(argv, " ".join(argv))


def way(title: str, *commands: Command, safety: Safety = Safety.SAFE, **more: Any) -> Fix:
    """Make a way out."""
    return Fix(title, commands, safety, "this environment only", **more)


def python(code: str) -> Command:
    """Make a command that runs Python code: what stands for pip."""
    return Command((sys.executable, "-c", code), f"python -c '{code}'")


def finding(
    key: str, *fixes: Fix, severity: Severity = Severity.ERROR, caused_by: tuple[str, ...] = (), title: str = ""
) -> Finding:
    """Make a finding as ``examine`` gives it."""
    name, _, subject = key.partition("@")
    return Finding(
        title or f"{key} is so", fixes=fixes, severity=severity, caused_by=caused_by, id=name, subject=subject
    )


def packages(*specs: str, kind: str = "venv", **more: Any) -> Packages:
    """Make the facts of an environment that holds ``name==version`` each."""
    pairs = (each.split("==") for each in specs)
    found = tuple(Distribution(name, version, "/venv/lib", "pip", source="pip") for name, version in pairs)
    facts: dict[str, Any] = {"executable": PYTHON, "prefix": "/venv", "python_version": "3.11.7", "has_pip": True}
    return Packages(distributions=found, environment_kind=kind, **(facts | more))


def report(*findings: Finding, has: Packages | None = None, checks: tuple[Check, ...] = ()) -> Report:
    """Make a report: the rules of these findings fired, what ``checks`` says of others holds."""
    fired = tuple(Check(each.id, "torch", True, Status.FIRED) for each in findings)
    known = {each.id for each in (*checks, *fired)}
    passed = tuple(Check(each, "torch", True, Status.PASSED) for each in ("a", "b", "c") if each not in known)
    verdict = Verdict.ERRORS if any(each.severity is Severity.ERROR for each in findings) else Verdict.OK
    if any(each.essential and each.status is Status.UNKNOWN for each in checks) and verdict is Verdict.OK:
        verdict = Verdict.UNDETERMINED
    facts = snapshot.of(has or packages("torch==2.13.0"))
    return Report(facts, findings, (*fired, *checks, *passed), None, verdict)
