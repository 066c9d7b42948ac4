"""``environment.yml`` of conda: the plain shape that such files have, read without a YAML library.

One key or list item a line, flow lists on one line, comments, quotes. What is written otherwise is said, not guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from envdoctor.facts.text import Requirement, Wanted
from envdoctor.readers.reading import Reading
from envdoctor.readers.requirements import one
from envdoctor.readers.versions import normal

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "conda environment"
MOST = 5_000
MOST_NAMED = 5
_KEY = re.compile(r"^(name|channels|dependencies|prefix|variables|platforms)\s{0,4}:\s{0,8}(.{0,1900})$")
_FLOW = re.compile(r"^\[(.{0,1800})\]$")
_ITEM = re.compile(r"^(\s{0,40})-\s{1,8}(\S.{0,1900})$")
_PIP = re.compile(r"^[\"']?pip[\"']?\s{0,4}:\s{0,4}(.{0,1800})$")
_INDEX = re.compile(r"^(?:-i|--index-url|--extra-index-url|-f|--find-links)[ =]\s{0,4}(\S{1,300})$")
_SPEC = re.compile(
    r"^(?:([\w./-]{1,60})::)?([A-Za-z_][\w.-]{0,80})(?:\[.{0,200}\])?"
    r"(?:\s{0,4}((?:(?<=\s)|[=<>!~]{1,3})\s{0,2}\d[\w.*+!]{0,60}"
    r"(?:\s{0,2}[,|]\s{0,2}(?:[=<>!~]{1,3})?\s{0,2}\d[\w.*+!]{0,60}){0,5})(?:\s{0,2}=\s{0,2}|\s{1,4})?([\w.*]{1,80})?)?$"
)


@dataclass
class _Found:
    """What was read so far."""

    channels: list[str] = field(default_factory=list)
    rows: list[Requirement] = field(default_factory=list)
    indexes: list[str] = field(default_factory=list)
    instead: bool = False
    strange: list[str] = field(default_factory=list)


def recognises(lines: tuple[str, ...]) -> bool:
    """Tell whether there is a key of dependencies, beside another key or below which a list begins."""
    keys = {match.group(1) for match in map(_KEY.match, lines) if match}
    return "dependencies" in keys and (len(keys) > 1 or any(map(_ITEM.match, lines)))


def read(lines: tuple[str, ...], source: str) -> Reading:
    """Give channels, conda's packages and those for pip."""
    found = _Found()
    key, pip_at = "", -1
    for number, line in enumerate(lines[:MOST], 1):
        bare = _uncommented(line)
        at = f"{source} line {number}"
        if match := _KEY.match(bare):
            key, pip_at = match.group(1), -1
            _flow(found, key, match.group(2).strip(), at)
        elif match := _ITEM.match(bare):
            indent, item = len(match.group(1)), _unquoted(match.group(2))
            pip_at = -1 if indent <= pip_at else pip_at
            if key == "dependencies" and (pip := _PIP.match(item)):
                pip_at = indent
                _items(found, "pip", pip.group(1).strip(), at)
            else:
                _take(found, "pip" if pip_at >= 0 else key, item, at)
        elif bare.strip() and key in {"channels", "dependencies"}:
            found.strange.append(f"line {number}")
    return Reading(NAME, (_wanted(found, source),), frozenset(range(len(lines))), _remarks(found))


def _uncommented(line: str) -> str:
    return re.sub(r"(?:^|\s)#.{0,1900}$", "", line).rstrip() if "#" in line else line.rstrip()


def _unquoted(item: str) -> str:
    item = item.strip()
    return item[1:-1] if len(item) > 1 and item[0] == item[-1] and item[0] in "\"'" else item


def _flow(found: _Found, key: str, value: str, at: str) -> None:
    if value and key in {"channels", "dependencies"}:
        _items(found, key, value, at)


def _items(found: _Found, key: str, value: str, at: str) -> None:
    """Read a list on one line: ``[pytorch, nvidia]``."""
    if not value:
        return
    match = _FLOW.match(value)
    for item in match.group(1).split(",")[:200] if match else ():
        _take(found, key, _unquoted(item), at)
    if match is None:
        found.strange.append(at)


def _take(found: _Found, key: str, item: str, at: str) -> None:
    if key == "channels":
        found.channels.append(item[:200])
    elif key == "pip":
        if match := _INDEX.match(item):
            found.indexes.append(match.group(1))
            found.instead |= item.startswith(("-i", "--index-url"))
        elif item.startswith("-"):
            found.strange.append(at)
        else:
            _add(found, tuple(one(item, at)), at)
    elif key == "dependencies":
        _add(found, tuple(conda_spec(item, at)), at)


def _add(found: _Found, rows: tuple[Requirement, ...], at: str) -> None:
    found.rows += rows
    found.strange += [] if rows else [at]


def conda_spec(item: str, source: str) -> Iterator[Requirement]:
    """Read ``channel::name=version=build``; conda's single ``=`` is a prefix."""
    if match := _SPEC.match(item):
        channel, name, version, build = match.groups()
        marker = " ".join(filter(None, [f"channel {channel}" if channel else "", f"build {build}" if build else ""]))
        yield Requirement(normal(name), specifier_of(version or ""), marker, kind="conda", source=source)


def specifier_of(text: str) -> str:
    """Turn conda's own signs into a specifier: ``=2.5`` and ``2.5`` -> ``==2.5.*``, ``==2.5.1`` as it is."""
    parts = re.sub(r"\s", "", text).replace("|", ",").strip(",").split(",")
    return ",".join(_one_specifier(part) for part in parts[:6] if part)


def _one_specifier(part: str) -> str:
    version = part.lstrip("=")
    if part.startswith(("==", "<", ">", "!", "~")):
        return part
    return f"=={version}" if version.endswith("*") or version.count(".") > 1 else f"=={version}.*"


def _wanted(found: _Found, source: str) -> Wanted:
    python = next((row.specifier for row in found.rows if row.name == "python" and row.kind == "conda"), None)
    return Wanted(
        requirements=tuple(row for row in found.rows if row.name != "python")[:MOST],
        channels=tuple(found.channels[:40]), indexes=tuple(dict.fromkeys(found.indexes))[:20], python=python,
        files=(source,), kinds=("conda",),
        tools=("conda",), replaces_index=found.instead if found.indexes else None,
    )  # fmt: skip


def _remarks(found: _Found) -> tuple[str, ...]:
    if not found.strange:
        return ()
    more = " and more" if len(found.strange) > MOST_NAMED else ""
    return (f"not understood: {', '.join(found.strange[:MOST_NAMED])}{more}",)
