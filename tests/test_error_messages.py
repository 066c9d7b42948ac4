"""The table of messages: each row can be told from the others, says where it is from, and speaks for existing rules."""

from __future__ import annotations

import csv
import importlib
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envdoctor import readers
from envdoctor.knowledge.errors import Message, messages
from envdoctor.rules import RULES, WITNESSES
from tests.pasted import judged

_parser = importlib.import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")
MAXREPEAT, SubPattern, parse = _parser.MAXREPEAT, _parser.SubPattern, _parser.parse
REPEATS = {_parser.MAX_REPEAT, _parser.MIN_REPEAT}
ALONE = Path(__file__).parent / "data" / "messages_alone.csv"
RULE_IDS = {rule.id for rule in RULES}
IDS = [each.id for each in messages()]
# What makes a careless pattern backtrack: long runs of what its parts may match.
HOSTILE = (
    "a",
    " ",
    "x.so ",
    "undefined symbol",
    "(",
    "_Z",
    "cuda ",
    "NCCL ",
    "Found GPU0 ",
    "/dev/shm/",
    "torch/",
    "\\",
)


def test_every_message_is_named_once_and_says_where_it_is_from() -> None:
    """Ids are unique and in kebab case; cause, example, confirmation, fix and source are there."""
    assert sorted(set(IDS)) == sorted(IDS)
    assert [] == [each for each in IDS if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", each)]
    empty = [m.id for m in messages() if not all((m.cause, m.example, m.confirm, m.fix, m.source, *m.source))]
    assert [] == empty


@pytest.mark.parametrize("message", messages(), ids=IDS)
def test_a_message_knows_its_own_example_and_no_other(message: Message) -> None:
    """A pattern matches its own example and none of the other rows'."""
    assert [message.id] == [other.id for other in messages() if message.pattern.search(other.example)]


def test_messages_speak_for_rules_that_exist() -> None:
    """Each finding id of the table is a rule's, and has somebody who listens: a witness, or a rule for texts alone."""
    named = {each for message in messages() for each in message.findings}
    texts_only = {rule.id for rule in RULES if any(i.name == "words" for i in rule.inputs)}
    assert set() == named - RULE_IDS
    assert set() == named - set(WITNESSES) - texts_only


def test_a_witness_speaks_for_a_rule() -> None:
    """There is no witness whose id has no rule, none twice, and none for a rule that listens itself."""
    texts_only = {rule.id for rule in RULES if any(i.name == "words" for i in rule.inputs)}
    assert set() == set(WITNESSES) - RULE_IDS
    assert set() == set(WITNESSES) & texts_only
    assert [] == [each.id for each in WITNESSES.values() if not (each.body.__doc__ or "").strip()]


def _alone() -> dict[str, set[tuple[str, str, str]]]:
    expected: dict[str, set[tuple[str, str, str]]] = defaultdict(set)
    with ALONE.open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            expected[row["message"]] |= (
                {(row["finding"], row["severity"], row["confidence"])} if row["finding"] else set()
            )
    return dict(expected)


@pytest.mark.parametrize("message", messages(), ids=IDS)
def test_a_message_alone_says_what_it_can(message: Message) -> None:
    """Without any fact a message leads to the findings of the grid, with their severity and confidence; no others."""
    report = judged(message.example)
    said = {(f.id, f.severity.value, f.confidence.value) for f in report.findings if f.severity}
    assert _alone()[message.id] == said


def test_the_grid_holds_every_message() -> None:
    """The grid has a row for each message, and none for a message that is not there."""
    assert set(IDS) == set(_alone())


def test_a_lead_is_never_certain_and_code_blames_no_environment() -> None:
    """Words alone are never certain; a message with several causes, or a person's words, is at most likely or info."""
    grid = _alone()
    assert [] == [(name, each) for name, found in grid.items() for each in found if each[2] == "certain"]
    code = [m.id for m in messages() if not m.findings]
    assert [] == [name for name in code if grid[name]]
    errors = {m.id for m in messages() if m.category == "words" for f in grid[m.id] if f[1] == "error"}
    assert set() == errors


def _nested(tree: Any, *, inside: bool = False) -> bool:
    """Tell whether a repetition without limit stands inside another one: what makes a search take for ever."""
    for kind, value in tree:
        endless = kind in REPEATS and value[1] == MAXREPEAT
        if endless and inside:
            return True
        parts = value if isinstance(value, (tuple, list)) else (value,)
        inner = [part for each in parts for part in (each if isinstance(each, list) else [each])]
        if any(_nested(part, inside=inside or endless) for part in inner if isinstance(part, SubPattern)):
            return True
    return False


@pytest.mark.parametrize("message", messages(), ids=IDS)
def test_no_pattern_repeats_without_limit_inside_a_repetition(message: Message) -> None:
    """No pattern holds ``(a+)*``, with which a hostile line takes exponential time."""
    assert not _nested(parse(message.pattern.pattern))
    assert _nested(parse(r"x(a+|b)*"))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("message", messages(), ids=IDS)
def test_a_message_is_found_behind_what_its_pattern_likes(message: Message) -> None:
    """Behind a line of noise made of what patterns match, a message is found all the same, and in bounded time."""
    for piece in HOSTILE:
        noise = (piece * 800)[:800]
        assert message.pattern.search(message.example), message.id
        assert message.pattern.search(noise) is None or message.pattern.search(piece * 4), (message.id, piece)
    assert message.pattern.search(f"{'lorem ipsum ' * 50}: {message.example}")


def test_a_megabyte_on_one_line_is_read_in_bounded_time() -> None:
    """A line of a megabyte, and a hundred thousand lines that all sound like trouble, are cut to what is kept."""
    report = judged("RuntimeError: " + "NCCL error undefined symbol: _ZN3c10" * 30_000)
    assert len(report.snapshot.facts["error_text"].lines[0].text) <= 1000  # type: ignore[attr-defined]
    many = judged("\n".join(f"RuntimeError: CUDA error {n}: no kernel image" for n in range(100_000)))
    assert len(many.snapshot.facts["error_text"].lines) <= 400  # type: ignore[attr-defined]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from([*(m.example for m in messages()), "a" * 400, "\x1b[31m", "%s%n", "$(reboot)"]), max_size=12
    ),
    st.randoms(),
)
def test_no_mixture_of_messages_breaks_a_rule(lines: list[str], random: object) -> None:
    """Messages in any order, cut anywhere, beside escapes and shell words: no rule fails, no fix quotes the text."""
    random.shuffle(lines)  # type: ignore[attr-defined]
    text = "\n".join(line[random.randint(0, 5) :] for line in lines)  # type: ignore[attr-defined]
    try:
        report = judged("PyTorch version: 2.3.1+cu121\nIs CUDA available: False\n", text)
    except readers.NotRecognised:
        return
    assert [] == [c.reason for c in report.checks if "failed:" in c.reason]
    shells = [command.shell for f in report.findings for fix in f.fixes for command in fix.commands]
    assert [] == [shell for shell in shells if "$(reboot)" in shell or "%s%n" in shell]
