"""A Dockerfile: the image that it starts from, the variables that it sets, and what its ``RUN`` lines would install."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from envdoctor.facts.host import Variable
from envdoctor.facts.text import Requirement, Wanted
from envdoctor.readers.reading import Reading
from envdoctor.readers.requirements import one

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "Dockerfile"
_FROM = re.compile(
    r"^\s{0,8}FROM\s{1,8}(?:--platform=\S{1,60}\s{1,8})?([\w./:@${}-]{1,300})(?:\s{1,8}AS\s{1,8}\S{1,100})?\s*$",
    re.IGNORECASE,
)
_INSTRUCTION = re.compile(
    r"^\s{0,8}(FROM|RUN|ENV|ARG|COPY|WORKDIR|CMD|ENTRYPOINT|LABEL|USER|SHELL|EXPOSE|ADD|VOLUME)\s", re.IGNORECASE
)
_ENV = re.compile(r"""([A-Za-z_]\w{0,80})=("[^"]{0,500}"|'[^']{0,500}'|\S{0,500})""")
_ARG = re.compile(r"^\s{0,8}ARG\s{1,8}(\w{1,80})=(\S{0,300})", re.IGNORECASE)
_COMMAND = re.compile(r"(?:^|[\s/])(?:pip3?|uv pip|conda|mamba|micromamba)(?:\d[\d.]{0,6})?\s{1,4}install\b")
_WITH_VALUE = frozenset(
    {
        "-i",
        "--index-url",
        "--extra-index-url",
        "-f",
        "--find-links",
        "-r",
        "-c",
        "--target",
        "-t",
        "-n",
        "--name",
        "-p",
        "--python",
        "--platform",
        "--prefix",
        "--channel",
        "--cache-dir",
        "--timeout",
    }
)
_INDEXES = frozenset({"-i", "--index-url", "--extra-index-url", "-f", "--find-links"})


def recognises(lines: tuple[str, ...]) -> bool:
    """Tell whether there is a FROM line and another instruction."""
    found = {match.group(1).upper() for match in map(_INSTRUCTION.match, lines) if match}
    return any(map(_FROM.match, lines)) and len(found) > 1


def read(lines: tuple[str, ...], source: str = "Dockerfile") -> Reading:
    """Give what building it would install; nothing of it is run."""
    arguments: dict[str, str] = {}
    images: list[str] = []
    variables: list[Variable] = []
    rows: list[Requirement] = []
    sources: list[tuple[str, str]] = []
    for number, line in _instructions(lines):
        if match := _ARG.match(line):
            arguments[match.group(1)] = match.group(2).strip("\"'")
        elif match := _FROM.match(line):
            images.append(_filled(match.group(1), arguments))
        elif re.match(r"\s{0,8}ENV\s", line, re.IGNORECASE):
            variables += [Variable(name, value.strip("\"'")) for name, value in _ENV.findall(line)]
        elif re.match(r"\s{0,8}RUN\s", line, re.IGNORECASE):
            for command in re.split(r"&&|;|\|\|?", line[:20_000]):
                rows += _installed(_filled(command, arguments), f"{source} line {number}", sources)
    wanted = Wanted(
        requirements=tuple(rows[:2000]), images=tuple(images[:50]), variables=tuple(variables[:500]),
        indexes=tuple(dict.fromkeys(value for kind, value in sources if kind == "index")),
        channels=tuple(dict.fromkeys(value for kind, value in sources if kind == "channel")),
    )  # fmt: skip
    return Reading(NAME, (wanted,), frozenset(range(len(lines))))


def _instructions(lines: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Give each instruction with its continued lines, at most twenty thousand characters."""
    begun, length = 0, 0
    parts: list[str] = []
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("#"):
            continue
        begun = begun if parts else number
        if length < 20_000:
            parts.append(line.rstrip("\\ ") if line.rstrip().endswith("\\") else line)
            length += len(line)
        if not line.rstrip().endswith("\\"):
            yield begun, " ".join(parts)
            parts, length = [], 0
    if parts:
        yield begun, " ".join(parts)


def _filled(text: str, arguments: dict[str, str]) -> str:
    for name, value in list(arguments.items())[:50]:
        text = text.replace(f"${{{name}}}", value).replace(f"${name}", value)
    return text[:20_000]


def _installed(command: str, source: str, sources: list[tuple[str, str]]) -> Iterator[Requirement]:
    match = _COMMAND.search(command)
    if match is None:
        return
    conda = "conda" in match.group() or "mamba" in match.group()
    words = iter(_words(command[match.end() :]))
    for word in words:
        option, _, value = word.partition("=")
        if word.startswith("-"):
            value = (
                value
                if "=" in word and word.startswith("--")
                else (next(words, "") if option in _WITH_VALUE | {"-c"} else "")
            )
            if option in _INDEXES or (conda and option in {"-c", "--channel"}):
                sources.append(("channel" if conda else "index", value))
        else:
            yield from _one(word, source, conda=conda)


def _one(word: str, source: str, *, conda: bool) -> Iterator[Requirement]:
    """Read one word of the command; a folder or a file is not a requirement that can be judged."""
    if word.startswith((".", "/", "$", "http", "git+")):
        return
    if conda:
        channel, _, name = word.rpartition("::")
        match = re.fullmatch(r"([a-z_][\w.-]{0,80})([=<>!~]{0,2}[\w.*,<>=!+-]{0,80})", name)
        if match:
            marker = f"channel {channel}" if channel else ""
            yield Requirement(match.group(1), match.group(2), marker, kind="conda", source=source)
    else:
        yield from one(word, source)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)[:500]
    except ValueError:
        return text.split()[:500]
