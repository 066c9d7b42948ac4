"""What ``--from`` names: a saved snapshot or report, pasted texts, or both, made one snapshot."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from envdoctor.cli.catalogue import Catalogue
    from envdoctor.readers import Text
    from envdoctor.snapshot import Snapshot

MOST_BYTES = 64_000_000


def read(sources: Sequence[str], catalogue: Catalogue, collect: Callable[[], Snapshot]) -> Snapshot:
    """Make one snapshot of everything that is given. What says nothing that can be judged is a usage error.

    What would only be installed (a requirements file, a Dockerfile) is judged together with this machine: ``collect``
    is called when nothing else is given.
    """
    from envdoctor import readers

    saved, texts = _sorted(sources, catalogue)
    if len(saved) > 1:
        raise click.UsageError("--from: one snapshot at a time, with texts beside it; to compare several use diff")
    if not texts:
        return saved[0]
    if not saved and all(each.is_wanted for each in texts):
        saved = [collect()]
    try:
        return readers.together(texts, saved[0] if saved else None)
    except readers.NotRecognised as error:
        known = "; ".join(readers.FORMATS)
        raise click.UsageError(f"--from: {error}: nothing in it is of a known kind, expected {known}") from None


def _sorted(sources: Sequence[str], catalogue: Catalogue) -> tuple[list[Snapshot], list[Text]]:
    from envdoctor import readers, snapshot

    saved: list[Snapshot] = []
    texts: list[Text] = []
    for source in sources:
        name = "stdin" if source == "-" else source
        data = _bytes(source, name)
        if not _is_ours(data):
            texts.append(readers.parse(data, source=name))
            continue
        try:
            saved.append(snapshot.load(data, source=name, kinds=catalogue.facts))
        except snapshot.SnapshotError as error:
            raise click.UsageError(f"--from: {error}; expected {readers.FORMATS[0]}") from None
    return saved, texts


def _is_ours(data: bytes) -> bool:
    """Tell JSON of ours, or what was meant to be, from a text."""
    head = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    return head.startswith(b"{") and (b"envdoctor." in data[:200_000] or b'"schema"' in head)


def _bytes(source: str, name: str) -> bytes:
    try:
        if source == "-":
            return sys.stdin.buffer.read(MOST_BYTES)
        with Path(source).open("rb") as file:
            return file.read(MOST_BYTES)
    except OSError as error:
        raise click.UsageError(f"--from: cannot read {name}: {error.strerror or error}") from None
