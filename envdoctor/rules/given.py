"""Settings as they were given: variables, and lines of NCCL's configuration files, each with what shows it."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Iterator

import msgspec
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from envdoctor.facts import source_of
from envdoctor.facts.host import Environment
from envdoctor.facts.libraries import Libraries, MappedLibraries, Toolkit
from envdoctor.facts.torch import TorchBuild, TorchSettings
from envdoctor.finding import Command, Evidence, Fix, Safety, see
from envdoctor.knowledge.cuda import dotted
from envdoctor.knowledge.variables import Setting, reported
from envdoctor.remedy.variables import export, look, unset
from envdoctor.rule import Unknown
from envdoctor.rules.nccl import nccl_version


class Given(msgspec.Struct, frozen=True):
    """One setting. ``file`` is empty for a variable; ``hidden``: its value was taken out, and is not to be judged."""

    name: str
    value: str
    source: str
    file: str = ""
    hidden: bool = False

    @property
    def evidence(self) -> Evidence:
        """Give what shows it."""
        if not self.file:
            return Evidence("environment.variables", self.value, self.source, "", self.name)
        return Evidence("toolkit.nccl_conf", self.value, self.source, "", f"{self.name} in {self.file}")

    def __str__(self) -> str:
        """Write it as it was given."""
        return f"{self.name}={self.value}" + (f" in {self.file}" if self.file else "")

    def taken_back(self) -> Fix:
        """Take the setting out: of this shell, or of its file."""
        if not self.file:
            return unset(self.name)
        command = f"grep -n {shlex.quote(f'^{self.name}')} {self.files_quoted()}"
        return look(f"See the line, then take {self.name.strip()} out of the file", command)

    def renamed(self, name: str) -> Fix:
        """Give the value another name: in this shell, or in its file."""
        if not self.file:
            title = f"Use the name {name}"
            return Fix(
                title,
                (Command(None, f'export {name}="${self.name}"; unset {self.name}'),),
                Safety.SAFE,
                "this shell only",
            )
        line = shlex.quote(f"s/^{self.name}=/{name}=/")
        root = any(each.startswith("/etc/") for each in self.file.split(", "))
        commands = (Command(None, f"{'sudo ' * root}sed -i {line} {self.files_quoted()}"),)
        return Fix(f"Use the name {name}", commands, Safety.ADMIN, "NCCL's configuration file", needs_root=root)

    def files_quoted(self) -> str:
        """Name the files for a shell."""
        return " ".join(shlex.quote(each) for each in self.file.split(", "))


def variables(environment: Environment) -> Iterator[Given]:
    """Give the variables; ends the rule where they could not be read."""
    if "variables" in environment.unknown:
        raise Unknown(environment.unknown["variables"])
    source = source_of(environment, "variables")
    for each in environment.variables:
        yield Given(each.name, each.value, source, hidden=each.redacted)


def file_lines(toolkit: Toolkit | None) -> Iterator[Given]:
    """Give the settings of NCCL's files, whether a variable overrules them or not."""
    where = (toolkit.nccl_conf_path if toolkit else None) or "nccl.conf"
    for name, value in toolkit.nccl_conf if toolkit else ():
        yield Given(name, value, where, where, hidden="***" in value)


def in_force(environment: Environment, toolkit: Toolkit | None) -> tuple[Given, ...]:
    """Give what programs will read: the variables, and those lines of the files that no variable overrules."""
    told = tuple(variables(environment))
    names = {each.name for each in told}
    return (*told, *(each for each in file_lines(toolkit) if each.name not in names))


class Releases(msgspec.Struct, frozen=True):
    """The releases of torch and NCCL here, as far as they are known, and what shows them."""

    torch: Version | None = None
    nccl: Version | None = None
    evidence: tuple[Evidence, ...] = ()

    def admit(self, setting: Setting) -> bool | None:
        """Tell whether an entry speaks of these releases; None where that is not known."""
        pairs = ((setting.torch, self.torch), (setting.nccl, self.nccl))
        answers = [_in(wanted, have) for wanted, have in pairs if wanted is not None]
        return False if False in answers else None if None in answers else True

    def behind(self, setting: Setting) -> tuple[Evidence, ...]:
        """Give what shows the releases that an entry asks for."""
        wanted = {"torch_build": setting.torch, "nccl": setting.nccl}
        return tuple(
            each
            for each in self.evidence
            if wanted["torch_build" if each.fact.startswith("torch_build") else "nccl"] is not None
        )


def _in(wanted: SpecifierSet, have: Version | None) -> bool | None:
    return None if have is None else wanted.contains(have.base_version, prereleases=True)


def releases_here(
    build: TorchBuild | None,
    libraries: Libraries | None,
    mapped: MappedLibraries | None,
    settings: TorchSettings | None,
) -> Releases:
    """Read the releases of torch and of the NCCL that would be loaded."""
    torch = _version(build.version if build else None)
    nccl = nccl_version(libraries, mapped, settings)
    shown = (see(build, "version", "torch"),) if build and torch else ()
    return Releases(torch, _version(dotted(nccl[0])) if nccl else None, (*shown, *((nccl[1],) if nccl else ())))


@functools.lru_cache(maxsize=256)  # a fleet's ranks are asked one by one
def _version(text: str | None) -> Version | None:
    try:
        return Version(text) if text else None
    except InvalidVersion:
        return None


def entries(given: tuple[Given, ...], report: str) -> Iterator[tuple[Given, Setting]]:
    """Give the settings that the table has a word about, of one report, whose values are the ones it speaks of."""
    rows: dict[str, list[Setting]] = {}
    for row in reported(dict.fromkeys(each.name for each in given)):
        rows.setdefault(row.name, []).append(row)
    for each in given:
        for row in rows.get(each.name, ()):
            if row.report == report and not (each.hidden and _by_value(row)) and row.matches(each.value):
                yield each, row


def _by_value(row: Setting) -> bool:
    return bool(row.values or row.valid is not None or row.below is not None or row.on)


def known_of(row: Setting) -> Evidence:
    """Show what the table rests on."""
    return Evidence("knowledge.env_vars", row.effect, row.source, "", f"{row.name} is known as")


def ways_out(given: Given, row: Setting) -> tuple[Fix, ...]:
    """Give the way that the table names for a variable, else take the setting back."""
    if given.file or not row.fix or row.fix == f"unset {given.name}":
        return (given.taken_back(),)
    if row.fix.startswith("export ") and ";" not in row.fix and "#" not in row.fix:
        return (export(f"Set {given.name} otherwise", row.fix.removeprefix("export ")),)
    return (Fix(f"Set {given.name} otherwise", (Command(None, row.fix),), Safety.SAFE, "this shell only"),)
