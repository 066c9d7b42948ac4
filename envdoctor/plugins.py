"""Third parties' probes and rules. The only reader of entry points.

Built-in probes and rules are static tuples and do not pass through here. A distribution adds its own with the entry
point groups ``envdoctor.probes`` and ``envdoctor.rules``; each entry point names one probe or rule, or a tuple of them.
Distributions are read one at a time, so that a broken one becomes a line of ``Plugins.errors`` and harms nobody else.
"""

from __future__ import annotations

import math
import sys
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envdoctor.facts.dataclass import dataclass
from envdoctor.plan import BUILT_IN, LEVELS, Planned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from importlib.metadata import EntryPoint

    from envdoctor.facts import Fact
    from envdoctor.probe import Probe
    from envdoctor.rule import Rule

PREFIX = "envdoctor."
GROUPS = ("envdoctor.probes", "envdoctor.rules")


class Refused(Exception):  # noqa: N818 - becomes a line of Plugins.errors, never leaves this module
    """What a distribution offers cannot be used: the words say why."""


@dataclass(frozen=True)
class Plugins:
    """What third parties add. ``facts`` maps keys to types for ``decode_fact``; ``errors`` are for plugin-broken."""

    planned: tuple[Planned, ...] = ()
    rules: tuple[Rule, ...] = ()
    facts: dict[str, type[Fact]] = field(default_factory=dict)
    errors: tuple[str, ...] = ()


def load(path: Sequence[str] | None = None) -> Plugins:
    """Read every plug-in on the module search path (``sys.path`` unless given). Never raises for a broken one.

    With no plug-in installed this lists directories and reads small files; nothing is imported.
    """
    folders = tuple(declaring(sys.path if path is None else path))
    if not folders:
        return Plugins()
    gathering = Gathering()
    for folder in folders:
        gathering.take_distribution(folder)
    return gathering.result()


def declaring(path: Sequence[str]) -> Iterator[Path]:
    """Give the metadata directories whose entry_points.txt names a group of ours; of two with one name the first."""
    seen = set()
    for folder in _metadata_folders(path):
        name = distribution_name(folder)
        if name not in seen and _names_our_groups(folder / "entry_points.txt"):
            yield folder
        seen.add(name)


def _metadata_folders(path: Sequence[str]) -> Iterator[Path]:
    for place in dict.fromkeys(path):
        try:
            inside = sorted(Path(place).iterdir())
        except OSError:  # a zip file or a directory that is gone: imports skip it as well
            continue
        yield from (each for each in inside if each.suffix in {".dist-info", ".egg-info"})


def _names_our_groups(file: Path) -> bool:
    try:
        content = file.read_bytes()
    except OSError:  # most distributions have none; one that cannot be read cannot be told to be a plug-in
        return False
    return f"[{PREFIX}".encode() in content.replace(b"\0", b"")  # NULs: written as UTF-16, which is reported later


def distribution_name(folder: Path) -> str:
    """Give the normalised name from ``Some_Name-1.0.dist-info``: its METADATA may be what is broken."""
    return folder.stem.partition("-")[0].lower().replace("_", "-").replace(".", "-")


