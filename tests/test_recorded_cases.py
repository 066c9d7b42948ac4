"""Recorded environments, where at hand: faults are found, healthy ones stay without alarm, fixes can be pasted.

They are not shipped with the project: without them these tests are skipped.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from envdoctor import readers
from envdoctor.diagnose import examine
from tests import fix_commands
from tests.conftest import REPOSITORY

# Labels that the recorded facts do not bear out, and why. The environment alone:
NOT_IN_THE_ENVIRONMENT = {
    "008": "the block names no driver: its CUDA level stands in the error alone",
    "029": "torch 2.4.1 supports NumPy 2, and torch-tensorrt 2.4.0 declares plain numpy",
    "103": "the packages name no torchaudio",
    "119": "the facts name no torch, an AMD GPU and Python 3.7",
    "169": "the torch that has no wheel for this Python is named in the error alone",
    "300": "code for compute capability 7.0 runs on 7.5: the list does not leave the GPU out",
}
# With the words of the error:
NOT_IN_THE_WORDS = {"103": "neither the packages nor the error name torchaudio"}


def _score_cases() -> ModuleType:
    place = REPOSITORY / "benchmarks" / "score_cases.py"
    if not place.is_file():
        pytest.skip("benchmarks/ is not here")
    spec = importlib.util.spec_from_file_location("score_cases", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def score() -> ModuleType:
    """Give the benchmark as a module."""
    return _score_cases()


@pytest.fixture(scope="module")
def cases(score: ModuleType) -> list[Any]:
    """Give the recorded cases."""
    if not score.CASES.is_file():
        pytest.skip("the recorded cases are not here")
    return list(score.load(score.CASES))


@pytest.fixture(scope="module")
def scored(score: ModuleType, cases: list[Any]) -> list[Any]:
    """Judge all of them through the command line."""
    return [score.score(each) for each in cases]


def test_faults_are_found_from_the_environment_alone(scored: list[Any]) -> None:
    """At least 97 % of the faults that the environment shows are found without a word of the error."""
    about = [x for x in scored if not x.case.healthy and x.case.by_block and x.case.id not in NOT_IN_THE_ENVIRONMENT]
    missed = [x.case.id for x in about if not x.found_alone]
    assert len(missed) <= 0.03 * len(about), missed


def test_faults_are_found_with_the_words_of_the_error(scored: list[Any]) -> None:
    """At least 97 % of the faults are found with the words of the error; 90 % lead the report."""
    about = [x for x in scored if not x.case.healthy and x.case.by_error and x.case.id not in NOT_IN_THE_WORDS]
    missed = [x.case.id for x in about if not x.found_told]
    assert len(missed) <= 0.03 * len(about), missed
    assert sum(x.primary for x in about) >= 0.9 * len(about)


def test_healthy_environments_stay_clean(scored: list[Any]) -> None:
    """No error and no warning on any of the healthy ones, beyond what is true of them."""
    assert {} == {x.case.id: x.false_alarms for x in scored if x.case.healthy and x.false_alarms}


def test_one_text_or_two_make_no_difference(cases: list[Any]) -> None:
    """Environment and error in one text lead to the same findings as in two."""
    wrong = {}
    for case in (each for each in cases[::6] if each.error):
        apart = examine(
            readers.together([readers.parse(t, source=n) for n, t in (("a", case.block), ("b", case.error))])
        )
        together = examine(readers.read(f"{case.block}\n\n{case.error}\n", source="a"))
        if {f.id for f in apart.active} != {f.id for f in together.active}:
            wrong[case.id] = ({f.id for f in apart.active}, {f.id for f in together.active})
    assert {} == wrong


def test_every_fix_can_be_pasted(cases: list[Any]) -> None:
    """Every command printed for every case is read by a shell, quotes its specifiers, and names builds that exist."""
    shells, wrong = set(), []
    for case in cases:
        texts = [readers.parse(text, source="a case") for text in (case.block, case.error) if text.strip()]
        report = examine(readers.together(texts))
        shells |= {command.shell for command in fix_commands.commands(report)}
        wrong += [f"{case.id}: {each}" for each in fix_commands.not_existing(report)]
    assert [] == wrong
    assert [] == fix_commands.unquoted(sorted(shells))
    assert [] == fix_commands.unreadable(sorted(shells))


def test_without_cases_the_benchmark_says_so(
    score: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the file is absent the benchmark says that it skipped, and ends well."""
    assert 0 == score.main([str(tmp_path / "cases.jsonl")])
    assert "skipped: there are no recorded cases at" in capsys.readouterr().out
