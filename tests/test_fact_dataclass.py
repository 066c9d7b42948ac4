"""Our quicker dataclass decorator against the standard one: the same behaviour, method by method."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
import pytest

from envdoctor.facts.dataclass import dataclass


def make(decorate: Callable[[type], type]) -> Any:
    """Make one class with a needed field, a default and a default factory."""

    class Some:
        """One thing."""

        a: int
        b: str = "x"
        c: list[int] = dataclasses.field(default_factory=list)

    return decorate(Some)


OURS, STANDARD = make(dataclass(frozen=True)), make(dataclasses.dataclass(frozen=True))
CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((1,), {}), ((1, "y"), {}), ((1,), {"c": [2]}), ((), {"a": 3, "b": "z"}), ((), {}), ((1, "y", [], 4), {}),
    ((1,), {"a": 2}), ((1,), {"nobody": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("args", "kwargs"), CALLS)
def test_made_and_refused_alike(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The same arguments make an equal object, or are refused by a TypeError, as with the standard decorator."""
    try:
        expected = dataclasses.asdict(STANDARD(*args, **kwargs))
    except TypeError:
        with pytest.raises(TypeError):
            OURS(*args, **kwargs)
    else:
        assert expected == dataclasses.asdict(OURS(*args, **kwargs))


def test_compared_shown_and_replaced_alike() -> None:
    """Equality, representation, replace and fields are the standard's; a default is made anew each time."""
    assert OURS(1) == OURS(1)
    assert OURS(1) != OURS(2)
    assert OURS(1) != STANDARD(1)
    assert repr(STANDARD(1)) == repr(OURS(1))
    assert OURS(2) == dataclasses.replace(OURS(1), a=2)
    assert OURS(1).c is not OURS(1).c
    assert [f.name for f in dataclasses.fields(STANDARD)] == [f.name for f in dataclasses.fields(OURS)]


def test_frozen_and_hashed_by_value() -> None:
    """Nothing can be assigned, and equal objects of hashable fields have equal hashes."""
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'a'"):
        OURS(1).a = 2
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'a'"):
        del OURS(1).a
    assert hash(OURS(1, "y", ())) == hash(OURS(1, "y", ()))


def test_a_class_below_one_of_ours_is_frozen_too() -> None:
    """One of ours inherits from one of ours; a standard one below it that is not frozen is refused, as ever."""

    @dataclass(frozen=True)
    class More(OURS):  # type: ignore[misc,valid-type]
        """Something more, and something that all have in common."""

        kind: ClassVar[str] = "more"
        d: int = 4

    assert ((1, "x", [], 4), "more") == (dataclasses.astuple(More(1)), More(1).kind)
    with pytest.raises(dataclasses.FrozenInstanceError):
        More(1).d = 5
    with pytest.raises(TypeError, match="non-frozen"):
        dataclasses.dataclass(type("Loose", (OURS,), {}))


def test_decoded_object_is_equal_to_one_that_was_made() -> None:
    """What msgspec decodes, defaults left out, equals what was made in Python, both ways."""
    decoded = msgspec.convert({"a": 1}, OURS)
    assert (OURS(1), "x", [OURS(1)]) == (decoded, decoded.b, [decoded])


def test_plug_ins_may_use_the_standard_decorator_below_ours() -> None:
    """A standard frozen dataclass inherits from one of ours, as a plug-in's fact does from Fact."""

    @dataclasses.dataclass(frozen=True)
    class More(OURS):  # type: ignore[misc,valid-type]
        """Something more."""

        d: int = 4

    assert (1, "x", 4) == (More(1).a, More(1).b, More(1).d)
