"""Every rule over every member. A rule is run once for all members that it cannot tell apart."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from envdoctor.diagnose import run_rule, with_causes
from envdoctor.facts import key_of
from envdoctor.fleet.watching import Watch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envdoctor.facts import Fact
    from envdoctor.finding import Check, Finding
    from envdoctor.fleet.member import Member
    from envdoctor.fleet.pool import Content
    from envdoctor.rule import Rule
    from envdoctor.selection import Selection
    from envdoctor.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Answer:
    """What one rule says. Answers with one number say the same."""

    number: int
    check: Check
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """What the rules say of one member: a check for each rule, and the findings with their causes."""

    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class Judge:
    """Judges members one after the other and remembers what it has seen. ``more`` are facts that all members get."""

    rules: Sequence[Rule]
    selection: Selection
    more: dict[str, Fact] = field(default_factory=dict)
    _inputs: list[tuple[str, ...]] = field(default_factory=list)
    _watch: Watch = field(default_factory=Watch)
    _watched: dict[int, Fact] = field(default_factory=dict)
    _alike: dict[tuple[int, ...], list[Answer | None]] = field(default_factory=dict)
    _asked: dict[tuple[int, ...], Answer | None] = field(default_factory=dict)
    _answers: dict[tuple[object, ...], Answer] = field(default_factory=dict)
    _judged: dict[tuple[int, ...], Judged] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Name the facts that each rule asks for."""
        self._inputs = [tuple(key_of(each.fact) for each in rule.inputs) for rule in self.rules]

    def judge(self, member: Member) -> Judged:
        """Give what the rules say of one member."""
        alike = self._alike.get(member.sameness)
        if alike is None:
            alike = self._alike[member.sameness] = self._of_all(member)
        if None not in alike:
            return self._put_together([each for each in alike if each])
        wanted = frozenset(key for place, each in enumerate(alike) if each is None for key in self._inputs[place])
        snapshot = self._with_more(member.snapshot(own=wanted))
        return self._put_together([each or self._ask(place, snapshot) for place, each in enumerate(alike)])

    def _with_more(self, snapshot: Snapshot) -> Snapshot:
        return replace(snapshot, facts=snapshot.facts | self.more)

    def _of_all(self, member: Member) -> list[Answer | None]:
        """Ask each rule, unless it was asked of the same facts before. None: it reads values of the moment."""
        watched = {key: self._over(content) for key, content in member.contents.items()}
        snapshot = self._with_more(replace(member.snapshot(), facts=watched))
        numbers = {key: content.number for key, content in member.contents.items()}
        answers: list[Answer | None] = []
        for place, wanted in enumerate(self._inputs):
            key = (place, member.run.number, *(numbers.get(each, -1) for each in wanted))
            if key not in self._asked:
                self._watch.read = False
                answer = self._ask(place, snapshot)
                self._asked[key] = None if self._watch.read else answer
            answers.append(self._asked[key])
        return answers

    def _over(self, content: Content) -> Fact:
        watched = self._watched.get(content.number)
        if watched is None:
            watched = self._watched[content.number] = self._watch.over(content.key, content.fact)
        return watched

    def _ask(self, place: int, snapshot: Snapshot) -> Answer:
        check, findings = run_rule(self.rules[place], snapshot, self.selection)
        key = (place, check.status, check.reason, *map(repr, findings))
        known = self._answers.get(key)
        if known is None:
            known = self._answers[key] = Answer(len(self._answers), check, findings)
        return known

    def _put_together(self, answers: list[Answer]) -> Judged:
        """Name the causes among the findings."""
        numbers = tuple(each.number for each in answers)
        judged = self._judged.get(numbers)
        if judged is None:
            found = with_causes(tuple(each for answer in answers for each in answer.findings), self.rules)
            judged = self._judged[numbers] = Judged(tuple(each.check for each in answers), found)
        return judged
