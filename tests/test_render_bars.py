"""Small charts: bars fit their terminal and strips show the odd one."""

from __future__ import annotations

import pytest

from envdoctor.render.terminal.bars import bar, bars, strip
from envdoctor.render.terminal.layout import cells
from envdoctor.render.terminal.look import Look

ROWS = [("fp32", 110.0, "110"), ("tf32", 640.0, "640"), ("compile", 1300.0, "1,300")]


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("unicode", [True, False])
def test_bars_fit_and_grow_with_their_values(width: int, unicode: bool) -> None:
    """No line is wider than the terminal, the largest value has the longest bar, and each is seen."""
    look = Look(width, False, unicode)
    lines = ["".join(text for text, _ in line) for line in bars(ROWS, look)]
    assert 3 == len(lines)
    assert width >= max(map(cells, lines))
    sizes = [sum(sign in "▏▎▍▌▋▊▉█#" for sign in line) for line in lines]
    assert sizes == sorted(sizes)
    assert 1 <= sizes[0]


def test_a_narrow_terminal_gets_no_bars() -> None:
    """Where a bar would say nothing, none is drawn."""
    assert [] == list(bars(ROWS, Look(24)))
    assert [] == list(bars([("a", 0.0, "0")], Look(80)))


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, ""), (1.0, "██████████"), (0.5, "█████"), (0.01, "▏"), (0.55, "█████▌")]
)
def test_a_bar_is_drawn_in_eighths(share: float, expected: str) -> None:
    """Ten columns hold eighty steps; whatever is above zero is seen."""
    assert expected == bar(share, 10, unicode=True)


def test_one_odd_member_of_a_thousand_is_seen() -> None:
    """A column that holds several members shows the rarest value among them."""
    owners = [0] * 1000
    owners[777] = 1
    drawn = strip(owners, 50)
    assert (50, "." * 38 + "a" + "." * 11) == (len(drawn), drawn)


def test_each_member_has_its_column_where_there_is_room() -> None:
    """Values are letters, the most common one a dot, an unknown one a question mark."""
    assert "..a.b?" == strip([0, 0, 1, 0, 2, -1], 80)
    assert "" == strip([], 80)
