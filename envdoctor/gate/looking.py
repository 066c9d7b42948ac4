"""A look at this machine within a budget: one child for everything that could do harm here, the rest in place."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from envdoctor.gate.standing import interpreter, names, path, torch_here
from envdoctor.nearest import unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.facts import Fact
    from envdoctor.gate.asked import Asked
    from envdoctor.gate.cleared import Cleared
    from envdoctor.plan import Planned
    from envdoctor.plugins import Plugins
    from envdoctor.rule import Rule
    from envdoctor.runner.starting import Ready
    from envdoctor.snapshot import Snapshot
    from envdoctor.target import Patient

JUDGING = 0.1  # of the budget, for what follows the collection
LEAST = 0.05
NO_TORCH_YET = "torch is not imported in this process yet: its settings here were not read"


@dataclass
class Look:
    """One look at this machine. ``only`` names the probes to ask; empty: all of the level.

    ``ready``: an interpreter that was started before, for the first snapshot.
    """

    asked: Asked
    ready: Ready | None = None
    only: frozenset[str] = frozenset()
    began: float = field(default_factory=time.monotonic)
    rules: tuple[Rule, ...] = ()

    def snapshot(self) -> Snapshot:
        """Give what was found out, with what this process tells of itself.

        Raises ``ValueError`` for an id that no rule has. Ctrl-C goes on as Ctrl-C. Either way no process is left.
        """
        ready, self.ready = self.ready or started(), None
        try:
            found, plugins = self._collect(this_patient(), ready)
        finally:
            if ready:
                ready.dismiss()
        if found.interrupted:
            raise KeyboardInterrupt
        from envdoctor.gate import live

        return _clean(replace(live.with_live(found), plugin_errors=(*found.plugin_errors, *plugins.errors)))

    def _collect(self, patient: Patient, ready: Ready | None) -> tuple[Snapshot, Plugins]:
        from envdoctor import plugins as plugging
        from envdoctor.runner.collection import Collection

        plugins = plugging.load()
        began = ready.began if ready else time.monotonic()
        left = max(self.began + self.asked.budget_seconds - JUDGING - began, LEAST)
        planned, level = self._planned(plugins), self.asked.level
        run = Collection(patient, planned, timeout=left, level=level, kinds=_kinds(plugins), ready=ready)
        found = run.finish(meanwhile=lambda: self._prepare(plugins))
        if not self.rules:  # there was nothing to wait for: no interpreter could be started
            self._prepare(plugins)
        return found, plugins

    def _planned(self, plugins: Plugins) -> tuple[Planned, ...]:
        from envdoctor.plan import BUILT_IN, for_level

        here = names()
        every = for_level(self.asked.level, (*BUILT_IN, *plugins.planned))
        return tuple(each for each in every if each.name not in here and (not self.only or each.name in self.only))

    def _prepare(self, plugins: Plugins) -> None:
        """Import the rules while the child works, and hold the caller's ids against them."""
        from envdoctor import diagnose, redact, rewrite  # noqa: F401 - for later
        from envdoctor.gate import live  # noqa: F401 - for later
        from envdoctor.rules import RETIRED, RULES

        self.rules = (*RULES, *plugins.rules)
        known = {each.id for each in self.rules}
        for name in self.asked.ignore:
            if name not in known | RETIRED:
                raise ValueError(f"ignore: {unknown('finding', name, known, see='see envdoctor list findings')}")

    def judge(self, snapshot: Snapshot) -> Cleared:
        """Examine what was found; the report says what there was no time for, and what was not looked at."""
        from envdoctor.diagnose import examine
        from envdoctor.finding import Ignored
        from envdoctor.gate.cleared import Cleared
        from envdoctor.selection import Selection
        from envdoctor.snapshot import with_fact

        ignore = {name: Ignored(reason, by) for name, (reason, by) in self.asked.ignore.items()}
        if self.asked.require.needs:
            snapshot = with_fact(snapshot, self.asked.require)
        found = examine(snapshot, self.rules, Selection(ignore=ignore))
        notes = (*self.asked.notes, *_skipped(snapshot, self.asked))
        return Cleared(snapshot, found.findings, found.checks, found.primary, found.verdict, notes=notes)


def this_patient() -> Patient:
    """Give this very program as the one to be examined: its Python, with its module search path as it is now."""
    from envdoctor.target import Patient

    return Patient(interpreter(), path=path(), key="this", options={"whole_path": True})


def started() -> Ready | None:
    """Start the interpreter that will be asked: it loads while we import. None where none can be started."""
    from envdoctor.runner.starting import Ready

    try:
        return Ready(this_patient())
    except (OSError, ValueError):
        return None  # the collection meets the same error, and says it


def _kinds(plugins: Plugins) -> dict[str, type[Fact]] | None:
    if not plugins.facts:
        return None
    from envdoctor.snapshot import BY_KEY

    return BY_KEY | plugins.facts


def _clean(snapshot: Snapshot) -> Snapshot:
    from envdoctor.redact import without_credentials
    from envdoctor.rewrite import rewrite

    return rewrite(snapshot, without_credentials)


def _skipped(snapshot: Snapshot, asked: Asked) -> Iterator[str]:
    """Say what there was no time for, and what could not be seen from here."""
    from envdoctor.outcome import TimedOut

    late = [each.name for each in snapshot.probes if isinstance(each.outcome, TimedOut)]
    if late:
        seconds = f"{asked.budget_seconds:g} s"
        yield f"no answer within the budget of {seconds} (budget_seconds gives more): {', '.join(sorted(late))}"
    if torch_here() is None:
        yield NO_TORCH_YET
