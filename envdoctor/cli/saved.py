"""Snapshots, reports and benchmarks read back from files, for commands that compare; what is none is a usage error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from envdoctor.cli.catalogue import Catalogue
    from envdoctor.snapshot import Snapshot

MOST_BYTES = 64_000_000
EXPECTED = "expected a file that 'envdoctor snapshot', 'check --format json' or 'bench -o' wrote"


def read(file: str, catalogue: Catalogue, where: str) -> Snapshot:
    """Read a saved snapshot, or the one inside a report or a benchmark's result. ``-`` is stdin."""
    return parse(content(file, where), file, catalogue, where)


def parse(text: bytes, file: str, catalogue: Catalogue, where: str) -> Snapshot:
    """Read it from text at hand."""
    from envdoctor.redact import without_credentials
    from envdoctor.rewrite import rewrite
    from envdoctor.snapshot import SnapshotError, load

    try:
        found = load(text, source="stdin" if file == "-" else file, kinds=_kinds(catalogue))
    except SnapshotError as error:
        raise click.UsageError(f"{where}: {error}; {EXPECTED}") from None
    return rewrite(found, without_credentials)


def _kinds(catalogue: Catalogue) -> dict[str, type]:
    from envdoctor.snapshot import with_bench

    return with_bench() | catalogue.plugins.facts


def content(file: str, where: str) -> bytes:
    """Read a file, or stdin for ``-``."""
    try:
        if file == "-":
            return sys.stdin.buffer.read(MOST_BYTES)
        path = Path(file)
        if path.is_file() and path.stat().st_size > MOST_BYTES:
            raise click.UsageError(f"{where}: {file!r} is too large; {EXPECTED}")
        with path.open("rb") as stream:
            return stream.read(MOST_BYTES)
    except OSError as error:
        raise click.UsageError(f"{where}: {file!r} cannot be read: {error.strerror or error}") from None
