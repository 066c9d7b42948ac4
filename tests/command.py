"""Run the command line in this process or in a fresh one, and validate what it writes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envdoctor import cli, schemas

if TYPE_CHECKING:
    from pathlib import Path

USERS_OWN = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "ENVDOCTOR_TRACEBACK")


class Stream(io.StringIO):
    """Stands for stdout or stderr in this process."""

    encoding = "utf-8"


@dataclass(frozen=True)
class Done:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Give what stdout holds, which must be one valid document of ours."""
        return valid(self.out)


def valid(text: str) -> Any:
    """Parse a document strictly and hold it to the schema that it names."""
    from jsonschema import Draft202012Validator

    document = json.loads(text, parse_constant=_refuse)
    errors = Draft202012Validator(schemas.load(document["schema"])).iter_errors(document)
    wrong = [f"{each.json_path}: {each.message[:200]}" for each in errors]
    assert wrong == [], wrong
    return document


def _refuse(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def here(*arguments: str) -> Done:
    """Run a command in this process; neither stream is a terminal."""
    with contextlib.redirect_stdout(Stream()) as out, contextlib.redirect_stderr(Stream()) as err:
        code = cli.run(arguments)
    return Done(code, out.getvalue(), err.getvalue())


def fresh(*arguments: str, cwd: Path | None = None, seconds: float = 60, stdin: str = "", **environ: str) -> Done:
    """Run a command as a user does: in a process of its own, in ``cwd``."""
    done = subprocess.run(
        [sys.executable, "-m", "envdoctor", *arguments],
        cwd=cwd, env=environment(**environ), capture_output=True, input=stdin, text=True, timeout=seconds, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def environment(**more: str) -> dict[str, str]:
    """Give this process's environment without what changes how envdoctor writes, and with ``more``."""
    return {name: value for name, value in os.environ.items() if name not in USERS_OWN} | more
