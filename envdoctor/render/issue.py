"""render(report, log, removed) -> a bug report in Markdown: to be filled in by a person, with all that is asked for.

The report and the log are redacted before they come here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.render import collect_env, markdown
from envdoctor.render.untrusted import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.finding import Report
    from envdoctor.redact import Removed

LAST_LINES = 200
LONGEST_LINE = 2000


def render(report: Report, log: str, removed: tuple[Removed, ...]) -> str:
    """Give the bug report, ending with a newline."""
    return "\n".join(_blocks(report, log, removed)).rstrip() + "\n"


def _blocks(report: Report, log: str, removed: tuple[Removed, ...]) -> Iterator[str]:
    yield "### What happened"
    yield ""
    yield "<!-- What did you run, what did you expect, and what happened instead? -->"
    yield ""
    lines = log.splitlines()
    if lines:
        shown = lines[-LAST_LINES:]
        yield from markdown.folded(f"The log, {_of(len(shown), len(lines))}", _fenced(shown))
    yield markdown.render(report)
    yield from markdown.folded("Environment, as torch.utils.collect_env lays it out", _environment(report))
    yield from _replaced(removed)


def _of(shown: int, there: int) -> str:
    return f"{there} lines" if shown == there else f"the last {shown} of {there} lines"


def _fenced(lines: list[str]) -> Iterator[str]:
    kept = [_kept(each) for each in lines]
    yield from markdown.block("\n".join(kept), "text")


def _kept(line: str) -> str:
    """Keep a line's indentation: a traceback is read by it."""
    body = line.lstrip()
    return f"{' ' * min(len(line) - len(body), 40)}{one_line(body)[:LONGEST_LINE]}"


def _environment(report: Report) -> Iterator[str]:
    yield from markdown.block(collect_env.render(report.snapshot).rstrip("\n"), "text")


def _replaced(removed: tuple[Removed, ...]) -> Iterator[str]:
    said = ", ".join(f"`{each.label}` ({each.kind})" for each in removed)
    yield f"Replaced by labels: {said or 'nothing'}. Written by `envdoctor snapshot --issue`."
