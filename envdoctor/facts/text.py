"""[payload] What somebody wrote or a program printed: words of an error, packages that would be installed."""

from __future__ import annotations

from typing import Optional, Tuple

from envdoctor.facts import Fact, read_from
from envdoctor.facts.dataclass import dataclass
from envdoctor.facts.host import Variable  # noqa: TC001 - the type is resolved when a snapshot is read

# Why a field has no value where the text is of a kind that never tells it: its rules are skipped, not unknown.
NOT_CARRIED = "this kind of text does not carry it"


@dataclass(frozen=True)
class Words:
    """One line of an error, and where it was read."""

    text: str = ""
    source: str = ""


@dataclass(frozen=True)
class ErrorText(Fact):
    """What a traceback or a log says, line by line: evidence to be held against the facts, never a verdict."""

    lines: Tuple[Words, ...] = read_from("the pasted text", ())
    python_versions: Tuple[str, ...] = read_from("paths in the pasted text", ())  # "3.11"
    left_out: int = read_from("the pasted text", 0)  # lines beyond the limit


@dataclass(frozen=True)
class Requirement:
    """One package that would be installed: its version or range, and where that is written."""

    name: str = ""
    specifier: str = ""  # "==2.9.0", ">=2.1,<3", "" for any
    marker: str = ""
    extras: Tuple[str, ...] = ()
    url: str = ""  # a wheel or repository named directly
    kind: str = "pip"  # pip, conda, system
    source: str = ""  # "requirements.txt line 3"


@dataclass(frozen=True)
class Wanted(Fact):
    """What a requirements file, a lock file or a Dockerfile would install; nothing of it is installed yet."""

    requirements: Tuple[Requirement, ...] = read_from("the given file", ())
    indexes: Tuple[str, ...] = read_from("the given file", ())
    channels: Tuple[str, ...] = read_from("the given file", ())
    images: Tuple[str, ...] = read_from("FROM lines", ())
    python: Optional[str] = read_from("the given file")
    variables: Tuple[Variable, ...] = read_from("ENV lines", ())
    locked: bool = read_from("the given file", False)


@dataclass(frozen=True)
class Pasted(Fact):
    """The texts that were given: what each was taken for, and what the reader wants known of them."""

    formats: Tuple[Tuple[str, str], ...] = read_from("the pasted text", ())  # source, format
    remarks: Tuple[str, ...] = read_from("the pasted text", ())
