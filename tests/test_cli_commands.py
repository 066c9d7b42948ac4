"""explain, list, demo, snapshot and the group: what they print, how they start, and how they refuse bad input."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import envdoctor
from envdoctor import demo, knowledge, snapshot
from envdoctor.cli import catalogue, page, paper
from envdoctor.cli.group import COMMANDS
from envdoctor.plan import BUILT_IN
from envdoctor.rules import RULES
from tests.command import fresh, here, valid

RULE_FILES = Path(envdoctor.__file__).parent / "rules"


def test_help_names_every_command() -> None:
    """--help lists each command with a line of help, and -h is the same."""
    done = here("--help")
    assert (0, "") == (done.code, done.err)
    assert [] == [name for name in COMMANDS if f"\n  {name} " not in done.out]
    assert done.out == here("-h").out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    """Each command's own --help can be shown and says how it is used."""
    done = here(name, "--help")
    assert (0, f"Usage: envdoctor {name} ") == (done.code, done.out[: len(f"Usage: envdoctor {name} ")])


def test_version_is_the_packages() -> None:
    """--version says what is installed."""
    assert f"envdoctor {envdoctor.__version__}\n" == here("--version").out


@pytest.mark.parametrize(
    "arguments", [["--help"], ["check", "--help"], ["explain", RULES[0].id], ["--version"]], ids=str
)
def test_start_up_imports_nothing_heavy(arguments: list[str]) -> None:
    """Help and explain import neither torch nor anything else that takes time; nor does the package itself."""
    heavy = ["torch", "rich", "msgspec", "packaging", "psutil", "pynvml", "numpy", "subprocess", "importlib.metadata"]
    code = (
        "import sys, envdoctor\n"
        "assert not [m for m in sys.modules if m.startswith('envdoctor.')], 'the package itself'\n"
        "from envdoctor import cli\n"
        f"assert cli.run({arguments!r}) == 0\n"
        f"sys.stderr.write(repr([m for m in {heavy!r} if m in sys.modules]))"
    )
    done = _python(code)
    assert (0, "[]") == (done.code, done.err)


def _python(code: str) -> object:
    import subprocess

    from tests.command import Done, environment

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=False)
    return Done(ran.returncode, ran.stdout, ran.stderr)


@pytest.mark.parametrize("rule", RULES, ids=lambda each: each.id)
def test_page_from_source_is_the_rules_own(rule: object) -> None:
    """What explain reads in a rule's source, to be fast, is exactly what the imported rule says."""
    assert page.of(rule) == page.from_source(rule.id, RULE_FILES)  # type: ignore[arg-type, attr-defined]


@pytest.mark.parametrize("rule", RULES, ids=lambda each: each.id)
def test_every_page_fits_the_terminal(rule: object) -> None:
    """Each page is wrapped to 80 columns and to 40; only what cannot be broken is longer."""
    for width in (80, 40):
        text = paper.layout(page.of(rule), width=width, color=False)  # type: ignore[arg-type]
        assert [] == [line for line in text.splitlines() if len(line) > width and " " in line.strip()]


def test_explain_shows_the_page() -> None:
    """Explain prints id, summary, severity, level, group and every section."""
    done = here("explain", "no-nvidia-gpu")
    assert (0, "") == (done.code, done.err)
    assert done.out.startswith(
        "no-nvidia-gpu\nNo NVIDIA GPU is on this machine.\n\ninfo; from level quick; group GPUs\n"
    )
    for heading in ("What it means", "Why it matters", "How it is detected", "What to do"):
        assert f"\n{heading}\n  " in done.out


def test_explain_is_plain_without_a_terminal_and_bold_when_asked() -> None:
    """No escape sequence reaches a pipe unless FORCE_COLOR asks for it, and NO_COLOR wins over that."""
    assert "\x1b" not in fresh("explain", "no-nvidia-gpu").out
    assert fresh("explain", "no-nvidia-gpu", FORCE_COLOR="1").out.startswith("\x1b[1mno-nvidia-gpu\x1b[0m")
    assert "\x1b" not in fresh("explain", "no-nvidia-gpu", FORCE_COLOR="1", NO_COLOR="1").out


@pytest.mark.parametrize("word", ["no-nvidia-gp", "No_Nvidia_GPU", "../presence", "has-gpu", "", "no-nvidia-gpu@0"])
def test_explain_refuses_an_unknown_id(word: str) -> None:
    """An id that no rule has is a usage error, and a near one is named."""
    done = here("explain", word)
    assert (2, "") == (done.code, done.out)
    assert f"unknown finding {word!r}" in done.err
    if "no" in word:
        assert "did you mean 'no-nvidia-gpu'?" in done.err


def test_list_findings_shows_every_rule() -> None:
    """The list has each rule's id, and is the default list."""
    done = here("list", "findings")
    assert done.out == here("list").out
    assert [] == [rule.id for rule in RULES if rule.id not in done.out]


def test_list_findings_as_json() -> None:
    """The JSON list has what the table has, and more, and is valid."""
    rows = here("list", "findings", "--format", "json").json["findings"]
    assert [rule.id for rule in RULES] == [row["id"] for row in rows][: len(RULES)]
    expected = {"severity": "info", "level": "quick", "group": "GPUs", "essential": False, "home": "envdoctor"}
    assert expected == {key: rows[0][key] for key in expected}


def test_list_probes() -> None:
    """Every planned probe is listed, as a table and as JSON."""
    rows = here("list", "probes", "--format", "json").json["probes"]
    assert [each.name for each in BUILT_IN] == [row["name"] for row in rows][: len(BUILT_IN)]
    assert [] == [each.name for each in BUILT_IN if each.name not in here("list", "probes").out]


