"""Plug-ins: what third parties add is found, and what is broken is named and harms nobody else."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from envdoctor.diagnose import examine
from envdoctor.finding import Severity
from envdoctor.plugins import Plugins, load
from envdoctor.runner.collection import collect
from envdoctor.snapshot import of
from envdoctor.target import Patient

FACTS = """
from __future__ import annotations
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional
from envdoctor.facts import Fact, read_from
from envdoctor.finding import Finding, Severity
from envdoctor.probe import Context, probe
from envdoctor.rule import rule

@dataclass(frozen=True)
class {fact}(Fact):
    full: Optional[bool] = read_from("the disk")

@probe(level="standard", seconds=3.0, travels=False)
def {probe}(context: Context) -> {fact}:
    "Look."
    return {fact}(full=True)

@rule(severity=Severity.ERROR, group="storage")
def {rule}(disk: {fact}) -> Iterator[Finding]:
    "It is full."
    yield Finding("full")
"""


class Site:
    """A directory of installed distributions, on the module search path."""

    def __init__(self, top: Path) -> None:
        self.top = top

    def add(self, name: str, entry_points: str | bytes, module: str = "") -> None:
        """Install a distribution: its metadata, and a module of its own name."""
        folder = self.top / f"{name}-1.0.dist-info"
        folder.mkdir()
        text = entry_points.encode() if isinstance(entry_points, str) else entry_points
        (folder / "entry_points.txt").write_bytes(text)
        if module:
            (self.top / f"{name}.py").write_text(module)

    def add_good(self, name: str, fact: str = "Disk", probe: str = "disk", rule: str = "disk_full") -> None:
        """Install a distribution with one fact, one probe and one rule."""
        declared = f"[envdoctor.probes]\na = {name}:{probe}\n[envdoctor.rules]\nb = {name}:{rule}\n"
        self.add(name, declared, FACTS.format(fact=fact, probe=probe, rule=rule))

    def load(self) -> Plugins:
        """Read this directory alone, so that what the test machine has installed does not count."""
        return load([str(self.top)])


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Give an empty directory of distributions, and forget its modules afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    yield Site(tmp_path)
    for name, module in list(sys.modules.items()):
        if str(tmp_path) in str(getattr(module, "__file__", "")):
            del sys.modules[name]


def only_error(site: Site) -> str:
    """Give the only error, after making sure that the good neighbour was taken all the same."""
    site.add_good("zz_neighbour", "Shelf", "shelf", "shelf_full")
    found = site.load()
    assert (["shelf"], ["shelf-full"]) == ([p.name for p in found.planned], [r.id for r in found.rules])
    (error,) = found.errors
    return error


def test_good_plugin_gives_probe_fact_and_rule(site: Site) -> None:
    """A third party's probe is planned in its own process, its fact can be decoded, its rule names its home."""
    site.add_good("acme_disks")
    found = site.load()
    (planned,) = found.planned
    assert ("disk", "acme_disks:disk", "disk", "standard", "plugin-acme-disks", 3.0, False, str(site.top)) == (
        planned.name,
        planned.where,
        planned.fact,
        planned.level,
        planned.child,
        planned.seconds,
        planned.travels,
        planned.location,
    )
    assert ({"disk": "Disk"}, ()) == ({key: kind.__name__ for key, kind in found.facts.items()}, found.errors)
    assert [("disk-full", "acme-disks")] == [(rule.id, rule.home) for rule in found.rules]


def test_probe_of_the_torch_child_is_asked_after_the_import(site: Site) -> None:
    """A probe that wants torch is asked in a fork of the process that imported it, never in a second import."""
    site.add("acme", "[envdoctor.probes]\na = acme:disk\n", FACTS.format(fact="Disk", probe="disk", rule="r").replace(
        'level="standard"', 'level="standard", child="torch"'
    ))  # fmt: skip
    (planned,) = site.load().planned
    assert ("torch", True) == (planned.child, planned.after_import)


