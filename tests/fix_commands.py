"""Hold the commands of fixes to three things: a shell reads them, specifiers are quoted, the builds they name exist."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from envdoctor.facts.packages import Packages
from envdoctor.knowledge.torch import companions_for, cuda_of, early_minor, numbers, release

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from envdoctor.finding import Command, Report

QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
OPERATOR = re.compile(r"\w(?:==|>=|<=|~=|!=)[\w*]|\w[<>]\d")
INDEX = re.compile(r"--index-url https://download\.pytorch\.org/whl/(\w+)")
INSTALLS = re.compile(r"\b(?:pip|conda) install\b")


def commands(report: Report) -> Iterator[Command]:
    """Give every command of every fix in a report."""
    yield from (command for finding in report.findings for fix in finding.fixes for command in fix.commands)


def unreadable(shells: Iterable[str]) -> list[str]:
    """Give the lines that ``sh -n`` does not read."""
    return [
        each for each in shells if subprocess.run(["sh", "-n", "-c", each], capture_output=True, check=False).returncode
    ]


def unquoted(shells: Iterable[str]) -> list[str]:
    """Give the install commands in which a specifier stands outside of quotes, where a shell reads its signs."""
    return [shell for shell in shells if INSTALLS.search(shell) and OPERATOR.search(QUOTED.sub("''", shell))]


def not_existing(report: Report) -> list[str]:
    """Give the install commands that name a torch, torchvision or torchaudio which was not published so."""
    packages = report.snapshot.get(Packages)
    python = packages.python_version if isinstance(packages, Packages) else None
    return [f"{each.shell}: {why}" for each in commands(report) for why in _wrong(each, python)]


def _wrong(command: Command, python: str | None) -> Iterator[str]:
    if command.argv is None or "install" not in command.argv:
        return
    index = INDEX.search(command.shell)
    wanted = {each.name: each for each in _requirements(command.argv)}
    torch = _exact(wanted.get("torch"))
    if torch:
        new = re.search(r"-p(?:ython)? (3\.\d+)", command.shell)
        yield from _wrong_torch(torch, index[1] if index else None, new[1] if new else python)
        pairs = companions_for(Version(torch.base_version))
        for name in {"torchvision", "torchaudio"} & set(wanted):
            pair = _exact(wanted[name])
            if pair and pairs.get(name) != pair.base_version:
                yield f"{name} {pair} was not published with torch {torch}"


def _wrong_torch(torch: Version, index: str | None, python: str | None) -> Iterator[str]:
    row = release(Version(torch.base_version))
    if row is None:
        if index or torch.local or early_minor(torch.release) is None:
            yield f"torch {torch} is no release that is known"
        return
    variants = {*row.variants, *row.extra_variants, "cpu"}
    named = {each for each in (index, torch.local) if each}
    if not named <= variants or len(named) > 1:
        yield f"torch {torch} has no build {' and '.join(sorted(named))}, only {', '.join(sorted(variants))}"
    if python and not row.supports(numbers(python)):
        yield f"torch {torch} has no wheel for Python {python}"
    assert all(cuda_of(each) for each in variants - {"cpu"})


def _requirements(argv: tuple[str, ...]) -> Iterator[Requirement]:
    for word in argv:
        try:
            yield Requirement(word)
        except InvalidRequirement:
            continue


def _exact(wanted: Requirement | None) -> Version | None:
    exact = [each.version for each in wanted.specifier if each.operator == "=="] if wanted else []
    return Version(exact[0]) if exact and "*" not in exact[0] else None