def test_list_knowledge_shows_dates() -> None:
    """Each table is listed with the day it was gathered."""
    rows = here("list", "--knowledge", "--format", "json").json["knowledge"]
    assert [(each.name, each.date) for each in knowledge.TABLES] == [(row["table"], row["date"]) for row in rows]
    assert knowledge.TABLES[0].date in here("list", "--knowledge").out


@pytest.mark.parametrize("width", [40, 80, 200])
def test_lists_fit_the_terminal(width: int) -> None:
    """A table is no wider than the terminal as long as words allow it."""
    for what in ("findings", "probes"):
        lines = fresh("list", what, COLUMNS=str(width)).out.splitlines()
        assert [] == [line for line in lines if len(line) > max(width, 60)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["lst"], "unknown command 'lst': did you mean 'list'?"),
        (["list", "finding"], "unknown list 'finding': did you mean 'findings'?"),
        (["list", "probes", "--knowledge"], "use one"),
        (["list", "--format", "jsn"], "unknown format 'jsn': did you mean 'json'?"),
        (["demo", "h100"], "unknown recorded machine 'h100'"),
        (["demo", "wheel-drif"], "did you mean 'wheel-drift'?"),
        (["explain"], "Missing argument 'ID'"),
        (["snapshot", "--shar"], "--share"),
        (["snapshot", "-o", "/nowhere/x.json"], "--output: '/nowhere/x.json' cannot be written: there is no directory"),
        (["snapshot", "--from", "/nowhere"], "--from: cannot read /nowhere: No such file or directory"),
        (["--nonsense"], "unknown option '--nonsense': "),
    ],
    ids=str,
)
def test_bad_input_is_a_usage_error(arguments: list[str], expected: str) -> None:
    """A wrong word is named, with what was expected or probably meant; nothing goes to stdout; exit 2."""
    done = here(*arguments)
    assert (2, "") == (done.code, done.out)
    assert expected in done.err
    assert "--help'" in done.err.splitlines()[-1]


@pytest.mark.parametrize("name", demo.ABOUT)
def test_demo_reports_a_recorded_machine(name: str) -> None:
    """Every machine that ships can be shown in both formats, with the exit code that a check there would have."""
    shown, document = here("demo", name, "--show", "all"), here("demo", name, "--format", "json")
    assert document.code == shown.code
    assert {"ok": 0, "warnings": 0, "errors": 1, "undetermined": 3}[document.json["verdict"]] == document.code
    assert shown.out


def test_demo_without_a_name_shows_one_and_names_the_others() -> None:
    """The first machine is shown; stderr says which others there are."""
    done = here("demo")
    assert done.out == here("demo", demo.FIRST).out
    assert [] == [name for name in demo.ABOUT if name not in done.err]


def test_demo_writes_other_formats_too(tmp_path: Path) -> None:
    """--also works for demo as for check."""
    here("demo", "cpu-only", "--also", f"json:{tmp_path / 'r.json'}")
    assert "ok" == valid((tmp_path / "r.json").read_text())["verdict"]


def test_snapshot_is_written_and_read_back(tmp_path: Path) -> None:
    """Snapshot -o writes a valid snapshot, says on stderr what it may give away, and check --from judges it."""
    file = tmp_path / "s.json"
    done = here("snapshot", "--level", "quick", "-o", str(file))
    assert (0, "") == (done.code, done.out)
    assert "--share replaces them" in done.err
    assert False is valid(file.read_text())["redacted"]
    assert snapshot.load(file.read_bytes()).facts == snapshot.from_plain(
        here("check", "--from", str(file), "--format", "json").json["facts"]
    ).facts  # fmt: skip


def test_shared_snapshot_lists_what_was_replaced(tmp_path: Path) -> None:
    """Snapshot --share goes to stdout, names no home directory, and lists its labels there and on stderr."""
    file = tmp_path / "s.json"
    recorded = json.loads(here("demo", "cpu-only", "--format", "json").out)["facts"]
    recorded["facts"]["host"]["hostname"] = "gandalf"
    recorded["facts"]["packages"]["prefix"] = "/home/frodo/ring"
    file.write_text(json.dumps(recorded))
    done = here("snapshot", "--share", "--from", str(file))
    assert (0, True) == (done.code, done.json["redacted"])
    assert [] == [word for word in ("gandalf", "frodo", "ring/") if word in done.out]
    assert {"host-1", "user-1", "dir-1"} <= {each["label"] for each in done.json["removed"]}
    assert "replaced by labels: host-1 (host name" in done.err


def test_catalogue_has_no_rule_twice() -> None:
    """Built-in rules and those of plug-ins together have unique ids."""
    ids = [rule.id for rule in catalogue.load().rules]
    assert sorted(set(ids)) == sorted(ids)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("envdoctor che", "check"),
        ("envdoctor check --lev", "--level"),
        ("envdoctor check --level qu", "quick"),
        ("envdoctor check --only shm", "shm-too-small"),
        ("envdoctor explain shm", "shm-too-small"),
    ],
)
def test_shells_can_complete(words: str, expected: str) -> None:
    """Commands, options, their words and ids are completed by click's own shell completion."""
    environ = {
        "COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_ENVDOCTOR_COMPLETE": "bash_complete",
    }  # fmt: skip
    done = fresh(**environ)
    assert (0, f"plain,{expected}\n") == (done.code, done.out)


def test_an_exit_from_inside_is_no_clean_bill(monkeypatch: pytest.MonkeyPatch) -> None:
    """When code that runs inside calls exit(0), the run has failed: only a report may say that all is well."""

    def leaves() -> None:
        raise SystemExit(0)

    monkeypatch.setattr(catalogue, "load", leaves)
    done = here("list")
    assert (4, True) == (done.code, "called exit(0)" in done.err)
