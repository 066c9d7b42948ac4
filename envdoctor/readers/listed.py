"""``[pip3] name==version`` and ``[conda] name version build channel``: the package lines of environment reports."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envdoctor.facts.packages import Distribution
from envdoctor.readers.versions import normal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PIP = re.compile(
    r"^\s{0,20}[-*]?\s{0,4}\[pip[23]?\]\s+([\w.-]{1,100})\s{0,20}(?:===?|\(|\s)\s{0,20}v?(\d[^\s()]{0,100})\)?"
    r"(?: and (\d\S{0,60}))?"
)
_CONDA = re.compile(
    r"^\s{0,20}[-*]?\s{0,4}\[conda\]\s+([\w.-]{1,100})\s+(\d\S{0,100})(?:\s+(\S{1,100}))?(?:\s+(?:\[[^\]]{0,60}\]\s+)?(\S{1,100}))?"
)
_REST = re.compile(
    r"^(?:(?=\S{0,100}_)(?=\S{0,100}\d)\w[\w.]{1,100}(?:\s{1,60}[\w.-]{1,100})?|(?:conda-forge|pytorch|pytorch-nightly|nvidia"
    r"|pypi|defaults|anaconda|intel|bioconda|fastai|huggingface|rapidsai))$"
)
_OF_PIP = frozenset({"pypi", "<pip>", "pypi_0", "<develop>", "dev_0"})


def bracketed(lines: Iterable[str]) -> Iterator[Distribution]:
    """Give the distributions that a report lists; those that conda only repeats from pip come once."""
    lines = tuple(lines)
    for number, line in enumerate(lines):
        if "[" not in line:
            continue
        if match := _PIP.match(line):
            name, *versions = match.groups()
            yield from (Distribution(normal(name), v, source="pip", built_for=_tag(v)) for v in versions if v)
        elif match := _CONDA.match(line):
            below = lines[number + 1] if number + 1 < len(lines) else ""
            whole = _CONDA.match(f"{line}  {below}") if match.group(4) is None and is_rest(below) else None
            yield from conda_row(*(whole or match).groups())


def is_rest(line: str) -> bool:
    """Tell what may be the end of a row that was broken before its build or channel."""
    return _REST.match(line) is not None


def conda_row(name: str, version: str, build: str | None, channel: str | None) -> Iterator[Distribution]:
    """Give a row of conda's list, unless pip installed it: pip's own list says so better."""
    if not {build, channel} & _OF_PIP:
        yield Distribution(normal(name), version, source="conda", build=build or "", channel=channel or "")


def _tag(version: str) -> str:
    return "+" + version.partition("+")[2] if "+" in version else ""
