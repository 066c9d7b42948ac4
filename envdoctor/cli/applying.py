"""``fix --apply``: one step after the other, each asked for before and judged after."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from envdoctor.cli import streams
from envdoctor.facts.packages import Packages
from envdoctor.remedy.apply import SCHEMA, Done, Effect, Judged, Record, compare, listed
from envdoctor.remedy.plan_of_fixes import Plan, Step, plan, waits_for, why_not_run
from envdoctor.render.untrusted import escape, one_line
from envdoctor.runner.commands import Ended, run_command
from envdoctor.snapshot import now

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from envdoctor.cli.asking import Asker
    from envdoctor.cli.records import Keeper
    from envdoctor.finding import Command, Finding, Report

SECONDS = 3600.0  # a torch with its CUDA libraries is 3 GB
# Installers ask questions and look for a newer self; here they have nobody to ask and nothing else to do.
DRY = "dry run: it would be asked for, then run"
QUIETLY = {"PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "CONDA_ALWAYS_YES": "true"}
STOPS = {Effect.MADE_WORSE: "an earlier step made things worse", Effect.INTERRUPTED: "Ctrl-C ended the run"}


@dataclass(frozen=True)
class Means:
    """What an application needs from outside: eyes, somebody to ask, and a place for the record.

    ``held``: the lock on the environment, which an installer holds as well.
    """

    look: Callable[[], Report]
    ask: Asker
    keep: Keeper
    dry: bool = False
    held: tuple[int, ...] = ()


@dataclass(frozen=True)
class Ran:
    """One command and how it ended."""

    command: Command
    ended: Ended


@dataclass(frozen=True)
class StepEnd:
    """What became of one step, and why."""

    step: Step
    effect: Effect
    reason: str = ""
    ran: tuple[Ran, ...] = ()
    new: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Applied:
    """The whole run: the plan, what became of each step, how things stand now, and where the record is."""

    plan: Plan
    ends: tuple[StepEnd, ...]
    report: Report
    record: Path | None = None
    dry: bool = False


def apply(first: Report, wanted: frozenset[str], means: Means) -> Applied:
    """Take the steps of the plan in their order. What makes things worse, and Ctrl-C, end it."""
    planned, report, ends, stopped = plan(first.active, wanted), first, [], ""
    book = Book(first, means)
    for number, each in enumerate(planned.steps, 1):
        try:
            end, report = _take(each, report, wanted, Turn(number, len(planned.steps), stopped, means, book))
        except KeyboardInterrupt:
            end, report = StepEnd(each, Effect.INTERRUPTED, "Ctrl-C"), replace(report, interrupted=True)
        _tell(end, means)
        stopped = stopped or STOPS.get(end.effect, "")
        ends.append(end)
    return Applied(planned, tuple(ends), report, means.keep.path, means.dry)


@dataclass(frozen=True)
class Turn:
    """One step's turn: which of how many, and why it may not be taken at all."""

    number: int
    of: int
    stopped: str
    means: Means
    book: Book


class Book:
    """The record of this run."""

    def __init__(self, first: Report, means: Means) -> None:
        self._means = means
        packages = first.snapshot.get(Packages) or Packages()
        before = listed(packages)
        python, prefix = packages.executable or "", packages.prefix or ""
        self._record = Record(SCHEMA, now(), python, prefix, before, before)

    def begin(self, step: Step) -> None:
        """Write down what is there before a command is run, and which step is under way."""
        first = self._means.keep.path is None
        self._record = replace(self._record, under_way=step.fix.title)
        path = self._means.keep(self._record)
        if first:
            streams.notice(f"envdoctor: what is installed now is recorded in {path}")

    def note(self, step: Step, ran: tuple[Ran, ...], after: Report | None) -> None:
        """Add what was run. Without a look afterwards the step stays under way: what it left is not known."""
        done = tuple(Done(step.fix.title, each.command.shell, each.ended.exit_code) for each in ran)
        self._record = replace(self._record, done=(*self._record.done, *done))
        if packages := after and after.snapshot.get(Packages):
            self._record = replace(self._record, after=listed(packages), under_way="")
        self._means.keep(self._record)


