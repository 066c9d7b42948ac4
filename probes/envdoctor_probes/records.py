"""[payload] RECORD: which files a wheel brought, with their hashes and sizes."""

from __future__ import annotations

import os
from typing import Callable, Dict, Iterator, NamedTuple, Optional, Tuple

from envdoctor_probes.metadata import read_text

MOST_BYTES = 64 << 20


class Entry(NamedTuple):
    """One line of RECORD; ``size`` is None where none is given (RECORD itself, compiled bytecode)."""

    path: str
    hash: str
    size: Optional[int]


def read_record(info: str) -> Optional[str]:
    """Give the text of a dist-info's RECORD, or None when there is none that can be read."""
    return read_text(os.path.join(info, "RECORD"), MOST_BYTES)


def parse_record(text: str, matters: Callable[[str], bool] = bool) -> Iterator[Entry]:
    """Give the entries of a RECORD whose path ``matters``.

    A path with a comma is quoted; the csv module is too slow for 15,000 lines.
    """
    for line in text.splitlines():
        path, _, rest = line.partition(",")
        if path[:1] == '"':
            quoted, _, rest = line[1:].rpartition('",')
            path = quoted.replace('""', '"')
        if matters(path):
            digest, _, size = rest.rpartition(",")
            yield Entry(path, digest, int(size) if size.isdigit() else None)


def shared(records: Dict[str, str]) -> Iterator[Tuple[str, Tuple[str, ...], bool]]:
    """Give the files that several of these RECORDs (texts by owner) name: path, owners, whether all say one content.

    Empty files are left out: every member of a namespace package brings the same empty ``__init__.py``.
    """
    owners: Dict[str, Dict[str, str]] = {}
    for owner, text in records.items():
        for entry in parse_record(text):
            if entry.size and ".dist-info/" not in entry.path:
                owners.setdefault(entry.path, {})[owner] = entry.hash
    for path, found in sorted(owners.items()):
        if len(found) > 1:
            yield path, tuple(sorted(found)), len(set(found.values())) == 1
