"""Breaking lines and making text harmless, by properties that hold for any text."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from envdoctor.render import untrusted
from envdoctor.render.terminal.layout import columns, flow, paragraph, table, wrap
from envdoctor.render.terminal.look import Line

ANY_TEXT = st.text(st.characters(), max_size=200)
SAFE_TEXT = ANY_TEXT.map(untrusted.one_line)
WIDTHS = st.integers(24, 120)


def plain(lines: list[Line]) -> list[str]:
    """Give lines without their styles."""
    return ["".join(text for text, _ in line).rstrip() for line in lines]


@given(ANY_TEXT)
def test_one_line_is_visible(text: str) -> None:
    """Whatever comes in, one line of visible characters comes out."""
    hidden = [each for each in untrusted.one_line(text) if unicodedata.category(each) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
    assert [] == hidden


@given(ANY_TEXT)
def test_one_line_twice_is_once(text: str) -> None:
    """Text that was made harmless stays as it is."""
    once = untrusted.one_line(text)
    assert once == untrusted.one_line(once)


@given(ANY_TEXT)
def test_ascii_is_ascii(text: str) -> None:
    """Any harmless text has an ASCII form."""
    assert untrusted.to_ascii(untrusted.one_line(text)).isascii()


@given(ANY_TEXT, st.integers(4, 50))
def test_shortened_text_keeps_its_limit(text: str, limit: int) -> None:
    """A shortened text is not longer than its limit, and a short one is left alone."""
    short = untrusted.shorten(text, limit)
    assert len(short) <= limit
    assert len(text) > limit or short == text


@given(SAFE_TEXT, WIDTHS)
def test_wrap_loses_nothing(text: str, width: int) -> None:
    """Wrapped lines fit, and together they hold every character that is not a space."""
    lines = wrap(text, width)
    assert max(map(cell_len, lines)) <= width
    assert text.replace(" ", "") == "".join(lines).replace(" ", "")


@given(st.lists(st.tuples(SAFE_TEXT, SAFE_TEXT, SAFE_TEXT), max_size=4), WIDTHS)
def test_table_fits(rows: list[tuple[str, str, str]], width: int) -> None:
    """No line of a table is wider than the terminal, whatever its cells hold."""
    spans = [tuple((cell, "") for cell in row) for row in rows]
    lines = plain([*table(spans, width, indent=4), *columns(spans, width, indent=2)])
    assert [] == [line for line in lines if cell_len(line) > width]


@given(st.lists(SAFE_TEXT.filter(bool), max_size=5), WIDTHS)
def test_flow_fits(items: list[str], width: int) -> None:
    """Flowing items stay within the terminal, one too long is wrapped."""
    lines = plain(list(flow([((item, ""),) for item in items], width, between=" · ")))
    assert [] == [line for line in lines if cell_len(line) > width]


def test_first_stands_before_the_first_line() -> None:
    """A paragraph's sign stands in the indent of its first line."""
    lines = plain(list(paragraph("one two three", 9, first=(("! ", ""),), indent=2)))
    assert ["! one two", "  three"] == lines


def test_long_word_is_broken_after_a_slash() -> None:
    """A path that does not fit is broken after a slash, so that its parts stay readable."""
    assert ["/opt/venv/lib/", "site-packages"] == wrap("/opt/venv/lib/site-packages", 18)
