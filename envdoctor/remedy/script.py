"""A plan as one shell script to read and to run: everything explained in comments, what is dangerous commented out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.finding import Safety

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from envdoctor.finding import Command, Finding, Fix
    from envdoctor.remedy.plan_of_fixes import Plan, Step

    Clean = Callable[[str], str]

WHERE = {
    Safety.SAFE: "safe: this environment only",
    Safety.ADMIN: "needs rights over the machine",
    Safety.DISRUPTIVE: "disruptive: take the '# ' away to run it",
}


def script(plan: Plan, about: str, clean: Clean) -> str:
    """Write the script. ``about`` says which machine it is for; ``clean`` makes untrusted words one harmless line."""
    lines = ["#!/bin/sh", f"# envdoctor fix: {clean(about)}", *_head(plan)]
    for number, step in enumerate(plan.steps, 1):
        lines += ["", *_step(number, step, clean)]
    lines += ["", *_without(plan.unfixable, clean)] if plan.unfixable else []
    if plan.reboots:
        lines += ["", "# Last, when nothing else runs on this machine:", "# sudo reboot"]
    return "\n".join(lines) + "\n"


def _head(plan: Plan) -> Iterator[str]:
    if not plan.steps:
        yield "# Nothing to do."
        return
    yield "# Nothing has been run. Read it, then run it with sh, or paste step by step. A failing command ends it."
    yield "# envdoctor fix --apply runs the safe steps itself, asks before each, and checks after each."
    root = any(each.fix.needs_root for each in plan.steps)
    yield f"# Needs root: {'yes' if root else 'no'}. Needs a restart: {'yes' if plan.reboots else 'no'}."
    if plan.notes:
        yield f"# Left out: {len(plan.notes)} of severity info; name them to have them too."
    yield "set -e"


def _step(number: int, step: Step, clean: Clean) -> Iterator[str]:
    yield f"# {number}. {clean(step.fix.title)}"
    for finding in step.findings:
        yield f"#    For {clean(finding.key)}: {clean(finding.title)}"
    yield f"#    Touches: {clean(step.fix.changes or 'see the command')} ({WHERE[step.fix.safety]})"
    if step.after:
        yield f"#    Follows from {clean(', '.join(step.after))}: it is probably gone after that step. If it is not:"
    asleep = bool(step.after) or step.fix.safety is Safety.DISRUPTIVE
    for command in step.commands:
        yield from _command(command, asleep=asleep)
    if not step.commands and not step.reboots:
        yield "#    There is no command for it."
    if step.fix.verify:
        yield f"#    Prove it: {clean(step.fix.verify)}"
    for fix in step.alternatives:
        yield from _alternative(fix, clean)


def _command(command: Command, *, asleep: bool) -> Iterator[str]:
    """Give a command as it is, or each of its lines as a comment.

    One with signs that move a cursor or end a line (in a path, say) is shown in a comment too, the signs spelt out.
    """
    hidden = not all(each.isprintable() for each in command.shell)
    if command.shell.startswith("#") and not hidden:  # a line to write into a file: a comment already
        yield command.shell
        return
    yield f"# {_spelt(command.shell)}" if asleep or hidden else command.shell


def _spelt(text: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _alternative(fix: Fix, clean: Clean) -> Iterator[str]:
    needs = ", ".join(each for each in ("root" * fix.needs_root, "a restart" * fix.needs_reboot) if each)
    title = clean(fix.title).removeprefix("Or ")
    yield f"#    Or: {title} ({fix.safety.value}{'; needs ' + needs if needs else ''})"
    yield from (f"#      {_spelt(command.shell)}" for command in fix.commands)


def _without(findings: tuple[Finding, ...], clean: Clean) -> Iterator[str]:
    yield "# No command is known for:"
    for finding in findings:
        yield f"#    {clean(finding.key)}: {clean(finding.title)}   (envdoctor explain {finding.id})"
