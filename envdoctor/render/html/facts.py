"""The facts of a snapshot as rows: for the ledger of libraries, and for a table that can be searched."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from envdoctor.facts import fact_fields, source_of, why_unknown
from envdoctor.facts.libraries import Libraries
from envdoctor.render.words import words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.facts import Fact
    from envdoctor.facts.libraries import Copy, LedgerRow
    from envdoctor.snapshot import Snapshot

MOST_ROWS = 5000


class Row(NamedTuple):
    """One value: where it stands in the snapshot, what it is, where it was read."""

    name: str
    value: str
    source: str


class Entry(NamedTuple):
    """One library of the ledger, its places in words; ``agree`` is False where two places name different versions."""

    soname: str
    declared: str
    bundled: str
    first: str
    mapped: str
    api: str
    limit: str
    agree: bool


def listed(snapshot: Snapshot) -> list[Row]:
    """Give every value of every fact as a row, as many as a page can hold."""
    rows: list[Row] = []
    for key, fact in snapshot.facts.items():
        for name in fact_fields(type(fact)):
            rows += _field(fact, key, name)
    more = len(rows) - MOST_ROWS
    return [*rows[:MOST_ROWS], Row("…", f"{more} more values are in the JSON report", "")] if more > 0 else rows


def _field(fact: Fact, key: str, name: str) -> Iterator[Row]:
    value, source = getattr(fact, name), source_of(fact, name)
    why = why_unknown(fact, name)
    if why:
        source = f"{source}: {why}" if source else why
    yield from (Row(place, said, source) for place, said in _flat(f"{key}.{name}", value))


def _flat(place: str, value: Any) -> Iterator[tuple[str, str]]:
    """Give nested dataclasses and sequences of them value by value; anything else is one value in words."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for each in dataclasses.fields(value):
            yield from _flat(f"{place}.{each.name}", getattr(value, each.name))
    elif isinstance(value, (tuple, list)) and any(dataclasses.is_dataclass(each) for each in value):
        for number, each in enumerate(value):
            yield from _flat(f"{place}[{_name_of(each, number)}]", each)
    elif value is not None or "[" not in place:
        yield place, words(value)


def _name_of(value: Any, number: int) -> str:
    name = getattr(value, "name", None) or getattr(value, "soname", None)
    return str(name) if isinstance(name, str) and name else str(number)


class Ledger(NamedTuple):
    """The libraries that torch loads; ``top`` is the folder that paths are shown below, empty where there is none."""

    top: str
    entries: list[Entry]


def ledger(snapshot: Snapshot) -> Ledger:
    """Give the libraries that torch loads, one row each; none where they were not looked at."""
    libraries = snapshot.get(Libraries)
    rows = libraries.rows if libraries else ()
    top = _top([each.path for row in rows for each in row.bundled if each.path])
    return Ledger(top, [_entry(each, top) for each in rows])


def _top(paths: list[str]) -> str:
    """Give the folder of packages that most paths lie below."""
    found = Counter(path.partition("/site-packages/")[0] for path in paths if "/site-packages/" in path)
    return f"{found.most_common(1)[0][0]}/site-packages/" if found else ""


def _entry(row: LedgerRow, top: str) -> Entry:
    told = (row.declared_version, row.installed_version, row.first.version if row.first else None, row.api_version)
    versions = [each for each in told if each]
    return Entry(
        row.soname or row.name,
        row.declared or "",
        ", ".join(_copy(each, top) for each in row.bundled),
        f"{_copy(row.first, top)} ({row.first.via})".removesuffix(" ()") if row.first else "",
        ", ".join(each.removeprefix(top) for each in row.mapped),
        row.api_version or "",
        row.driver_limit or "",
        agree=all(a.startswith(b) or b.startswith(a) for a, b in itertools.pairwise(versions)),
    )


def _copy(copy: Copy, top: str) -> str:
    path = copy.path.removeprefix(top)
    return f"{copy.version} at {path}" if copy.version else path
