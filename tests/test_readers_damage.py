"""Readers and damaged texts: the same facts come out as far as they survive, and none that was not there."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

from envdoctor import readers
from envdoctor.facts.text import Pasted
from tests.damage import WHOLE, wrapped
from tests.pasted_facts import NAMES, paste, told

WRAPPED = {f"wrapped at {width}": wrapped(width) for width in (72, 76, 80, 100)}
OF_EACH_FORMAT = (
    "collect_env-2.3", "vllm-new", "sglang", "nvidia-smi-r535", "nvidia-smi-q-r610", "pip-list", "pip-freeze",
    "conda-list", "issue-form",
)  # fmt: skip
# What another line of the same text says as well, in its own words.
ELSEWHERE = {"torch_build.metadata_version": "torch_build.version"}


@pytest.fixture(scope="module")
def real() -> str:
    """Give what PyTorch's own script prints here."""
    command = [sys.executable, "-m", "torch.utils.collect_env"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        pytest.skip("torch is not here")
    return done.stdout


def invented(left: dict[str, object], whole: dict[str, object]) -> dict[str, tuple[object, object]]:
    """Give what a damaged text says otherwise than the whole one does; a less exact word is no other one."""
    told_by_whole = {**whole, **{name: whole.get(other) for name, other in ELSEWHERE.items()}}
    return {
        key: (whole.get(key), value)
        for key, value in left.items()
        if value != whole.get(key)
        and not key.startswith("wanted.")  # one or two exact versions alone may as well be a wish
        and not (isinstance(value, str) and str(told_by_whole.get(key, "")).startswith(value))
        # Without the cards before it nobody knows which number a card had.
        and not (key.startswith("gpu_state.gpus") and key.endswith(".index"))
    }


@pytest.mark.parametrize("kind", [*WHOLE, *WRAPPED])
@pytest.mark.parametrize("name", NAMES)
def test_damage_of_one_kind_loses_nothing(name: str, kind: str) -> None:
    """Quoted, fenced, escaped, coloured, re-wrapped, stamped: the facts are those of the whole text."""
    text = paste(name)
    assert told(text) == told((WHOLE | WRAPPED)[kind](text))


@pytest.mark.parametrize("first", WHOLE)
@pytest.mark.parametrize("name", OF_EACH_FORMAT)
def test_damage_of_two_kinds_loses_nothing(name: str, first: str) -> None:
    """Every kind after every other kind."""
    text = paste(name)
    whole = told(text)
    assert [] == [second for second, damage in WHOLE.items() if whole != told(damage(WHOLE[first](text)))]


@pytest.mark.parametrize("first", WHOLE)
@pytest.mark.parametrize("name", OF_EACH_FORMAT)
def test_what_was_broken_beside_other_damage_invents_nothing(name: str, first: str) -> None:
    """Lines that were broken before or after other damage may lose facts; what is left is true."""
    text = paste(name)
    whole, broken = told(text), wrapped(78)
    assert {} == invented(told(broken(WHOLE[first](text))), whole)
    assert {} == invented(told(WHOLE[first](broken(text))), whole)


@pytest.mark.parametrize("name", NAMES)
def test_a_cut_text_invents_nothing(name: str) -> None:
    """Cut after or before any line, a text says less and nothing else."""
    text = paste(name)
    whole, lines = told(text), text.split("\n")
    parts = itertools.chain.from_iterable((lines[:cut], lines[cut:]) for cut in range(1, len(lines)))
    assert [] == [wrong for part in parts if (wrong := invented(told("\n".join(part)), whole))]


@pytest.mark.real_torch
def test_the_real_script_survives_every_kind(real: str) -> None:
    """What torch prints on this machine is read whole through each kind of damage, and cut at any line."""
    whole = told(real)
    assert [] == [kind for kind, damage in (WHOLE | WRAPPED).items() if whole != told(damage(real))]
    lines = real.split("\n")
    parts = [lines[:cut] for cut in range(1, len(lines), 3)]
    assert [] == [wrong for part in parts if (wrong := invented(told("\n".join(part)), whole))]


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("collect_env-2.3", "collect_env-2.9"), ("vllm-new", "collect_env-1.7"), ("collect_env-1.7", "vllm-new"),
        ("nvidia-smi-r535", "nvidia-smi-r610"), ("nvidia-smi-q-r570", "nvidia-smi-q-r610"),
        ("pip-list", "uv-pip-list"), ("conda-list", "conda-list-new"), ("sglang", "sglang"),
    ],
)  # fmt: skip
def test_a_second_block_is_left_out_and_that_is_said(name: str, other: str) -> None:
    """Of two blocks of one kind in one text the first counts, and a remark says so."""
    both = f"{paste(name)}\n{paste(other)}"
    pasted = readers.read(both, source="a text").get(Pasted)
    assert pasted is not None
    assert 1 == sum("left out" in each for each in pasted.remarks)
    assert {} == invented(told(both), told(paste(name)))