def _take(planned: Step, report: Report, wanted: frozenset[str], turn: Turn) -> tuple[StepEnd, Report]:
    """Take one step, if it is still needed and may be taken; give its end and how things stand then."""
    if turn.stopped:
        return StepEnd(planned, Effect.NOT_RUN, turn.stopped), report
    there = {each.key for each in report.active}
    key = next((each for each in planned.keys if each in there), "")
    if not key:
        return StepEnd(planned, Effect.GONE, "an earlier step took it away"), report
    # The facts may have changed since the plan was made, and with them the command that is right.
    step = plan(report.active, wanted).step_for(key) or planned
    cause = waits_for(step, report.active)
    why_not = why_not_run(step, report.snapshot.get(Packages)) or (f"{cause} comes first" if cause else "")
    if why_not:
        return StepEnd(step, Effect.NOT_RUN, why_not), report
    _show(step, turn)
    if turn.means.dry:
        return StepEnd(step, Effect.NOT_RUN, DRY), report
    if not turn.means.ask("Run it?"):
        return StepEnd(step, Effect.DECLINED, turn.means.ask.why_not), report
    return _run(step, report, turn)


def _show(step: Step, turn: Turn) -> None:
    lines = [f"[{turn.number}/{turn.of}] {one_line(step.fix.title)}", f"  for      {one_line(', '.join(step.keys))}"]
    lines += [f"  touches  {one_line(step.fix.changes)}", *(f"  runs     {escape(c.shell)}" for c in step.commands)]
    streams.notice("\n".join(lines))


def _run(step: Step, before: Report, turn: Turn) -> tuple[StepEnd, Report]:
    turn.book.begin(step)
    ran = tuple(run_all(step.commands, turn.means.held))
    if any(each.ended.interrupted for each in ran):
        turn.book.note(step, ran, None)
        return StepEnd(step, Effect.INTERRUPTED, "Ctrl-C", ran), replace(before, interrupted=True)
    streams.notice("  checking again …")
    after = turn.means.look()
    turn.book.note(step, ran, after)
    if after.interrupted:
        return StepEnd(step, Effect.INTERRUPTED, "Ctrl-C while it was checked", ran), after
    judged = compare(before, after, step.keys)
    reason = "; ".join(filter(None, (why_failed(ran), judged.reason, _another_way(step, judged, after))))
    return StepEnd(step, judged.effect, reason, ran, judged.new), after


def _another_way(step: Step, judged: Judged, after: Report) -> str:
    """Say so when what is there now asks for other commands: they are not run unasked in place of these."""
    now = plan(after.active, frozenset(step.keys)).steps if judged.effect is Effect.NOT_FIXED else ()
    return "its way out is another one now: run fix again" if any(s.commands != step.commands for s in now) else ""


def run_all(commands: tuple[Command, ...], held: tuple[int, ...] = ()) -> list[Ran]:
    """Run commands one after the other; the first that fails is the last."""
    ran: list[Ran] = []
    for command in commands:
        ended = run_command(command.argv or (), timeout=SECONDS, hear=_pass_on, environ=QUIETLY, keep_open=held)
        ran.append(Ran(command, ended))
        if ended.exit_code != 0:
            break
    return ran


def _pass_on(line: str) -> None:
    streams.notice(f"  | {escape(line.expandtabs().rstrip())}")


def why_failed(ran: tuple[Ran, ...]) -> str:
    """Say how the last command failed; empty when all went well."""
    ended = ran[-1].ended if ran else Ended(0)
    if ended.exit_code is None:
        return one_line(ended.said)
    if ended.timed_out:
        return f"its command was stopped after {ended.seconds:.0f} s"
    return f"its command ended with exit code {ended.exit_code}" if ended.exit_code else ""


def _tell(end: StepEnd, means: Means) -> None:
    if not means.dry and (end.ran or end.effect in {Effect.DECLINED, Effect.INTERRUPTED}):
        streams.notice(f"  {end.effect.value}{': ' + end.reason if end.reason else ''}")
