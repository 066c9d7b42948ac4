"""``pyproject.toml``: what a project asks for, by PEP 621, dependency groups, uv's sources, and poetry's own tables."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from envdoctor.facts.text import Requirement, Wanted
from envdoctor.readers.reading import Reading
from envdoctor.readers.requirements import one
from envdoctor.readers.toml import table, table_of, tables, word, words
from envdoctor.readers.versions import normal

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "pyproject.toml"
CUT = "it is not whole TOML: nothing of it was read"
TABLES = frozenset({"[project]", "[tool.poetry]", "[tool.poetry.dependencies]", "[dependency-groups]"})
GROUPS = ("dev", "train", "gpu", "cuda")  # of dependency-groups, those that a trainer installs
_CARET = re.compile(r"\^\s{0,4}(\d{1,6}(?:\.\d{1,6}){0,3})$")
_TILDE = re.compile(r"~\s{0,4}(\d{1,6}(?:\.\d{1,6}){0,3})$")
_REVERSED = re.compile(r"(\w{1,40})\s{0,4}(==|!=)\s{0,4}('[^'\"]{0,60}'|\"[^'\"]{0,60}\")")
_BARE = re.compile(r"\d[\w.+*-]{0,40}$")


def recognises(lines: tuple[str, ...]) -> bool:
    """Tell whether a table of dependencies' owners is in the text."""
    return any(line.strip() in TABLES for line in lines)


def read(lines: tuple[str, ...], source: str) -> Reading:
    """Give what the project's own dependencies ask for; optional extras are left out, and that is said."""
    whole = table_of("\n".join(lines))
    if whole is None:
        return Reading(NAME, (Wanted(files=(source,), kinds=("pyproject",)),), frozenset(range(len(lines))), (CUT,))
    poetry = table(whole, "tool", "poetry")
    rows = [*_of_project(whole, source), *_of_poetry(poetry, source)]
    places = _places(whole, poetry)
    rows = [placed for row in rows for placed in _placed(row, places)]
    tools = [name for name in ("uv", "poetry", "pdm", "hatch") if name in table(whole, "tool")]
    wanted = Wanted(
        requirements=tuple(rows), python=_python(whole, poetry), files=(source,), kinds=("pyproject",),
        tools=tuple(tools), indexes=_general(whole, poetry),
    )  # fmt: skip
    extras = table(whole, "project", "optional-dependencies")
    remarks = (f"its optional dependencies ({', '.join(map(str, list(extras)[:5]))}) were left out",) if extras else ()
    return Reading(NAME, (wanted,), frozenset(range(len(lines))), remarks)


def _of_project(whole: dict[str, Any], source: str) -> Iterator[Requirement]:
    for text in words(table(whole, "project").get("dependencies") or []):
        yield from one(text, f"{source}: dependencies")
    for group in GROUPS:
        for text in words(table(whole, "dependency-groups").get(group) or []):
            yield from one(text, f"{source}: group {group}")


def _of_poetry(poetry: dict[str, Any], source: str) -> Iterator[Requirement]:
    for name, value in table(poetry, "dependencies").items():
        for each in value if isinstance(value, list) else [value]:
            if name != "python":
                yield from _poetry_row(str(name), each, source)


def _poetry_row(name: str, value: Any, source: str) -> Iterator[Requirement]:
    told = value if isinstance(value, dict) else {"version": value}
    if told.get("optional") is True or not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,80}", name):
        return
    yield Requirement(
        normal(name), _specifier(word(told.get("version"))), word(told.get("markers")), words(told.get("extras") or []),
        url=word(told.get("url")) or word(told.get("git")), source=f"{source}: {name}", index=word(told.get("source")),
    )  # fmt: skip


def _specifier(text: str) -> str:
    """Turn poetry's own signs into a specifier: ``^2.3`` -> ``>=2.3,<3``; ``~2.3`` -> ``>=2.3,<2.4``."""
    found = [_one_specifier(part.strip()) for part in text.split(",")[:8]]
    return ",".join(part for part in found if part)


def _one_specifier(text: str) -> str:
    if match := _CARET.match(text):
        parts = [int(part) for part in match.group(1).split(".")]
        keep = next((n for n, part in enumerate(parts) if part), len(parts) - 1)
        return f">={match.group(1)},<{'.'.join(map(str, (*parts[:keep], parts[keep] + 1)))}"
    if match := _TILDE.match(text):
        parts = [int(part) for part in match.group(1).split(".")][:2]
        return f">={match.group(1)},<{'.'.join(map(str, (*parts[:-1], parts[-1] + 1)))}"
    if text == "*":
        return ""
    return f"=={text}" if _BARE.match(text) else text.replace(" ", "")


def _places(whole: dict[str, Any], poetry: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Give, by package or by the name of a source, the indexes that the project names, each with its marker."""
    urls = {word(each.get("name")): word(each.get("url")) for each in tables(table(whole, "tool", "uv").get("index"))}
    urls |= {word(each.get("name")): word(each.get("url")) for each in tables(poetry.get("source"))}
    found = {name: [(url, "")] for name, url in urls.items() if name}
    for name, value in table(whole, "tool", "uv", "sources").items():
        several = tables(value) if isinstance(value, list) else [value] if isinstance(value, dict) else []
        always = [each for each in several if not each.get("extra") and each.get("group") in (None, *GROUPS)]
        rows = [(urls.get(word(each.get("index")), ""), word(each.get("marker"))) for each in always]
        found[f"of {normal(str(name))}"] = [row for row in rows if row[0]]
    return found


def _placed(row: Requirement, places: dict[str, list[tuple[str, str]]]) -> Iterator[Requirement]:
    """Say where a requirement comes from: of several places by marker each, and what none of them is for."""
    found = places.get(f"of {row.name}") or places.get(row.index) or [("", "")]
    for url, marker in found:
        yield replace(row, index=url, marker=_both(row.marker, marker))
    others = [_REVERSED.fullmatch(marker.strip()) for _, marker in found]
    if all(others):
        rest = " and ".join(f"{one[1]} {'!=' if one[2] == '==' else '=='} {one[3]}" for one in others if one)
        yield replace(row, index="", marker=_both(row.marker, rest))


def _both(one: str, other: str) -> str:
    return f"({one}) and ({other})" if one and other else one or other


def _general(whole: dict[str, Any], poetry: dict[str, Any]) -> tuple[str, ...]:
    """Give the indexes that are asked for every package: those that are not explicit."""
    named = [*tables(table(whole, "tool", "uv").get("index")), *tables(poetry.get("source"))]
    free = [each for each in named if not each.get("explicit") and each.get("priority") != "explicit"]
    extra = words(table(whole, "tool", "uv").get("extra-index-url") or [])
    return tuple(dict.fromkeys((*(word(each.get("url")) for each in free if word(each.get("url"))), *extra)))[:20]


def _python(whole: dict[str, Any], poetry: dict[str, Any]) -> str | None:
    told = word(table(whole, "project").get("requires-python"))
    return told or _specifier(word(table(poetry, "dependencies").get("python"))) or None
