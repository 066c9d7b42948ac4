"""Results of earlier benchmarks, read back from the files that ``-o`` wrote, and judged by what is known today."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from envdoctor.bench.result import Result

EXPECTED = "expected a file that 'envdoctor bench -o FILE' wrote"


def read(file: str, option: str) -> Result:
    """Read a result; a file that is none is a usage error that names it."""
    from envdoctor.snapshot import SnapshotError, load

    try:
        text = Path(file).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{option}: {file!r} cannot be read: {error.strerror or error}") from None
    try:
        snapshot = load(text, source=file)
    except SnapshotError as error:
        raise click.UsageError(f"{option}: {error}; {EXPECTED}") from None
    from envdoctor.bench.result import result_of
    from envdoctor.diagnose import examine

    result = result_of(examine(snapshot))
    if result.run is None:
        raise click.UsageError(f"{option}: {file!r} holds no benchmark; {EXPECTED}")
    return result
