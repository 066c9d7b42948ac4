"""Renderers: Report -> text, one file a format. They are pure; only the command line prints.

Each has the same signature, so that a caller need not know which it has:
``render(report, *, show, width, color, unicode, explain, told) -> str``, ending with a newline. ``explain`` gives a
rule's page by its id; ``told`` names the probes that were written while they ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from envdoctor.finding import Report

FORMATS = {
    "terminal": "envdoctor.render.terminal:render",
    "json": "envdoctor.render.json:render",
    "jsonl": "envdoctor.render.jsonl:render",
    "markdown": "envdoctor.render.markdown:render",
    "html": "envdoctor.render.html:render",
    "junit": "envdoctor.render.junit:render",
    "sarif": "envdoctor.render.sarif:render",
    "github": "envdoctor.render.github:render",
    "prometheus": "envdoctor.render.prometheus:render",
}
# Formats made to be shown to strangers: they get the report without what names people and machines.
SHARED = frozenset({"markdown"})
# Formats that need a module which only an extra of the same name brings.
NEEDS = {"html": "jinja2"}


class Renderer(Protocol):
    """What each format's function looks like."""

    def __call__(
        self,
        report: Report,
        *,
        show: str = ...,
        width: int = ...,
        color: bool = ...,
        unicode: bool = ...,
        explain: Callable[[str], str] | None = ...,
        told: frozenset[str] | None = ...,
    ) -> str:
        """Give the report as text."""


def load(name: str) -> Renderer:
    """Import the function that renders ``name``; raises KeyError for a format that is not in ``FORMATS``."""
    import importlib

    module, _, function = FORMATS[name].partition(":")
    found: Renderer = getattr(importlib.import_module(module), function)
    return found


def missing(name: str) -> str:
    """Say what must be installed before this format can be written; nothing where all is there."""
    import importlib.util

    module = NEEDS.get(name)
    if module is None or importlib.util.find_spec(module):
        return ""
    return f"the {name} format needs {module}: python -m pip install 'torch-envdoctor[{name}]'"
