"""What would be installed: ``requirements.txt``, uv's and poetry's lock, ``pyproject.toml``, ``environment.yml``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envdoctor.facts.text import Requirement, Wanted
from envdoctor.readers.reading import Reading
from envdoctor.readers.versions import normal

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "requirements"
NAMES = re.compile(
    r"(?:^|[/\\])(?:[\w.-]{0,60}requirements?[\w.-]{0,60}\.(?:txt|in)|constraints?[\w.-]{0,40}\.txt|(?:uv|poetry|pdm)\.lock|environment[\w.-]{0,40}\.ya?ml|pyproject\.toml)$",
    re.IGNORECASE,
)
MOST = 5_000
_OPTION = re.compile(r"^\s{0,8}(?:-i|--index-url|--extra-index-url|-f|--find-links)[ =]\s{0,4}(\S{1,300})")
_LINE = re.compile(
    r"^\s{0,8}([A-Za-z][\w.-]{0,80})\s{0,4}(?:\[([\w, -]{1,100})\])?\s{0,4}"
    r"((?:(?:===|==|>=|<=|~=|!=|>|<)\s{0,4}[\w.!+*-]{1,60}(?:\s{0,4},)?\s{0,4}){0,8})(?:;\s{0,4}(.{1,300}?))?\s{0,20}(?:\\|--hash\S{0,200}|#.{0,200})?$"
)
_DIRECT = re.compile(r"^\s{0,8}([A-Za-z][\w.-]{0,80})(?:\[[\w, -]{1,100}\])?\s{0,4}@\s{0,4}(\S{1,400})")
_PACKAGE = re.compile(r"^\[\[package\]\]\s*$")
_NAME = re.compile(r'^name\s{0,4}=\s{0,4}"([\w.-]{1,80})"')
_VERSION = re.compile(r'^version\s{0,4}=\s{0,4}"([\w.!+-]{1,60})"')
_PYTHON = re.compile(r'^(?:requires-python|python-versions|python)\s{0,4}=\s{0,4}"([^"]{1,60})"')
_REGISTRY = re.compile(r'registry\s{0,4}=\s{0,4}"([^"\s]{1,300})"|^url\s{0,4}=\s{0,4}"([^"\s]{1,300})"')
_YAML_KEY = re.compile(r"^(name|channels|dependencies|prefix):")
_YAML_ITEM = re.compile(r"^\s{0,12}-\s{1,4}[\"']?([^\"'#\n]{1,200}?)[\"']?\s{0,20}(?:#.{0,200})?$")
_CONDA = re.compile(
    r"^(?:([\w.-]{1,60})::)?([a-z_][\w.-]{0,80})\s{0,4}((?:[=<>!~]{1,3}\s{0,4}[\w.*+!-]{1,60},?){0,4})(?:=([\w.*]{1,60}))?$"
)
_ARRAY = re.compile(r'"([A-Za-z][\w.-]{0,80}(?:\[[\w, -]{1,100}\])?[^"]{0,200})"')


def recognises(lines: tuple[str, ...], source: str = "") -> bool:
    """Tell a file of things to install from a list of what is installed: by its options, ranges, keys, or its name."""
    return kind(lines, source) != ""


def kind(lines: tuple[str, ...], source: str = "") -> str:
    """Say which kind of file it is: lock, conda, pyproject, requirements, or nothing."""
    if any(map(_PACKAGE.match, lines)) and any(map(_NAME.match, lines)):
        return "lock"
    keys = {match.group(1) for match in map(_YAML_KEY.match, lines) if match}
    if "dependencies" in keys:
        return "conda"
    if any(line.strip() in {"[project]", "[tool.poetry]", "[tool.poetry.dependencies]"} for line in lines):
        return "pyproject"
    options = any(map(_OPTION.match, lines)) or any(
        re.match(r"\s{0,8}# {1,4}via\b|\s{0,8}-r \S", line) for line in lines
    )
    matched = [match for match in map(_LINE.match, lines) if match and match.group(3)]
    ranges = [match for match in matched if not re.match(r"={2,3}[^=]", match.group(3)) or match.group(4)]
    filled = sum(bool(line.strip()) and not line.lstrip().startswith(("#", "-", "\\")) for line in lines)
    mostly = filled > 0 and len(matched) >= filled * 0.6
    if (mostly and (options or ranges)) or (NAMES.search(source) and matched):
        return "requirements"
    return ""


def read(lines: tuple[str, ...], source: str = "") -> Reading:
    """Give what the file would install."""
    which = kind(lines, source)
    wanted = _READ[which](lines, source or "the given file")
    return Reading(
        {"lock": "lock file", "conda": "conda environment"}.get(which, NAME), (wanted,), frozenset(range(len(lines)))
    )


def _requirements(lines: tuple[str, ...], source: str) -> Wanted:
    rows: list[Requirement] = []
    for number, line in enumerate(lines[:MOST], 1):
        rows += one(line, f"{source} line {number}")
    indexes = tuple(dict.fromkeys(m.group(1) for m in map(_OPTION.match, lines[:MOST]) if m))
    pinned = bool(rows) and all(each.specifier.startswith("==") or each.url for each in rows)
    return Wanted(requirements=tuple(rows), indexes=indexes, locked=pinned)


def one(line: str, source: str) -> Iterator[Requirement]:
    """Read one requirement as pip understands it."""
    if line.lstrip().startswith(("#", "-")) or not line.strip():
        return
    if direct := _DIRECT.match(line):
        yield Requirement(normal(direct.group(1)), url=direct.group(2), source=source)
    elif match := _LINE.match(line):
        name, extras, specifier, marker = match.groups()
        words = tuple(each.strip() for each in (extras or "").split(",") if each.strip())
        yield Requirement(
            normal(name), re.sub(r"\s", "", specifier).rstrip(","), (marker or "").strip(), words, source=source
        )


def _lock(lines: tuple[str, ...], source: str) -> Wanted:
    rows: list[Requirement] = []
    name, python = "", None
    indexes: dict[str, None] = {}
    for line in lines[: MOST * 40]:
        if _PACKAGE.match(line):
            name = ""
        elif match := _NAME.match(line):
            name = match.group(1)
        elif name and (match := _VERSION.match(line)):
            rows.append(Requirement(normal(name), f"=={match.group(1)}", source=source))
            name = ""
        elif python is None and (match := _PYTHON.match(line)):
            python = match.group(1)
        elif match := _REGISTRY.search(line):
            indexes.setdefault(match.group(1) or match.group(2))
    return Wanted(requirements=tuple(rows[:MOST]), indexes=tuple(indexes)[:20], python=python, locked=True)


def _conda(lines: tuple[str, ...], source: str) -> Wanted:
    channels: list[str] = []
    rows: list[Requirement] = []
    key, pip = "", False
    for number, line in enumerate(lines[:MOST], 1):
        if match := _YAML_KEY.match(line):
            key, pip = match.group(1), False
        elif match := _YAML_ITEM.match(line):
            item = match.group(1).strip()
            at = f"{source} line {number}"
            if key == "channels":
                channels.append(item)
            elif key == "dependencies" and re.fullmatch(r"pip\s{0,4}:", item):
                pip = True
            elif key == "dependencies":
                rows += one(item, at) if pip and line[:3].isspace() else _conda_spec(item, at)
    python = next((each.specifier.lstrip("=") for each in rows if each.name == "python" and each.kind == "conda"), None)
    return Wanted(requirements=tuple(rows), channels=tuple(channels[:40]), python=python)


def _conda_spec(item: str, source: str) -> Iterator[Requirement]:
    if match := _CONDA.match(item):
        channel, name, specifier, build = match.groups()
        marker = " ".join(filter(None, [f"channel {channel}" if channel else "", f"build {build}" if build else ""]))
        yield Requirement(normal(name), specifier, marker, kind="conda", source=source)


def _pyproject(lines: tuple[str, ...], source: str) -> Wanted:
    rows: list[Requirement] = []
    python, inside = None, False
    for number, line in enumerate(lines[:MOST], 1):
        if re.match(r"\s{0,8}(?:dependencies|[\w-]{1,40})\s{0,4}=\s{0,4}\[", line):
            inside = line.lstrip().startswith("dependencies")
        if inside:
            rows += [each for text in _ARRAY.findall(line) for each in one(text, f"{source} line {number}")]
            inside = "]" not in re.sub(r'"[^"]{0,300}"', "", line)
        elif python is None and (match := _PYTHON.match(line)):
            python = match.group(1)
        elif match := re.match(r'([a-z][\w.-]{0,80})\s{0,4}=\s{0,4}"([\^~=<>!]{0,2}\d[\w.*,<>=! ]{0,60})"', line):
            specifier = match.group(2)
            rows.append(
                Requirement(
                    normal(match.group(1)),
                    specifier if specifier[0] in "=<>!~" else f">={specifier.lstrip('^')}",
                    source=f"{source} line {number}",
                )
            )
    return Wanted(requirements=tuple(r for r in rows if r.name not in {"version", "python"}), python=python)


_READ = {"lock": _lock, "conda": _conda, "pyproject": _pyproject, "requirements": _requirements}