def test_probe_may_import_what_is_installed_beside_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the plug-in is installed its probe runs with everything else that is installed there."""
    module = "import packaging.version\n" + FACTS.format(fact="Disk", probe="disk", rule="disk_full").lstrip()
    module = module.replace("from __future__ import annotations\n", "")
    site.add("acme", "[envdoctor.probes]\na = acme:disk\n", module)
    monkeypatch.setenv("PYTHONPATH", str(site.top))
    found = site.load()
    taken = collect(Patient(), found.planned, timeout=60, kinds=found.facts)
    assert ("got", True) == (taken.probes[0].outcome.name, vars(taken.facts["disk"])["full"]), taken.probes


def test_nothing_installed_gives_nothing(site: Site) -> None:
    """Without plug-ins the answer is empty, and distributions with other entry points are left alone."""
    site.add("other", "[console_scripts]\nenvdoctor.probes = other:main\n")
    assert Plugins() == site.load()


def test_nothing_installed_imports_nothing() -> None:
    """Without plug-ins neither importlib.metadata nor the rules are imported: start-up stays cheap."""
    code = (
        "import sys; from envdoctor.plugins import load; load(['/nonexistent']);"
        "print([m for m in ('importlib.metadata', 'envdoctor.rules', 'envdoctor.snapshot') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]\n" == done.stdout


@pytest.mark.parametrize(
    ("entry_points", "module", "words"),
    [
        (b"[envdoctor.rules]\na = acme:r\xff\n", "", "acme 1.0: entry_points.txt cannot be read: UnicodeDecodeError"),
        ("[envdoctor.rules]\na = acme:r\n".encode("utf-16"), "", "cannot be read: UnicodeDecodeError"),
        ("[envdoctor.rules]\njust words\n", "", "acme 1.0: entry_points.txt cannot be read: "),
        ("[envdoctor.rule]\na = acme:r\n", "", "there is no such group (known: envdoctor.probes, envdoctor.rules)"),
        ("[envdoctor.rules]\na = acme:r\n", "", "import failed: ModuleNotFoundError: No module named 'acme'"),
        ("[envdoctor.rules]\na = acme:r\n", "x = 1", "import failed: AttributeError: module 'acme' has no"),
        ("[envdoctor.rules]\na = acme:r\n", "def r(:", "import failed: SyntaxError"),
        ("[envdoctor.rules]\na = acme:r\n", "raise SystemExit(3)", "import failed: SystemExit: 3"),
        ("[envdoctor.rules]\na = acme:r\n", "def f(): f()\nf()", "import failed: RecursionError"),
        ("[envdoctor.rules]\na = acme:r\n", "r = 1", "a = acme:r: int is not a rule"),
        ("[envdoctor.probes]\na = acme:r\n", "def r(): ...", "function is not a probe"),
    ],
)  # fmt: skip
def test_broken_plugin_is_an_error_and_spares_its_neighbour(
    site: Site, entry_points: str | bytes, module: str, words: str
) -> None:
    """Whatever is wrong with one distribution is one line that names it; the next one is read."""
    site.add("acme", entry_points, module)
    error = only_error(site)
    assert (True, True) == (error.startswith("acme 1.0: "), words in error), error


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("(context: Context) -> Disk", "(context: Context) -> int"), "must be a Fact, not <class 'int'>"),
        (("(context: Context) -> Disk", "(context: Context) -> Dusk"), "name 'Dusk' is not defined"),
        (("(context: Context) -> Disk", "(context: Context)"), "must be a Fact, not None"),
        (("full: Optional[bool]", "full: Perhaps"), "its fact cannot be used: NameError"),
        (("seconds=3.0", "seconds='3'"), "probe disk: its deadline must be a number of seconds above 0, not '3'"),
        (("seconds=3.0", "seconds=float('nan')"), "its deadline must be a number of seconds above 0, not nan"),
        (('level="standard"', 'level="daily"'), "no level 'daily' (known: quick, standard, deep)"),
        (("def disk(", "def host("), "a probe named 'host' is there already"),
        (("Disk", "Host"), "a fact with the key 'host' is there already"),
        (('"It is full."', "x = 1"), "rule disk-full: it has no docstring"),
        (("disk: Disk", "disk: Dusk"), "rule disk-full: name 'Dusk' is not defined"),
        (("disk: Disk", "disk: int"), "rule disk-full: parameter 'disk' must be a fact"),
        (("disk: Disk", "disk: sys.Newer"), "rule disk-full: module 'sys' has no attribute 'Newer'"),
        (("disk: Disk", "disk: 'no type'"), "rule disk-full: Forward reference must be an expression"),
        (("full: Optional[bool]", "full: sys.Newer"), "its fact cannot be used: AttributeError: module 'sys'"),
        (("-> Disk", "-> sys.Newer"), "its fact cannot be used: AttributeError: module 'sys'"),
        (("severity=Severity.ERROR", "severity='error'"), "severity must be one of envdoctor.finding.Severity, not"),
        (('group="storage"', "group=None"), "rule disk-full: its group must be a word, not None"),
        (("    return Disk(full=True)", "    return Disk(full=True)\ndel sys.modules[__name__]"), "KeyError: "),
    ],
)  # fmt: skip
def test_unusable_object_is_refused_with_the_reason(site: Site, change: tuple[str, str], words: str) -> None:
    """A probe, fact or rule that a run could not use is refused when it is loaded, in words for its author."""
    module = FACTS.format(fact="Disk", probe="disk", rule="disk_full").replace(*change)
    attribute = "host" if "def host(" in module else "disk"
    site.add("acme", f"[envdoctor.probes]\na = acme:{attribute}\n[envdoctor.rules]\nb = acme:disk_full\n", module)
    errors = site.load().errors
    assert words in " | ".join(errors), errors


@pytest.mark.parametrize(
    ("finding", "words"),
    [
        ("Finding(None)", "Expected `str`, got `null` - at `$.title`"),
        ('Finding("full", subject=3)', "Expected `str`, got `int` - at `$.subject`"),
        ('Finding("full", severity="bad")', "Invalid enum value 'bad' - at `$.severity`"),
        ('Finding("full", severity="warning")', ""),
    ],
)
def test_finding_that_no_format_could_show_fails_its_own_rule_alone(site: Site, finding: str, words: str) -> None:
    """What a plug-in's rule gives has the types that formats count on, or the rule itself failed."""
    module = FACTS.format(fact="Disk", probe="disk", rule="disk_full").replace('Finding("full")', finding)
    site.add("acme", "[envdoctor.probes]\na = acme:disk\n[envdoctor.rules]\nb = acme:disk_full\n", module)
    found = site.load()
    report = examine(of(msgspec.convert({"full": True}, found.facts["disk"])), found.rules)
    assert words in report.checks[0].reason
    assert [Severity.WARNING] * (not words) == [each.severity for each in report.findings]


