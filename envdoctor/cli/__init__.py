"""The command line: one file a command, loaded when it is asked for. The only room that prints or exits."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envdoctor.runner.starting import Ready

EXAMINE = frozenset({"check", "run"})  # the commands that begin with a look at this machine
# Options after which it is not this interpreter that is examined, or nothing at all.
NOT_OURS = frozenset(
    {"--help", "-h", "--version", "--python", "--via", "--from", "--root", "--pid", "--cache", "--cache-dir"}
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with the documented code."""
    import gc

    gc.set_threshold(100_000)  # what a command makes lives to its end: looking through it costs 9 ms of a quick check
    code = run(sys.argv[1:] if arguments is None else arguments)
    gc.freeze()  # the interpreter's last collection would walk through every object for nothing: 15 ms of a quick check
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run a command and give its exit code; see ``exits`` for what each means."""
    ready = None
    try:
        from envdoctor.cli import interrupts

        with interrupts.held():
            ready = _start_early(arguments)
            from envdoctor.cli import exits
            from envdoctor.cli.group import group

        with exits.ending(debug="--debug" in own(arguments)) as end:
            code = group.main(list(arguments), prog_name="envdoctor", standalone_mode=False, obj=ready)
            end.code = int(code or 0)
    except KeyboardInterrupt:  # so early that ``exits`` is not loaded yet
        return 130
    finally:
        if ready is not None:
            ready.dismiss()
    return end.code


def own(arguments: Sequence[str]) -> Sequence[str]:
    """Give the words that are for envdoctor; what follows ``--`` is another command's."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _start_early(arguments: Sequence[str]) -> Ready | None:
    """Start the interpreter to be examined while the command line is still being loaded, where that is likely right.

    A guess from the words alone: when it is wrong, the interpreter is let go again before it was asked anything.
    """
    words = own(arguments)
    command = next((each for each in words if not each.startswith("-")), "check")
    if command not in EXAMINE or any(each.partition("=")[0] in NOT_OURS for each in words):
        return None
    from envdoctor.runner.starting import Ready
    from envdoctor.target import Patient

    try:
        return Ready(Patient())
    except (OSError, ValueError):
        return None  # the run itself will meet the same error, and say it