class Gathering:
    """Collects what distributions offer, refusing what clashes with the built-in probes, facts and rules."""

    def __init__(self) -> None:
        from envdoctor.rules import RETIRED, RULES
        from envdoctor.snapshot import BY_KEY

        self.built_in_facts = BY_KEY
        self.ids = dict.fromkeys((rule.id for rule in RULES), "envdoctor")
        self.retired = RETIRED
        self.planned: dict[str, Planned] = {}
        self.rules: dict[str, Rule] = {}
        self.facts: dict[str, type[Fact]] = {}
        self.errors: list[str] = []
        self.takers = {"envdoctor.probes": self._take_probe, "envdoctor.rules": self._take_rule}

    def take_distribution(self, folder: Path) -> None:
        """Take what one distribution offers, entry point by entry point."""
        label = " ".join((distribution_name(folder), *folder.stem.split("-")[1:2]))
        try:
            entries = _entry_points(folder)
        except Exception as error:  # noqa: BLE001 - foreign text can break the parser in any way
            self.errors.append(f"{label}: entry_points.txt cannot be read: {type(error).__name__}: {error}")
            return
        for entry in entries:
            self._take_entry(entry, distribution_name(folder), label)

    def _take_entry(self, entry: EntryPoint, home: str, label: str) -> None:
        what = f"{label}: {entry.group}: {entry.name} = {entry.value}"
        for each in self._attempt(what, _import, entry) or ():
            self._attempt(what, self.takers[entry.group], each, home)

    def _attempt(self, what: str, step: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return step(*arguments)
        except Refused as why:
            self.errors.append(f"{what}: {why}")
        except Exception as error:  # noqa: BLE001 - foreign annotations and names can fail in any way
            self.errors.append(f"{what}: {type(error).__name__}: {error}")
        return None

    def _take_probe(self, probe: Any, home: str) -> None:
        from envdoctor.facts import key_of

        kind = fact_of(probe)
        key = key_of(kind)
        if probe.name in self.planned or probe.name in {each.name for each in BUILT_IN}:
            raise Refused(f"a probe named {probe.name!r} is there already")
        if key in self.facts or key in self.built_in_facts:
            raise Refused(f"a fact with the key {key!r} is there already")
        self.planned[probe.name] = planned_from(probe, key, home)
        self.facts[key] = kind

    def _take_rule(self, rule: Any, home: str) -> None:
        check_rule(rule)
        if rule.id in self.retired:
            raise Refused(f"the id {rule.id!r} is retired and never used again")
        if rule.id in self.ids:
            raise Refused(f"the id {rule.id!r} is taken by {self.ids[rule.id]}")
        self.ids[rule.id] = home
        self.rules[rule.id] = replace(rule, home=home)

    def result(self) -> Plugins:
        """Give what was taken, less the rules that ask for facts nobody collects."""
        usable = tuple(rule for rule in self.rules.values() if not self._lacks_a_fact(rule))
        return Plugins(tuple(self.planned.values()), usable, dict(self.facts), tuple(self.errors))

    def _lacks_a_fact(self, rule: Rule) -> bool:
        from envdoctor.facts.run import ProbeRun

        known = {*self.facts.values(), *self.built_in_facts.values(), ProbeRun}
        lacking = [each.fact.__name__ for each in rule.inputs if each.fact not in known]
        if lacking:
            self.errors.append(f"{rule.home}: rule {rule.id}: no probe gives {', '.join(lacking)}")
        return bool(lacking)


def _entry_points(folder: Path) -> list[EntryPoint]:
    from importlib.metadata import PathDistribution

    return [each for each in PathDistribution(folder).entry_points if each.group.startswith(PREFIX)]


def _import(entry: EntryPoint) -> tuple[Any, ...]:
    import contextlib

    if entry.group not in GROUPS:
        raise Refused(f"there is no such group (known: {', '.join(GROUPS)})")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout carries the report and nothing else
            found = entry.load()
    except (Exception, SystemExit) as error:
        raise Refused(f"import failed: {type(error).__name__}: {error}") from error
    return tuple(found) if isinstance(found, (tuple, list)) else (found,)


def fact_of(probe: Any) -> type[Fact]:
    """Give the fact type that a probe promises; raises ``Refused`` when it is no probe or the fact is no fact."""
    import dataclasses
    import typing

    import msgspec

    from envdoctor.facts import Fact
    from envdoctor.probe import Probe

    if not isinstance(probe, Probe):
        raise Refused(f"{type(probe).__name__} is not a probe (make it one with @envdoctor.probe.probe)")
    try:
        kind = typing.get_type_hints(probe.collect).get("return")
        if not (isinstance(kind, type) and issubclass(kind, Fact) and dataclasses.is_dataclass(kind)):
            raise Refused(f"probe {probe.name}: its return annotation must be a Fact, not {kind!r}")
        msgspec.convert({}, kind)  # what a run does with the child's answer
    except (AttributeError, NameError, SyntaxError, TypeError, msgspec.ValidationError) as error:
        raise Refused(f"probe {probe.name}: its fact cannot be used: {type(error).__name__}: {error}") from error
    return kind


def planned_from(probe: Probe, key: str, home: str) -> Planned:
    """Give a plug-in's probe its place in the plan: a process of its own, or a fork of the one that imports torch."""
    module = sys.modules[probe.collect.__module__]
    attribute = getattr(probe.collect, "__name__", "")
    if getattr(module, attribute, None) is not probe:
        raise Refused(f"probe {probe.name}: the child cannot find it as {module.__name__}:{attribute}")
    if not (isinstance(probe.seconds, (int, float)) and 0 < probe.seconds < math.inf):
        raise Refused(f"probe {probe.name}: its deadline must be a number of seconds above 0, not {probe.seconds!r}")
    if probe.level not in LEVELS:
        raise Refused(f"probe {probe.name}: no level {probe.level!r} (known: {', '.join(LEVELS)})")
    torch = probe.child == "torch"
    return Planned(
        probe.name, f"{module.__name__}:{attribute}", key, probe.level, "torch" if torch else f"plugin-{home}",
        probe.seconds, after_import=torch, travels=probe.travels, location=_location(module.__name__, module.__file__),
    )  # fmt: skip


def _location(module: str, file: str | None) -> str:
    """Give the directory that must be on the path for ``module`` to be imported from ``file``."""
    if not file:
        return ""
    depth = module.count(".") + (Path(file).name == "__init__.py")
    return str(Path(file).absolute().parents[depth])


def check_rule(rule: Any) -> None:
    """Raise ``Refused`` unless this is a rule whose inputs, page and place in a report can be used."""
    from envdoctor.rule import Rule

    if not isinstance(rule, Rule):
        raise Refused(f"{type(rule).__name__} is not a rule (make it one with @envdoctor.rule)")
    if not rule.page:
        raise Refused(f"rule {rule.id}: it has no docstring, which is its page")
    if rule.flaw:
        raise Refused(f"rule {rule.id}: {rule.flaw}")
    try:
        _ = rule.inputs
    except (AttributeError, NameError, SyntaxError, TypeError) as error:
        raise Refused(f"rule {rule.id}: {error}") from error
