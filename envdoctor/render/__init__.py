"""Renderers: Report -> text, one file a format. They are pure; only the command line prints.

Each has the same signature, so that a caller need not know which it has:
``render(report, *, show, width, color, unicode, explain, told) -> str``, ending with a newline. ``explain`` gives a
rule's page by its id; ``told`` names the probes that were written while they ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from envdoctor.finding import Report
    from envdoctor.fleet.reporting import FleetReport

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
# How a report on many members is written; every other format shows what is said over all of them.
OF_FLEETS = {
    "terminal": "envdoctor.render.terminal.fleet:render",
    "json": "envdoctor.render.fleet_json:render",
    "html": "envdoctor.render.html.fleet:render",
    "prometheus": "envdoctor.render.fleet_prometheus:render",
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


class FleetRenderer(Protocol):
    """What the function of a format for fleets looks like."""

    def __call__(
        self, fleet: FleetReport, *, show: str = ..., width: int = ..., color: bool = ..., unicode: bool = ...
    ) -> str:
        """Give the report on many members as text."""


def load(name: str) -> Renderer:
    """Import the function that renders ``name``; raises KeyError for a format that is not in ``FORMATS``."""
    found: Renderer = _function(FORMATS[name])
    return found


def load_fleet(name: str) -> FleetRenderer:
    """Import the function that renders fleets; raises KeyError for a format that is not in ``OF_FLEETS``."""
    found: FleetRenderer = _function(OF_FLEETS[name])
    return found


def _function(where: str) -> Any:
    import importlib

    module, _, function = where.partition(":")
    return getattr(importlib.import_module(module), function)


def missing(name: str) -> str:
    """Say what must be installed before this format can be written; nothing where all is there."""
    import importlib.util

    module = NEEDS.get(name)
    if module is None or importlib.util.find_spec(module):
        return ""
    return f"the {name} format needs {module}: python -m pip install 'torch-envdoctor[{name}]'"
