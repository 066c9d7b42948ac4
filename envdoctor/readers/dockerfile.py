"""A Dockerfile: the image that it starts from, the variables that it sets, and what its ``RUN`` lines would install."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from envdoctor.facts.host import Variable
from envdoctor.facts.text import Requirement, Wanted
from envdoctor.readers.conda_environment import conda_spec
from envdoctor.readers.reading import Reading
from envdoctor.readers.requirements import one

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "Dockerfile"
MOST_STAGES, MOST_LENGTH = 50, 20_000
_FROM = re.compile(
    r"^\s{0,8}FROM\s{1,8}(?:--platform=\S{1,60}\s{1,8})?([\w./:@${}-]{1,300})(?:\s{1,8}AS\s{1,8}(\S{1,100}))?\s*$",
    re.IGNORECASE,
)
_INSTRUCTION = re.compile(
    r"^\s{0,8}(FROM|RUN|ENV|ARG|COPY|WORKDIR|CMD|ENTRYPOINT|LABEL|USER|SHELL|EXPOSE|ADD|VOLUME)\s", re.IGNORECASE
)
_ENV = re.compile(r"""([A-Za-z_]\w{0,80})=("[^"]{0,500}"|'[^']{0,500}'|\S{0,500})""")
_OLD_ENV = re.compile(r"^\s{0,8}ENV\s{1,8}([A-Za-z_]\w{0,80})\s{1,8}([^=\s]\S{0,500})\s*$", re.IGNORECASE)
_ARG = re.compile(r"^\s{0,8}ARG\s{1,8}(\w{1,80})=(\S{0,300})", re.IGNORECASE)
_COPIED = re.compile(r"^\s{0,8}COPY\s{1,8}(?:--\w{1,20}=\S{1,60}\s{1,8}){0,3}?--from=(\S{1,100})", re.IGNORECASE)
_COMMAND = re.compile(
    r"(?:^|[\s/])(pip3?|uv\s{1,4}pip|uv|conda|mamba|micromamba)(?:\d[\d.]{0,6})?\s{1,4}(install|sync|create|env\s{1,4}\w{4,6})\b"
)
_SEVERAL = re.compile(r"&&|;|\|\|?")
_WITH_VALUE = frozenset({
    "-i", "--index-url", "--extra-index-url", "-f", "--find-links", "-r", "--requirement", "-c", "--constraint",
    "--target", "-t", "-n", "--name", "-p", "--python", "--platform", "--prefix", "--channel", "--cache-dir",
    "--timeout", "--file", "--index", "--default-index",
})  # fmt: skip
_INSTEAD = frozenset({"-i", "--index-url", "--default-index"})
_BESIDE = frozenset({"--extra-index-url", "-f", "--find-links", "--index"})
_FILES = frozenset({"-r", "--requirement", "-c", "--constraint", "--file"})


@dataclass
class _Stage:
    """One ``FROM`` and what follows it."""

    image: str
    name: str
    copied: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    rows: list[Requirement] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def recognises(lines: tuple[str, ...]) -> bool:
    """Tell whether there is a FROM line and another instruction."""
    found = {match.group(1).upper() for match in map(_INSTRUCTION.match, lines) if match}
    return any(map(_FROM.match, lines)) and len(found) > 1


def read(lines: tuple[str, ...], source: str = "Dockerfile") -> Reading:
    """Give what building its last stage would install; nothing of it is run."""
    stages = list(_stages(lines, source))
    parts = _of_last(stages)
    variables: dict[str, str] = {}
    for stage in parts:
        variables |= stage.variables
    wanted = Wanted(
        requirements=tuple(row for stage in parts for row in stage.rows)[:2000],
        images=tuple(dict.fromkeys(stage.image for stage in parts if stage.image not in _names(stages)))[:MOST_STAGES],
        variables=tuple(Variable(name, value) for name, value in variables.items())[:500],
        channels=tuple(dict.fromkeys(each for stage in parts for each in stage.channels)),
        indexes=tuple(dict.fromkeys(row.index for stage in parts for row in stage.rows if row.index)),
        files=(source,), kinds=("dockerfile",), tools=("docker",),
    )  # fmt: skip
    remarks = tuple(dict.fromkeys(remark for stage in parts for remark in stage.remarks))
    return Reading(NAME, (wanted,), frozenset(range(len(lines))), remarks)


def _names(stages: list[_Stage]) -> set[str]:
    return {stage.name.lower() for stage in stages if stage.name} | {stage.name for stage in stages if stage.name}


