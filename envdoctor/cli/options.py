"""Options that several commands share, and types whose errors name the nearest valid value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from envdoctor.nearest import unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from click.shell_completion import CompletionItem

    Decorator = Callable[[Any], Any]

SHOW = ("problems", "all")


class OneOf(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on only
    """One of a few words."""

    def __init__(self, name: str, words: Iterable[str]) -> None:
        self.name = name
        self.words = tuple(words)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002 - click's
        """Show the words in the help."""
        return "|".join(self.words)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Accept a valid word; for another one name the nearest."""
        if value not in self.words:
            self.fail(unknown(self.name, str(value), self.words), param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's
        """Complete the words."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(each) for each in self.words if each.startswith(incomplete)]


def complete_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's
    """Complete the id of a finding, and for a selection a group's name as well."""
    from envdoctor.cli import catalogue

    known = catalogue.load()
    names = known.ids if param.name == "id_" else known.ids | known.groups
    return sorted(each for each in names if each.startswith(incomplete))


class Seconds(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on only
    """A finite number of seconds above 0."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Accept 30 and 2.5, refuse 0, -1, nan and 30s."""
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not (math.isfinite(seconds) and seconds > 0):
            self.fail(f"{value!r} is not a number of seconds above 0, such as 30 or 2.5", param, ctx)
        return seconds


def formats() -> tuple[str, ...]:
    """Name the formats that a report can be written in."""
    from envdoctor.render import FORMATS

    return tuple(FORMATS)


class Also(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on only
    """``F:FILE``: a second format, and the file that it goes to."""

    name = "format:file"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002 - click's
        """Show the shape in the help."""
        return "F:FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split at the first colon; both halves are needed."""
        name, colon, file = str(value).partition(":")
        if not colon or not file:
            self.fail(f"{value!r} is not FORMAT:FILE, such as json:report.json", param, ctx)
        return OneOf("format", formats()).convert(name, param, ctx), file


debug: Decorator = click.option(
    "--debug", is_flag=True, expose_value=False, help="Show a traceback when envdoctor itself fails."
)


def python_option(told: str) -> Decorator:
    """Make the option that names another interpreter; a second one is refused instead of taking its place unseen."""
    return click.option("--python", metavar="PATH", multiple=True, callback=_one_interpreter, help=told)


def _one_interpreter(_ctx: click.Context, _param: click.Parameter, paths: tuple[str, ...]) -> str | None:
    different = tuple(dict.fromkeys(paths))
    if len(different) > 1:
        raise click.UsageError(
            f"--python names {' and '.join(map(repr, different))}, expected one interpreter. Save each with "
            "envdoctor snapshot --python PATH -o FILE, and compare them with envdoctor diff FILE FILE"
        )
    return different[0] if different else None


via_option: Decorator = click.option(
    "--via",
    multiple=True,
    metavar="COMMAND",
    help="Diagnose behind a command: 'ssh node7', 'docker exec -i job'. Repeatable.",
)


def report_options(command: Any) -> Any:
    """Add the options that say how a report is shown and where it goes."""
    for option in reversed(
        (
            click.option(
                "--format", "format_", type=OneOf("format", formats()), default="terminal", help="For stdout."
            ),
            click.option("--also", type=Also(), multiple=True, help="Write a second format to a file. Repeatable."),
            click.option("--show", type=OneOf("view", SHOW), default="problems", help="What the terminal shows."),
        )
    ):
        command = option(command)
    return command
