"""What is generated is fresh, and ``scripts/generate`` says what is not."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envdoctor import demo
from envdoctor.facts.host import Host
from envdoctor.facts.torch import TorchImport
from envdoctor.finding import Finding, Severity
from envdoctor.rule import rule

SCRIPT = Path(__file__).parent.parent / "scripts" / "generate"


@pytest.fixture(scope="module")
def generate() -> dict[str, Any]:
    """Load the script without running it."""
    return runpy.run_path(str(SCRIPT))


@rule(severity=Severity.ERROR, group="torch", essential=True, explained_by=("known-cause", "cause-elsewhere"))
def some_rule(host: Host, run: TorchImport, again: Host | None) -> Iterator[Finding]:
    """Something | is wrong.

    ## What it means
    Words.
    """
    yield Finding("x")


@pytest.mark.skipif(not (SCRIPT.parent.parent / "envdoctor").is_dir(), reason="the source is not here, only the wheel")
def test_documents_are_fresh() -> None:
    """Pages, table, report and machines are what the rules would give now."""
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)


def test_page_of_a_rule(generate: dict[str, Any]) -> None:
    """A page holds the summary, what the rule declares, its docstring, its causes, and where it can be seen."""
    expected = f"""\
{generate["NOTICE"]}
# some-rule

**Something | is wrong.**

Severity **error**, from level **standard**, group **torch**. Essential: while it cannot be judged, the verdict is \
never ok.

## What it means
Words.

## May follow from
* [`known-cause`](known-cause.md)
* `cause-elsewhere`

## See it
* `envdoctor demo sick-gpu`: {demo.ABOUT["sick-gpu"]}
"""
    assert expected == generate["page"](some_rule, frozenset({"known-cause"}), ["sick-gpu"])


def test_row_of_a_rule(generate: dict[str, Any]) -> None:
    """The table has one row a rule, with its page linked and bars escaped."""
    row = "| [`some-rule`](findings/some-rule.md) | error | standard | torch | Something \\| is wrong. |"
    lines = generate["index"]((some_rule,)).splitlines()
    assert (True, "findings/some-rule") == (row in lines, lines[-2])


def test_report_goes_between_the_markers(generate: dict[str, Any]) -> None:
    """The README's report is replaced between its markers, and nothing else is touched."""
    text = f"before\n{generate['BEGIN']}\nold\n{generate['END']}\nafter\n"
    new = generate["readme"](text)
    assert new.startswith(f"before\n{generate['BEGIN']}\n```console\n$ envdoctor demo\nenvdoctor ")
    assert new.endswith(f"```\n{generate['END']}\nafter\n")
    assert new == generate["readme"](new)


def test_text_without_markers_is_left_alone(generate: dict[str, Any]) -> None:
    """A README without both markers stays as it is."""
    assert "no markers" == generate["readme"]("no markers")
