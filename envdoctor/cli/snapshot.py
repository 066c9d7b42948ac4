"""``envdoctor snapshot``: the facts alone, as they are or redacted."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envdoctor.cli import catalogue as catalogues
from envdoctor.cli import check, collecting, delivering, exits, settings, streams
from envdoctor.cli.options import OneOf, Seconds, debug, python_option, via_option
from envdoctor.plan import LEVELS

if TYPE_CHECKING:
    from envdoctor.finding import Report
    from envdoctor.redact import Removed
    from envdoctor.snapshot import Snapshot

MOST_LOG = 200_000
MOST_IN_NAME = 60


@click.command("snapshot", short_help="Collect the facts alone.")
@click.option("-o", "--output", metavar="FILE", help="Write to this file instead of stdout; several --via: a folder.")
@click.option("--share", is_flag=True, help="Replace what names people and machines by labels; list what was replaced.")
@click.option("--issue", is_flag=True, help="Write a Markdown bug report instead: redacted, verdict and environment.")
@click.option("--log", metavar="FILE", help="Put the end of the failing command's log into --issue. - is stdin.")
@click.option("--level", type=OneOf("level", LEVELS), help="How deep to look. [default: standard]")
@python_option("Diagnose another interpreter, in which envdoctor is not installed.")
@via_option
@click.option("--pid", type=click.IntRange(min=1), metavar="N", help="Diagnose a job that runs: what it has loaded.")
@click.option(
    "--from", "from_", multiple=True, metavar="FILE", help="Take a saved or pasted report. - is stdin. Repeatable."
)
@click.option("--timeout", type=Seconds(), help="Limit of the whole run in seconds. [default: 120; quick 15]")
@click.option("--config", metavar="FILE", help="Read this configuration file instead of the nearest one.")
@click.option("--root", metavar="DIR", hidden=True, help="Read a recorded machine's /proc, /sys, /dev, … under DIR.")
@debug
def command(**given: Any) -> int:
    """Collect the facts and write them as JSON (envdoctor.snapshot/1), to keep, to compare, or to send to somebody."""
    collecting.check_source(given)
    several = len(given["via"]) > 1
    if several:
        _check_folder(given["output"], issue=given["issue"])
    else:
        delivering.check_file(given["output"], "--output")
    log = _log(given)
    catalogue = catalogues.load()
    settled = settings.settle(given, catalogue)
    if several:
        return _write_each(collecting.obtain_each(given, settled, catalogue), given)
    snapshot = collecting.obtain(given, settled, catalogue)
    if given["issue"]:
        _write_issue(check.judge(snapshot, settled, catalogue), log, given)
    else:
        _write(snapshot, given)
    return exits.INTERRUPTED if snapshot.interrupted else exits.OK


def _log(given: dict[str, Any]) -> str:
    """Read the end of the log before anything is collected; a file that cannot be read is a usage error."""
    file = given["log"]
    if file is None:
        return ""
    if not given["issue"]:
        raise click.UsageError("--log goes with --issue: it puts the end of a log into the bug report")
    try:
        data = sys.stdin.buffer.read(MOST_LOG) if file == "-" else _end_of(Path(file))
    except OSError as error:
        raise click.UsageError(f"--log: cannot read {file}: {error.strerror or error}") from None
    return data.decode("utf-8", "replace")


def _end_of(file: Path) -> bytes:
    with file.open("rb") as stream:
        stream.seek(max(file.stat().st_size - MOST_LOG, 0))
        return stream.read(MOST_LOG)


def _write_issue(report: Report, log: str, given: dict[str, Any]) -> None:
    from envdoctor import redact
    from envdoctor.render import issue

    shared, words, removed = redact.share_with_text(report, log, redact.own_names())
    _put(issue.render(shared, words, removed), given)
    _say(removed, {**given, "share": True})


def _check_folder(output: str | None, *, issue: bool) -> None:
    """Hold several --via to a folder that exists: each snapshot is a file of its own there."""
    if issue:
        raise click.UsageError("--issue is a report about one machine: name one --via")
    if not output or not Path(output).is_dir():
        was = f"{output!r} is none" if output else "there is none"
        raise click.UsageError(f"--output: with several --via expected a folder that exists, and {was}")
    delivering.check_file(str(Path(output, "1.json")), "--output")


def _write_each(snapshots: tuple[Snapshot, ...], given: dict[str, Any]) -> int:
    """Write one file for each, numbered in the order asked for and named after the command."""
    folder = Path(given["output"])
    for number, each in enumerate(snapshots, 1):
        name = "-".join(re.findall(r"[A-Za-z0-9._]+", "" if given["share"] else each.target.key))[-MOST_IN_NAME:]
        _write(each, {**given, "output": str(folder / f"{number:03d}-{name or 'snapshot'}.json")})
    return exits.INTERRUPTED if any(each.interrupted for each in snapshots) else exits.OK


def _write(snapshot: Snapshot, given: dict[str, Any]) -> None:
    from envdoctor import redact
    from envdoctor.render import collect_env
    from envdoctor.render.json import write
    from envdoctor.snapshot import to_plain

    shared, removed = redact.share(snapshot, redact.own_names()) if given["share"] else (snapshot, ())
    told = {"collect_env": collect_env.render(shared)} if given["share"] else {}
    _put(write(to_plain(shared) | redact.stated(removed, shared=given["share"]) | told), given)
    _say(removed, given)


def _put(text: str, given: dict[str, Any]) -> None:
    if given["output"]:
        streams.save(Path(given["output"]), text)
    else:
        streams.print_out(text)


def _say(removed: tuple[Removed, ...], given: dict[str, Any]) -> None:
    """Tell on stderr what was taken out, or that nothing was."""
    if given["share"]:
        said = ", ".join(f"{each.label} ({each.kind}, {each.times}x)" for each in removed)
        streams.notice(f"envdoctor: replaced by labels: {said or 'nothing; nothing here names a person or a machine'}")
    elif given["output"]:
        streams.notice(f"envdoctor: {given['output']} may name this host, its users and paths; --share replaces them")
