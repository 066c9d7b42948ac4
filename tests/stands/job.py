"""A job that runs: a Python that has imported something and waits, to be looked at from outside."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

WAITS = "import sys; {} ; print('ready', flush=True); sys.stdin.read()"


@contextlib.contextmanager
def running(
    first: str = "pass",
    *,
    python: Path | str = sys.executable,
    name: str = "",
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    arguments: Sequence[str] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a Python, under another ``name`` if one is given, that does ``first``, says so, and stays."""
    command = [name or str(python), "-c", WAITS.format(first), *arguments]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, executable=python, stdin=pipe, stdout=pipe, env=environ, cwd=cwd)
    try:
        assert process.stdout is not None
        assert b"ready\n" == process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()
