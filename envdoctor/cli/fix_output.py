"""What ``fix`` writes to stdout: the script, what became of each step, or both as JSON (``envdoctor.fix/1``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envdoctor.cli.applying import DRY
from envdoctor.facts.host import Host
from envdoctor.facts.packages import Packages
from envdoctor.finding import Severity
from envdoctor.remedy.apply import Effect
from envdoctor.remedy.plan_of_fixes import Plan, Step, plan, why_not_run
from envdoctor.remedy.script import script
from envdoctor.render.untrusted import escape, one_line

if TYPE_CHECKING:
    from pathlib import Path

    from envdoctor.cli.applying import Applied, Ran, StepEnd
    from envdoctor.finding import Finding, Report
    from envdoctor.remedy.apply import Undo

SCHEMA = "envdoctor.fix/1"
MARKS = {Effect.FIXED: "fixed", Effect.GONE: "fixed already", Effect.NOT_FIXED: "not fixed"}


def written(report: Report, applied: Applied | None, given: dict[str, Any]) -> str:
    """Give the document for stdout."""
    planned = applied.plan if applied else plan(report.active, frozenset(given["ids"]))
    text = script(planned, _about(report), one_line)
    if given["format_"] == "json":
        return _json(_document(report, planned, text, applied))
    if applied is None:
        return text
    return f"{text}\n{_summary(applied)}" if applied.dry else _summary(applied)


def _about(report: Report) -> str:
    host, packages = report.snapshot.get(Host), report.snapshot.get(Packages)
    words = [host.os_name if host else "", f"Python {packages.python_version}" if packages else ""]
    words += [packages.prefix if packages else "", report.snapshot.created]
    return ", ".join(each for each in words if each) or "an unknown machine"


def _summary(applied: Applied) -> str:
    lines = [_line(number, each, dry=applied.dry) for number, each in enumerate(applied.ends, 1)]
    if not lines:
        lines.append("Nothing to do.")
    lines += [f"-  no command is known for {one_line(f.key)}: {one_line(f.title)}" for f in applied.plan.unfixable]
    if applied.record:
        lines.append(f"Undo it with: envdoctor fix --undo {applied.record}")
    lines.append(f"Verdict now: {applied.report.verdict.value}")
    return "\n".join(lines) + "\n"


def _line(number: int, end: StepEnd, *, dry: bool) -> str:
    mark = MARKS.get(end.effect, end.effect.value.replace("-", " "))
    if dry:
        mark = "would ask and run" if end.reason == DRY else "would not run"
    lines = [f"{number}. {mark}: {one_line(end.step.fix.title)}   ({one_line(', '.join(end.step.keys))})"]
    lines += [f"   {one_line(end.reason)}"] if end.reason not in {"", DRY} else []
    lines += [f"   new: {one_line(each.key)}: {one_line(each.title)}" for each in end.new]
    if end.effect in {Effect.NOT_RUN, Effect.DECLINED, Effect.NOT_FIXED} and not end.ran:
        lines += [f"     {escape(each.shell)}" for each in end.step.fix.commands]
    return "\n".join(lines)


def _json(document: dict[str, Any]) -> str:
    from envdoctor.render.json import write

    return write(document)


def _document(report: Report, planned: Plan, text: str, applied: Applied | None) -> dict[str, Any]:
    from envdoctor.snapshot import to_plain

    facts, now = to_plain(report.snapshot), applied.report if applied else report
    packages = report.snapshot.get(Packages)
    ends = {id(planned.steps[number]): end for number, end in enumerate(applied.ends)} if applied else {}
    return {
        "schema": SCHEMA,
        "mode": "plan" if applied is None else "dry-run" if applied.dry else "apply",
        **{key: facts[key] for key in ("tool", "created", "target", "level")},
        "steps": [_step(n, each, ends.get(id(each)), packages) for n, each in enumerate(planned.steps, 1)],
        "unfixable": [each.key for each in planned.unfixable],
        "left_out": [each.key for each in planned.notes],
        "needs_reboot": planned.reboots,
        "script": text,
        "record": str(applied.record) if applied and applied.record else None,
        "verdict_before": report.verdict.value,
        "verdict": now.verdict.value,
        "interrupted": now.interrupted,
        "left": [_left(each) for each in now.active if each.severity is not Severity.INFO],
    }


def _left(finding: Finding) -> dict[str, str]:
    return {"key": finding.key, "severity": (finding.severity or Severity.INFO).value, "title": finding.title}


def _step(number: int, step: Step, end: StepEnd | None, packages: Packages | None) -> dict[str, Any]:
    import msgspec

    step = end.step if end else step
    why_not = why_not_run(step, packages)
    return {
        "number": number,
        "findings": list(step.keys),
        "follows_from": list(step.after),
        "fix": msgspec.to_builtins(step.fix),
        "alternatives": msgspec.to_builtins(step.alternatives),
        "runnable": not why_not,
        "why_not": why_not,
        "effect": end.effect.value if end else None,
        "reason": end.reason if end else "",
        "ran": [_ran(each) for each in end.ran] if end else [],
        "new_findings": [each.key for each in end.new] if end else [],
    }


def _ran(ran: Ran) -> dict[str, Any]:
    ended = ran.ended
    return {
        "shell": ran.command.shell, "argv": list(ran.command.argv or ()), "exit_code": ended.exit_code,
        "seconds": round(ended.seconds, 3), "timed_out": ended.timed_out, "output": ended.said,
    }  # fmt: skip


def undone(path: Path, planned: Undo, ran: tuple[Ran, ...], effect: Effect, given: dict[str, Any]) -> str:
    """Give what an undo did, for stdout."""
    if given["format_"] == "json":
        return _json(_undo_document(path, planned, ran, effect))
    words = {Effect.FIXED: "undone", Effect.GONE: "nothing is left to undo", Effect.NOT_FIXED: "not all of it is back"}
    lines = [words.get(effect, effect.value.replace("-", " "))]
    if not ran:
        lines += [f"  {escape(each.shell)}" for each in planned.commands]
    return "\n".join([*lines, *(f"  {one_line(each)}" for each in planned.impossible)]) + "\n"


def _undo_document(path: Path, planned: Undo, ran: tuple[Ran, ...], effect: Effect) -> dict[str, Any]:
    import msgspec

    return {
        "schema": SCHEMA,
        "mode": "undo",
        "record": str(path),
        "effect": effect.value,
        "commands": msgspec.to_builtins(planned.commands),
        "impossible": list(planned.impossible),
        "ran": [_ran(each) for each in ran],
    }
