"""Lock files: uv's, poetry's and pdm's own, and ``pylock.toml`` (PEP 751): exact versions, and where they come from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from envdoctor.facts.text import Requirement, Wanted
from envdoctor.readers.reading import Reading
from envdoctor.readers.toml import table, table_of, tables, word, words
from envdoctor.readers.versions import normal

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "lock file"
MOST = 5_000
MOST_WHEELS = 120
CUT = "it is not whole TOML, so it was read line by line: markers and wheels were not read"
_PACKAGE = re.compile(r"^\[\[packages?\]\]\s*$")
_NAME = re.compile(r'^name\s{0,4}=\s{0,4}"([\w.-]{1,80})"')
_VERSION = re.compile(r'^version\s{0,4}=\s{0,4}"([\w.!+-]{1,60})"')
_PYTHON = re.compile(r'^(?:requires-python|requires_python|python-versions)\s{0,4}=\s{0,4}"([^"]{1,60})"')
_REGISTRY = re.compile(r'registry\s{0,4}=\s{0,4}"([^"\s]{1,300})"|^(?:url|index)\s{0,4}=\s{0,4}"([^"\s]{1,300})"')
_WHEEL = re.compile(r"-(?:\d[\w.]{0,20}-)?([\w.]{2,80}-[\w.]{2,60}-[\w.]{2,200})\.whl$")
# Only of these the wheels are kept: they are made for one Python, one platform and one torch.
COMPILED = re.compile(
    r"(torch(vision|audio|text|ao|codec|data)?|triton(-windows|-rocm)?|xformers|flash-attn|vllm|bitsandbytes|numpy|apex"
    r"|onnxruntime(-gpu)?|sgl-kernel|deepspeed|transformer-engine.{0,20}|torch-.{1,40})$"
)


def recognises(lines: tuple[str, ...]) -> bool:
    """Tell whether packages are listed as tables, which have names."""
    return any(map(_PACKAGE.match, lines)) and any(map(_NAME.match, lines))


def read(lines: tuple[str, ...], source: str) -> Reading:
    """Give the exact packages, with their markers, indexes and wheels."""
    whole = table_of("\n".join(lines))
    wanted = _of_lines(lines, source) if whole is None else _of_table(whole, source)
    return Reading(NAME, (wanted,), frozenset(range(len(lines))), (CUT,) if whole is None else ())


def _of_table(whole: dict[str, Any], source: str) -> Wanted:
    packages = tables(whole.get("packages") or whole.get("package"))
    tool, reader = _tool_of(whole)
    rows = tuple(row for each in packages for row in reader(each, packages, source))
    python = word(whole.get("requires-python")) or word(table(whole, "metadata").get("requires_python"))
    python = python or word(table(whole, "metadata").get("python-versions"))
    indexes = tuple(dict.fromkeys(row.index for row in rows if row.index))
    return Wanted(
        requirements=rows[:MOST], indexes=indexes[:20], python=python or None, locked=True, files=(source,),
        kinds=("lock",), tools=(tool,) if tool else (),
    )  # fmt: skip


def _tool_of(whole: dict[str, Any]) -> tuple[str, Any]:
    """Tell whose lock it is by the keys that only one of them writes."""
    if "lock-version" in whole:
        return word(whole.get("created-by")).split(" ")[0][:20], _of_pylock
    if "content-hash" in table(whole, "metadata") and "lock-version" in table(whole, "metadata"):
        return "poetry", _of_poetry
    if "lock_version" in table(whole, "metadata"):
        return "pdm", _of_poetry
    return "uv", _of_uv


def _of_pylock(each: dict[str, Any], _: list[dict[str, Any]], source: str) -> Iterator[Requirement]:
    yield from _row(each, source, word(each.get("marker")), word(each.get("index")))


def _of_uv(each: dict[str, Any], packages: list[dict[str, Any]], source: str) -> Iterator[Requirement]:
    """Read one of uv's: a package that is there twice is chosen by the markers of its forks, or of who asks for it."""
    index = word(table(each, "source").get("registry"))
    if any(key in table(each, "source") for key in ("virtual", "editable", "workspace")):
        return
    forks = words(each.get("resolution-markers") or [])
    same = sum(word(other.get("name")) == word(each.get("name")) for other in packages)
    markers = forks if forks or same == 1 else _asked_with(each, packages)
    yield from _row(each, source, " or ".join(f"({marker})" for marker in markers if marker), index)


def _asked_with(each: dict[str, Any], packages: list[dict[str, Any]]) -> tuple[str, ...]:
    """Give the markers with which others ask for this version; none when one of them asks in any case."""
    found: list[str] = []
    for other in packages:
        extras = [*table(other, "optional-dependencies").values(), *table(other, "dev-dependencies").values()]
        for edge in (*tables(other.get("dependencies")), *(one for extra in extras for one in tables(extra))):
            if (edge.get("name"), edge.get("version")) == (each.get("name"), each.get("version")):
                found += [word(edge.get("marker"))]
    return tuple(dict.fromkeys(found)) if all(found) else ()


def _of_poetry(each: dict[str, Any], _: list[dict[str, Any]], source: str) -> Iterator[Requirement]:
    marker = each.get("markers") or each.get("marker")
    if isinstance(marker, dict):  # by the group that asks
        marker = " or ".join(f"({word(one)})" for one in marker.values() if word(one)) if all(marker.values()) else ""
    if each.get("optional") is not True:
        yield from _row(each, source, word(marker), word(table(each, "source").get("url")))


def _row(each: dict[str, Any], source: str, marker: str, index: str) -> Iterator[Requirement]:
    name, version = word(each.get("name")), word(each.get("version"))
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,80}", name) or not re.fullmatch(r"[\w.!+-]{1,60}", version):
        return
    found = tables(each.get("wheels") or each.get("files"))
    files = [word(one.get("name")) or word(one.get("file")) or word(one.get("url")) for one in found]
    sdist = "sdist" in each or any(one.endswith((".tar.gz", ".zip")) for one in files)
    told = bool(files) or "sdist" in each
    tags = _tags(files) if COMPILED.match(normal(name)) else ()
    yield Requirement(
        normal(name), f"=={version}", marker, kind="pip", source=f"{source}: {name}", index=index, wheels=tags,
        has_sdist=sdist if told else None,
    )  # fmt: skip


def _tags(files: list[str]) -> tuple[str, ...]:
    found = (_WHEEL.search(each.partition("#")[0]) for each in files)
    return tuple(dict.fromkeys(match.group(1) for match in found if match))[:MOST_WHEELS]


def _of_lines(lines: tuple[str, ...], source: str) -> Wanted:
    """Read what is left of a lock that was cut or damaged."""
    rows: list[Requirement] = []
    name, python = "", None
    indexes: dict[str, None] = {}
    for line in lines[: MOST * 40]:
        if _PACKAGE.match(line):
            name = ""
        elif match := _NAME.match(line):
            name = match.group(1)
        elif name and (match := _VERSION.match(line)):
            rows.append(Requirement(normal(name), f"=={match.group(1)}", source=f"{source}: {name}"))
            name = ""
        elif python is None and (match := _PYTHON.match(line)):
            python = match.group(1)
        elif match := _REGISTRY.search(line):
            indexes.setdefault(match.group(1) or match.group(2))
    return Wanted(
        requirements=tuple(rows[:MOST]), indexes=tuple(indexes)[:20], python=python, locked=True, files=(source,),
        kinds=("lock",),
    )  # fmt: skip
