"""Exit codes, the same for every format, and how each way of ending becomes one."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from envdoctor.cli.streams import OwnFailure, notice
from envdoctor.nearest import unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from envdoctor.finding import Report

OK = 0
FINDINGS = 1
USAGE = 2
UNDETERMINED = 3
INTERNAL = 4
INTERRUPTED = 130
COUNTED = {"error": ("error",), "warning": ("error", "warning"), "never": ()}  # by --fail-on
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
ISSUES = "https://github.com/torch-envdoctor/envdoctor/issues"


@dataclass
class End:
    """How a command ended."""

    code: int = INTERNAL


@contextlib.contextmanager
def ending(*, debug: bool) -> Iterator[End]:
    """Turn every way in which a command can end into an exit code and, where something went wrong, one line."""
    end = End()
    try:
        yield end
    except click.ClickException as error:
        end.code = _usage(error)
    except (click.Abort, KeyboardInterrupt):
        end.code = INTERRUPTED
    except SystemExit as error:
        end.code = _left(error)
    except OwnFailure as error:
        notice(f"envdoctor: {error}")
    except Exception as error:  # noqa: BLE001 - the last one to see it: a traceback helps nobody who only runs it
        _own_fault(error, debug=debug or bool(os.environ.get("ENVDOCTOR_TRACEBACK")))


def _left(error: SystemExit) -> int:
    """Give the code for a plain exit: click leaves so when the help's reader has gone, and after a completion."""
    if type(sys.stdout).__name__.endswith("PacifyFlushWrapper") or "_ENVDOCTOR_COMPLETE" in os.environ:
        return OK
    notice(f"envdoctor: something called exit({error.code!r}) instead of answering. Report it: {ISSUES}")
    return INTERNAL


def _usage(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    where = context.command_path if context else "envdoctor"
    notice(f"envdoctor: {_said(error)}")
    notice(f"Try '{where} --help'.")
    return USAGE


def _said(error: click.ClickException) -> str:
    """Put a usage error in words; an unknown option in the same words as any other unknown name."""
    if not isinstance(error, click.NoSuchOption) or error.ctx is None:
        return error.format_message()
    options = (each for each in error.ctx.command.get_params(error.ctx) if isinstance(each, click.Option))
    return unknown("option", error.option_name, [name for each in options if not each.hidden for name in each.opts])


def _own_fault(error: Exception, *, debug: bool) -> None:
    if debug:
        import traceback

        traceback.print_exc(file=sys.stderr)
    if isinstance(error, OSError) and error.errno in DISK:
        notice(f"envdoctor: cannot write: {error.strerror}")
        return
    said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    hint = "" if debug else " Run it again with --debug and"
    notice(f"envdoctor: this is a fault of envdoctor itself: {said}.{hint} {'R' if debug else 'r'}eport it: {ISSUES}")


def code_for(report: Report, fail_on: str) -> int:
    """Give the exit code that a report means: findings come before undetermined."""
    if report.interrupted:
        return INTERRUPTED
    if any(each.severity and each.severity.value in COUNTED[fail_on] for each in report.active):
        return FINDINGS
    return UNDETERMINED if undetermined(report) else OK


def worst(codes: Iterable[int]) -> int:
    """Give the exit code of several reports: that of the one that comes first in the documented order."""
    order = (INTERRUPTED, USAGE, INTERNAL, FINDINGS, UNDETERMINED, OK)
    return min(codes, key=order.index, default=OK)


def undetermined(report: Report) -> bool:
    """Tell whether an essential rule is unknown, or no rule at all could judge."""
    from envdoctor.finding import Status

    open_ends = {Status.UNKNOWN, Status.SKIPPED}
    nothing = all(check.status in open_ends for check in report.checks)
    return nothing or any(check.essential and check.status is Status.UNKNOWN for check in report.checks)
