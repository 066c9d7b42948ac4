"""Findings about what is not installed yet, worded so: whose it would be, and how to prove that the file is right."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from envdoctor.facts.text import Wanted
from envdoctor.finding import Command

if TYPE_CHECKING:
    from envdoctor.finding import Finding, Fix, Report

# What the facts about a planned environment are called in evidence.
PLANNED = ("packages.", "torch_build.", "wanted.")
OF_A_CONTAINER = ("container.", "environment.")


_IMAGE = re.compile(r"nvcr\.io/nvidia/pytorch:[\w.-]{1,40}")


def reworded(report: Report) -> Report:
    """Put the file's name before each finding that rests on what it asks for; others are about the machine as it is."""
    wanted = report.snapshot.get(Wanted)
    if wanted is None or not (wanted.requirements or wanted.images):
        return report
    facts = PLANNED + (OF_A_CONTAINER if "dockerfile" in wanted.kinds else ())
    return replace(report, findings=tuple(_told(each, facts, wanted) for each in report.findings))


def _told(finding: Finding, facts: tuple[str, ...], wanted: Wanted) -> Finding:
    if not any(each.fact.startswith(facts) for each in finding.evidence):
        return finding
    fixes = tuple(_proved(each, finding, wanted) for each in finding.fixes)
    return replace(finding, title=f"With {_name(wanted)}: {finding.title}", fixes=fixes)


def _proved(fix: Fix, finding: Finding, wanted: Wanted) -> Fix:
    """Prove it by the same question, put to the changed file; what a shell would be told, the file is told."""
    files = " ".join(f"--from {shlex.quote('-' if each == 'stdin' else each)}" for each in wanted.files)
    again = fix.verify.startswith(f"envdoctor check --only {finding.id}")
    verify = f"envdoctor check {files} --only {finding.id}" if again else fix.verify
    if "dockerfile" not in wanted.kinds:
        return replace(fix, verify=verify)
    commands = tuple(_in_the_file(each, wanted) for each in fix.commands)
    changes = fix.changes if commands == fix.commands else f"{_name(wanted)}; nothing that is installed"
    return replace(fix, verify=verify, commands=commands, changes=changes)


def _in_the_file(command: Command, wanted: Wanted) -> Command:
    verb, _, rest = command.shell.partition(" ")
    image = _IMAGE.search(rest) if verb == "docker" else None
    if image:
        return Command(None, f"# {_name(wanted)}: FROM {image.group()}")
    if verb == "unset":
        return Command(None, f"# {_name(wanted)}: leave out ENV {rest}")
    return Command(None, f"# {_name(wanted)}: ENV {rest}") if verb == "export" else command


def _name(wanted: Wanted) -> str:
    names = " and ".join(each.replace("\\", "/").rpartition("/")[2] for each in wanted.files) or "the file"
    return "".join(each if each.isprintable() else "?" for each in names)
