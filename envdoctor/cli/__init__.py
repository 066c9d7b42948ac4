"""The command line: one file a command, loaded when it is asked for. The only room that prints or exits."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with the documented code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run a command and give its exit code; see ``exits`` for what each means."""
    from envdoctor.cli import exits
    from envdoctor.cli.group import group

    with exits.ending(debug="--debug" in arguments) as end:
        end.code = int(group.main(list(arguments), prog_name="envdoctor", standalone_mode=False) or 0)
    return end.code
