"""``pip list``, ``pip freeze``, ``uv pip list``, ``conda list``: what is installed, in columns or as requirements."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envdoctor.facts.packages import Distribution
from envdoctor.readers.listed import conda_row
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
    r"(?:[/-](\d+(?:\.\d+){1,3}[\w.+%]{0,30}?)-(?:py|cp)\S{0,80})?\s*$"
)
_CONDA_HEADING = re.compile(
    r"^\s{0,8}#\s{0,4}(?:packages in environment|Name\s{1,40}Version)|^\s{0,8}List of packages in environment"
)
_CONDA_ROW = re.compile(
    r"^\s{0,8}([a-z_][\w.-]{0,80})\s{1,60}(\d[\w.!+*-]{0,60}|\w{7,40})\s{1,60}([\w.<>*-]{1,100})(?:\s{1,60}(\S{1,100}))?\s*$"
)
_CONDA_EXPORT = re.compile(r"^\s{0,8}-?\s{0,4}([a-z_][\w.-]{0,80})=(\d[\w.!+-]{0,60})=([\w.]{1,100})\s*$")
_PYTHON = re.compile(r"site-packages|python(\d\.\d{1,2})/")


def recognises(lines: tuple[str, ...]) -> bool:
    """Tell whether a heading of pip or conda is in the text, or a run of lines that only such a list has."""
    return any(map(_HEADING.match, lines)) or any(map(_CONDA_HEADING.match, lines)) or len(_run(lines)) >= FEWEST


def read(lines: tuple[str, ...]) -> Reading:
    """Give the distributions that the lists name; a conda list's own Python is the environment's."""
    rows = [*_under_headings(lines), *_conda(lines)]
    listed = {at for at, _ in rows}
    rows += [(n, d) for n, d in _frozen(lines) if n not in listed]
    found = [each for _, each in rows]
    told = Told(source="the pasted package list", distributions=[d for d in found if d.name != "python"])
    told.python = next((d.version for d in found if d.name == "python" and d.source == "conda"), None)
    kinds = {"conda list" if d.source == "conda" else NAME for d in found}
    headings = {
        n for n, line in enumerate(lines) if _HEADING.match(line) or _CONDA_HEADING.match(line) or _RULE.match(line)
    }
    return Reading(" and ".join(sorted(kinds)) or NAME, told.facts(), frozenset({at for at, _ in rows} | headings))


def _run(lines: tuple[str, ...]) -> list[int]:
    return [n for n, line in enumerate(lines) if "=" in line and (_FROZEN.match(line) or _CONDA_EXPORT.match(line))]


def _under_headings(lines: tuple[str, ...]) -> Iterator[tuple[int, Distribution]]:
    """Read pip's columns: from a heading to the first line that is no row."""
    inside = False
    for number, line in enumerate(lines):
        if _HEADING.match(line):
            inside = True
        elif inside and not _RULE.match(line) and line.strip():
            match = _ROW.match(line)
            inside = match is not None
            if match:
                yield number, _of_pip(*match.groups())


def _of_pip(name: str, version: str, location: str | None) -> Distribution:
    editable = bool(location and ("/" in location or "\\" in location) and "site-packages" not in location)
    return Distribution(normal(name), version, editable=editable, source="pip", built_for=_tag(version))


def _frozen(lines: tuple[str, ...]) -> Iterator[tuple[int, Distribution]]:
    """Read requirements as ``pip freeze`` writes them, also those that name a file; conda's export lines too."""
    run = _run(lines)
    if len(run) < FEWEST:
        return
    for number in range(max(0, run[0] - 40), min(len(lines), run[-1] + 40)):
        line = lines[number]
        if match := _FROZEN.match(line):
            yield (
                number,
                Distribution(normal(match.group(1)), match.group(2), source="pip", built_for=_tag(match.group(2))),
            )
        elif (match := _DIRECT.match(line)) and match.group(2):
            version = match.group(2).replace("%2B", "+")
            yield number, Distribution(normal(match.group(1)), version, source="pip", built_for=_tag(version))
        elif match := _CONDA_EXPORT.match(line):
            yield number, Distribution(normal(match.group(1)), match.group(2), source="conda", build=match.group(3))


def _conda(lines: tuple[str, ...]) -> Iterator[tuple[int, Distribution]]:
    """Read conda's columns: from a heading to the first line that is no row."""
    inside = False
    for number, line in enumerate(lines):
        if _CONDA_HEADING.match(line):
            inside = True
        elif inside and line.strip() and not line.lstrip().startswith(("#", "-", "\u2500")):
            match = _CONDA_ROW.match(line)
            inside = match is not None or bool(re.match(r"\s*Name\s+Version", line))
            if match:
                yield from ((number, each) for each in _of_conda(*match.groups()))


def _of_conda(name: str, version: str, build: str, channel: str | None) -> Iterator[Distribution]:
    if {build, channel} & {"pypi", "<pip>", "pypi_0"}:
        yield Distribution(normal(name), version, source="pip", built_for=_tag(version))
    else:
        yield from conda_row(name, version, build, channel)


def _tag(version: str) -> str:
    return "+" + version.partition("+")[2] if "+" in version else ""