def test_rule_without_a_probe_for_its_fact_is_refused(site: Site) -> None:
    """A rule over a fact that nobody collects would be unknown for ever, so it is refused."""
    site.add("acme", "[envdoctor.rules]\nb = acme:disk_full\n", FACTS.format(fact="Disk", probe="d", rule="disk_full"))
    assert "acme: rule disk-full: no probe gives Disk" == only_error(site)


def test_second_owner_of_an_id_is_refused(site: Site) -> None:
    """Of two distributions with one rule id the first keeps it and is named."""
    site.add_good("acme")
    site.add_good("bolt", "Bolt", "bolt", "disk_full")
    assert "the id 'disk-full' is taken by acme" in only_neighbours_error(site)


def only_neighbours_error(site: Site) -> str:
    """Give the only error of a site whose first distribution is good."""
    (error,) = site.load().errors
    return error


def test_retired_id_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """An id that was retired is never used again, by a plug-in neither."""
    monkeypatch.setattr("envdoctor.rules.RETIRED", frozenset({"disk-full"}))
    site.add_good("acme")
    assert "the id 'disk-full' is retired" in only_neighbours_error(site)


def test_first_of_two_installations_counts(site: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of two installations of one distribution the first on the path is read, as an import would."""
    site.add_good("acme")
    second = Site(tmp_path_factory.mktemp("second"))
    second.add("acme", "[envdoctor.rules]\na = nowhere:r\n")
    assert () == load([str(site.top), str(second.top)]).errors


def test_what_a_plugin_prints_on_import_is_kept_off_stdout(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Stdout carries the report alone: a plug-in's chatter goes to stderr."""
    site.add("acme", "[envdoctor.rules]\na = acme:r\n", "print('hello')")
    site.load()
    assert ("", "hello\n") == tuple(capsys.readouterr())


def test_tuple_of_rules_is_taken_whole(site: Site) -> None:
    """An entry point may name a tuple; a bad member does not take the good ones along."""
    module = FACTS.format(fact="Disk", probe="disk", rule="disk_full") + "\nRULES = (1, disk_full)\n"
    site.add("acme", "[envdoctor.probes]\na = acme:disk\n[envdoctor.rules]\nb = acme:RULES\n", module)
    found = site.load()
    assert (["disk-full"], 1) == ([rule.id for rule in found.rules], len(found.errors))


def test_unreadable_places_on_the_path_are_passed_over(site: Site) -> None:
    """Files and absent directories on the path are skipped, as imports do."""
    (site.top / "archive.zip").write_bytes(b"PK")
    assert Plugins() == load([str(site.top / "archive.zip"), str(site.top / "gone")])


def test_time_without_plugins_is_small(site: Site) -> None:
    """Three hundred distributions without a plug-in are looked through in well under a second."""
    for number in range(300):
        site.add(f"d{number}", "[console_scripts]\nx = y:z\n")
    start = time.process_time()  # what other programs do meanwhile does not count
    site.load()
    assert time.process_time() - start < 1.0
