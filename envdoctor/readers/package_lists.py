"""``pip list``, ``pip freeze``, ``uv pip list``, ``conda list``: what is installed, in columns or as requirements."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envdoctor.facts.packages import Distribution
from envdoctor.readers.listed import conda_row, is_rest
from envdoctor.readers.reading import Reading
from envdoctor.readers.told import Told
from envdoctor.readers.versions import normal

if TYPE_CHECKING:
    from collections.abc import Iterator


NAME = "pip list"
FEWEST = 3  # lines of one shape that make a list without a heading
_HEADING = re.compile(r"^\s{0,8}Package\s{1,80}Version(?:\s{1,40}(?:Location|Editable|Latest).{0,80})?\s*$")
_RULE = re.compile(r"^\s{0,8}-{3,}[ -]*$")
_ROW = re.compile(r"^\s{0,8}([A-Za-z][\w.-]{1,80})\s{1,80}v?(\d[\w.!+*-]{0,80})(?:\s{1,80}(\S.{0,200}))?$")
_FROZEN = re.compile(r"^\s{0,8}([A-Za-z][\w.-]{0,80})(?:\[[\w, -]{1,60}\])?={2,3}([\w.!+*-]{1,80})\s*$")
_DIRECT = re.compile(
    r"^\s{0,8}([A-Za-z][\w.-]{0,80}) @ (?:file|https?|git\+)\S{0,300}?"
    r"(?:[/-](\d{1,9}(?:\.\d{1,9}){1,3}[\w.+%]{0,60}?)-(?:py|cp)\S{0,80})?\s*$"
)
_CONDA_HEADING = re.compile(
    r"^\s{0,8}#\s{0,4}(?:packages in environment|Name\s{1,40}Version)|^\s{0,8}List of packages in environment"
)
_CONDA_ROW = re.compile(
    r"^\s{0,8}([a-z_][\w.-]{0,80})\s{1,60}(\d[\w.!+*-]{0,60}|\w{7,40})\s{1,60}([\w.<>*-]{1,100})(?:\s{1,60}(\S{1,100}))?\s*$"
)
_CONDA_EXPORT = re.compile(r"^\s{0,8}-?\s{0,4}([a-z_][\w.-]{0,80})=(\d[\w.!+-]{0,60})=([\w.]{1,100})\s*$")
_UV = re.compile(r"^\s{0,8}Using Python (\d\.\d{1,3}(?:\.\d{1,3})?) environment")
_ABOUT_ROWS = re.compile(r"^\s{0,8}(?:#|-{3,}|\u2500{3,}|Name\s{1,60}Version)")
_ABOUT = (_HEADING, _RULE, _CONDA_HEADING, _UV, _ABOUT_ROWS)
MOST_STRANGE = 2
SECOND = "a second list of the same kind was left out: give each environment's as a file of its own"
Matcher = Callable[[str], tuple[Distribution, ...]]


@dataclass(frozen=True)
class Row:
    """One distribution and the number of its line."""

    at: int
    distribution: Distribution


def recognises(lines: tuple[str, ...]) -> bool:
    """Tell whether a heading of pip or conda is in the text, or a run of lines that only such a list has."""
    return any(map(_HEADING.match, lines)) or any(map(_CONDA_HEADING.match, lines)) or len(_run(lines)) >= FEWEST


def read(lines: tuple[str, ...]) -> Reading:
    """Give the distributions that the lists name; a conda list's own Python is the environment's."""
    tables = [*_tables(lines, _HEADING, _pip_row), *_tables(lines, _CONDA_HEADING, _conda_row)]
    listed = {row.at for table in tables for row in table}
    frozen = [row for row in _frozen(lines) if row.at not in listed]
    kept = [row.distribution for table in _first_of_each(tables) for row in table]
    found = [*kept, *_once(frozen)]
    told = Told(source="the pasted package list", distributions=[d for d in found if d.name != "python"])
    told.python = next((d.version for d in found if d.name == "python" and d.source == "conda"), None)
    told.python = told.python or _python_of_uv(lines[: min(listed, default=0)])
    kinds = {"conda list" if d.source == "conda" else NAME for d in found}
    used = {n for n, line in enumerate(lines) if any(each.match(line) for each in _ABOUT)}
    remarks = () if len(_first_of_each(tables)) == len(tables) else (SECOND,)
    name = " and ".join(sorted(kinds)) or NAME
    return Reading(name, told.facts(), frozenset(used | listed | {row.at for row in frozen}), remarks)


def _python_of_uv(above: tuple[str, ...]) -> str | None:
    """Give the Python that uv names above its list."""
    return next((match.group(1) for match in map(_UV.match, above) if match), None)


def _first_of_each(tables: list[list[Row]]) -> list[list[Row]]:
    """Give the first of pip's tables and the first of conda's: a second one is another environment's."""
    return [each for n, each in enumerate(tables) if not n or _is_conda(each) != _is_conda(tables[n - 1])]


