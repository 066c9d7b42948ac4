"""The ``envdoctor`` command: a group whose commands are imported when they are asked for, not for ``--help``."""

from __future__ import annotations

import importlib

import click

from envdoctor import __version__
from envdoctor.cli import interrupts
from envdoctor.cli.options import debug
from envdoctor.nearest import unknown

COMMANDS = {
    "check": "Collect, examine, report. The default command.",
    "run": "Check, and become the command that follows -- if it passes.",
    "bench": "Measure, judge against limits and references, explain the gap.",
    "diff": "Compare two snapshots or results: what differs, what that explains.",
    "baseline": "Save what is normal here; say how far today is from it.",
    "snapshot": "Collect the facts alone; --share redacts them.",
    "fleet": "Compare many ranks or saved snapshots: which one differs.",
    "fix": "Print the fixes as one script; --apply runs the safe ones.",
    "explain": "Show what a finding means and what to do. Offline.",
    "list": "List every finding, probe, model or knowledge table.",
    "demo": "Show the report of a recorded machine. No GPU needed.",
}
# A module called "list" would hide the built-in of that name from the whole package, one called "run" its function.
MODULES = {"list": "listing", "run": "launching"}
DEFAULT = "check"


class LazyGroup(click.Group):
    """A group that knows its commands' names and one line of help each, and imports one when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name the commands in the order to read them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Import one command; None for a name that is none."""
        if cmd_name not in COMMANDS:
            return None
        module = MODULES.get(cmd_name, cmd_name)
        with interrupts.held():
            command: click.Command = importlib.import_module(f"envdoctor.cli.{module}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one was probably meant."""
        if args[0] not in COMMANDS:
            raise click.UsageError(unknown("command", args[0], COMMANDS), ctx)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command where none is given: ``envdoctor --level quick`` is a check."""
        if ctx.resilient_parsing:  # a shell completes what is not finished
            return super().parse_args(ctx, args)
        own = {name for each in self.get_params(ctx) for name in each.opts}
        ahead = next((i for i, each in enumerate(args) if each not in own), len(args))
        asks_for_help = any(each in {"--help", "-h", "--version"} for each in args[:ahead])
        if not asks_for_help and (ahead == len(args) or args[ahead].startswith("-")):
            args = [*args[:ahead], DEFAULT, *args[ahead:]]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 healthy · 1 findings · 2 usage · 3 undetermined · 4 envdoctor failed · 125 run refuses"
    " · 130 Ctrl-C.",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@debug
def group() -> None:
    """Diagnose a machine that trains with PyTorch on NVIDIA GPUs: what is broken, why, and the fix to paste."""
