"""Requirements as people write them: each kind is read, and what cannot be meant is refused in clear words."""

from __future__ import annotations

from typing import Any

import pytest

from envdoctor.facts.required import Need, Required
from envdoctor.requirements import RequirementError, conditions, from_words, holds, merged, parse


def refused(table: dict[str, Any]) -> str:
    """Give the words with which a table is refused."""
    with pytest.raises(RequirementError) as caught:
        parse(table, "here")
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("torch", ">=2.9", ">=2.9"),
        ("torch", " >= 2.9 , < 3 ", "<3,>=2.9"),
        ("cuda", "==12.8.*", "==12.8.*"),
        ("cudnn", ">=9.10", ">=9.10"),
        ("nccl", "~=2.27", "~=2.27"),
        ("driver", ">=580.95", ">=580.95"),
        ("python", ">=3.10", ">=3.10"),
        ("gpus", 8, ">=8"),
        ("gpus", 0, ">=0"),
        ("gpus", ">= 4, <= 8", ">=4,<=8"),
        ("gpu_memory_gib", 79.5, ">=79.5"),
        ("shm_gib", 8, ">=8"),
        ("compute_capability", 8.0, ">=8.0"),
        ("compute_capability", 9, ">=9.0"),
        ("compute_capability", ">=8.0,<10", "<10,>=8.0"),
        ("bf16", "native", "native"),
        ("bf16", True, "native"),
        ("bf16", "any", "any"),
        ("fp8", "native", "native"),
        ("ngc", ">=25.01", ">=25.01"),
        ("ngc", True, "*"),
    ],
)
def test_each_kind_is_read(name: str, value: object, wanted: str) -> None:
    """Every kind of requirement becomes one text, whose source is kept."""
    expected = Required(sources={"needs": "here"}, needs=(Need(name, wanted),))
    assert expected == parse({name: value}, "here")


def test_packages_are_a_table() -> None:
    """Each distribution is a need of its own under its normalised name; any version will do where none is named."""
    found = parse({"packages": {"Flash_Attn": ">=2.6", "timm": "*", "einops": "", "rich": True}}, "here")
    names = {each.name: each.wanted for each in found.needs}
    expected = {"packages.flash-attn": ">=2.6", "packages.timm": "*", "packages.einops": "*", "packages.rich": "*"}
    assert expected == names


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"torhc": ">=2"}, "here: unknown requirement 'torhc': did you mean 'torch'?"),
        ({"gpu": 8}, "here: unknown requirement 'gpu': did you mean 'gpus'?"),
        ({"gpu-memory-gib": 8}, "here: unknown requirement 'gpu-memory-gib': did you mean 'gpu_memory_gib'?"),
        ({"torch": 2.9}, 'require.torch is 2.9, expected a version specifier in quotes, such as ">=2.9" or "==2.9.*"'),
        ({"torch": "2.9.1"}, "require.torch is '2.9.1', expected a version specifier in quotes, such as \">=2.9.1\""),
        ({"torch": "newest"}, "require.torch is 'newest', expected a version specifier"),
        ({"torch": ""}, "require.torch is '', expected a version specifier"),
        ({"torch": None}, "require.torch is None, expected a version specifier"),
        ({"torch": True}, 'require.torch is true, expected a version specifier in quotes, such as ">=2.9"'),
        ({"gpus": "8"}, "require.gpus is '8', expected a whole number, which means at least so many"),
        ({"gpus": 7.5}, "require.gpus is 7.5, expected a whole number"),
        ({"gpus": True}, "require.gpus is true, expected a whole number"),
        ({"gpus": -1}, "require.gpus is -1, expected a whole number"),
        ({"gpu_memory_gib": float("nan")}, "require.gpu_memory_gib is nan, expected a number"),
        ({"shm_gib": float("inf")}, "require.shm_gib is inf, expected a number"),
        ({"shm_gib": [8]}, "require.shm_gib is [8], expected a number"),
        ({"compute_capability": "8.0"}, "require.compute_capability is '8.0', expected a number"),
        ({"compute_capability": 800}, "require.compute_capability is 800, expected a number"),
        ({"bf16": "yes"}, "require.bf16 is 'yes', expected 'native' or 'any', or true for 'native'"),
        ({"bf16": False}, "require.bf16 is false, expected 'native' or 'any'"),
        ({"bf16": ["native"]}, "require.bf16 is ['native'], expected 'native' or 'any'"),
        ({"fp8": "any"}, "require.fp8 is 'any', expected 'native', or true for 'native'"),
        ({"packages": ["numpy"]}, "require.packages is ['numpy'], expected a table such as"),
        ({"packages": {"num py": "*"}}, "here: require.packages: 'num py' is no distribution's name"),
        ({"packages": {"numpy": 2}}, "require.packages.numpy is 2, expected a version specifier"),
        ({"ngc": 25.01}, "require.ngc is 25.01, expected a version specifier in quotes"),
    ],
)
def test_what_cannot_be_meant_is_refused(table: dict[str, Any], words: str) -> None:
    """A misspelt name is refused with the nearest one, a wrong value with what was expected."""
    assert words in refused(table)


