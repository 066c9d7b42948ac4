"""HTML pages that need nothing else: no request leaves them, and they read without scripts too.

Needs the extra ``html`` (Jinja2). Everything of a report is text in it: autoescaped, and what hides is spelled out.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envdoctor.render.untrusted import one_line, shorten
from envdoctor.render.words import words
from envdoctor.render.written import pasteable

if TYPE_CHECKING:
    from jinja2 import Environment

    from envdoctor.finding import Report

TEMPLATES = Path(__file__).parent / "templates"
LONGEST = 4000
SIGNS = {"error": "✗", "warning": "!", "info": "i", "ok": "✓", "unknown": "?"}
KINDS = {"ok": "ok", "warnings": "warning", "errors": "error"}


def render(report: Report, **view: Any) -> str:
    """Give the report as one HTML document; it does not depend on the terminal."""
    from envdoctor.render.html.report import render as written

    return written(report, **view)


def page(template: str, **values: Any) -> str:
    """Fill a template of ours; the result ends with a newline."""
    text = environment().get_template(template).render(**values)
    return text.encode("utf-8", "backslashreplace").decode() + "\n"


@functools.cache
def environment() -> Environment:
    """Give Jinja2 with autoescape on, undefined names as errors, and our filters."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {"clean": clean, "command": pasteable, "value": lambda value: clean(words(value))}
    made.globals |= {"SIGNS": SIGNS}
    return made


def clean(text: object) -> str:
    """Give one harmless line of bounded length."""
    said = str(text)
    return shorten(one_line(shorten(said, 4 * LONGEST)), LONGEST)
