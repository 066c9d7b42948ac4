"""Findings, checks and reports: what rules say and what every format shows. Plain data, nothing else."""

from __future__ import annotations

import enum
from dataclasses import field, fields
from typing import TYPE_CHECKING, Any

from envdoctor.facts import Fact, key_of, source_of
from envdoctor.facts.dataclass import dataclass

if TYPE_CHECKING:
    from envdoctor.snapshot import Snapshot

SCHEMA = "envdoctor.report/1"


class Severity(str, enum.Enum):
    """How bad: error = training fails or is wrong; warning = likely to fail or slow; info = worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        """Order severities, the worst first: error 0, warning 1, info 2."""
        return list(Severity).index(self)


class Confidence(str, enum.Enum):
    """How sure: certain = the fact itself; likely = facts and a known rule; possible = a lead."""

    CERTAIN = "certain"
    LIKELY = "likely"
    POSSIBLE = "possible"


class Safety(str, enum.Enum):
    """What a fix touches: safe = this virtual environment only and undoable; admin = needs root; disruptive = more."""

    SAFE = "safe"
    ADMIN = "admin"
    DISRUPTIVE = "disruptive"


class Status(str, enum.Enum):
    """What became of a rule in this run."""

    PASSED = "passed"
    FIRED = "fired"
    NOT_APPLICABLE = "not-applicable"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"
    IGNORED = "ignored"


class Verdict(str, enum.Enum):
    """The one word for the whole report."""

    OK = "ok"
    WARNINGS = "warnings"
    ERRORS = "errors"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True)
class Evidence:
    """One fact a finding rests on: which, its value, where it was read; ``label`` is the words for a person."""

    fact: str
    value: Any
    source: str
    freshness: str = ""
    label: str = ""


def see(fact: Fact, name: str, label: str, value: Any = None) -> Evidence:
    """Make a field of ``fact`` evidence; ``value`` replaces the raw value where a part or a wording says more."""
    raw = getattr(fact, name)
    return Evidence(f"{key_of(type(fact))}.{name}", raw if value is None else value, source_of(fact, name), "", label)


@dataclass(frozen=True)
class Command:
    """A command: ``argv`` is what a program runs (None: for reading only), ``shell`` what a person pastes."""

    argv: tuple[str, ...] | None
    shell: str


@dataclass(frozen=True)
class Fix:
    """One way out. ``changes`` says in words what it touches; ``verify`` is the command that proves it."""

    title: str
    commands: tuple[Command, ...] = ()
    safety: Safety = Safety.ADMIN
    changes: str = ""
    needs_root: bool = False
    needs_reboot: bool = False
    verify: str = ""


@dataclass(frozen=True)
class Ignored:
    """Why a finding is not counted, and who said so (``option``, or the configuration file's path)."""

    reason: str
    by: str


@dataclass(frozen=True)
class Finding:
    """What is wrong. A rule gives title, evidence and fixes; ``examine`` fills in what the rule itself declares.

    ``subject`` tells apart findings of one rule (a GPU, a library, a package). ``severity`` None: the rule's own.
    """

    title: str
    detail: str = ""
    evidence: tuple[Evidence, ...] = ()
    fixes: tuple[Fix, ...] = ()
    subject: str = ""
    severity: Severity | None = None
    confidence: Confidence = Confidence.CERTAIN
    affects: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    id: str = ""
    caused_by: tuple[str, ...] = ()
    ignored: Ignored | None = None

    @property
    def key(self) -> str:
        """``id``, or ``id@subject`` when the rule can fire more than once."""
        return f"{self.id}@{self.subject}" if self.subject else self.id


@dataclass(frozen=True)
class Check:
    """What became of one rule. Every rule is in every report."""

    id: str
    group: str
    essential: bool
    status: Status
    reason: str = ""


@dataclass(frozen=True)
class ProbeLine:
    """What became of one probe: ``outcome`` is got, absent, failed, crashed or timed-out."""

    name: str
    outcome: str
    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class Report:
    """Everything that one run found out about one target. ``calm``: those of the notes that warn of nothing."""

    snapshot: Snapshot
    findings: tuple[Finding, ...]
    checks: tuple[Check, ...]
    primary: str | None
    verdict: Verdict
    interrupted: bool = False
    notes: tuple[str, ...] = field(default=())
    calm: frozenset[str] = field(default=frozenset())

    @property
    def active(self) -> tuple[Finding, ...]:
        """The findings that count: all that are not ignored."""
        return tuple(f for f in self.findings if f.ignored is None)

    def finding(self, key: str) -> Finding | None:
        """Give the finding with this key, or None."""
        return next((f for f in self.findings if f.key == key), None)

    def count(self, status: Status) -> int:
        """Count the checks that ended with ``status``."""
        return sum(check.status is status for check in self.checks)


MOST_IN_TITLE = 140


def headline(words: str) -> str:
    """Give the first line of somebody's words, short enough for a title."""
    line = words.strip().partition("\n")[0]
    return line if len(line) <= MOST_IN_TITLE else f"{line[: MOST_IN_TITLE - 3]}..."


def field_names(kind: type) -> tuple[str, ...]:
    """Name the fields of a dataclass in order."""
    return tuple(each.name for each in fields(kind))
