"""[payload] Installed distributions as the files show them. importlib.metadata is far too slow to start with."""

from __future__ import annotations

import os
import re
from itertools import islice
from typing import TYPE_CHECKING, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

if TYPE_CHECKING:
    from envdoctor.probe import Context

MOST_NAMES = 50_000  # a working directory may hold a data set; nobody's site-packages is this long


class Listing(NamedTuple):
    """The names in one directory of the module search path. ``via`` says how it came onto the path."""

    directory: str
    names: Tuple[str, ...]
    via: str = ""
    error: str = ""


class Installed(NamedTuple):
    """One installed distribution: ``info`` is its dist-info or egg-info, ``home`` the path entry that names it."""

    name: str
    version: str
    home: str
    info: str
    kind: str  # dist-info, egg-info, egg, egg-link


def normalise(name: str) -> str:
    """Give a distribution's name in its one normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def search_path(context: Context) -> Tuple[Tuple[str, str], ...]:
    """Give the directories that an import looks into, in order and once each, with how each came onto the path.

    A script's own directory comes first; unless PYTHONSAFEPATH forbids it, the working directory stands for it. In a
    program that runs it is there already. Where the working directory has been removed, imports find nothing by it.
    """
    by_environment = [part for part in context.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    chosen = {os.path.realpath(each) for each in _absolute(by_environment, context)}
    here = os.path.realpath(context.cwd) if context.cwd else ""
    whole = context.environ.get("PYTHONSAFEPATH") or context.options.get("whole_path")
    first = () if whole else (context.cwd,)
    seen: Dict[str, Tuple[str, str]] = {}
    for directory in _absolute((*first, *context.path), context):
        real = os.path.realpath(directory)  # lib64 is a link to lib: one directory, not two
        via = "cwd" if real == here else "PYTHONPATH" if real in chosen else "path"
        seen.setdefault(real, (directory, via))
    return tuple(seen.values())


def _absolute(entries: Iterable[str], context: Context) -> List[str]:
    given = (os.path.normpath(os.path.join(context.cwd, each)) for each in entries)
    return [each for each in given if os.path.isabs(each)]


def listings(context: Context) -> Tuple[Listing, ...]:
    """List every directory on the path that can be listed; zip files and directories that are not there are left out.

    One that may not be read is given with its error: what lies in it is unknown, not absent.
    """
    return tuple(each for each in (_list(directory, via) for directory, via in search_path(context)) if each)


def _list(directory: str, via: str) -> Optional[Listing]:
    try:
        with os.scandir(directory) as entries:
            names = tuple(entry.name for entry in islice(entries, MOST_NAMES))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return Listing(directory, (), via, f"{error.strerror or error}: {directory}")
    more = f"only the first {MOST_NAMES} names were looked at: {directory}" if len(names) == MOST_NAMES else ""
    return Listing(directory, names, via, more)


def unreadable(listed: Tuple[Listing, ...]) -> str:
    """Say which directories could not be looked at, or give an empty text."""
    return "; ".join(each.error for each in listed if each.error)


def installed(listed: Tuple[Listing, ...]) -> Iterator[Installed]:
    """Give every distribution of these directories, duplicates too, in path order and then by name."""
    for each in listed:
        if each.directory.endswith(".egg"):
            yield from _egg(each)
        for name in sorted(each.names):
            if name.endswith((".dist-info", ".egg-info")):
                yield _from_name(each.directory, name)
            elif name.endswith(".egg-link"):
                yield _linked(each.directory, name)


def _from_name(directory: str, file_name: str) -> Installed:
    """Read name and version off ``torch-2.4.1+cu121.dist-info`` or ``numpy-1.26.4-py3.11.egg-info``."""
    stem, _, kind = file_name.rpartition(".")
    name, _, rest = stem.partition("-")
    version = rest if kind == "dist-info" else rest.partition("-")[0]
    info = os.path.join(directory, file_name)
    if not version:  # setuptools writes no version into the name of a source tree's egg-info
        version = first(headers(info), "version")
    return Installed(normalise(name), version, directory, info, kind)


def _egg(listing: Listing) -> Iterator[Installed]:
    info = os.path.join(listing.directory, "EGG-INFO")
    found = headers(info)
    if first(found, "name"):
        yield Installed(normalise(first(found, "name")), first(found, "version"), listing.directory, info, "egg")


def _linked(directory: str, file_name: str) -> Installed:
    """Follow ``torch.egg-link``, which names the source tree of ``setup.py develop`` in its first line."""
    name = file_name[: -len(".egg-link")]
    source = (read_text(os.path.join(directory, file_name)) or "").partition("\n")[0].strip()
    info = os.path.join(source, name.replace("-", "_") + ".egg-info") if source else ""
    return Installed(normalise(name), first(headers(info), "version"), source or directory, info, "egg-link")


def read_text(path: str, most: int = 1 << 20) -> Optional[str]:
    """Give a file's text, undecodable bytes replaced, or None when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(most).decode("utf-8", "replace")
    except OSError:
        return None


def headers(info: str) -> Dict[str, List[str]]:
    """Read the header lines of METADATA or PKG-INFO; an egg-info may be that file itself."""
    for path in (os.path.join(info, "METADATA"), os.path.join(info, "PKG-INFO"), info):
        text = read_text(path) if info else None
        if text is not None:
            return parse_headers(text)
    return {}


def parse_headers(text: str) -> Dict[str, List[str]]:
    """Turn ``Name: torch`` lines up to the first empty one into lists by lower-case key; folded lines are joined."""
    found: Dict[str, List[str]] = {}
    last: List[str] = []
    for line in text.splitlines():
        if not line.strip():
            break
        if line[0] in " \t":
            last[-1:] = [last[-1] + " " + line.strip()] if last else []
            continue
        key, _, value = line.partition(":")
        last = found.setdefault(key.strip().lower(), [])
        last.append(value.strip())
    return found


def first(found: Dict[str, List[str]], key: str) -> str:
    """Give the first value of a header, or an empty text."""
    return (found.get(key) or [""])[0]


def installer(info: str) -> str:
    """Give the INSTALLER file's word (pip, uv, conda, debian, rpm), or an empty text."""
    words = (read_text(os.path.join(info, "INSTALLER"), 200) or "").split()
    return words[0] if words else ""


def wheel_tags(info: str) -> Tuple[str, ...]:
    """Give the Tag lines of the WHEEL file."""
    return tuple(parse_headers(read_text(os.path.join(info, "WHEEL")) or "").get("tag", ()))
