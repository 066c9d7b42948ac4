"""Ranks and names in a few words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envdoctor.fleet.ranges import in_words, names_in_words, numbers_in_words


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ([], ""),
        ([3], "3"),
        ([0, 1, 2, 7], "0-2,7"),
        ([7, 2, 1, 0, 2], "0-2,7"),
        ([*range(248, 256)], "248-255"),
    ],
)
def test_numbers_become_ranges(numbers: list[int], words: str) -> None:
    """Neighbours are one range, in order, each number once."""
    assert words == numbers_in_words(numbers)


@given(st.sets(st.integers(0, 500)))
def test_ranges_say_exactly_the_numbers(numbers: set[int]) -> None:
    """What the words say is what went in."""
    said: set[int] = set()
    for part in filter(None, numbers_in_words(numbers).split(",")):
        first, _, last = part.partition("-")
        said |= {*range(int(first), int(last or first) + 1)}
    assert numbers == said


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["node1"], "node1"),
        (["node1", "node2", "node3", "node7"], "node[1-3,7]"),
        (["node001", "node002", "node010"], "node[001-002,010]"),
        (["node099", "node100"], "node[099-100]"),
        (["node0", "node1"], "node[0-1]"),
        (["node9", "node10", "node11"], "node[9-11]"),
        (["node009", "node010"], "node[009-010]"),
        (["a1.example", "a2.example", "login"], "login,a[1-2].example"),
        (["gpu1", "cpu1"], "gpu1,cpu1"),
        (["node1", "node1"], "node1"),
    ],
)
def test_names_are_folded_as_slurm_folds_them(names: list[str], words: str) -> None:
    """What names share is said once; leading zeros stay."""
    assert words == names_in_words(names)


def test_many_unlike_names_are_counted() -> None:
    """Names without a pattern are named up to a limit."""
    assert "ann, bob and 2 more" == names_in_words(["ann", "bob", "cid", "dan"], most=2)


def test_ranks_and_names_are_told_apart() -> None:
    """Names that are numbers are ranks."""
    assert ("0-2", "node[0-2]") == (in_words(["0", "1", "2"]), in_words(["node0", "node1", "node2"]))
