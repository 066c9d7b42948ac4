"""A moment as a person names it: "yesterday", "2 days ago", "monday", "2026-11-27", "2026-11-27T14:30"."""

from __future__ import annotations

import datetime as dt
import re

from envdoctor.nearest import nearest

UNITS = {"minute": 1, "hour": 60, "day": 24 * 60, "week": 7 * 24 * 60, "month": 30 * 24 * 60}
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
EXAMPLES = "yesterday, monday, '2 days ago', '3 hours ago', 'last week' or 2026-11-27"
_AGO = re.compile(r"(\d{1,5}|an?|one)\s+(minute|hour|day|week|month)s?\s+ago")
_LAST = re.compile(r"(?:last\s+)?(" + "|".join(DAYS) + ")")


class WhenError(ValueError):
    """Words that name no moment."""


def parse_when(words: str, now: dt.datetime) -> dt.datetime:
    """Give the moment that the words name. ``now`` has a time zone, and so has the answer.

    A day means its end: what held on that day. It is never after ``now``. Raises ``WhenError``.
    """
    said = " ".join(words.lower().split())
    found = _relative(said, now) or _iso(words.strip(), now)
    if found is None:
        near = nearest(said, ("yesterday", "today", "last week", "last month", *DAYS))
        meant = f": did you mean {near!r}?" if near else ""
        raise WhenError(f"{words!r} names no moment{meant} expected {EXAMPLES}")
    return min(found, now)


def _relative(said: str, now: dt.datetime) -> dt.datetime | None:
    if said in {"now", "today", "yesterday"}:
        return now if said == "now" else _end_of(now - dt.timedelta(days=said == "yesterday"))
    if said in {"last week", "last month"}:
        return now - dt.timedelta(minutes=UNITS[said.removeprefix("last ")])
    if match := _LAST.fullmatch(said):
        back = (now.weekday() - DAYS.index(match.group(1))) % len(DAYS) or len(DAYS)
        return _end_of(now - dt.timedelta(days=back))
    if match := _AGO.fullmatch(said):
        many = int(match.group(1)) if match.group(1).isdigit() else 1
        return now - dt.timedelta(minutes=many * UNITS[match.group(2)])
    return None


def _iso(words: str, now: dt.datetime) -> dt.datetime | None:
    """Read a date or a time; without a zone it is this machine's."""
    try:
        found = dt.datetime.fromisoformat(words.removesuffix("Z") + ("+00:00" if words.endswith("Z") else ""))
    except ValueError:
        return None
    found = found if found.tzinfo else found.replace(tzinfo=now.tzinfo)
    return _end_of(found) if re.fullmatch(r"\d{4}-?\d\d-?\d\d", words) else found


def _end_of(moment: dt.datetime) -> dt.datetime:
    return moment.replace(hour=23, minute=59, second=59, microsecond=999_999)
