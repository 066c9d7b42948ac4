"""The small parts of the engine: what is kept of output, how lines are split, how facts become JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envdoctor.child import encode
from envdoctor.child.pipes import Kept, Lines
from envdoctor.child.vitals import Vitals
from envdoctor.child.waiting import Waiting


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_output_keeps_its_head_and_tail_and_counts_the_rest(chunks: list[bytes]) -> None:
    """However it is cut into chunks, the first and last bytes are there and none is unaccounted for."""
    kept, whole = Kept(head=16, tail=16), b"".join(chunks)
    for chunk in chunks:
        kept.feed(chunk)
    assert max(0, len(whole) - 32) == kept.dropped
    if not kept.dropped:
        assert whole.decode("utf-8", "replace") == kept.text()
    elif whole.isascii():
        assert kept.text().startswith(whole[:16].decode())
        assert kept.text().endswith(whole[-16:].decode())


@given(st.lists(st.binary(max_size=30), max_size=20))
def test_lines_are_the_same_however_they_arrive(chunks: list[bytes]) -> None:
    """Chunks cut anywhere give the lines of the whole; what has no end yet is waited for."""
    lines = Lines()
    found = [line for chunk in chunks for line in lines.feed(chunk)]
    assert [each for each in b"".join(chunks).split(b"\n")[:-1] if each] == found


def test_a_line_that_is_too_long_is_left_out_alone() -> None:
    """The lines around it arrive."""
    lines = Lines(limit=10)
    chunks = [b"one\nxxxxxx", b"xxxxxx", b"xx\ntwo\n"]
    assert [b"one", b"two"] == [line for chunk in chunks for line in lines.feed(chunk)]
    assert 1 == lines.too_long


class Tag(str):
    """Text of a library's own kind, as torch's version is."""

    __slots__ = ()

    def __str__(self) -> str:
        return "another"


@dataclass(frozen=True)
class Part:
    """A nested fact."""

    name: str = ""
    tags: tuple[Any, ...] = ()
    table: dict[Any, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Part("x", (1, None, True)), {"name": "x", "tags": [1, None, True], "table": {}}),
        (Part(table={1: b"\xff", "b": {"c"}}), {"name": "", "tags": [], "table": {"1": "\\xff", "b": ["c"]}}),
        ([float("inf"), float("nan"), 1.5], [None, None, 1.5]),
        (Tag("2.9.0+cu130"), "2.9.0+cu130"),
        ("\udcff\ud800ü", "\\xff\N{REPLACEMENT CHARACTER}ü"),
        (frozenset({"b", "a"}), ["a", "b"]),
    ],
)
def test_facts_become_plain_data(value: Any, expected: Any) -> None:
    """Dataclasses, tuples, sets and odd text arrive as what JSON can hold."""
    assert {"fact": expected} == json.loads(encode.line({"fact": value}))


def test_what_is_no_plain_data_is_named_with_its_place() -> None:
    """The words say where in the answer the foreign value sits, and its type."""
    with pytest.raises(encode.NotPlain, match=r"^fact\.tags\[1\] is of type PurePosixPath, which is no plain data$"):
        encode.line({"fact": Part(tags=("x", PurePath("/")))})


@pytest.mark.parametrize(
    ("later", "same"),
    [
        (Vitals(2.0, (1,), 100, 50, 10, 10), True),
        (Vitals(2.0, (1,), 101, 60, 10, 5), True),
        (Vitals(2.0, (1,), 104, 50, 10, 10), True),  # a busy machine's coarse ticks
        (Vitals(2.0, (1,), 105, 50, 10, 10), False),
        (Vitals(2.0, (1,), 100, 500, 10, 10), False),
        (Vitals(2.0, (1,), 100, 50, 11, 10), False),
        (Vitals(2.0, (1,), 100, 50, 10, 11), False),
        (Vitals(2.0, (1, 2), 100, 50, 10, 10), False),
    ],
)
def test_any_sign_of_life_is_progress(later: Vitals, same: bool) -> None:
    """CPU, page faults, reads, writes or another process tell work from a hang; sampling itself does not."""
    assert same is later.same_as(Vitals(1.0, (1,), 100, 50, 10, 10))


def job(name: str, **how: Any) -> dict[str, Any]:
    """Give a requested probe."""
    return {"name": name, "where": "m:f", "fact": name, "child": "static", "seconds": 1.0, **how}


def test_the_gate_is_asked_first_and_the_gated_wait_for_it() -> None:
    """The look at the device nodes heads its group; a group with a gated job starts when its answer is known."""
    waiting = Waiting([job("a"), job("b", child="libcuda", gated=True), job("device-nodes")])
    assert [["device-nodes", "a"]] == [[each.name for each in jobs] for jobs in waiting.ready()]
    waiting.learn("device-nodes", {"outcome": "got", "gate": {}})
    assert [["b"]] == [[each.name for each in jobs] for jobs in waiting.ready()]


def test_a_plug_ins_probe_shares_no_process_with_ours() -> None:
    """What a plug-in imports must not reach the built-in probes, whatever child it names."""
    waiting = Waiting([job("ours"), job("theirs", as_patient=True)])
    assert [["ours"], ["theirs"]] == [[each.name for each in jobs] for jobs in waiting.ready()]


def test_without_a_look_at_the_device_nodes_the_driver_is_not_asked() -> None:
    """Nobody looked: the gate stays shut, and that is a failure, not an absence."""
    waiting = Waiting([job("b", child="libcuda", gated=True)])
    ((gated,),) = waiting.ready()
    assert {
        "outcome": "failed",
        "reason": "not asked: the device nodes could not be looked at: they were not looked at",
    } == (waiting.refusal(gated))
