"""What a rule is: a generator over facts. Its parameters are its inputs, its docstring is its page."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from functools import cached_property

from envdoctor.facts import Fact, key_of, why_unknown
from envdoctor.facts.dataclass import dataclass
from envdoctor.finding import Finding, Severity

RuleBody = Callable[..., Iterator[Finding]]


class Unknown(Exception):  # noqa: N818 - an answer, not an error
    """Raised by a rule that cannot judge: the words become the check's reason."""


class NotApplicable(Exception):  # noqa: N818 - an answer, not an error
    """Raised by a rule whose subject is not there: the words become the check's reason."""


class Missing(Exception):  # noqa: N818 - an answer, not an error
    """Raised by a rule that can judge by any of several optional facts and got none of them.

    It ends as if ``fact``, the one that would decide best, had been a needed input: absent, unknown or skipped.
    """

    def __init__(self, fact: type[Fact]) -> None:
        super().__init__(key_of(fact))
        self.fact = fact


@dataclass(frozen=True)
class Input:
    """One parameter of a rule: which fact it wants, and whether it can do without."""

    name: str
    fact: type[Fact]
    optional: bool


@dataclass(frozen=True)
class Rule:
    """A rule and what it declares about itself.

    ``explained_by``: ids that, when they fire, are the cause of this one; the first that fired ranks first.
    ``essential``: while it is unknown the verdict is never ok. ``severity``: of its findings, unless they say else.
    """

    body: RuleBody
    severity: Severity
    group: str
    essential: bool = False
    explained_by: tuple[str, ...] = ()
    home: str = "envdoctor"

    @property
    def id(self) -> str:
        """The one id: the function's name in kebab case."""
        return self.body.__name__.replace("_", "-")

    @property
    def page(self) -> str:
        """The docstring: the page that ``explain`` shows."""
        return inspect.cleandoc(self.body.__doc__ or "")

    @property
    def summary(self) -> str:
        """The first line of the page: what is true when it fires."""
        return self.page.partition("\n")[0]

    @property
    def flaw(self) -> str:
        """What keeps a report from showing it: a severity or a group that is none. Nothing where all is well."""
        severity: object = self.severity
        group: object = self.group
        if not isinstance(severity, Severity):
            return f"its severity must be one of envdoctor.finding.Severity, not {severity!r}"
        return "" if isinstance(group, str) and group else f"its group must be a word, not {group!r}"

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        """The facts that the parameters name, in order."""
        return _inputs(self.body)


@dataclass(frozen=True)
class Witness:
    """The question of one rule, put to a pasted text: its words, held against whatever facts there are.

    It has no page and no place in the catalogue of its own: it speaks for the rule whose ``id`` it bears.
    ``cross_examined``: its words are doubted where the facts alone let that rule pass.
    """

    body: RuleBody
    cross_examined: bool = False

    @property
    def id(self) -> str:
        """The id of the rule that it speaks for."""
        return self.body.__name__.replace("_", "-")

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        """The facts that the parameters name, in order."""
        return _inputs(self.body)


def witness(body: RuleBody) -> Witness:
    """Turn a generator over facts, named as a rule is, into that rule's witness."""
    return Witness(body)


def cross_examined(body: RuleBody) -> Witness:
    """Make a witness whose words are doubted where its rule, judging the same by the facts, passes."""
    return Witness(body, cross_examined=True)


def _inputs(body: RuleBody) -> tuple[Input, ...]:
    code = body.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return tuple(_plain(name, body) or _input(name, typing.get_type_hints(body)[name]) for name in names)


def _plain(name: str, body: RuleBody) -> Input | None:
    """Read ``Fact`` and ``Fact | None`` by name, which all our rules say; ``typing`` takes ten times as long."""
    kind, _, none = str(body.__annotations__.get(name)).partition(" | ")
    fact = body.__globals__.get(kind)
    if isinstance(fact, type) and issubclass(fact, Fact) and none in {"", "None"}:
        return Input(name, fact, optional=bool(none))
    return None


def _input(name: str, hint: object) -> Input:
    kinds = [each for each in typing.get_args(hint) or (hint,) if each is not type(None)]
    if len(kinds) != 1 or not (isinstance(kinds[0], type) and issubclass(kinds[0], Fact)):
        raise TypeError(f"parameter {name!r} must be a fact or `Fact | None`, not {hint!r}")
    return Input(name, kinds[0], optional=len(typing.get_args(hint)) > 0)


def rule(
    *, severity: Severity, group: str, essential: bool = False, explained_by: tuple[str, ...] = ()
) -> Callable[[RuleBody], Rule]:
    """Turn a generator over facts into a rule; see ``Rule`` for what the arguments mean."""

    def wrap(body: RuleBody) -> Rule:
        return Rule(body, severity, group, essential, explained_by)

    return wrap


def known(fact: Fact, name: str) -> typing.Any:
    """Give the value of a field, or end the rule as unknown with the reason that was recorded."""
    value = getattr(fact, name)
    if value is None:
        raise Unknown(why_unknown(fact, name) or f"{key_of(type(fact))}.{name} is not known")
    return value
