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
    index: str = ""  # where this one would come from, when the file says it of this one
    index_beside: bool = False  # that index is asked beside PyPI, not in its place
    wheels: Tuple[str, ...] = ()  # tags of the wheels that a lock file names: "cp312-cp312-manylinux_2_28_x86_64"
    has_sdist: Optional[bool] = None  # whether it names a source distribution too


@dataclass(frozen=True)
class Unresolved:
    """What was asked for and does not exist for this place: as an installer would say.

    ``lack``: python (no wheel for this Python), variant (not on that index), platform (no wheel for this system),
    prebuilt (a source distribution alone: it would be compiled here).
    """

    name: str = ""
    asked: str = ""  # "==2.1.0"
    lack: str = ""
    words: str = ""
    offered: str = ""  # what there is instead, in words
    source: str = ""  # where it is asked for
    known_by: str = ""  # where it is read that there is none


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
    files: Tuple[str, ...] = read_from("the given file", ())  # the files themselves, by name
    kinds: Tuple[str, ...] = read_from("the given file", ())  # requirements, pyproject, lock, conda, dockerfile
    tools: Tuple[str, ...] = read_from("the given file", ())  # uv, poetry, pdm: whose file it is
    unresolved: Tuple[Unresolved, ...] = read_from("the tables of releases, the lock's own wheels", ())
    replaces_index: Optional[bool] = read_from("--index-url", None)  # the indexes are used in place of PyPI


@dataclass(frozen=True)
class Pasted(Fact):
    """The texts that were given: what each was taken for, and what the reader wants known of them."""

    formats: Tuple[Tuple[str, str], ...] = read_from("the pasted text", ())  # source, format
    remarks: Tuple[str, ...] = read_from("the pasted text", ())