@pytest.mark.parametrize(
    ("word", "need"),
    [
        ("gpus=8", Need("gpus", ">=8")),
        ("gpus>=4,<=8", Need("gpus", ">=4,<=8")),
        ("gpus==8", Need("gpus", "==8")),
        ("torch>=2.9", Need("torch", ">=2.9")),
        ("torch=>=2.9", Need("torch", ">=2.9")),
        ("torch ~= 2.9", Need("torch", "~=2.9")),
        ("bf16=native", Need("bf16", "native")),
        ("fp8=true", Need("fp8", "native")),
        ("ngc=*", Need("ngc", "*")),
        ("compute_capability=8.9", Need("compute_capability", ">=8.9")),
        ("packages.numpy>=1.26", Need("packages.numpy", ">=1.26")),
        ("packages.timm=*", Need("packages.timm", "*")),
    ],
)
def test_words_of_the_command_line(word: str, need: Need) -> None:
    """On the command line a requirement is one word, with or without an equals sign before the condition."""
    assert (need,) == from_words([word], "--require").needs


@pytest.mark.parametrize("word", ["torch", "", "=8", "gpu=8", "torch=2.9"])
def test_words_that_are_none_are_refused(word: str) -> None:
    """A word without a value, with a wrong name or a bare version is refused, naming the option."""
    with pytest.raises(RequirementError, match=r"^--require: "):
        from_words([word], "--require")


def test_the_second_of_two_wins() -> None:
    """Two tables are put together; where both speak of one thing the later one holds, and both sources are named."""
    first, second = parse({"torch": ">=2.1", "gpus": 4}, "file"), parse({"gpus": 8}, "call")
    both = merged(first, second)
    assert ((">=2.1", ">=8"), {"needs": "call, file"}) == ((both.wanted("torch"), both.wanted("gpus")), both.sources)
    assert (first, first, None) == (merged(first, Required()), merged(Required(), first), Required().wanted("torch"))


@pytest.mark.parametrize(
    ("number", "wanted", "expected"),
    [
        (8, ">=8", True), (7, ">=8", False), (8, "==8", True), (8, "!=8", False), (8, "<8", False), (8, ">7", True),
        (79.65, ">=79.5", True), (39.45, ">=39.5", False), (6, ">=4,<=8", True), (9, ">=4,<=8", False),
    ],
)  # fmt: skip
def test_numbers_are_compared_as_numbers(number: float, wanted: str, expected: bool) -> None:
    """39.45 is less than 39.5, whatever versions would say of them."""
    assert expected is holds(number, wanted)


@pytest.mark.parametrize("text", ["8", "", ">=", ">=a", ">=4;<=8", ">=4,"])
def test_text_without_a_condition_has_none(text: str) -> None:
    """What is not all conditions holds none, so that it is refused as a whole."""
    assert () == conditions(text)
