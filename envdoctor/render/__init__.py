"""Renderers: Report -> text, one file a format. They are pure; only the command line prints.

Each has the same signature, so that a caller need not know which it has:
``render(report, *, show, width, color, unicode) -> str``, ending with a newline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from envdoctor.finding import Report

FORMATS = {
    "terminal": "envdoctor.render.terminal:render",
    "json": "envdoctor.render.json:render",
}


class Renderer(Protocol):
    """What each format's function looks like."""

    def __call__(
        self, report: Report, *, show: str = ..., width: int = ..., color: bool = ..., unicode: bool = ...
    ) -> str:
        """Give the report as text."""


def load(name: str) -> Renderer:
    """Import the function that renders ``name``; raises KeyError for a format that is not in ``FORMATS``."""
    import importlib

    module, _, function = FORMATS[name].partition(":")
    found: Renderer = getattr(importlib.import_module(module), function)
    return found
