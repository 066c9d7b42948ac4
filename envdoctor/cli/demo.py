"""``envdoctor demo``: the whole report of a recorded machine that ships with the package."""

from __future__ import annotations

from typing import Any

import click

from envdoctor.cli import check, delivering, exits, streams
from envdoctor.cli import settings as settling
from envdoctor.cli.options import debug, report_options
from envdoctor.nearest import unknown


@click.command("demo", short_help="Show the report of a recorded machine.")
@click.argument("name", required=False)
@report_options
@debug
def command(name: str | None, **given: Any) -> int:
    """Show the whole report of a recorded machine: what it looks like, without a GPU. Exits as a check there would."""
    from envdoctor import demo
    from envdoctor.cli import catalogue

    delivering.check_files(given)
    chosen = name or demo.FIRST
    if chosen not in demo.ABOUT:
        raise click.UsageError(f"{unknown('recorded machine', chosen, demo.ABOUT)}")
    settled = settling.Settings()
    report = check.judge(demo.load(chosen), settled, catalogue.load())
    delivering.deliver(report, given)
    if name is None:
        streams.notice(listed(chosen, demo.ABOUT))
    return exits.code_for(report, settled.fail_on)


def listed(shown: str, about: dict[str, str]) -> str:
    """Say which machine was shown, and which others there are."""
    wide = max(map(len, about))
    rest = [f"  envdoctor demo {name.ljust(wide)}  {text}" for name, text in about.items() if name != shown]
    return "\n".join([f"This was the recorded machine {shown!r}: {about[shown]}. Others:", *rest])
