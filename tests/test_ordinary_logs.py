"""What healthy machines print every day, beside a healthy environment: no alarm comes of it.

The lines are of programs that run, or that fail for a reason of their own, as they are pasted around a question.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pasted import A100_CU121, alarms, judged

ORDINARY = (Path(__file__).parent / "data" / "ordinary_logs.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("line", ORDINARY)
def test_an_ordinary_line_is_no_alarm(line: str) -> None:
    """A line of a healthy day adds neither an error nor a warning."""
    assert set() == alarms(judged(A100_CU121, line))


def test_all_of_them_together_are_no_alarm() -> None:
    """A whole log of such lines is none either, in one file with the report or beside it."""
    log = "\n".join(ORDINARY)
    assert (set(), set()) == (alarms(judged(A100_CU121, log)), alarms(judged(f"{A100_CU121}\n{log}\n")))
