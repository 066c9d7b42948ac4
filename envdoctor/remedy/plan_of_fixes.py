"""From findings to a plan: one way out each, causes before consequences, the safest first. Nothing is run here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from envdoctor.finding import Safety, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envdoctor.facts.packages import Packages
    from envdoctor.finding import Command, Finding, Fix

ENVIRONMENTS = frozenset({"venv", "conda"})
REBOOTS = frozenset({"sudo reboot", "reboot", "sudo systemctl reboot"})
_SAFEST_FIRST = list(Safety)


@dataclass(frozen=True, slots=True)
class Step:
    """One way out that is taken: for which findings, what else would do, and the causes that are fixed before it.

    Several findings with the same commands share a step.
    """

    fix: Fix
    findings: tuple[Finding, ...]
    alternatives: tuple[Fix, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Name the findings that it is for."""
        return tuple(each.key for each in self.findings)

    @property
    def commands(self) -> tuple[Command, ...]:
        """Give its commands without the restart, which comes last, once."""
        return tuple(each for each in self.fix.commands if each.shell not in REBOOTS)

    @property
    def reboots(self) -> bool:
        """Tell whether the machine must be restarted for it."""
        return self.fix.needs_reboot or self.commands != self.fix.commands


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps in their order; the findings for which no way out is known, and the notes that were left out."""

    steps: tuple[Step, ...] = ()
    unfixable: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()

    @property
    def reboots(self) -> bool:
        """Tell whether any step needs the machine restarted."""
        return any(each.reboots for each in self.steps)

    def step_for(self, key: str) -> Step | None:
        """Give the step that is for this finding."""
        return next((each for each in self.steps if key in each.keys), None)


def plan(findings: Iterable[Finding], wanted: frozenset[str] = frozenset()) -> Plan:
    """Plan the way out of every finding that counts, or of those alone whose key or id is ``wanted``.

    Notes (severity info) ask for nothing: they are planned for only by name.
    """
    chosen = [each for each in findings if each.ignored is None and (not wanted or {each.key, each.id} & wanted)]
    asked = [each for each in chosen if wanted or each.severity is not Severity.INFO]
    steps = _shared([_step(each) for each in asked if each.fixes])
    unfixable = tuple(each for each in asked if not each.fixes)
    return Plan(tuple(_in_order(steps)), unfixable, tuple(each for each in chosen if each not in asked))


def _step(finding: Finding) -> Step:
    return Step(finding.fixes[0], (finding,), finding.fixes[1:])


def _shared(steps: list[Step]) -> list[Step]:
    """Put findings with the same commands into one step; a way without commands is a finding's own."""
    found: dict[object, Step] = {}
    for each in steps:
        same = each.fix.commands or each.keys
        if (first := found.get(same)) is None:
            found[same] = each
            continue
        others = tuple(fix for fix in each.alternatives if fix.commands not in _commands(first))
        found[same] = replace(
            first, findings=(*first.findings, *each.findings), alternatives=(*first.alternatives, *others)
        )
    return list(found.values())


def _commands(step: Step) -> set[object]:
    return {fix.commands for fix in (step.fix, *step.alternatives)}


def _in_order(steps: list[Step]) -> list[Step]:
    """Take, again and again, the safest step whose causes are all taken; equal ones stay in reading order."""
    placed: list[Step] = []
    left = [replace(each, after=_causes(each, steps)) for each in steps]
    while left:
        waiting = {key for each in left for key in each.keys}
        # Causes that name each other in a circle hold nobody up.
        free = [each for each in left if not waiting & {*each.after} - {*each.keys}] or left
        following = min(free, key=lambda each: _SAFEST_FIRST.index(each.fix.safety))
        left.remove(following)
        placed.append(following)
    return placed


def _causes(step: Step, steps: list[Step]) -> tuple[str, ...]:
    """Name the causes of a step's findings that other steps are for; where one finding has none, it stands alone."""
    elsewhere = {key for each in steps if each is not step for key in each.keys}
    causes = [tuple(key for key in each.caused_by if key in elsewhere) for each in step.findings]
    return tuple(dict.fromkeys(key for each in causes for key in each)) if all(causes) else ()


def why_not_run(step: Step, packages: Packages | None) -> str:
    """Say why ``--apply`` leaves a step to the person; empty when it may run it.

    Safe is what touches one virtual environment alone and can be undone from the list recorded before.
    """
    if step.fix.safety is not Safety.SAFE:
        return f"{step.fix.safety.value}: {step.fix.changes or 'it changes more than this environment'}"
    if not step.fix.commands or any(each.argv is None for each in step.fix.commands):
        return "it is for your own shell to type" if step.fix.commands else "there is no command for it"
    if packages is None or packages.environment_kind not in ENVIRONMENTS:
        kind = packages.environment_kind if packages else None
        return f"this Python is no virtual environment ({kind or 'its kind is not known'})"
    if packages.may_write is False:
        return f"this user may not write {packages.prefix or 'the environment'}: its owner can run it"
    return ""


def waits_for(step: Step, findings: Iterable[Finding]) -> str:
    """Name a cause that is still there: what follows from it is not touched before it is gone."""
    there = {each.key for each in findings}
    return next((key for key in step.after if key in there), "")