def _is_conda(table: list[Row]) -> bool:
    return any(row.distribution.source == "conda" for row in table)


def _once(rows: list[Row]) -> list[Distribution]:
    return list(dict.fromkeys(row.distribution for row in rows))


def _run(lines: tuple[str, ...]) -> list[int]:
    return [n for n, line in enumerate(lines) if "=" in line and (_FROZEN.match(line) or _CONDA_EXPORT.match(line))]


def _tables(lines: tuple[str, ...], heading: re.Pattern[str], row: Matcher) -> Iterator[list[Row]]:
    """Give each table under its own heading, to the first lines that are no rows of it.

    A line or two that are none may be the rest of one that was broken; after an empty line they are other words.
    """
    found: list[Row] | None = None
    strange, after_empty = 0, False
    for number, line in enumerate(lines):
        if heading.match(line):
            # Conda writes its heading on two lines.
            if found:
                yield found
            found, strange = [], 0
        elif found is not None and line.strip() and not _ABOUT_ROWS.match(line):
            told = row(line)
            if not told and found and found[-1].at == number - 1 and is_rest(line):
                told = row(f"{lines[number - 1]}  {line}")
                found = found[: -1 if told else None]
            strange = 0 if told else strange + 1
            found += [Row(number, each) for each in told]
            if not told and (after_empty or strange > MOST_STRANGE):
                yield found
                found = None
        after_empty = not line.strip()
    if found:
        yield found


def _pip_row(line: str) -> tuple[Distribution, ...]:
    match = _ROW.match(line)
    return (_of_pip(*match.groups()),) if match else ()


def _of_pip(name: str, version: str, location: str | None) -> Distribution:
    editable = bool(location and ("/" in location or "\\" in location) and "site-packages" not in location)
    return Distribution(normal(name), version, editable=editable, source="pip", built_for=_tag(version))


def _frozen(lines: tuple[str, ...]) -> Iterator[Row]:
    """Read requirements as ``pip freeze`` writes them, also those that name a file; conda's export lines too."""
    run = _run(lines)
    if len(run) < FEWEST:
        return
    for number in range(max(0, run[0] - 40), min(len(lines), run[-1] + 40)):
        line = lines[number]
        # A file's address is a long word, which a mail program puts on a line of its own.
        whole = f"{line} {lines[number + 1]}" if line.endswith(" @") and number + 1 < len(lines) else line
        if found := _pinned(whole):
            yield Row(number, found)


def _pinned(line: str) -> Distribution | None:
    if match := _FROZEN.match(line):
        name, version = match.groups()
        return Distribution(normal(name), version, source="pip", built_for=_tag(version))
    if (match := _DIRECT.match(line)) and match.group(2):
        version = match.group(2).replace("%2B", "+")
        return Distribution(normal(match.group(1)), version, source="pip", built_for=_tag(version))
    match = _CONDA_EXPORT.match(line)
    return Distribution(normal(match.group(1)), match.group(2), source="conda", build=match.group(3)) if match else None


def _conda_row(line: str) -> tuple[Distribution, ...]:
    match = _CONDA_ROW.match(line)
    return tuple(_of_conda(*match.groups())) if match else ()


def _of_conda(name: str, version: str, build: str, channel: str | None) -> Iterator[Distribution]:
    if {build, channel} & {"pypi", "<pip>", "pypi_0"}:
        yield Distribution(normal(name), version, source="pip", built_for=_tag(version))
    else:
        yield from conda_row(name, version, build, channel)


def _tag(version: str) -> str:
    return "+" + version.partition("+")[2] if "+" in version else ""
