"""Moments as people name them."""

from __future__ import annotations

import datetime as dt

import pytest

from envdoctor.when import WhenError, parse_when

NOW = dt.datetime(2026, 11, 28, 14, 30, tzinfo=dt.timezone(dt.timedelta(hours=1)))  # a Saturday


@pytest.mark.parametrize(
    ("words", "moment"),
    [
        ("now", "2026-11-28T14:30:00"),
        ("today", "2026-11-28T14:30:00"),
        ("yesterday", "2026-11-27T23:59:59"),
        ("Yesterday ", "2026-11-27T23:59:59"),
        ("2 days ago", "2026-11-26T14:30:00"),
        ("1 day  ago", "2026-11-27T14:30:00"),
        ("an hour ago", "2026-11-28T13:30:00"),
        ("90 minutes ago", "2026-11-28T13:00:00"),
        ("a week ago", "2026-11-21T14:30:00"),
        ("last week", "2026-11-21T14:30:00"),
        ("last month", "2026-10-29T14:30:00"),
        ("tuesday", "2026-11-24T23:59:59"),
        ("last Tuesday", "2026-11-24T23:59:59"),
        ("saturday", "2026-11-21T23:59:59"),
        ("2026-11-20", "2026-11-20T23:59:59"),
        ("2026-11-20T10:00", "2026-11-20T10:00:00"),
        ("2026-11-20 10:00:05", "2026-11-20T10:00:05"),
        ("2026-11-20T10:00:00Z", "2026-11-20T11:00:00"),
        ("2030-01-01", "2026-11-28T14:30:00"),
    ],
)
def test_words_name_a_moment(words: str, moment: str) -> None:
    """A day means its end, a time without a zone is this machine's, and nothing is later than now."""
    found = parse_when(words, NOW).astimezone(NOW.tzinfo)
    assert moment == found.replace(microsecond=0, tzinfo=None).isoformat()


@pytest.mark.parametrize("words", ["", "soon", "2 fortnights ago", "-1 days ago", "2026-13-01", "999999999 days ago"])
def test_words_that_name_no_moment_are_refused(words: str) -> None:
    """The message shows what is expected."""
    with pytest.raises(WhenError, match="expected yesterday, monday"):
        parse_when(words, NOW)


def test_a_misspelt_word_names_the_nearest() -> None:
    """Somebody in a hurry."""
    with pytest.raises(WhenError, match="did you mean 'yesterday'"):
        parse_when("yesterdy", NOW)
