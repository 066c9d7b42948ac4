"""What a step did: the reports before and after it compared, and the packages it changed, kept to undo it."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from envdoctor.finding import Severity, Status, Verdict
from envdoctor.remedy.installer import AGAIN, installer_for
from envdoctor.remedy.wheels import INDEX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envdoctor.facts.packages import Packages
    from envdoctor.finding import Command, Finding, Report

SCHEMA = "envdoctor.undo/1"
NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
# Their findings come and go with what else runs on the machine: no package of one environment changes them.
OF_THE_MACHINE = frozenset({"GPUs", "fabric", "system"})
VARIANT = re.compile(r"cpu|cu\d{2,3}|rocm\d+(\.\d+)*")


class Effect(str, enum.Enum):
    """What became of a step."""

    FIXED = "fixed"
    NOT_FIXED = "not-fixed"
    MADE_WORSE = "made-worse"
    GONE = "gone"  # an earlier step did it
    DECLINED = "declined"
    NOT_RUN = "not-run"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Judged:
    """The effect in one word and in many, and what is there now that was not there before."""

    effect: Effect
    reason: str = ""
    new: tuple[Finding, ...] = ()


def compare(before: Report, after: Report, keys: Iterable[str]) -> Judged:
    """Say what a step did that was to take the findings ``keys`` away.

    A finding that cannot be judged any more is not fixed. A new error or warning, one that became worse, and an
    essential rule that can no longer judge make things worse, unless they are of the machine, not of its packages.
    """
    keys = tuple(keys)
    there = {each.key for each in after.active}
    new = _worse(before, after)
    if new:
        gone = "; what it was for is gone" if not there & {*keys} else ""
        return Judged(Effect.MADE_WORSE, f"{', '.join(each.key for each in new)} was not there before{gone}", new)
    if blind := _blind(before, after):
        return Judged(Effect.MADE_WORSE, f"{blind[0]} could be judged before and cannot now: {blind[1]}")
    left = [key for key in keys if key in there]
    if left:
        return Judged(Effect.NOT_FIXED, f"{', '.join(left)} is still there")
    judged = {check.id: check for check in after.checks}
    for key in keys:
        check = judged.get(key.partition("@")[0])
        if check is None or check.status in {Status.UNKNOWN, Status.SKIPPED}:
            return Judged(Effect.NOT_FIXED, f"{key} cannot be judged now: {check.reason if check else 'no such rule'}")
    return Judged(Effect.FIXED)


def _worse(before: Report, after: Report) -> tuple[Finding, ...]:
    ranks = {each.key: _rank(each) for each in before.active}
    machines = {check.id for check in after.checks if check.group in OF_THE_MACHINE}
    notes = Severity.INFO.rank
    return tuple(f for f in after.active if f.id not in machines and _rank(f) < ranks.get(f.key, notes))


def _rank(finding: Finding) -> int:
    return (finding.severity or Severity.INFO).rank


def _blind(before: Report, after: Report) -> tuple[str, str] | None:
    """Name an essential rule that lost its sight, and why."""
    if after.verdict is not Verdict.UNDETERMINED and after.verdict is not Verdict.ERRORS:
        return None
    could = {check.id for check in before.checks if check.status is not Status.UNKNOWN}
    lost = (c for c in after.checks if c.essential and c.status is Status.UNKNOWN and c.id in could)
    return next(((check.id, check.reason) for check in lost), None)


@dataclass(frozen=True)
class Installed:
    """One distribution as an undo needs it: enough to ask an installer for exactly this one again."""

    name: str
    version: str
    source: str = "pip"
    editable: bool = False


@dataclass(frozen=True)
class Done:
    """One command that was run for a step."""

    step: str
    shell: str
    exit_code: int | None


@dataclass(frozen=True)
class Record:
    """What an environment held before the first step and after the last one, and what was run in between.

    ``under_way`` names a step whose end nobody saw: what the environment holds after it is not known.
    """

    schema: str
    created: str
    python: str
    prefix: str
    before: tuple[Installed, ...]
    after: tuple[Installed, ...]
    done: tuple[Done, ...] = ()
    under_way: str = ""


def listed(packages: Packages) -> tuple[Installed, ...]:
    """List what is installed, the copy that an import uses where there are two: like a freeze, from our own facts."""
    found: dict[str, Installed] = {}
    for each in packages.distributions:
        found.setdefault(each.name, Installed(each.name, each.version, each.source or "pip", each.editable))
    return tuple(sorted(found.values(), key=lambda each: each.name))


@dataclass(frozen=True, slots=True)
class Undo:
    """The commands that bring back what was there, and in words what they cannot bring back."""

    commands: tuple[Command, ...] = ()
    impossible: tuple[str, ...] = ()


def undo(record: Record, now: Packages) -> Undo:
    """Give the commands that take back what the recorded steps changed, and nothing that somebody changed since."""
    before, current = _by_name(record.before), _by_name(listed(now))
    after = current if record.under_way else _by_name(record.after)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    since = [name for name in changed if current.get(name) not in {after.get(name), before.get(name)}]
    ours = [name for name in changed if name not in since and current.get(name) != before.get(name)]
    lost = [name for name in ours if name in before and not _can_return(before[name])]
    back = [before[name] for name in ours if name in before and name not in lost]
    added = tuple(
        name for name in ours if name not in before and NAME.fullmatch(name) and current[name].source == "pip"
    )
    installer = replace(installer_for(now), elsewhere=False)
    hidden = {
        name for name in ours if name in before and name in current and _same_release(before[name], current[name])
    }
    commands = ((installer.uninstall(added),) if added else (), _reinstalled(back, now, hidden))
    words = (
        *(f"{name} was changed since, so it stays as it is" for name in since),
        *(f"{name} {before[name].version} is on no index ({_from(before[name])})" for name in lost),
    )
    return Undo(tuple(each for group in commands for each in group), words)


def _by_name(found: Iterable[Installed]) -> dict[str, Installed]:
    return {each.name: each for each in found}


def _can_return(each: Installed) -> bool:
    """Tell whether an index can give exactly this version again."""
    if each.editable or each.source != "pip" or not NAME.fullmatch(each.name):
        return False
    try:
        local = Version(each.version).local
    except InvalidVersion:
        return False
    return local is None or VARIANT.fullmatch(local) is not None


def _from(each: Installed) -> str:
    return "a source tree under development" if each.editable else f"it came by {each.source}, as {each.version}"


def _same_release(one: Installed, other: Installed) -> bool:
    """Tell whether two builds of one release differ by their local tag alone."""
    try:
        return Version(one.version).public == Version(other.version).public
    except InvalidVersion:
        return False


def _reinstalled(back: list[Installed], now: Packages, hidden: set[str]) -> tuple[Command, ...]:
    """Ask for the exact versions: those of one PyTorch index in one command, without what they would draw in.

    ``hidden``: another build of the same release is there, which installers take for what is asked.
    """
    installer = replace(installer_for(now), elsewhere=False)
    groups: dict[tuple[str, bool], list[str]] = {}
    for each in back:
        behind = each.name in hidden
        sign = "===" if behind else "=="  # the text itself: 0.28.0 and not 0.28.0+cpu
        groups.setdefault((Version(each.version).local or "", behind), []).append(f"{each.name}{sign}{each.version}")
    return tuple(
        installer.install(tuple(specs), f"{INDEX}/{variant}" if variant else "", again=AGAIN * behind, alone=True)
        for (variant, behind), specs in sorted(groups.items())
    )