def _of_last(stages: list[_Stage]) -> list[_Stage]:
    """Give the last stage, those that it begins with, and those that it copies from; what comes first is first."""
    by_name = {stage.name.lower(): stage for stage in stages if stage.name}
    by_name |= {str(number): stage for number, stage in enumerate(stages)}
    meant: list[_Stage] = []
    waiting = stages[-1:]
    while waiting:
        stage = waiting.pop()
        if stage not in meant:
            meant.append(stage)
            waiting += [by_name[name.lower()] for name in (*stage.copied, stage.image) if name.lower() in by_name]
    return [stage for stage in stages if stage in meant]


def _stages(lines: tuple[str, ...], source: str) -> Iterator[_Stage]:
    arguments: dict[str, str] = {}
    stage: _Stage | None = None
    for number, line in _instructions(lines):
        if match := _ARG.match(line):
            arguments[match.group(1)] = match.group(2).strip("\"'")
        elif match := _FROM.match(line):
            if stage:
                yield stage
            stage = _Stage(_filled(match.group(1), arguments), match.group(2) or "")
        elif stage:
            _take(stage, line, arguments, f"{source} line {number}")
    if stage:
        yield stage


def _take(stage: _Stage, line: str, arguments: dict[str, str], at: str) -> None:
    if match := _COPIED.match(line):
        stage.copied.append(match.group(1))
    elif re.match(r"\s{0,8}ENV\s", line, re.IGNORECASE):
        old = _OLD_ENV.match(line)
        for name, value in [old.groups()] if old else _ENV.findall(line):
            stage.variables[name] = _filled(value.strip("\"'"), stage.variables | arguments)
    elif re.match(r"\s{0,8}RUN\s", line, re.IGNORECASE):
        known = stage.variables | arguments
        for command in _SEVERAL.split(line[:MOST_LENGTH]):
            _run(stage, _filled(command, known), at)


def _instructions(lines: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Give each instruction with its continued lines, at most twenty thousand characters."""
    begun, length = 0, 0
    parts: list[str] = []
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("#"):
            continue
        begun = begun if parts else number
        if length < MOST_LENGTH:
            parts.append(line.rstrip("\\ ") if line.rstrip().endswith("\\") else line)
            length += len(line)
        if not line.rstrip().endswith("\\"):
            yield begun, " ".join(parts)
            parts, length = [], 0
    if parts:
        yield begun, " ".join(parts)


def _filled(text: str, arguments: dict[str, str]) -> str:
    """Put the values of ARG and ENV in their places; longer names first: ``$CUDA`` leaves ``$CUDA_X`` alone."""
    if "$" not in text:
        return text
    for name, value in sorted(arguments.items(), key=lambda each: -len(each[0]))[:50]:
        text = re.sub(rf"\$\{{{name}(?::?[-+][^}}]{{0,100}})?\}}", value.replace("\\", r"\\"), text)
        text = text.replace(f"${name}", value)[:MOST_LENGTH]
    return re.sub(r"\$\{\w{1,80}:?-([^}]{0,100})\}", r"\1", text)


def _run(stage: _Stage, command: str, at: str) -> None:
    match = _COMMAND.search(command)
    if match is None:
        return
    if match.group(2) in {"sync", "create"} or match.group(2).startswith("env"):
        stage.remarks.append(f"{_line(at)} installs from a file that is not read: give it beside with another --from")
        return
    conda = "conda" in match.group(1) or "mamba" in match.group(1)
    words, index, instead = iter(_words(command[match.end() :])), "", False
    plain: list[str] = []
    for word in words:
        option, _, value = word.partition("=")
        if not word.startswith("-"):
            plain.append(word)
            continue
        if option in _WITH_VALUE and not (word.startswith("--") and "=" in word):
            value = next(words, "")
        if conda and option in {"-c", "--channel"}:
            stage.channels.append(value)
        elif option in _FILES:
            stage.remarks.append(
                f"{_line(at)} installs from {value[:100]}, which is not read: give it beside with another --from"
            )
        elif option in _INSTEAD | _BESIDE:
            index, instead = (value, option in _INSTEAD) if not instead else (index, instead)
    stage.rows += [row for word in plain for row in _one(word, at, conda=conda, index=index, beside=not instead)]


def _line(at: str) -> str:
    return at[at.rfind("line ") :]


def _one(word: str, source: str, *, conda: bool, index: str, beside: bool) -> Iterator[Requirement]:
    """Read one word of the command; a folder or a file is not a requirement that can be judged."""
    if word.startswith((".", "/", "$", "http", "git+")):
        return
    rows = conda_spec(word, source) if conda else one(word, source)
    yield from (replace(row, index=index, index_beside=beside and bool(index)) for row in rows)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)[:500]
    except ValueError:
        return text.split()[:500]
